"""A Subnet Agent's journal on a simulated disk: it outlives its process, is full now and then, and may be lost."""

from __future__ import annotations

import asyncio
from random import Random

from dnms.disk.journal import JournalError
from dnms.events.requests import MergeOutage
from tests.simulation.trace import Trace

FULL = 0.03  # of the writes
LOST = 0.1  # of the disks that lose power with something in the journal: an operator moves away what is damaged


class SimulatedJournal:
    """Implements `agents.subnet.outage.Journal`, for one process after the other."""

    def __init__(self, name: str, chance: Random, trace: Trace) -> None:
        self._name = name
        self._chance = chance
        self._trace = trace
        self._kept: dict[tuple[bytes, int, bytes], MergeOutage] = {}
        self.lost: list[MergeOutage] = []

    @property
    def entries(self) -> tuple[MergeOutage, ...]:
        return tuple(self._kept.values())

    async def write(self, entry: MergeOutage) -> None:
        await self._turn()
        if self._chance.random() < FULL:
            self._trace.note("disk full", by=self._name)
            raise JournalError("the disk is full")
        self._kept[entry.client, entry.iaid, entry.address] = entry

    async def remove(self, *entries: MergeOutage) -> None:
        await self._turn()
        for entry in entries:
            key = entry.client, entry.iaid, entry.address
            if self._kept.get(key) == entry:
                del self._kept[key]

    def lose_power(self) -> None:
        if self._kept and self._chance.random() < LOST:
            self._trace.note("journal lost", by=self._name, entries=len(self._kept))
            self.lost += self._kept.values()
            self._kept.clear()

    async def _turn(self) -> None:
        """Of the disk. Who is killed meanwhile has written nothing."""
        await asyncio.sleep(self._chance.uniform(0.001, 0.02))
