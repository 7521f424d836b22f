"""The way of a node to its first address, cut into steps at moments that others than its agent have seen."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

STEPS = (
    "registered: the agent is up, fe80:: can be used, a Subnet Agent was found and has proven itself",
    "in the log: an address was decided, and is on disk",
    "in the kernel: the assignment was sent and planned",
    "usable: Duplicate Address Detection",
)


class Way(msgspec.Struct, frozen=True):
    """When a node came how far, in seconds of one clock; None: nobody has seen it."""

    started: float | None  # its agent, by the nursery
    registered: float | None  # the commit of its session, by the log
    stored: float | None  # its IPv6 address, by the bus
    added: float | None  # by its kernel
    usable: float | None  # by its kernel

    @property
    def steps(self) -> tuple[float, ...]:
        """How long each of `STEPS` took; nothing where a moment is missing or they are out of order, after a crash."""
        moments = (self.started, self.registered, self.stored, self.added, self.usable)
        known = [moment for moment in moments if moment is not None]
        steps = tuple(later - earlier for earlier, later in pairwise(known))
        return steps if len(known) == len(moments) and min(steps) >= 0 else ()


class Step(msgspec.Struct, frozen=True):
    """One step of many nodes, in seconds."""

    name: str
    median: float
    longest: float


def steps(ways: Iterable[Way]) -> Sequence[Step]:
    """Of all nodes whose whole way is known; nothing if there is none."""
    known = [way.steps for way in ways if way.steps]
    by_step = zip(*known, strict=True)  # nothing at all, where nothing is known
    return [Step(name, statistics.median(all_), max(all_)) for name, all_ in zip(STEPS, by_step, strict=bool(known))]
