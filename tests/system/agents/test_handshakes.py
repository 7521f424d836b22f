"""What never gets through TLS: it leaves nothing behind, and keeps nobody else out."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Iterator

import pytest
import uvloop

from dnms.agents import door
from dnms.agents.door import MAX_HANDSHAKES
from dnms.disk.site import Site
from tests.system.agents.test_door import comes, leave, opened, until

HELLO = b"\x16\x03\x01\x02\x00\x01"  # a record of TLS begins, and then nothing


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python does not look for objects that hold each other: what they hold stays, as in the middle of a flood."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    """Ends of TLS, of asyncio's on the agent's side alone; each has a buffer of 256 KiB."""
    kinds = (sslproto.SSLProtocol, uvloop.loop.SSLProtocol)  # type: ignore[attr-defined]  # it is of Cython
    return sum(isinstance(each, kinds) and getattr(each, "_server_side", True) for each in gc.get_objects())


@pytest.mark.parametrize("how", ["goes", "talks nonsense", "says nothing"])
async def test_a_handshake_that_fails_leaves_nothing_behind(
    how: str, served: ssl.SSLContext, listener: socket.socket, uncollected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_WITHIN", 0.05 if how == "says nothing" else 10)
    before = alive()
    async with opened(served, listener) as (made, _):
        for number in range(1, 6):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\n\r\n" if how == "talks nonsense" else HELLO)
            if how == "goes":
                writer.write_eof()
            await reader.read()
            await leave(writer)
            await until(lambda number=number: made.dropped["no-tls"] == number)  # type: ignore[misc]
        await until(lambda: not made._handshakes)
        await until(lambda: alive() == before)


async def test_many_addresses_that_begin_tls_and_say_no_more_keep_no_node_out(
    site: Site, served: ssl.SSLContext, listener: socket.socket, uncollected: None
) -> None:
    before = alive()
    async with opened(served, listener) as (made, guests):
        silent = []
        for number in range(MAX_HANDSHAKES + 40):
            reader, writer = await asyncio.open_connection(
                *listener.getsockname(), local_addr=(f"127.0.1.{1 + number % 40}", 0)
            )
            writer.write(HELLO)
            silent.append(writer)
        await until(lambda: made.dropped["too-many-handshakes"] == 40)
        assert len(made._handshakes) == MAX_HANDSHAKES
        for number in range(5):
            reader, writer = await comes(site, listener, f"127.0.2.{1 + number}")
            assert await reader.readline() == f"127.0.2.{1 + number}\n".encode()
            await leave(writer)
        assert len(guests) == 5
        assert set(made._handshakes.values()) == {f"127.0.1.{1 + number}" for number in range(40)}
        for writer in silent:
            writer.transport.abort()
        await until(lambda: not made._peers)
        del reader, writer
        await until(lambda: alive() == before)


async def test_who_gives_way_is_the_oldest_of_the_peer_that_has_the_most(
    served: ssl.SSLContext, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MAX_HANDSHAKES", 4)
    async with opened(served, listener) as (made, _):
        came = []
        for host in ("127.0.1.1", "127.0.1.2", "127.0.1.2", "127.0.1.3", "127.0.1.4"):
            came.append(await asyncio.open_connection(*listener.getsockname(), local_addr=(host, 0)))
            await until(lambda: made._peers[host] > 0)  # noqa: B023  # it waits here
        assert await came[1][0].read() == b""  # the first one of the second
        assert list(made._handshakes.values()) == ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"]
        for _, writer in came:
            writer.transport.abort()
        await until(lambda: not made._peers)


async def test_who_gave_way_is_closed_before_the_door_is(
    served: ssl.SSLContext, listener: socket.socket, descriptors: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MAX_HANDSHAKES", 1)
    async with opened(served, listener) as (made, _):
        writers = [(await asyncio.open_connection(*listener.getsockname()))[1] for _ in range(5)]
        await until(lambda: made.dropped["too-many-handshakes"] == 4)
    for writer in writers:
        writer.transport.abort()
    await until(lambda: descriptors() <= 0)
