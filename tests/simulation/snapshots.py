"""A Subnet Agent's snapshot on a simulated disk: it outlives its process, and is lost or damaged now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.snapshot import Whose, restored
from dnms.disk.snapshot import SnapshotError
from tests.simulation.trace import Trace

FULL = 0.1  # of the writes
LOST = 0.1  # of the starts: what is there is torn, or of another release


class SimulatedSnapshots:
    """Implements `agents.subnet.snapshot.Snapshots`, for one process after the other."""

    def __init__(self, whose: Whose, secret: bytes, chance: Random, trace: Trace) -> None:
        self._whose = whose
        self._secret = secret
        self.chance = chance
        self._trace = trace
        self._kept: tuple[bytes, bytes] | None = None

    async def write(self, small: bytes, large: Sequence[bytes]) -> None:
        await asyncio.sleep(self.chance.uniform(0.001, 0.1))  # who is killed meanwhile has written nothing
        if self.chance.random() < FULL:
            raise SnapshotError("the disk is full")
        self._kept = small, b"".join(large)

    def lose(self) -> None:
        """The disk is gone."""
        self._kept = None

    def folds(self) -> Folds | None:
        """Of the newest snapshot, as an agent has them at its start."""
        if self._kept is None or self.chance.random() < LOST:
            return None
        small, large = (memoryview(each) for each in self._kept)
        folds = restored(small, large, self._whose, secret=self._secret)
        self._trace.note("from a snapshot", by=self._whose.agent, position=folds.ledger.sequence)
        return folds
