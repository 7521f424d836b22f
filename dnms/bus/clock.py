"""The log's clock, as a process knows it that lives elsewhere.

Leases end by this clock. An agent whose own clock is an hour ahead would end those that nodes still use, and give their
addresses away; so the log is asked for its time, and a clock that is never set carries that on between two questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from dnms.kit.clock import MICROSECONDS

MAX_JUMP = 2 * MICROSECONDS
"""Between what was foreseen and what the log says; more means that somebody has set its clock."""

SLOWEST = 1.0  # seconds that an answer may take; in a slower one, nobody knows when it was given

_logger = structlog.get_logger(__name__)


class TellsTime(Protocol):
    """What is wanted of a log; both logs have it."""

    async def clock(self) -> int:
        """The log's own clock, by which messages are stored, in microseconds since 1970-01-01 UTC. Unavailable."""
        ...


class Told(msgspec.Struct, frozen=True):
    """What a log said, and when: it goes on from there, as long as the machine runs that it was said to."""

    said: int  # microseconds since 1970-01-01 UTC
    at: float  # seconds since that machine was started
    boot: str  # names that start


def has_jumped(before: Told, after: Told) -> bool:
    """Whether somebody has set the log's clock between these two, of one boot."""
    return abs(after.said - before.said - round((after.at - before.at) * MICROSECONDS)) > MAX_JUMP


def this_boot() -> str:
    """Names the present start of this machine. OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def since_boot() -> float:
    """Seconds since this machine was started, those in which it slept too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LogClock:
    """Tells the time of a log. Nothing is known before the first `measure`, unless a former process was `told`."""

    def __init__(
        self,
        log: TellsTime,
        *,
        elapsed: Callable[[], float] = since_boot,
        boot: str = "",
        told: Told | None = None,
    ) -> None:
        """`elapsed` is in seconds since what `boot` names, and is never set; `told` is of the same boot."""
        self._log = log
        self._elapsed = elapsed
        self._boot = boot
        self._measured = None if told is None else (told.said, told.at)

    @property
    def told(self) -> Told | None:
        """What the log said last."""
        return None if self._measured is None else Told(*self._measured, self._boot)

    @property
    def known(self) -> bool:
        """Whether it was ever measured."""
        return self._measured is not None

    def elapsed(self) -> float:
        """Seconds since what its boot names."""
        return self._elapsed()

    def now(self) -> int:
        """The log's time in microseconds since 1970-01-01 UTC. ValueError if it was never measured."""
        if self._measured is None:
            raise ValueError("the log's clock was not measured yet")
        said, at = self._measured
        return said + round((self._elapsed() - at) * MICROSECONDS)

    async def measure(self) -> bool:
        """Ask the log for its time; whether that has jumped against what was foreseen. Unavailable.

        An answer that took too long changes nothing.
        """
        asked = self._elapsed()
        said = await self._log.clock()
        answered = self._elapsed()
        if answered - asked > SLOWEST and self.known:
            return False
        at = (asked + answered) / 2
        jump = 0
        if self._measured is not None:
            jump = said - self._measured[0] - round((at - self._measured[1]) * MICROSECONDS)
        self._measured = said, at
        if abs(jump) <= MAX_JUMP:
            return False
        _logger.warning("the log's clock has jumped", seconds=round(jump / MICROSECONDS, 3))
        return True
