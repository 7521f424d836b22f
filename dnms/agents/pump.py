"""Drives a session of `wire` over a connection: bytes in, bytes out, and its deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from typing import Generic, Protocol, TypeVar

CHUNK = 64 * 1024  # bytes read at once
FLUSH = 5.0  # seconds in which a peer that is told of the end must take the last bytes

E = TypeVar("E")


class Session(Protocol[E]):
    """What both ends of `wire`'s sessions have."""

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        ...

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer."""

    def receive_end(self, now: float) -> None:
        """The peer's stream ended."""

    def to_send(self, now: float) -> bytes:
        """The bytes to write."""
        ...

    def deadline(self) -> float | None:
        """When to call `tick`."""
        ...

    def tick(self, now: float) -> None:
        """Time passed."""

    def events(self) -> list[E]:
        """What happened since the last call."""
        ...


class Pump(Generic[E]):
    """One session on one connection. Whoever calls a method of the session from elsewhere calls `wake` after it."""

    def __init__(self, session: Session[E], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._session = session
        self._reader = reader
        self._writer = writer
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The session has something to send, or another deadline."""
        self._woken.set()

    async def events(self) -> AsyncGenerator[E, None]:
        """What happens, until the session has closed. The connection is closed after that."""
        loop = asyncio.get_running_loop()
        session = self._session
        reading = loop.create_task(self._reader.read(CHUNK))
        try:
            while True:
                session.tick(loop.time())
                await self._flush()
                for event in session.events():
                    yield event
                await self._flush()
                if session.closed:
                    for event in session.events():
                        yield event
                    return
                await self._wait(reading)
                if not reading.done():
                    continue
                try:
                    data = reading.result()
                except (OSError, ssl.SSLError):
                    data = b""
                if data:
                    session.receive(data, loop.time())
                    reading = loop.create_task(self._reader.read(CHUNK))
                else:
                    session.receive_end(loop.time())
                    reading = loop.create_future()  # type: ignore[assignment]  # nothing more will be read
        finally:
            reading.cancel()
            await self._close()

    async def _wait(self, reading: asyncio.Future[bytes]) -> None:
        """Until there are bytes, somebody wakes us, or the session's deadline has come."""
        loop = asyncio.get_running_loop()
        deadline = self._session.deadline()
        woken = loop.create_task(self._woken.wait())
        try:
            timeout = None if deadline is None else max(0.0, deadline - loop.time())
            await asyncio.wait((reading, woken), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        self._woken.clear()

    async def _flush(self) -> None:
        data = self._session.to_send(asyncio.get_running_loop().time())
        if data:
            self._writer.write(data)
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):  # reading tells of a broken connection
            async with asyncio.timeout(FLUSH):
                await self._writer.drain()

    async def _close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(FLUSH):
                await self._writer.wait_closed()
