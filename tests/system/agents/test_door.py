from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dnms.agents import door, tls
from dnms.agents import pump as pumping
from dnms.agents.door import MAX_A_PEER, Door
from dnms.agents.listening import Entered, TcpListener
from dnms.agents.pump import Pump
from dnms.disk.site import Site
from dnms.wire.messages import AGENT_NAME


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(served: ssl.SSLContext, listener: socket.socket) -> AsyncIterator[tuple[Door[Entered], list[str]]]:
    """A door behind which a guest is told its address, and stays until it leaves."""
    guests: list[str] = []

    async def serve(entered: Entered) -> None:
        guests.append(entered.peer)
        entered.writer.write(entered.peer.encode() + b"\n")
        await entered.reader.read()
        entered.writer.close()

    made = Door(serve)
    running = asyncio.create_task(made.serve([TcpListener(listener, served)]))
    try:
        yield made, guests
    finally:
        running.cancel()
        await asyncio.wait((running,))
        await until(lambda: not made._guests and not made._handshakes)


async def comes(
    site: Site, listener: socket.socket, host: str = "127.0.0.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        *listener.getsockname(),
        local_addr=(host, 0),
        ssl=tls.trusting(site.root_certificate),
        server_hostname=AGENT_NAME,
    )


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_who_never_begins_tls_keeps_nobody_else_out(
    site: Site, served: ssl.SSLContext, listener: socket.socket
) -> None:
    async with opened(served, listener) as (made, guests):
        silent = [await asyncio.open_connection(*listener.getsockname()) for _ in range(MAX_A_PEER + 3)]
        await until(lambda: made.dropped["too-many-of-a-peer"] == 3)
        reader, writer = await comes(site, listener, "127.0.0.2")
        assert await reader.readline() == b"127.0.0.2\n"
        assert guests == ["127.0.0.2"]
        await leave(writer)
        for _, each in silent:
            await leave(each)
        await until(lambda: not made._peers)
        reader, writer = await comes(site, listener)
        assert await reader.readline() == b"127.0.0.1\n"
        await leave(writer)


async def test_what_is_no_tls_is_counted_and_closed(
    served: ssl.SSLContext, listener: socket.socket, descriptors: Callable[[], int]
) -> None:
    async with opened(served, listener) as (made, guests):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        await leave(writer)
        await until(lambda: made.dropped["no-tls"] == 1)
        assert not guests
    await until(lambda: descriptors() <= 0)


async def test_a_handshake_that_takes_too_long_is_given_up(
    served: ssl.SSLContext, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_WITHIN", 0.1)
    async with opened(served, listener) as (made, _):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.read() == b""
        await leave(writer)
        await until(lambda: not made._peers)
        assert made.dropped["no-tls"] == 1


async def test_there_are_descriptors_left_for_the_log(
    site: Site, served: ssl.SSLContext, listener: socket.socket
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (door.SPARE + 2, before[1]))
    hard = before[1]
    try:
        async with opened(served, listener) as (made, _):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > door.SPARE + 2  # it has raised what it may
            assert made._room <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - door.SPARE
            made._room = 1
            reader, writer = await comes(site, listener)
            await reader.readline()
            with pytest.raises((OSError, ssl.SSLError)):
                await comes(site, listener, "127.0.0.2")
            assert made.dropped["too-many-sessions"] == 1
            await leave(writer)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], hard))


class Talkative:
    """A session that always has more to say."""

    def __init__(self) -> None:
        self.closed = False

    def receive(self, data: bytes, now: float) -> None:
        """Whatever."""

    def receive_end(self, now: float) -> None:
        self.closed = True

    def to_send(self, now: float) -> bytes:
        return b"" if self.closed else bytes(1 << 20)

    def deadline(self) -> float | None:
        return None if self.closed else 0.0

    def tick(self, now: float) -> None:
        """More."""

    def events(self) -> list[str]:
        return []


def deaf(site: Site, listener: socket.socket) -> ssl.SSLSocket:
    """A client that reads nothing, and whose event loop reads nothing for it."""
    connection = socket.create_connection(listener.getsockname())
    return tls.trusting(site.root_certificate).wrap_socket(connection, server_hostname=AGENT_NAME)


async def test_a_peer_that_takes_nothing_is_cut_off(
    site: Site,
    served: ssl.SSLContext,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    descriptors: Callable[[], int],
) -> None:
    for patience in ("STALLED", "FLUSH"):
        monkeypatch.setattr(pumping, patience, 0.2)
    ended = asyncio.Event()
    waiting: list[int] = []

    async def serve(entered: Entered) -> None:
        writer = entered.writer
        async for _ in Pump(Talkative(), entered.reader, writer).events():
            pass
        waiting.append(writer.transport.get_write_buffer_size())
        assert writer.transport.is_closing()
        ended.set()

    made = Door(serve)
    running = asyncio.create_task(made.serve([TcpListener(listener, served)]))
    client = await asyncio.to_thread(deaf, site, listener)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        client.close()
        running.cancel()
        await asyncio.wait((running,))
    await until(lambda: not made._peers)
    assert waiting[0] < 16 << 20
    await until(lambda: descriptors() <= 0)
