"""When a router advertises itself (RFC 4861, 6.2.4 and 6.2.6). Instants are seconds of the caller's clock."""

from __future__ import annotations

from dnms.wire.discovery import Chance

MAX_INTERVAL, MIN_MAX_INTERVAL = 600.0, 4.0
"""Seconds between two unsolicited ones: the longest by default, and the least that this can be (RFC 4861, 6.2.1)."""
MIN_INTERVAL = 3.0
MIN_PART = 1 / 3  # of the longest interval is the shortest

INITIAL, INITIAL_INTERVAL = 3, 16.0
"""How many of the first ones, and of those after a change, come sooner, and how soon (RFC 4861, 6.2.4)."""

MIN_DELAY = 3.0
"""Seconds between any two (RFC 4861, 10: MIN_DELAY_BETWEEN_RAS)."""
MAX_DELAY = 0.5
"""Seconds after a solicitation (RFC 4861, 10: MAX_RA_DELAY_TIME)."""


def longest_interval(*lifetimes: float) -> float:
    """The longest interval for what lasts for so many seconds: a host misses two of three, and has it still."""
    return max(MIN_MAX_INTERVAL, min((MAX_INTERVAL, *(each / 3 for each in lifetimes if each))))


class Times:
    """The times at which one router advertises itself."""

    def __init__(self, chance: Chance, now: float) -> None:
        """It begins now."""
        self.due = now
        self._chance = chance
        self._last = now - MIN_DELAY
        self._soon = INITIAL  # how many more come soon

    def changed(self, now: float) -> None:
        """What is said is something else: say so as soon as that may be, and soon again."""
        self._soon = INITIAL
        self.due = min(self.due, max(now, self._last + MIN_DELAY))

    def solicited(self, now: float) -> None:
        """A host asks. One answer is for all who ask at that time."""
        delay = self._chance.uniform(0, MAX_DELAY)
        self.due = min(self.due, max(now, self._last + MIN_DELAY) + delay)

    def sent(self, now: float, longest: float) -> None:
        """One was sent to all; `longest` is the longest interval until the next."""
        self._last = now
        self._soon = max(0, self._soon - 1)
        interval = self._chance.uniform(max(MIN_INTERVAL, longest * MIN_PART), longest)
        self.due = now + (min(interval, INITIAL_INTERVAL) if self._soon else interval)

    def failed(self, now: float) -> None:
        """It could not be sent now."""
        self.due = now + MIN_INTERVAL
