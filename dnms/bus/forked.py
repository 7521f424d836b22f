"""A log that begins as another one, and goes on in this process's memory alone: for who tries what it would do.

What is read of the other one ends where that ended when the fork was made. Nothing is written there, and no key either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import cast

from dnms.bus.keys import Keys, KeyStore, MemoryKeyStore
from dnms.bus.memory import MAX_BATCH
from dnms.bus.patterns import check_patterns, check_subject, matches
from dnms.bus.port import Batch, Log, LogForked, LostRace, Record
from dnms.events.sealing import Key


class ForkedLog:
    """Implements `port.Log`. It lasts no longer than the process, and what it goes on from has to be open meanwhile."""

    def __init__(self, log: Log, site: str, *, forked_at: int, now: Callable[[], int]) -> None:
        """`forked_at` is where `log` ends now; `now` is the log's clock: microseconds since 1970-01-01 UTC."""
        self.keys = Keys(_Beside(log.keys.store))
        self._log = log
        self._site = site
        self._forked_at = forked_at
        self._now = now
        self._records: list[Record] = []  # since then
        self._heads: dict[str, int] = {}  # of each subject that something was stored on: the last one
        self._grown = asyncio.Event()

    @property
    def log_id(self) -> str:
        """That of the other log: what is known of its positions holds here."""
        return self._log.log_id

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        """See `Log`."""
        check_subject(self._site, subject)
        if subject in self._heads:
            is_last = self._heads[subject] == expected
        else:
            before = await self._of_other(subject, expected - 1) if expected else None
            behind = await self._of_other(subject, expected)
            is_last = behind is None and (before is not None or not expected)
        if not is_last:
            raise LostRace(f"{subject}: the last message is not {expected}")
        sequence = self._forked_at + len(self._records) + 1
        self._records.append(Record(subject, sequence, self._now(), data))
        self._heads[subject] = sequence
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return sequence

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        """See `Log`."""
        if (found := await self._of_other(subject, sequence)) is not None:
            return found
        return next((each for each in self._records if each.subject == subject and each.sequence > sequence), None)

    async def end(self) -> int:
        """See `Log`."""
        return self._forked_at + len(self._records)

    async def clock(self) -> int:
        """The log's own clock, in microseconds since 1970-01-01 UTC."""
        return self._now()

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        """See `Log`."""
        check_patterns(self._site, subjects)
        if after > await self.end():
            raise LogForked(f"the log ends at {await self.end()}, and was read up to {after} before")
        if after < self._forked_at:
            follow = cast("AsyncGenerator[Batch, None]", self._log.follow(subjects, after=after))
            async with aclosing(follow):
                async for batch in follow:
                    records = tuple(each for each in batch.records if each.sequence <= self._forked_at)
                    if batch.caught_up or len(records) < len(batch.records):
                        break
                    yield Batch(records, caught_up=False)
            begun, after = records, self._forked_at
        else:
            begun = ()
        is_first = is_behind = True  # who follows few subjects is told of the end too
        while True:
            grown, begin = self._grown, after - self._forked_at
            own = self._records[begin : begin + MAX_BATCH]
            after += len(own)
            wanted = tuple(each for each in own if any(matches(pattern, each.subject) for pattern in subjects))
            is_at_end = after == self._forked_at + len(self._records)
            if is_first or wanted or (is_behind and is_at_end):
                is_first, is_behind = False, not is_at_end
                yield Batch((*begun, *wanted), caught_up=is_at_end)
                begun = ()
            elif is_at_end:
                await grown.wait()

    async def _of_other(self, subject: str, sequence: int) -> Record | None:
        if sequence >= self._forked_at:
            return None
        found = await self._log.first_after(subject, sequence)
        return found if found is not None and found.sequence <= self._forked_at else None


class _Beside:
    """A store of keys in memory in front of another one, of which it only reads. Implements `KeyStore`."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._own = MemoryKeyStore()
        self._destroyed: set[bytes] = set()  # ids

    async def create(self, key: Key) -> None:
        """See `KeyStore`."""
        if await self.find(key.client) is not None:
            raise LostRace("the client has a key")
        await self._own.create(key)

    async def find(self, client: bytes) -> Key | None:
        """See `KeyStore`."""
        found = await self._own.find(client) or await self._store.find(client)
        return None if found is None or found.id in self._destroyed else found

    async def since(self, place: int) -> tuple[Sequence[Key], int]:
        """See `KeyStore`."""
        found, place = await self._store.since(place)
        own, _ = await self._own.since(0)
        return tuple(key for key in (*found, *own) if key.id not in self._destroyed), place

    async def destroy(self, key: bytes, client: bytes) -> None:
        """See `KeyStore`."""
        self._destroyed.add(key)
        await self._own.destroy(key, client)
