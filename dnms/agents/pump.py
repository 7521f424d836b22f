"""Drives a session of `wire` over a connection: bytes in, bytes out, and its deadlines."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from typing import Generic, Protocol, TypeVar

CHUNK = 64 * 1024  # bytes read at once
FLUSH = 5.0  # seconds in which a peer that is told of the end must take the last bytes
STALLED = 30.0  # seconds in which a peer takes nothing of what waits for it; then it is as good as gone

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
        self._woken = False
        self._waiting: asyncio.Future[None] | None = None  # while nothing happens

    def wake(self) -> None:
        """The session has something to send, or another deadline."""
        self._woken = True
        self._release()

    def abort(self) -> None:
        """The peer is not there: end the connection without a word to it, which nobody would take."""
        self._writer.transport.abort()

    async def events(self) -> AsyncGenerator[E, None]:
        """What happens, until the session has closed. The connection is closed after that.

        Nothing is read while the peer does not take what is sent, and a peer that does not for long has ended.
        """
        loop = asyncio.get_running_loop()
        session = self._session
        reading = self._read()
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
                    reading = self._read()
                else:
                    session.receive_end(loop.time())
        finally:
            reading.cancel()
            await self._close()

    def _read(self) -> asyncio.Task[bytes]:
        reading = asyncio.get_running_loop().create_task(self._reader.read(CHUNK))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # who ends first asks for neither
        return reading

    async def _wait(self, reading: asyncio.Future[bytes]) -> None:
        """Until there are bytes, somebody wakes us, or the session's deadline has come.

        A future and a timer: this is where the event loop spends what a session costs, and tasks would be dearer.
        """
        if not self._woken:
            loop = asyncio.get_running_loop()
            deadline = self._session.deadline()
            timer = None if deadline is None else loop.call_at(deadline, self._release)
            self._waiting = loop.create_future()
            reading.add_done_callback(self._release)
            try:
                await self._waiting
            finally:
                self._waiting = None
                reading.remove_done_callback(self._release)
                if timer is not None:
                    timer.cancel()
        self._woken = False

    def _release(self, _: object = None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _flush(self) -> None:
        session, loop, writer = self._session, asyncio.get_running_loop(), self._writer
        data = session.to_send(loop.time())
        if not data:
            return  # what was sent before was waited for
        writer.write(data)
        if not writer.transport.get_write_buffer_size():
            return  # the system has taken it
        try:
            async with asyncio.timeout(FLUSH if session.closed else STALLED):
                await writer.drain()
        except TimeoutError:  # which is an OSError too
            session.receive_end(loop.time())
        except (OSError, ssl.SSLError):
            pass  # reading tells of a broken connection

    async def _close(self) -> None:
        # Never a second close: by it Python's TLS transport forgets its protocol (3.11 to 3.13), and the abort below is
        # an AttributeError before 3.11.4; Debian 12 has 3.11.2. What the peer has ended counts as closed already.
        if not self._writer.is_closing():
            self._writer.close()
        try:
            async with asyncio.timeout(FLUSH):
                await self._writer.wait_closed()
        except (OSError, ssl.SSLError):  # TimeoutError is one: what it has not taken by now would be kept for it
            pass
        finally:
            self._writer.transport.abort()
        await asyncio.sleep(0)  # the loop closes an aborted connection in its next round
