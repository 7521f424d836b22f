"""A log that is known, and cannot be reached yet: who begins without it is told so, until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

import structlog

from dnms.bus.jetstream import JetStreamLog
from dnms.bus.keys import Keys
from dnms.bus.port import Batch, LogForked, Record, Unavailable
from dnms.events.sealing import Key

RETRY: Final = 2.0  # seconds between two attempts to reach it

_logger = structlog.get_logger(__name__)


class LateLog:
    """Implements `port.Log`. Whoever follows it waits until it can be reached."""

    def __init__(self, log_id: str, connect: Callable[[], Awaitable[JetStreamLog]]) -> None:
        """`connect` reaches it: a LogError, of which Unavailable is tried again."""
        self.log_id = log_id
        self._connect = connect
        self._log: JetStreamLog | None = None
        self.keys = Keys(_LateKeyStore(self))

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        """See `port.Log`."""
        return await self.there().store(subject, data, expected=expected)

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        """See `port.Log`."""
        return await self.there().first_after(subject, sequence)

    async def end(self) -> int:
        """See `port.Log`."""
        return await self.there().end()

    async def clock(self) -> int:
        """See `clock.TellsTime`."""
        return await self.there().clock()

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        """See `port.Log`; nothing comes before it can be reached. LogError as `connect`; LogForked if it is another."""
        if self._log is None:
            self._log = await self._reach()
        async with aclosing(self._log.follow(subjects, after=after)) as batches:
            async for batch in batches:
                yield batch

    async def close(self) -> None:
        """Let it go."""
        if self._log is not None:
            await self._log.close()

    def there(self) -> JetStreamLog:
        """The log, once it was reached; Unavailable."""
        if self._log is None:
            raise Unavailable("the log was not reached yet")
        return self._log

    async def _reach(self) -> JetStreamLog:
        while True:
            try:
                log = await self._connect()
            except Unavailable as error:
                _logger.debug("no bus yet", reason=str(error))
                await asyncio.sleep(RETRY)
                continue
            if log.log_id != self.log_id:
                await log.close()
                raise LogForked(f"this is the log {log.log_id}, and {self.log_id} was read before")
            return log


class _LateKeyStore:
    """Implements `keys.KeyStore`: the one beside the log, which is there when that is."""

    def __init__(self, log: LateLog) -> None:
        self._log = log

    async def create(self, key: Key) -> None:
        await self._log.there().keys.store.create(key)

    async def find(self, client: bytes) -> Key | None:
        return await self._log.there().keys.store.find(client)

    async def since(self, place: int) -> tuple[Sequence[Key], int]:
        return await self._log.there().keys.store.since(place)

    async def destroy(self, key: bytes, client: bytes) -> None:
        await self._log.there().keys.store.destroy(key, client)
