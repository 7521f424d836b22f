"""Both ends of TLS on loopback, with the certificates of real sites."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnms.agents import tls
from dnms.disk.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site", "s")


@pytest.fixture
def served(site: Site) -> ssl.SSLContext:
    """The agent's end."""
    return tls.serving(site.agent_certificate, site.agent_key)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    yield sock
    sock.close()


@pytest.fixture
def descriptors() -> Iterator[Callable[[], int]]:
    """How many more descriptors are open than before the test."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield lambda: len(list(Path("/proc/self/fd").iterdir())) - before
