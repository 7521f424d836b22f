from __future__ import annotations

import time

from dnms.bus.clock import LogClock
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.memory import MemoryLog
from dnms.events import subjects

SECOND = 1_000_000


async def test_the_log_tells_the_time_by_which_it_stores(log: MemoryLog | JetStreamLog, site: str) -> None:
    before = await log.clock()
    await log.store(subjects.plan(site), b"x", expected=0)
    after = await log.clock()
    record = await log.first_after(subjects.plan(site), 0)
    assert record is not None
    assert before <= record.stored_at <= after
    assert abs(before - time.time_ns() // 1000) < 60 * SECOND


async def test_it_is_carried_on_between_two_questions(log: MemoryLog | JetStreamLog) -> None:
    clock = LogClock(log)
    assert not clock.known
    assert not await clock.measure()
    first = clock.now()
    assert abs(first - await log.clock()) < SECOND
    assert not await clock.measure()
    assert clock.now() >= first
