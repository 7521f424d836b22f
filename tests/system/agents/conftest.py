"""Both ends of TLS on loopback, with the certificates of real sites."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from dnms.agents import tls
from dnms.disk.site import Site


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A Node Agent runs on asyncio's own loop, and a Subnet Agent on uvloop."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in ("test_door", "test_handshakes", "test_passing", "test_porch", "test_pump", "test_strangers"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories


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
async def descriptors() -> AsyncIterator[Callable[[], int]]:
    """How many more sockets are open than before the test, but for those that an event loop has while it runs."""

    def sockets() -> int:
        count = 0
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was the one that lists them
                count += str(descriptor.readlink()).startswith("socket:")
        return count

    before = sockets()
    yield lambda: sockets() - before
