"""Users, their sessions and their tokens. Only hashes of secrets come in here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from scheduler.store.access_tables import ApiToken, User, WebSession
from scheduler.store.types import micros, sql_now

SEEN_EVERY = dt.timedelta(minutes=1)  # how exact «last seen» and «last used» are: a page is no write


# --- users ----------------------------------------------------------------------------------------------------------


def has_any(session: Session) -> bool:
    """Whether there are users at all, disabled ones too."""
    return bool(session.execute(select(exists().where(User.id > 0))).scalar())


def by_name(session: Session, name: str) -> User | None:
    return session.scalars(select(User).where(User.name == name)).first()


def all_users(session: Session) -> Sequence[User]:
    return session.scalars(select(User).order_by(User.name)).all()


def add(session: Session, name: str, password_hash: str, role: str) -> User:
    user = User(name=name, password_hash=password_hash, role=role, created_at=sql_now())
    session.add(user)
    session.flush()
    return user


# --- sessions -------------------------------------------------------------------------------------------------------


def add_session(session: Session, token_hash: str, user: User, address: str) -> None:
    session.add(
        WebSession(
            token_hash=token_hash, user_id=user.id, created_at=sql_now(), seen_at=sql_now(), address=address[:100]
        )
    )
    session.flush()


def session_of(
    session: Session, token_hash: str, idle: dt.timedelta, longest: dt.timedelta
) -> tuple[WebSession, User] | None:
    """The session of that token and its user, who is not disabled; None when it is over."""
    query = (
        select(WebSession, User)
        .join(User, User.id == WebSession.user_id)
        .where(
            WebSession.token_hash == token_hash,
            WebSession.seen_at > sql_now() - micros(idle),
            WebSession.created_at > sql_now() - micros(longest),
            User.disabled_at.is_(None),
        )
    )
    found = session.execute(query).first()
    return None if found is None else (found[0], found[1])


def see_session(session: Session, session_id: int) -> None:
    session.execute(
        update(WebSession)
        .where(WebSession.id == session_id)
        .values(seen_at=sql_now())
        .execution_options(synchronize_session=False)
    )


def end_session(session: Session, token_hash: str) -> str | None:
    """The name of the user whose session it was."""
    query = select(User.name).join(WebSession, WebSession.user_id == User.id).where(WebSession.token_hash == token_hash)
    name = session.execute(query).scalar()
    session.execute(delete(WebSession).where(WebSession.token_hash == token_hash))
    return name


def end_sessions_of(session: Session, user: User) -> None:
    session.execute(delete(WebSession).where(WebSession.user_id == user.id))


def forget_old_sessions(session: Session, longest: dt.timedelta) -> None:
    session.execute(
        delete(WebSession)
        .where(WebSession.created_at < sql_now() - micros(longest))
        .execution_options(synchronize_session=False)
    )


# --- tokens ---------------------------------------------------------------------------------------------------------


def add_token(
    session: Session, name: str, token_hash: str, role: str, user: User, expires_in: dt.timedelta | None
) -> ApiToken:
    token = ApiToken(
        name=name,
        token_hash=token_hash,
        role=role,
        user_id=user.id,
        created_at=sql_now(),
        expires_at=None if expires_in is None else sql_now() + micros(expires_in),
    )
    session.add(token)
    session.flush()
    return token


def token_of(session: Session, token_hash: str) -> tuple[ApiToken, User] | None:
    """The token with that hash and its user; None when it has expired or the user is disabled."""
    query = (
        select(ApiToken, User)
        .join(User, User.id == ApiToken.user_id)
        .where(ApiToken.token_hash == token_hash, User.disabled_at.is_(None))
        .where(ApiToken.expires_at.is_(None) | (ApiToken.expires_at > sql_now()))
    )
    found = session.execute(query).first()
    return None if found is None else (found[0], found[1])


def use_token(session: Session, token_id: int) -> None:
    session.execute(
        update(ApiToken)
        .where(ApiToken.id == token_id)
        .values(used_at=sql_now())
        .execution_options(synchronize_session=False)
    )


def token_by_name(session: Session, name: str) -> ApiToken | None:
    return session.scalars(select(ApiToken).where(ApiToken.name == name)).first()


def all_tokens(session: Session) -> Sequence[tuple[ApiToken, User]]:
    query = select(ApiToken, User).join(User, User.id == ApiToken.user_id).order_by(ApiToken.name)
    return [(row[0], row[1]) for row in session.execute(query)]
