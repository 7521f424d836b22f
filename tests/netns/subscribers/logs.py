"""Logs in memory: whole ones, and some that bring a part of it or are away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from dnms.bus.memory import MemoryLog
from dnms.bus.port import Batch, Record, Unavailable
from dnms.events.plan import GroupWithdrawn
from dnms.subscribers.firewall.examples import EXAMPLES
from dnms.subscribers.subscriber import Happened
from tests.contracts.subscribers.logs import SITE, write

HISTORY = EXAMPLES[0].log
LENGTH = len(HISTORY)
WITHDRAWN = [Happened("plan", (GroupWithdrawn(name="sales"), GroupWithdrawn(name="voip")))]
"""What takes away all that the history leads to, but for a group without members."""


def memory_log(log_id: str = "one") -> MemoryLog:
    return MemoryLog(SITE, log_id=log_id, now=lambda: 0)


async def filled(log: MemoryLog, happened: Sequence[Happened]) -> MemoryLog:
    """The log with these commits behind it."""
    await write(log, happened)
    return log


class Partial(MemoryLog):
    """A log that brings some of its messages alone, or is away from some moment on."""

    withheld: frozenset[int] = frozenset()
    says_so = True  # that there is more; else it skips them in silence
    away = False
    leaves_after = 0  # messages; then it is away

    async def end(self) -> int:
        if self.away:
            raise Unavailable("cut off by the test")
        return await super().end()

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        if self.away:
            raise Unavailable("cut off by the test")
        async with aclosing(super().follow(subjects, after=after)) as batches:
            async for batch in batches:
                come = tuple(record for record in batch.records if record.sequence not in self.withheld)
                if self.leaves_after:
                    self.away = True
                    yield Batch(come[: self.leaves_after], caught_up=False)
                    raise Unavailable("cut off by the test")
                yield Batch(come, caught_up=batch.caught_up and not (self.says_so and self.withheld))


def copied(log: MemoryLog, records: Sequence[Record] | None = None, *, log_id: str = "") -> Partial:
    """Another server with these messages of a log, or all of them, under its name."""
    other = Partial(SITE, log_id=log_id or log.log_id, now=lambda: 0)
    for record in log.records if records is None else records:
        other.records.append(record)
        other._sequences.setdefault(record.subject, []).append(record.sequence)
    return other


async def whole() -> MemoryLog:
    return await filled(memory_log(), HISTORY)
