"""Builds mails and sends them: to an SMTP server, or as `.eml` files into an outbox folder when none is set.

Whatever goes into a header is cleaned first and never refused, so that an odd name cannot stop a digest; addresses
are the exception, for those must be right. Only `EmailMessage` with its default policy is used: the older classes let
line ends through. TLS always proves who the server is, and STARTTLS, where asked for, is required and not just tried.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.policy
import hashlib
import ipaddress
import mimetypes
import os
import re
import smtplib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.headerregistry import Address, HeaderRegistry, UniqueUnstructuredHeader, UnstructuredHeader
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from scheduler.clock import utc_now
from scheduler.errors import PartAway, SchedulerError, SettingFault

Security = Literal["none", "starttls", "tls"]

MAX_RECIPIENTS = 100
MAX_MESSAGE_BYTES = 25 * 1024 * 1024  # what the large providers take
MAX_BODY_LETTERS = 1_000_000
TIMEOUT_SECONDS = 30.0  # for each answer of the server
LOG_IN_FIRST, TOO_LARGE = 530, 552  # also said where the sender is named (RFC 4954, RFC 1870), and not about it
LONGEST_SECONDS = 120.0  # for all of them, since a server that drips a byte every 29 s would keep us for ever


class MailFault(SchedulerError):
    """The mail cannot be built from what was given."""


class MailRefused(MailFault):
    """The mail server refuses the mail for good, or cannot be trusted with it."""


class MailWayClosed(MailRefused):
    """The mail server cannot be trusted or lets us not in, which is the fault of no mail: it may go when that is
    mended."""


class MailServerAway(PartAway):
    """The mail server does not answer, or asks to try later."""


@dataclass(frozen=True)
class SmtpServer:
    """Where mails are handed in, and how."""

    host: str
    port: int
    security: Security
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS
    longest_seconds: float = LONGEST_SECONDS

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class MailSettings:
    """Who sends, and by which way: `server`, or the folder `outbox` when there is none."""

    sender: str
    outbox: Path
    server: SmtpServer | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> MailSettings:
        """From SCHEDULER_SMTP_URL, SCHEDULER_SMTP_PASSWORD, SCHEDULER_MAIL_FROM and SCHEDULER_DATA.

        `smtp://user:password@host:587?starttls=required`, `smtps://host`; characters such as @ in user and password
        are written %40. STARTTLS is required unless the host is this machine or the URL says `starttls=never`; a
        password is never sent unencrypted to another machine. Raises SettingFault, without the password.
        """
        url = environ.get("SCHEDULER_SMTP_URL", "").strip()
        server = read_smtp_url(url, environ.get("SCHEDULER_SMTP_PASSWORD") or None) if url else None
        sender = environ.get("SCHEDULER_MAIL_FROM", "").strip() or "jobs@localhost"
        try:
            domain = _domain(sender, "SCHEDULER_MAIL_FROM")
        except MailFault as error:
            raise SettingFault(str(error)) from error
        if domain == "localhost" and server is not None and not _is_this_machine(server.host):
            raise SettingFault(
                f"mails go out over {server}, but from {sender}, which nobody can answer; "
                'set SCHEDULER_MAIL_FROM to an address that may send there, such as "Jobs <jobs@example.org>"'
            )
        return cls(sender, Path(environ.get("SCHEDULER_DATA") or "var") / "outbox", server)


def way_of(settings: MailSettings) -> str:
    """By which way mails go, in one line; without the password."""
    if settings.server is None:
        return f"no SMTP server set: mails are kept in {settings.outbox}"
    server = settings.server
    security = {"none": "not encrypted", "starttls": "STARTTLS", "tls": "TLS"}[server.security]
    return f"by {server} ({security}), from {clean_header(settings.sender)}"


@dataclass(frozen=True)
class Delivery:
    """What became of a mail that was sent."""

    message_id: str
    delivered: Literal["smtp", "outbox"]
    file: Path | None = None  # in the outbox
    refused: Mapping[str, str] = field(default_factory=dict)  # recipients the server did not take, and what it said


@dataclass(frozen=True)
class Attachment:
    """A file to go with a mail."""

    name: str
    content: bytes = field(repr=False)


def read_smtp_url(url: str, password: str | None = None) -> SmtpServer:
    """The server that a URL names; `password` goes before one in the URL. Raises SettingFault, without the password."""
    shown = _masked(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingFault(f"SCHEDULER_SMTP_URL is {shown}: its port is no number from 1 to 65535") from error
    host = parts.hostname or ""
    options = parse_qs(parts.query, keep_blank_values=True)
    starttls = options.pop("starttls", [""])[-1]
    example = "write it as smtp://user@host:587?starttls=required or smtps://user@host"
    if parts.scheme not in ("smtp", "smtps") or not host or re.search(r"[\s\x00-\x1f]", url):
        raise SettingFault(f"SCHEDULER_SMTP_URL is {shown}; {example}")
    if options or parts.path not in ("", "/") or parts.fragment:
        raise SettingFault(f"SCHEDULER_SMTP_URL is {shown}; besides starttls it takes no options or path; {example}")
    if starttls not in ("", "required", "never") or (parts.scheme == "smtps" and starttls):
        raise SettingFault(
            f"SCHEDULER_SMTP_URL is {shown}; starttls is required or never, and stands with smtp:// only"
        )
    local = _is_this_machine(host)
    security: Security
    if parts.scheme == "smtps":
        security = "tls"
    elif starttls == "never" or (local and not starttls):
        security = "none"
    else:
        security = "starttls"
    user = unquote(parts.username) if parts.username else None
    password = password or (unquote(parts.password) if parts.password else None)
    if security == "none" and user and not local:
        raise SettingFault(
            f"SCHEDULER_SMTP_URL is {shown}: this would send the password unencrypted; "
            "write starttls=required, or leave the user out"
        )
    if user and not password:
        raise SettingFault(f"SCHEDULER_SMTP_URL is {shown}: it names a user; set SCHEDULER_SMTP_PASSWORD as well")
    return SmtpServer(host, port or {"none": 25, "starttls": 587, "tls": 465}[security], security, user, password)


# Building


def clean_header(text: str, longest: int = 200) -> str:
    """Text as it may stand in a header: one line, no control, bidi or zero-width characters, `longest` at most."""
    kept = []
    for letter in text[: longest * 4]:
        if letter in "\r\n\t\x0b\x0c\x85\u2028\u2029":
            kept.append(" ")
        elif letter == " " or letter.isprintable():  # neither controls nor lone surrogates, which no mail can carry
            kept.append(letter)
    # «=?» begins an encoded word, which the reader's program would decode back into whatever was hidden in it.
    line = re.sub(r" {2,}", " ", "".join(kept)).replace("=?", "= ?").strip()
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def stable_message_id(key: str, sender: str) -> str:
    """A Message-ID that is always the same for the same `key`, so that receivers can tell a mail sent twice."""
    return message_id_of(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40], sender)


def message_id_of(mark: str, sender: str) -> str:
    """The Message-ID whose left half is `mark`."""
    return f"<{mark}@{_domain(sender)}>"


class _Unbroken(UnstructuredHeader):
    """A header of words that must stay as they are: Python would write a long one as an encoded word, which no mail
    program takes for a Message-ID or a link."""

    def fold(self, *, policy: email.policy.Policy) -> str:
        value = str(self)
        if not value.isascii():
            return str(super().fold(policy=policy))  # type: ignore[misc]
        return f"{self.name}: " + f"{policy.linesep} ".join(value.split()) + policy.linesep  # type: ignore[attr-defined]


class _Subject(UniqueUnstructuredHeader):
    """A subject that begins in its first line: Python leaves that one empty when all fits into the second, and some
    programs then show no subject."""

    def fold(self, *, policy: email.policy.Policy) -> str:
        folded = str(super().fold(policy=policy))  # type: ignore[misc]
        empty = f"{self.name}:{policy.linesep} "  # type: ignore[attr-defined]
        return f"{self.name}: {folded.removeprefix(empty)}" if folded.startswith(empty) else folded  # type: ignore[attr-defined]


def _policy() -> email.policy.EmailPolicy[EmailMessage]:
    registry = HeaderRegistry()
    registry.map_to_type("subject", _Subject)  # type: ignore[arg-type]
    for name in ("in-reply-to", "references", "list-unsubscribe"):
        registry.map_to_type(name, _Unbroken)  # type: ignore[arg-type]
    return email.policy.default.clone(header_factory=registry)


POLICY = _policy()


def build_message(
    sender: str,
    to: str | Sequence[str],
    subject: str,
    text: str,
    html: str | None = None,
    *,
    attachments: Sequence[Attachment] = (),
    pictures: Mapping[str, bytes] | None = None,
    reply_to: str | None = None,
    message_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    now: dt.datetime | None = None,
) -> EmailMessage:
    """A mail ready to be sent: text, beside it HTML if given, and files.

    `to` is a list of addresses, or text with several parted by commas; each may be «Name <name@example.org>».
    `pictures` are PNGs by the name that the HTML uses in `src="cid:NAME"`. `headers` are further ones, such as
    References or List-Unsubscribe. `now` is the mail's date. Raises MailFault for a wrong address, and for too much
    of anything.
    """
    recipients = _read_recipients(to)
    message = EmailMessage(policy=POLICY)
    _set_addresses(message, "From", _read_addresses(sender, "the sender", just_one=True))
    _set_addresses(message, "To", recipients)
    if reply_to:
        _set_addresses(message, "Reply-To", _read_addresses(reply_to, "reply_to", just_one=True))
    message["Subject"] = clean_header(subject) or "(no subject)"
    message["Date"] = now or utc_now()
    message["Message-ID"] = _checked_message_id(message_id) if message_id else make_msgid(domain=_domain(sender))
    message["Auto-Submitted"] = "auto-generated"  # keeps out-of-office programs from answering
    for name, value in (headers or {}).items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,60}", name) or name in message or name.lower() in _OURS:
            raise MailFault(f"{name!r} cannot be set as a further header; use a name that the mail does not have yet")
        message[name] = clean_header(value, longest=900)
    message.set_content(_clean_body(text, "text"))
    if html is not None:
        message.add_alternative(_clean_body(html, "html"), subtype="html")
        *_, part = message.iter_parts()
        for cid, png in (pictures or {}).items():
            part.add_related(
                png, "image", "png", cid=f"<{_checked_cid(cid)}>", disposition="inline", filename=f"{cid}.png"
            )
    for attachment in attachments:
        _attach(message, attachment)
    size = len(bytes(message))
    if size > MAX_MESSAGE_BYTES:
        limit = f"{MAX_MESSAGE_BYTES / 1e6:.1f} MB that servers take"
        raise MailFault(f"the mail has {size / 1e6:.1f} MB, more than the {limit}; attach less")
    _prove_headers(message)
    return message


_OURS = frozenset(("bcc", "cc", "content-type", "content-transfer-encoding", "mime-version", "sender", "reply-to"))


def _clean_body(body: str, name: str) -> str:
    if len(body) > MAX_BODY_LETTERS:
        raise MailFault(
            f"{name} has {len(body):,} characters; a mail may have {MAX_BODY_LETTERS:,}; attach it as a file"
        )
    # No mail can carry zero bytes or halves of characters.
    return body.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    name = clean_header(re.split(r"[/\\]", attachment.name)[-1], longest=120) or "attachment"
    kind, packing = mimetypes.guess_type(name)
    maintype, _, subtype = (kind or "").partition("/")
    if packing or maintype not in ("application", "audio", "image", "text", "video"):
        maintype, subtype = "application", "octet-stream"
    message.add_attachment(attachment.content, maintype=maintype, subtype=subtype, filename=name)


def _checked_message_id(message_id: str) -> str:
    if not re.fullmatch(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,128}@[A-Za-z0-9.-]{1,128}>", message_id):
        raise MailFault(f"{message_id!r} is no Message-ID; write it as <name@example.org>")
    return message_id


def _checked_cid(cid: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", cid):
        raise MailFault(f"{cid!r} cannot name a picture; use letters, digits, - and _")
    return cid


def _prove_headers(message: EmailMessage) -> None:
    """The last wall: as written out, the mail has the headers that were set and no others.

    Pythons before 3.11.10 and 3.12.5 do not look after this themselves (CVE-2024-6923).
    """
    read_back = message_from_bytes(bytes(message), policy=email.policy.default)
    if sorted(map(str.lower, read_back.keys())) != sorted(map(str.lower, message.keys())):
        raise MailFault("a header of the mail would break into several; use plain letters in names and subject")


# Addresses

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")


def _read_recipients(to: str | Sequence[str]) -> list[Address]:
    addresses: dict[str, Address] = {}
    if isinstance(to, str):
        found = _read_addresses(to, "to", just_one=False)
    else:
        found = [address for entry in to for address in _read_addresses(entry, "to", just_one=True)]
    for address in found:
        addresses.setdefault(address.addr_spec.lower(), address)
    if not addresses:
        raise MailFault("to is empty; give at least one address, such as ops@example.org")
    if len(addresses) > MAX_RECIPIENTS:
        raise MailFault(f"to has {len(addresses)} addresses; a mail may have {MAX_RECIPIENTS}; use a mailing list")
    return list(addresses.values())


def _read_addresses(text: str, where: str, *, just_one: bool) -> list[Address]:
    """The addresses in a text, names cleaned. Raises MailFault for whatever is not plainly right: guessing would send
    mails to strangers."""
    if not isinstance(text, str):
        raise MailFault(f"{where} has {text!r}, which is no address; write it as ops@example.org")
    refusal = f"{where} has {_quoted(text)}, which is no address"
    hint = "write it as ops@example.org or Name <ops@example.org>"
    if len(text) > 320 * (1 if just_one else MAX_RECIPIENTS):
        raise MailFault(f"{where} is too long for an address ({len(text):,} characters); {hint}")
    if any(not letter.isprintable() for letter in text):
        raise MailFault(f"{refusal}: it has a line end or another invisible character; {hint}")
    if "=?" in text:
        raise MailFault(f"{refusal}: it has an encoded word; write the name as it is read")
    addresses = []
    for entry in _split_at_commas(text):
        name, spec = _parted(entry)
        checked = _checked_spec(spec)
        if checked is None:
            raise MailFault(f"{where} has {_quoted(entry)}, which is no address; {hint}")
        local, _, domain = checked.rpartition("@")
        addresses.append(Address(clean_header(name, longest=80), local, domain))
    if just_one and len(addresses) != 1:
        raise MailFault(f"{where} has {_quoted(text)}, which is {len(addresses)} addresses where one belongs; {hint}")
    return addresses


def _split_at_commas(text: str) -> Iterator[str]:
    """Parts between commas that stand neither in quotes nor in angle brackets."""
    part, quoted, angled, escaped = "", False, False, False
    for letter in text:
        if letter == "," and not quoted and not angled:
            yield part
            part = ""
            continue
        if quoted:
            quoted = letter != '"' or escaped
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            quoted, escaped = True, False
        elif letter in "<>":
            angled = letter == "<"
        part += letter
    if part.strip() or "," in text:
        yield part


def _parted(entry: str) -> tuple[str, str]:
    """Name and address of «Name <address>» or of a bare address. Python's own reading mends and guesses too much."""
    entry = entry.strip()
    match = re.fullmatch(r'(?:"((?:[^"\\]|\\.)*)"|([^"<>@:;]*))\s*<([^<>]*)>', entry)
    if match is None:
        return "", entry
    quoted, plain, spec = match.groups()
    name = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
    return name.strip(), spec.strip()


