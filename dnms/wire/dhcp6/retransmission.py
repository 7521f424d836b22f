"""When a client sends a message again, and when it gives up (RFC 8415, 15)."""

from __future__ import annotations

import math

import msgspec

from dnms.wire.discovery import Chance

RAND = 0.1
"""How far an interval is drawn from what it would be, to both sides."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of one kind of message (RFC 8415, 7.6); durations in seconds, and 0 is no limit."""

    irt: float  # until it is sent again for the first time
    mrt: float = 0.0  # at most, between two
    mrc: int = 0  # how often it is sent at most
    mrd: float = 0.0  # for how long, from the first


SOLICIT = Timing(irt=1.0, mrt=3_600.0)
REQUEST = Timing(irt=1.0, mrt=30.0, mrc=10)
RENEW = Timing(irt=10.0, mrt=600.0)
REBIND = Timing(irt=10.0, mrt=600.0)
CONFIRM = Timing(irt=1.0, mrt=4.0, mrd=10.0)
RELEASE = Timing(irt=1.0, mrc=4)

SOL_MAX_DELAY = 1.0
"""Seconds within which a client speaks first: those of a link do not all do so at once (RFC 8415, 18.2.1, 18.2.3)."""


class Retransmission:
    """The times at which one message is sent."""

    def __init__(
        self, timing: Timing, chance: Chance, *, at: float, interval: float = 0.0, waits_longer: bool = False
    ) -> None:
        """It is sent first `at` that instant. `interval` is that of a former one, at whose pace it goes on.

        `waits_longer`: the first interval is never drawn shorter, as one in which Advertises are collected.
        """
        self.timing = timing
        self.due = at
        self.began = math.inf  # when it was sent first
        self.sent = 0
        self.interval = interval
        self._chance = chance
        self._waits_longer = waits_longer

    def send(self, now: float) -> None:
        """It is sent now."""
        self.began = min(self.began, now)
        self.sent += 1
        if self.interval == 0:
            drawn = self._chance.uniform(0.0 if self._waits_longer else -RAND, RAND)
            self.interval = self.timing.irt * (1 + drawn)
        else:
            self.interval *= 2 + self._chance.uniform(-RAND, RAND)
        if 0 < self.timing.mrt < self.interval:
            self.interval = self.timing.mrt * (1 + self._chance.uniform(-RAND, RAND))
        self.due = now + self.interval
        if self.timing.mrd:
            self.due = min(self.due, self.began + self.timing.mrd)

    def slow_down(self, mrt: float) -> None:
        """A server says how long the longest interval is (RFC 8415, 21.24)."""
        self.timing = msgspec.structs.replace(self.timing, mrt=mrt)

    def has_failed(self, now: float) -> bool:
        """Whether it was sent as often, or for as long, as it may be, and has no answer."""
        timing = self.timing
        if timing.mrd and now >= self.began + timing.mrd:
            return True
        return 0 < timing.mrc <= self.sent and now >= self.due

    def elapsed(self, now: float) -> int:
        """Since the first was sent, in hundredths of a second, as an option says it (RFC 8415, 21.9)."""
        return min(0xFFFF, max(0, round((now - self.began) * 100))) if self.sent else 0
