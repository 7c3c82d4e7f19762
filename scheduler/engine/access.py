"""Who may come in: log-in and sessions of people, tokens of programs, and the users behind both.

Who is unknown and who gives a wrong password get the same answer in the same time. Sessions are rows: what ends one
(log-out, a new password or role, a disabled user) ends it at once.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from scheduler.clock import iso, utc_now
from scheduler.engine import passwords
from scheduler.errors import DatabaseAway, NotFound, Refused, WrongUsage
from scheduler.rules.askers import SESSION, Asker
from scheduler.rules.complaints import did_you_mean
from scheduler.rules.roles import ROLES, lesser, reaches
from scheduler.store import audit, users
from scheduler.store.access_tables import ApiToken, User
from scheduler.store.database import Database

IDLE = dt.timedelta(minutes=30)
LONGEST = dt.timedelta(hours=12)  # of a session, however busy
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")


@dataclass(frozen=True)
class Known:
    """Somebody who is known, with the role that counts."""

    name: str
    role: str


class Access:
    def __init__(self, database: Database) -> None:
        self.database = database

    def has_users(self) -> bool:
        with self.database.read() as session:
            return users.has_any(session)

    # --- people -----------------------------------------------------------------------------------------------------

    def log_in(self, name: str, password: str, address: str) -> str | None:
        """The token of a new session, for the browser alone; None when name or password are wrong."""
        user = self._user(name)
        known = user is not None and user.disabled_at is None
        is_right = passwords.is_password(password, user.password_hash if user and known else None)
        asker = Asker(name, SESSION, address)
        if not is_right or user is None:
            with self.database.write() as session:
                audit.record(session, asker, "log in refused", f"user {name}")
            return None
        token = passwords.new_session_token()
        with self.database.write() as session:
            users.forget_old_sessions(session, LONGEST)
            users.add_session(session, passwords.hash_token(token), user, address)
            audit.record(session, asker, "log in", f"user {name}")
        return token

    def of_session(self, token: str) -> Known | None:
        """Whose session it is; None when it is over."""
        with self.database.read() as session:
            found = users.session_of(session, passwords.hash_token(token), IDLE, LONGEST)
        if found is None:
            return None
        opened, user = found
        if utc_now() - opened.seen_at > users.SEEN_EVERY:
            self._note_use(lambda session: users.see_session(session, opened.id))
        return Known(user.name, user.role)

    def log_out(self, token: str, address: str) -> None:
        with self.database.write() as session:
            name = users.end_session(session, passwords.hash_token(token))
            if name is not None:
                audit.record(session, Asker(name, SESSION, address), "log out", f"user {name}")

    def named(self, name: str) -> Known | None:
        """A user whom something else vouches for: a proxy."""
        user = self._user(name)
        return None if user is None or user.disabled_at is not None else Known(user.name, user.role)

    def _user(self, name: str) -> User | None:
        """The user of that name; nothing that could not be one reaches SQL."""
        if not NAME.match(name):
            return None
        with self.database.read() as session:
            return users.by_name(session, name)

    # --- programs ---------------------------------------------------------------------------------------------------

    def of_token(self, token: str) -> Known | None:
        """Whom a token lets in, as «name of its user/name of the token»; None when it is unknown or over."""
        if not token.startswith(passwords.TOKEN_PREFIX):
            return None
        with self.database.read() as session:
            found = users.token_of(session, passwords.hash_token(token))
        if found is None:
            return None
        known, user = found
        if known.used_at is None or utc_now() - known.used_at > users.SEEN_EVERY:
            self._note_use(lambda session: users.use_token(session, known.id))
        return Known(f"{user.name}/{known.name}", lesser(known.role, user.role))

    def _note_use(self, note: Any) -> None:
        try:
            with self.database.write() as session:
                note(session)
        except DatabaseAway:  # that it was used is worth knowing, but not worth refusing it
            return

    # --- who is there -----------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: str, role: str, asker: Asker) -> None:
        if not NAME.match(name):
            raise WrongUsage(f'"{name}" cannot be the name of a user: use letters, digits and . _ @ -, 64 at most')
        _check_role(role)
        passwords.check_password(password, name)
        password_hash = passwords.hash_password(password)
        with self.database.write() as session:
            if users.by_name(session, name) is not None:
                raise Refused(
                    f'There is a user "{name}" already; `scheduler user password {name}` changes the password'
                )
            users.add(session, name, password_hash, role)
            audit.record(session, asker, "add user", f"user {name}", {"role": role})

    def set_password(self, name: str, password: str, asker: Asker) -> None:
        """A new password; it ends the user's sessions."""
        passwords.check_password(password, name)
        password_hash = passwords.hash_password(password)
        with self.database.write() as session:
            user = _user(session, name)
            user.password_hash = password_hash
            users.end_sessions_of(session, user)
            audit.record(session, asker, "change password", f"user {name}")

    def set_role(self, name: str, role: str, asker: Asker) -> None:
        """Another role; it ends the user's sessions, and bounds the user's tokens from now on."""
        _check_role(role)
        with self.database.write() as session:
            user = _user(session, name)
            was, user.role = user.role, role
            users.end_sessions_of(session, user)
            audit.record(session, asker, "change role", f"user {name}", {"was": was, "role": role})

    def set_disabled(self, name: str, disabled: bool, asker: Asker) -> None:
        """Lock a user out, at once and with all tokens, or let the user in again."""
        with self.database.write() as session:
            user = _user(session, name)
            if (user.disabled_at is not None) == disabled:
                raise Refused(f'User "{name}" is {"disabled already" if disabled else "not disabled"}')
            user.disabled_at = utc_now() if disabled else None
            users.end_sessions_of(session, user)
            audit.record(session, asker, "disable user" if disabled else "enable user", f"user {name}")

    def all_users(self) -> list[dict[str, Any]]:
        with self.database.read() as session:
            return [_told_user(user) for user in users.all_users(session)]

    # --- tokens -----------------------------------------------------------------------------------------------------

    def add_token(
        self, name: str, role: str, user_name: str | None, expires_in: dt.timedelta | None, asker: Asker
    ) -> str:
        """The new token, which nobody can read again. It may do no more than its user."""
        if not NAME.match(name):
            raise WrongUsage(f'"{name}" cannot be the name of a token: use letters, digits and . _ @ -, 64 at most')
        _check_role(role)
        token = passwords.new_token()
        with self.database.write() as session:
            user = _only_user(session) if user_name is None else _user(session, user_name)
            if user.disabled_at is not None:
                raise Refused(f'User "{user.name}" is disabled; `scheduler user enable {user.name}` lets it in again')
            if not reaches(user.role, role):
                raise Refused(f'A token may do no more than its user, and "{user.name}" is {user.role}')
            if users.token_by_name(session, name) is not None:
                raise Refused(f'There is a token "{name}" already; `scheduler token revoke {name}` makes room for it')
            users.add_token(session, name, passwords.hash_token(token), role, user, expires_in)
            audit.record(session, asker, "add token", f"token {name}", {"role": role, "user": user.name})
        return token

    def revoke_token(self, name: str, asker: Asker) -> None:
        with self.database.write() as session:
            token = users.token_by_name(session, name)
            if token is None:
                known = [one.name for one, _ in users.all_tokens(session)]
                raise NotFound(f'There is no token "{name}"{did_you_mean(name, known)}')
            session.delete(token)
            audit.record(session, asker, "revoke token", f"token {name}")

    def all_tokens(self) -> list[dict[str, Any]]:
        with self.database.read() as session:
            return [_told_token(token, user) for token, user in users.all_tokens(session)]


def _told_user(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role,
        "created_at": iso(user.created_at),
        "disabled_at": iso(user.disabled_at),
    }


def _told_token(token: ApiToken, user: User) -> dict[str, Any]:
    return {
        "name": token.name,
        "role": lesser(token.role, user.role),
        "user": user.name,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "used_at": iso(token.used_at),
    }


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise WrongUsage(f'There is no role "{role}"; roles are {", ".join(ROLES)}')


def _user(session: Session, name: str) -> User:
    user = users.by_name(session, name)
    if user is None:
        known = [one.name for one in users.all_users(session)]
        raise NotFound(f'There is no user "{name}"{did_you_mean(name, known)}')
    return user


def _only_user(session: Session) -> User:
    known = [user for user in users.all_users(session) if user.disabled_at is None]
    if not known:
        raise Refused("A token belongs to a user, and there is none: `scheduler user add NAME --role admin` adds one")
    if len(known) > 1:
        raise WrongUsage("A token belongs to a user, and there are several: say which with --user")
    return known[0]
