"""What never gets through TLS: it leaves nothing behind, and keeps nobody else out."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from asyncio import sslproto
from collections.abc import Iterator

import pytest

from dnms.agents.subnet import door
from tests.system.agents.test_door import leave, opened, until

HELLO = b"\x16\x03\x01\x02\x00\x01"  # a record of TLS begins, and then nothing


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python does not look for objects that hold each other: what they hold stays, as in the middle of a flood."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    """Ends of TLS on the agent's side; each has a buffer of 256 KiB."""
    return sum(isinstance(each, sslproto.SSLProtocol) and each._server_side for each in gc.get_objects())


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
        await asyncio.sleep(0)
        assert alive() == before
