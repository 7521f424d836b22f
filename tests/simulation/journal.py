"""A Subnet Agent's journal on a simulated disk: it outlives its process, is full now and then, and may be damaged or
lost.

As in `dnms.disk.journal`, a thread changes it: what was begun goes on when who began it no longer waits, one after the
other. A process that ends tears off what its thread has not finished, of which nobody was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import msgspec

from dnms.disk.journal import JournalError
from dnms.events.requests import MergeOutage
from tests.simulation.trace import Trace

FULL = 0.03  # of the writes
RESTORED = 0.5  # of the damaged ones, from a copy; an operator moves away the others

Key = tuple[bytes, int, bytes]


class Lost(msgspec.Struct, frozen=True):
    """An entry that was on a disk, and what had become of it."""

    entry: MergeOutage
    at: float  # on the loop's clock


class SimulatedJournal:
    """Implements `agents.subnet.outage.Journal`, for one process after the other."""

    def __init__(self, name: str, chance: Random, trace: Trace) -> None:
        self._name = name
        self._chance = chance
        self._trace = trace
        self._kept: dict[Key, MergeOutage] = {}
        self._process = 0  # its number
        self._idle_at = 0.0  # when the thread will have done what it was given
        self.damaged = False
        self.in_next_write: Callable[[], None] | None = None
        self.lost: list[Lost] = []

    @property
    def entries(self) -> tuple[MergeOutage, ...]:
        return tuple(self._kept.values())

    def open(self) -> None:
        """As the constructor of the real one does. JournalError if it is damaged, and then it stays as it is."""
        if self.damaged:
            raise JournalError(f"the journal of {self._name} is damaged")

    async def write(self, entry: MergeOutage) -> None:
        def keep() -> None:
            if self._chance.random() < FULL:
                self._trace.note("disk full", by=self._name)
                raise JournalError("the disk is full")
            self._kept[_key(entry)] = entry

        await self._change(keep)

    async def remove(self, *entries: MergeOutage) -> None:
        def remove() -> None:
            for entry in entries:
                if self._kept.get(_key(entry)) == entry:
                    del self._kept[_key(entry)]

        await self._change(remove)

    def end_process(self) -> None:
        """The process is no more."""
        self.in_next_write = None
        self._process += 1

    def damage(self) -> None:
        """Bits of it flip, or its end is cut off."""
        if self._kept:
            self._trace.note("journal damaged", by=self._name, entries=len(self._kept))
            self.damaged = True

    def mend(self) -> None:
        """An operator does what the error says: brings a copy, or moves it away."""
        if self.damaged and self._chance.random() < RESTORED:
            self._trace.note("journal restored", by=self._name)
        elif self.damaged:
            self.lose()
        self.damaged = False

    def lose(self) -> None:
        """The disk is gone, and the journal with it."""
        if self._kept:
            self._trace.note("journal lost", by=self._name, entries=len(self._kept))
            now = asyncio.get_running_loop().time()
            self.lost += (Lost(entry, now) for entry in self._kept.values())
            self._kept.clear()

    async def _change(self, change: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._idle_at = max(self._idle_at, loop.time()) + self._chance.uniform(0.001, 0.02)
        loop.call_at(self._idle_at, self._finish, change, self._process, done)
        if self.in_next_write is not None:  # before it is on the disk, or behind that
            loop.call_at(self._idle_at + self._chance.choice((-0.0002, 0.0002)), self.in_next_write)
            self.in_next_write = None
        await done

    def _finish(self, change: Callable[[], None], process: int, done: asyncio.Future[None]) -> None:
        if process != self._process:
            self._trace.note("journal torn", by=self._name)
            return
        failed = None
        try:
            change()
        except JournalError as error:
            failed = error
        # If it did not fail, it is on the disk; and a process that ends now has told nobody.
        asyncio.get_running_loop().call_later(self._chance.uniform(0.0005, 0.01), _tell, done, failed)


def _tell(done: asyncio.Future[None], failed: JournalError | None) -> None:
    if done.done():
        return  # nobody waits
    if failed is None:
        done.set_result(None)
    else:
        done.set_exception(failed)


def _key(entry: MergeOutage) -> Key:
    return entry.client, entry.iaid, entry.address
