from __future__ import annotations

import pytest

from dnms.bus.clock import SLOWEST, LogClock
from dnms.bus.memory import MemoryLog
from dnms.bus.port import Unavailable

SECOND = 1_000_000
NOON = 1_772_366_400 * SECOND


class Times:
    """The clock of the log's machine, and this machine's that is never set."""

    def __init__(self) -> None:
        self.log, self.here = NOON, 500.0
        self.answer_takes = 0.0

    def pass_(self, seconds: float) -> None:
        self.log += round(seconds * SECOND)
        self.here += seconds


class SlowLog(MemoryLog):
    """Takes its time to answer."""

    def __init__(self, times: Times) -> None:
        super().__init__("s", log_id="log", now=lambda: times.log)
        self._times = times
        self.away = False

    async def clock(self) -> int:
        if self.away:
            raise Unavailable("by the test")
        self._times.pass_(self._times.answer_takes / 2)
        said = await super().clock()
        self._times.pass_(self._times.answer_takes / 2)
        return said


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def log(times: Times) -> SlowLog:
    return SlowLog(times)


@pytest.fixture
def clock(times: Times, log: SlowLog) -> LogClock:
    return LogClock(log, elapsed=lambda: times.here)


async def test_nothing_is_known_before_it_was_measured(clock: LogClock) -> None:
    with pytest.raises(ValueError, match="not measured"):
        clock.now()


async def test_it_goes_on_by_the_clock_that_is_never_set(clock: LogClock, times: Times) -> None:
    times.answer_takes = 0.4
    await clock.measure()
    assert clock.now() == times.log
    times.pass_(3_600)
    assert clock.now() == times.log


async def test_a_clock_that_is_a_little_fast_is_followed(clock: LogClock, times: Times) -> None:
    await clock.measure()
    times.pass_(10)
    times.here += 0.5
    assert not await clock.measure()
    assert clock.now() == times.log


@pytest.mark.parametrize("seconds", [3_600, -3_600, 3, -3])
async def test_a_jump_is_told_once(clock: LogClock, times: Times, seconds: int) -> None:
    await clock.measure()
    times.pass_(10)
    times.log += seconds * SECOND
    assert await clock.measure()
    assert clock.now() == times.log
    times.pass_(10)
    assert not await clock.measure()


async def test_an_answer_that_took_too_long_says_nothing(clock: LogClock, times: Times) -> None:
    await clock.measure()
    times.answer_takes = SLOWEST + 1
    times.log += 3_600 * SECOND
    assert not await clock.measure()
    assert clock.now() == times.log - 3_600 * SECOND


async def test_a_log_that_is_away_leaves_the_clock_as_it_was(clock: LogClock, times: Times, log: SlowLog) -> None:
    await clock.measure()
    log.away = True
    times.pass_(10)
    with pytest.raises(Unavailable):
        await clock.measure()
    assert clock.now() == times.log
