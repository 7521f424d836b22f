"""A log in this process's memory: for tests and for the simulation, where a subclass injects what goes wrong.

It keeps everything that a JetStream log promises and has no faults of its own: no call waits but `follow` for what is
to come. Override `store`, `first_after`, `end` or `follow` to be late, to lose answers or to lose races.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random

from dnms.bus.keys import Keys, MemoryKeyStore
from dnms.bus.patterns import check_patterns, check_subject, matches
from dnms.bus.port import Batch, LogForked, LostRace, Record

MAX_BATCH = 500  # records; a reader decodes a batch at once, and others want the loop meanwhile


class MemoryLog:
    """One site's stream, gone with the process."""

    def __init__(self, site: str, *, log_id: str, now: Callable[[], int]) -> None:
        """`now` is the log's own clock: microseconds since 1970-01-01 UTC."""
        self.site = site
        self.records: list[Record] = []
        # Foreseeable, so that the same test makes the same log: what it seals is no secret.
        self.keys = Keys(MemoryKeyStore(), random=Random(log_id).randbytes)
        self._log_id = log_id
        self._now = now
        self._sequences: dict[str, list[int]] = {}  # of each subject
        self._grown = asyncio.Event()

    @property
    def log_id(self) -> str:
        """Drawn when the stream was made; another one is another log."""
        return self._log_id

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        """Store one message if the last one on `subject` has sequence `expected`; its sequence, or LostRace."""
        check_subject(self.site, subject)
        sequences = self._sequences.setdefault(subject, [])
        last = sequences[-1] if sequences else 0
        if last != expected:
            raise LostRace(f"{subject}: the last message is {last}, not {expected}")
        sequence = len(self.records) + 1
        self.records.append(Record(subject, sequence, self._now(), data))
        sequences.append(sequence)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return sequence

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        """The first message on `subject` with a higher sequence, or None."""
        sequences = self._sequences.get(subject, [])
        index = bisect_right(sequences, sequence)
        return self.records[sequences[index] - 1] if index < len(sequences) else None

    async def end(self) -> int:
        """The sequence of the newest message of the stream; 0 if there is none."""
        return len(self.records)

    async def clock(self) -> int:
        """The log's own clock, in microseconds since 1970-01-01 UTC."""
        return self._now()

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        """All messages on `subjects` after `after`, then those to come. LogForked if the log ends before `after`."""
        check_patterns(self.site, subjects)
        if after > len(self.records):
            raise LogForked(f"the log ends at {len(self.records)}, and was read up to {after} before")
        wanted: dict[str, bool] = {}
        first = behind = True  # who follows few subjects is told of the end too
        while True:
            grown = self._grown
            records: list[Record] = []
            while after < len(self.records) and len(records) < MAX_BATCH:
                record = self.records[after]
                if record.subject not in wanted:
                    wanted[record.subject] = any(matches(pattern, record.subject) for pattern in subjects)
                after = record.sequence
                if wanted[record.subject]:
                    records.append(record)
            if records or first or (behind and after == len(self.records)):
                first, behind = False, after < len(self.records)
                yield Batch(tuple(records), caught_up=not behind)
            elif after == len(self.records):
                await grown.wait()
