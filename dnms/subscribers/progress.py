"""For which events an instance has called, by what it wrote to the log itself: from there it goes on."""

from __future__ import annotations

from typing import Self

from dnms.domain.aggregate import Refused
from dnms.events.effect import EffectCalled, EffectDead, EffectDelayed
from dnms.events.recorded import Event, Request
from dnms.subscribers.lines import Where


class Progress:
    """The fold of an instance's own subject. Nothing is decided there. Implements `domain.aggregate.State`."""

    plan_position = 0

    def __init__(self) -> None:
        self.begun = False  # it has said where it begins
        self.position = 0  # sequence: nothing up to it is to be called for
        self.settled: set[Where] = set()  # behind the position: called for, or dead
        self.delayed: dict[Where, int] = {}  # when each failed for the first time that is not settled; microseconds
        self.dead: set[Where] = set()

    def entropy(self, request: Request) -> int:
        """None."""
        return 0

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """Refused, always."""
        raise Refused("not-decided-here", f"nothing is decided on this subject, {request.NAME} neither")

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in what the instance said."""
        match event:
            case EffectCalled():
                self.begun = True
                for call in event.calls:
                    where = call.sequence, call.index
                    self.delayed.pop(where, None)
                    self.dead.discard(where)
                    self.settled.add(where)
                if event.position > self.position:
                    self.position = event.position
                    self.settled = {where for where in self.settled if where[0] > event.position}
            case EffectDelayed():
                self.delayed.setdefault((event.sequence, event.index), at)
            case EffectDead():
                where = event.sequence, event.index
                self.delayed.pop(where, None)
                self.dead.add(where)
                if event.sequence > self.position:
                    self.settled.add(where)

    def draft(self) -> Self:
        """Itself: without decisions nothing changes it but what is in the log."""
        return self
