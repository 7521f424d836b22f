"""What waits to be called for, each behind what came before it for the same entities."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import msgspec

from dnms.subscribers.caller import Happening

Where = tuple[int, int]
"""Sequence and index of an event."""


class Item(msgspec.Struct, eq=False):
    """One call that is to be done."""

    happening: Happening
    entities: tuple[Hashable, ...]
    asked: Where | None = None  # by which event an operator wants it again; None: it is the first time
    behind: int = 0  # in how many of its lines another one stands before it
    attempts: int = 0
    since: int = 0  # when a call failed for the first time: microseconds since 1970-01-01 UTC; 0: none did

    @property
    def where(self) -> Where:
        """Of its event."""
        return self.happening.sequence, self.happening.index


class Lines:
    """A line an entity. An item goes when it is the first in all of its lines; none waits for one that came later."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[Item]] = {}

    def add(self, item: Item) -> bool:
        """Put it at the end of its lines; whether it can go at once."""
        for entity in item.entities:
            line = self._lines.setdefault(entity, deque())
            item.behind += bool(line)
            line.append(item)
        return not item.behind

    def take_out(self, item: Item) -> list[Item]:
        """Take out one that could go; those that can go now."""
        freed = []
        for entity in item.entities:
            line = self._lines[entity]
            line.popleft()
            if not line:
                del self._lines[entity]
                continue
            line[0].behind -= 1
            if not line[0].behind:
                freed.append(line[0])
        return freed
