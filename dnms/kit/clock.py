"""Time as an argument: a clock that the shells hand in, real here and virtual in the tests."""

from __future__ import annotations

import time
from typing import Protocol

MICROSECONDS = 1_000_000
"""Microseconds in a second. Instants in DNMS are whole microseconds since 1970-01-01 UTC; durations are seconds."""


class Clock(Protocol):
    """What the shells ask for the time."""

    def now(self) -> int:
        """Wall time in microseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> int:
        """Wall time in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        return time.monotonic()