def _checked_spec(spec: str) -> str | None:
    local, at, domain = spec.rpartition("@")
    if not at or len(local) > 64 or not _LOCAL.match(local):
        return None
    try:
        domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    if len(domain) > 253 or not all(_LABEL.match(label) for label in domain.split(".")):
        return None
    return f"{local}@{domain.lower()}"


def _set_addresses(message: EmailMessage, name: str, addresses: Sequence[Address]) -> None:
    message[name] = addresses
    specs = [address.addr_spec for address in addresses]
    alone = EmailMessage()
    alone[name] = addresses
    read_back = message_from_bytes(bytes(alone), policy=email.policy.default)[name]
    if read_back is None or [address.addr_spec for address in read_back.addresses] != specs:
        # Folding long lists with names has spoilt addresses in some Pythons (CVE-2025-1795): better without the names.
        del message[name]
        message[name] = [Address(addr_spec=spec) for spec in specs]


def _domain(sender: str, where: str = "the sender") -> str:
    return _read_addresses(sender, where, just_one=True)[0].domain


def _quoted(text: str) -> str:
    return '"' + clean_header(text, longest=120) + '"'


# Sending


def recipients_of(message: EmailMessage) -> list[str]:
    """The bare addresses that a mail from `build_message` goes to."""
    return [address.addr_spec for address in message["To"].addresses]


