"""Following: everything, in order, once."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any, cast

import pytest

from dnms.bus.port import Log, LogForked


async def fill(log: Log, subjects: list[str], count: int) -> dict[str, list[int]]:
    """Store `count` messages on each subject, alternating; their sequences."""
    sequences: dict[str, list[int]] = {subject: [] for subject in subjects}
    for number in range(count):
        for subject, before in sequences.items():
            data = f"{subject} {number}".encode()
            before.append(await log.store(subject, data, expected=before[-1] if before else 0))
    return sequences


async def test_the_first_batch_of_an_empty_log_comes_at_once(log: Log, site: str, follow: Any) -> None:
    batch = await follow([f"dnms.{site}.>"]).batch()
    assert (batch.records, batch.caught_up) == ((), True)


async def test_everything_comes_in_order_from_the_beginning(log: Log, site: str, follow: Any) -> None:
    subjects = [f"dnms.{site}.plan", f"dnms.{site}.ledger.a", f"dnms.{site}.ledger.b"]
    await fill(log, subjects, 30)
    records = await follow([f"dnms.{site}.>"]).to_the_end()
    assert [record.sequence for record in records] == list(range(1, 91))
    assert [record.data for record in records[:4]] == [
        f"{s} {n}".encode() for s, n in zip([*subjects, subjects[0]], (0, 0, 0, 1), strict=True)
    ]


async def test_a_record_is_the_same_in_both_ways_of_reading(log: Log, site: str, follow: Any) -> None:
    plan = f"dnms.{site}.plan"
    await log.store(plan, b"a", expected=0)
    (record,) = await follow([plan]).to_the_end()
    assert record == await log.first_after(plan, 0)
    assert abs(record.stored_at - time.time_ns() // 1_000) < 60_000_000


async def test_from_the_middle_and_from_the_end(log: Log, site: str, follow: Any) -> None:
    plan = f"dnms.{site}.plan"
    await fill(log, [plan], 10)
    assert [record.sequence for record in await follow([plan], after=6).to_the_end()] == [7, 8, 9, 10]
    batch = await follow([plan], after=10).batch()
    assert (batch.records, batch.caught_up) == ((), True)


async def test_what_is_stored_later_comes_too(log: Log, site: str, follow: Any) -> None:
    plan, ledger = f"dnms.{site}.plan", f"dnms.{site}.ledger.a"
    reader = follow([plan])
    assert await reader.to_the_end() == []
    waiting = asyncio.create_task(reader.batch())
    await log.store(ledger, b"not followed", expected=0)
    await log.store(plan, b"a", expected=0)
    batch = await waiting
    assert [(record.sequence, record.data) for record in batch.records] == [(2, b"a")]
    assert batch.caught_up


async def test_several_subjects_and_wildcards_keep_the_order_of_the_stream(log: Log, site: str, follow: Any) -> None:
    subjects = [f"dnms.{site}.{end}" for end in ("plan", "node.00", "node.ff", "ledger.a", "seen.a.one")]
    stored = await fill(log, subjects, 5)
    reader = follow([f"dnms.{site}.plan", f"dnms.{site}.node.*", f"dnms.{site}.ledger.a"])
    records = await reader.to_the_end()
    assert [record.sequence for record in records] == sorted(n for subject in subjects[:4] for n in stored[subject])
    assert {record.subject for record in records} == set(subjects[:4])
    records = await follow([f"dnms.{site}.seen.>"]).to_the_end()
    assert [record.sequence for record in records] == stored[subjects[4]]


async def test_caught_up_is_said_at_the_end_and_not_before(log: Log, site: str, follow: Any) -> None:
    plan = f"dnms.{site}.plan"
    await fill(log, [plan], 1_200)
    reader = follow([plan])
    batches = [await reader.batch()]
    while not batches[-1].caught_up:
        batches.append(await reader.batch())
    assert len(batches) > 1
    assert sum(len(batch.records) for batch in batches) == 1_200
    assert not any(batch.caught_up for batch in batches[:-1])


async def test_two_follows_do_not_disturb_each_other(log: Log, site: str, follow: Any) -> None:
    plan = f"dnms.{site}.plan"
    one, other = follow([plan]), follow([plan], after=1)
    await fill(log, [plan], 3)
    assert [record.sequence for record in await one.records(3)] == [1, 2, 3]
    assert [record.sequence for record in await other.records(2)] == [2, 3]


async def test_a_slow_reader_misses_nothing(log: Log, site: str, follow: Any) -> None:
    plan, size = f"dnms.{site}.plan", 1 << 20
    reader = follow([plan])
    assert await reader.to_the_end() == []
    last = 0
    for number in range(60):  # more than the server sends unasked
        last = await log.store(plan, number.to_bytes(2) * (size // 2), expected=last)
    records = await reader.records(60)
    assert [record.sequence for record in records] == list(range(1, 61))
    assert all(record.data[:2] == number.to_bytes(2) for number, record in enumerate(records))


async def test_a_log_that_ends_before_the_position_is_another_one(log: Log, site: str, follow: Any) -> None:
    plan = f"dnms.{site}.plan"
    await log.store(plan, b"a", expected=0)
    with pytest.raises(LogForked):
        await follow([plan], after=2).batch()


@pytest.mark.parametrize(
    "ends", [[], ["plan", "plan"], ["node.*", "node.00"], ["*.a", "node.*"], [">", "plan"], ["a.>.b"], ["a..b"]]
)
async def test_patterns_that_cannot_be_followed_are_a_mistake(
    log: Log, site: str, follow: Any, ends: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"overlap|no pattern|no subject"):
        await follow([f"dnms.{site}.{end}" for end in ends]).batch()


async def test_a_follow_that_is_closed_leaves_nothing(log: Log, site: str) -> None:
    before = asyncio.all_tasks()
    follow = cast("Any", log.follow([f"dnms.{site}.plan"]))
    async with aclosing(follow):
        assert (await anext(follow)).caught_up
    left = asyncio.all_tasks() - before
    if left:
        _, left = await asyncio.wait(left, timeout=5)
    assert not left
