"""A session's connection ends, whoever ends it first. Debian 12's Python 3.11.2 forgives less here than later ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable

import pytest

from dnms.agents import tls
from dnms.agents.door import Door
from dnms.agents.listening import Entered, TcpListener
from dnms.agents.pump import Pump
from dnms.disk.site import Site
from dnms.wire.messages import AGENT_NAME


class UntilItsEnd:
    """A session that says nothing, and lasts until the peer's stream ends, or it hears a word."""

    def __init__(self) -> None:
        self.closed = False

    def receive(self, data: bytes, now: float) -> None:
        self.closed = True

    def receive_end(self, now: float) -> None:
        self.closed = True

    def to_send(self, now: float) -> bytes:
        return b""

    def deadline(self) -> float | None:
        return None

    def tick(self, now: float) -> None:
        """Nothing."""

    def events(self) -> list[str]:
        return []


@pytest.mark.parametrize("first", ["node", "node, rudely", "agent"])
async def test_a_session_closes_its_connection_whoever_ended_it(
    first: str, site: Site, served: ssl.SSLContext, listener: socket.socket, descriptors: Callable[[], int]
) -> None:
    begun = asyncio.Event()
    ended: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def serve(entered: Entered) -> None:
        begun.set()
        try:
            async for _ in Pump(UntilItsEnd(), entered.reader, entered.writer).events():
                pass
        except Exception as error:
            ended.set_exception(error)
            raise
        ended.set_result(entered.writer)

    running = asyncio.create_task(Door(serve).serve([TcpListener(listener, served)]))
    reader, writer = await asyncio.open_connection(
        *listener.getsockname(), ssl=tls.trusting(site.root_certificate), server_hostname=AGENT_NAME
    )
    try:
        async with asyncio.timeout(10):
            await begun.wait()
        match first:
            case "node":
                writer.close()
            case "node, rudely":
                writer.transport.abort()
            case _:
                writer.write(b"?")
        async with asyncio.timeout(10):
            writer_of_the_agent = await ended
            if first == "agent":
                assert await reader.read() == b""
        # A TLS transport that is closed twice lets its protocol go, and before Python 3.11.4 cannot be aborted then.
        if isinstance(writer_of_the_agent.transport, sslproto._SSLProtocolTransport):  # and not of uvloop
            assert writer_of_the_agent.transport._ssl_protocol is not None
        assert writer_of_the_agent.transport.is_closing()
    finally:
        writer.transport.abort()
        running.cancel()
        await asyncio.wait((running,))
    async with asyncio.timeout(10):
        while descriptors() > 0:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