def is_for_good(answer: str) -> bool:
    """Whether what a server said about a recipient (`Delivery.refused`) will not change by trying again."""
    return not answer.startswith("4")


def send(message: EmailMessage, settings: MailSettings, only_to: Sequence[str] | None = None) -> Delivery:
    """Hand a mail from `build_message` to the server, or put it into the outbox when there is no server.

    `only_to` are those of its recipients that have not got it yet; without it all.
    A mail that some recipients get and others do not counts as sent; `refused` says whom the server did not take.
    Raises MailRefused when trying again cannot help, and MailServerAway when it can.
    """
    if settings.server is None:
        return Delivery(message["Message-ID"], "outbox", file=_put_into_outbox(message, settings.outbox))
    return Delivery(message["Message-ID"], "smtp", refused=_hand_in(message, settings.server, only_to))


def _put_into_outbox(message: EmailMessage, outbox: Path) -> Path:
    """The file that holds the mail. One with the same Message-ID is there already: that file, left as it is."""
    mark = hashlib.sha256(str(message["Message-ID"]).encode()).hexdigest()[:16]
    temporary: str | None = None
    try:
        outbox.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = next(outbox.glob(f"*-{mark}.eml"), None)
        if there is not None:
            return there
        moment = message["Date"].datetime.astimezone(dt.UTC)
        path = outbox / f"{moment:%Y%m%dT%H%M%SZ}-{mark}.eml"
        descriptor, temporary = tempfile.mkstemp(dir=outbox, prefix=".", suffix=".part")  # mode 0600, as mails need
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(message))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
        return path
    except OSError as error:
        raise MailServerAway(
            f"cannot write into the outbox {outbox}: {error.strerror or error}; make room or give the rights"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _hand_in(message: EmailMessage, server: SmtpServer, only_to: Sequence[str] | None) -> dict[str, str]:
    recipients = recipients_of(message) if only_to is None else list(only_to)
    sender = message["From"].addresses[0].addr_spec
    try:
        with _session(server) as smtp:
            smtp.ehlo_or_helo_if_needed()
            if server.security == "starttls":
                smtp.starttls(context=ssl.create_default_context())
                smtp.ehlo()
            if server.user is not None:
                smtp.login(server.user, server.password or "")
            refused = smtp.send_message(message, from_addr=sender, to_addrs=recipients)
    except smtplib.SMTPRecipientsRefused as error:
        answers = "; ".join(f"{address}: {_answer(code, said)}" for address, (code, said) in error.recipients.items())
        for_good = all(code >= 500 for code, _ in error.recipients.values())
        raise _failure(for_good, f"{server} takes none of the recipients ({answers})", "check the addresses") from error
    except smtplib.SMTPNotSupportedError as error:
        what = str(error).rstrip(".")
        hint = "use its TLS port with smtps://, or starttls=never if the way there is safe"
        raise MailWayClosed(f"{server} lacks what is needed ({what}), so nothing was sent; {hint}") from error
    except smtplib.SMTPResponseException as error:  # at the greeting, STARTTLS, log-in, sender or text
        code = error.smtp_code
        if code < 0:
            raise _away(server, "what it says is no SMTP") from error
        raise _refusal(server, error) from error
    except ssl.SSLCertVerificationError as error:
        raise MailWayClosed(
            f"{server} cannot prove who it is ({error.verify_message.rstrip('.')}), so nothing was sent; "
            "use the host name in its certificate, and add its authority to the trusted ones (SSL_CERT_FILE)"
        ) from error
    except (OSError, smtplib.SMTPException, ValueError) as error:  # ValueError: an answer that is no SMTP at all
        raise _away(server, _cause(error)) from error
    return {address: _answer(code, said) for address, (code, said) in refused.items()}


@contextlib.contextmanager
def _session(server: SmtpServer) -> Iterator[smtplib.SMTP]:
    """A connection that ends with the block, at the latest after the server's longest time."""
    smtp: _Watched | _WatchedTls = _WatchedTls(server) if server.security == "tls" else _Watched(server)
    try:
        yield smtp
        # Not by `with smtplib.SMTP`: it raises when the farewell fails, and a mail already taken would count as failed.
        with contextlib.suppress(OSError, smtplib.SMTPException, ValueError):
            smtp.quit()
    finally:
        smtp.watch.cancel()
        smtp.close()


class _Watched(smtplib.SMTP):
    """Its time begins before the constructor of smtplib, which reads the greeting."""

    def __init__(self, server: SmtpServer) -> None:
        self.watch = _watch(self, server.longest_seconds)
        try:
            super().__init__(server.host, server.port, timeout=server.timeout_seconds)
        except BaseException:
            self.watch.cancel()
            raise


class _WatchedTls(smtplib.SMTP_SSL):
    """The same, with TLS from the start."""

    def __init__(self, server: SmtpServer) -> None:
        self.watch = _watch(self, server.longest_seconds)
        context = ssl.create_default_context()
        try:
            super().__init__(server.host, server.port, timeout=server.timeout_seconds, context=context)
        except BaseException:
            self.watch.cancel()
            raise


def _watch(smtp: smtplib.SMTP, seconds: float) -> threading.Timer:
    def cut() -> None:
        if smtp.sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(smtp.sock, socket.SHUT_RDWR)  # under TLS too: the plain one wakes the reader

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    return timer


def _refusal(server: SmtpServer, error: smtplib.SMTPResponseException) -> MailRefused | MailServerAway:
    """Of the sender or the text, it is this mail's fault; of anything before, also when it is for good, that of
    settings."""
    code, said = error.smtp_code, _answer(error.smtp_code, error.smtp_error)
    if isinstance(error, smtplib.SMTPSenderRefused) and code not in (LOG_IN_FIRST, TOO_LARGE):
        hint = "set SCHEDULER_MAIL_FROM to an address that may send there"
        return _failure(code >= 500, f"{server} does not let {error.sender} send ({said})", hint)
    is_login = isinstance(error, smtplib.SMTPAuthenticationError) or code == LOG_IN_FIRST
    hint = "check user and password" if is_login else "see the server's log"
    found = _failure(code >= 500, f"{server} refuses the mail ({said})", hint)
    if isinstance(found, MailServerAway) or isinstance(error, smtplib.SMTPDataError) or code == TOO_LARGE:
        return found
    return MailWayClosed(str(found))


def _failure(for_good: bool, what: str, hint: str) -> MailRefused | MailServerAway:
    return MailRefused(f"{what}; {hint}") if for_good else MailServerAway(f"{what}; it may go later")


def _away(server: SmtpServer, why: str) -> MailServerAway:
    hint = "look whether it is up and SCHEDULER_SMTP_URL is right"
    return MailServerAway(f"the mail server {server} does not answer as it should ({why}); {hint}")


def _answer(code: int, said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return f"{code} {clean_header(text, longest=160)}".strip()


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    if isinstance(error, OSError) and error.strerror:
        return clean_header(error.strerror)
    return clean_header(str(error)) or type(error).__name__


def _is_this_machine(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _masked(url: str) -> str:
    """A URL as it may be shown: whatever may be a password is out."""
    return '"' + re.sub(r"//.*@", "//***@", clean_header(url)) + '"'
