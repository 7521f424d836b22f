"""The clock of this machine, in the units that it promises."""

from __future__ import annotations

from datetime import UTC, datetime

from dnms.kit.clock import MICROSECONDS, Clock, SystemClock


def test_now_is_in_microseconds() -> None:
    clock: Clock = SystemClock()
    before = int(datetime.now(UTC).timestamp()) * MICROSECONDS
    assert before <= clock.now() < before + 60 * MICROSECONDS


def test_monotonic_never_goes_back() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)
