"""A small SMTP server for tests on a port of its own: it writes down what it gets and answers as it is told to."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class ScriptedServer:
    """`answers` replaces the usual answer to a command: by its verb («MAIL», «DATA», «.» for the end of the text,
    «» for the greeting), or for RCPT by the address. A silent one answers nothing; a dripping one never ends
    its greeting.
    """

    answers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None  # offers STARTTLS; with `tls_at_once` it speaks TLS from the start
    tls_at_once: bool = False
    silent: bool = False
    dripping: bool = False
    hangs_up_at: str = ""  # the verb at which it closes the connection without an answer
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)  # one for each mail
    port: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        secret = False
        if self.tls is not None and self.tls_at_once:
            connection, secret = self.tls.wrap_socket(connection, server_side=True), True
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            stream = stack.enter_context(connection.makefile("rwb"))

            def say(line: str) -> None:
                stream.write(line.encode() + b"\r\n")
                stream.flush()

            if self.silent:
                self.closing.wait(10)
                return
            while self.dripping and not self.closing.wait(0.01):
                stream.write(b"220-wait\r\n")  # «-»: more lines follow
                stream.flush()
            say(self.answers.get("", "220 test"))
            while line := stream.readline().decode("utf-8", "replace").rstrip("\r\n"):
                self.commands.append(line)
                verb = line.split(" ")[0].upper()
                if verb == self.hangs_up_at:
                    return
                recipient = re.match(r"RCPT TO:<([^>]*)>", line, re.IGNORECASE)
                key = recipient.group(1) if recipient else verb
                if key in self.answers:
                    say(self.answers[key])
                elif verb == "EHLO":
                    say("250-test")
                    if self.tls is not None and not secret:
                        say("250-STARTTLS")
                    say("250-AUTH PLAIN")
                    say("250 8BITMIME")
                elif verb == "STARTTLS" and self.tls is not None:
                    say("220 go on")
                    connection, secret = self.tls.wrap_socket(connection, server_side=True), True
                    stack.enter_context(connection)
                    stream = stack.enter_context(connection.makefile("rwb"))
                elif verb == "AUTH":
                    self.logins.append(base64.b64decode(line.split(" ")[2]).decode())
                    say("235 welcome")
                elif verb == "DATA":
                    say("354 go on")
                    lines = []
                    while (got := stream.readline()) not in (b".\r\n", b""):
                        lines.append(got.removeprefix(b".") if got.startswith(b"..") else got)
                    if "." in self.answers:
                        say(self.answers["."])
                        continue
                    self.mails.append(b"".join(lines))
                    self.encrypted.append(secret)
                    say("250 taken")
                elif verb == "QUIT":
                    say("221 bye")
                    return
                else:
                    say("250 ok")


@contextlib.contextmanager
def running_smtp_server(server: ScriptedServer) -> Iterator[ScriptedServer]:
    """Serves on 127.0.0.1 until the block ends, one connection after another."""
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]

    def accept() -> None:
        while not server.closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            connection.settimeout(10)
            with connection, contextlib.suppress(OSError):  # clients that hang up are part of the tests
                server.serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not on Linux
        listener.close()
        thread.join(15)
