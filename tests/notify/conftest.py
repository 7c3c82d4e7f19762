"""What the mail tests share: a server's certificate, and a way to start a server."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notify.certificate import write_certificate
from tests.notify.smtp_server import ScriptedServer, running_smtp_server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of a server called localhost, which no one trusts as yet."""
    return write_certificate(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def start_server() -> Iterator[Callable[..., ScriptedServer]]:
    with contextlib.ExitStack() as stack:

        def start(**how: Any) -> ScriptedServer:
            return stack.enter_context(running_smtp_server(ScriptedServer(**how)))

        yield start
