"""Reading commits: whatever is missing, or of another log, stops the reader."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
import structlog

from dnms.bus.port import Log, LogDamaged, LogForked
from dnms.bus.reading import Checked, Position, decode, deviation_alarm, read
from dnms.events import codec
from dnms.events.commit import Stored

DEADLINE = 10.0


async def read_to_the_end(log: Log, subjects: Sequence[str], *, after: Position | int = 0) -> list[Stored]:
    stored: list[Stored] = []
    async with asyncio.timeout(DEADLINE), aclosing(read(log, subjects, after=after)) as batches:
        async for batch in batches:
            stored.extend(batch.stored)
            if batch.caught_up:
                return stored
    raise AssertionError("a follow ended")


async def two_chains(log: Log, site: str, message: Any) -> tuple[str, str]:
    """Sequences 1, 3, 4 on `plan`, and 2, 5 on a ledger."""
    plan, ledger = f"dnms.{site}.plan", f"dnms.{site}.ledger.lan"
    await log.store(plan, message(1), expected=0)
    await log.store(ledger, message(2), expected=0)
    await log.store(plan, message(3, predecessor=1), expected=1)
    await log.store(plan, message(4, predecessor=3), expected=3)
    await log.store(ledger, message(5, predecessor=2), expected=2)
    return plan, ledger


async def test_commits_come_decoded(log: Log, site: str, message: Any) -> None:
    plan, ledger = await two_chains(log, site, message)
    stored = await read_to_the_end(log, [f"dnms.{site}.>"])
    assert [each.sequence for each in stored] == [1, 2, 3, 4, 5]
    assert [each.subject for each in stored] == [plan, ledger, plan, plan, ledger]
    assert [int.from_bytes(each.commit.id) for each in stored] == [1, 2, 3, 4, 5]
    assert stored[0].size == len(message(1))
    assert stored[0].commit == codec.decode(message(1))


async def test_some_subjects_alone_have_gaps_that_are_none(log: Log, site: str, message: Any) -> None:
    plan, _ = await two_chains(log, site, message)
    assert [each.sequence for each in await read_to_the_end(log, [plan])] == [1, 3, 4]
    assert [each.sequence for each in await read_to_the_end(log, [plan], after=1)] == [3, 4]


async def test_a_position_is_resumed_after_it(log: Log, site: str, message: Any) -> None:
    await two_chains(log, site, message)
    position = Position(log.log_id, 3, (3).to_bytes(16))
    assert [each.sequence for each in await read_to_the_end(log, [f"dnms.{site}.>"], after=position)] == [4, 5]
    position = Position(log.log_id, 5, (5).to_bytes(16))
    assert await read_to_the_end(log, [f"dnms.{site}.>"], after=position) == []
    assert len(await read_to_the_end(log, [f"dnms.{site}.>"], after=Position(log.log_id))) == 5


@pytest.mark.parametrize(
    ("position", "says"),
    [
        (Position("f" * 32, 3, (3).to_bytes(16)), "this is the log"),
        (Position("", 3, (4).to_bytes(16)), "is there now"),
        (Position("", 6, (6).to_bytes(16)), "shorter"),
        (Position("", 7, (7).to_bytes(16)), "ends at 5"),
    ],
    ids=["another log", "another commit", "shorter by one", "shorter by more"],
)
async def test_a_position_of_another_log_stops(
    log: Log, site: str, message: Any, position: Position, says: str
) -> None:
    await two_chains(log, site, message)
    if not position.log_id:
        position = msgspec.structs.replace(position, log_id=log.log_id)
    with pytest.raises(LogForked, match=says):
        await read_to_the_end(log, [f"dnms.{site}.>"], after=position)


async def test_a_broken_chain_is_named_and_stops(log: Log, site: str, message: Any) -> None:
    plan = f"dnms.{site}.plan"
    await log.store(plan, message(1), expected=0)
    await log.store(plan, message(2, predecessor=1), expected=1)
    await log.store(plan, message(3, predecessor=1), expected=2)  # its writer did not see 2
    with pytest.raises(LogDamaged, match=rf"dnms.{site}.plan: the message at 3 follows 1, but the one before it is 2"):
        await read_to_the_end(log, [plan])


async def test_a_chain_that_begins_with_a_successor_stops(log: Log, site: str, message: Any) -> None:
    plan = f"dnms.{site}.plan"
    await log.store(plan, message(1, predecessor=7), expected=0)
    with pytest.raises(LogDamaged, match="commits are missing"):
        await read_to_the_end(log, [plan])


async def test_a_message_that_is_no_commit_is_named_and_stops(log: Log, site: str) -> None:
    await log.store(f"dnms.{site}.plan", b"\x93\x01\x02", expected=0)
    with pytest.raises(LogDamaged, match=rf"dnms.{site}.plan: the message at 1 is broken"):
        await read_to_the_end(log, [f"dnms.{site}.plan"])


async def test_a_commit_of_a_newer_release_stops_as_such(log: Log, site: str, message: Any) -> None:
    data = bytearray(message(1))
    data[1] = 2  # the version of its form
    await log.store(f"dnms.{site}.plan", bytes(data), expected=0)
    with pytest.raises(codec.UnknownToThisRelease, match="commit at 1"):
        await read_to_the_end(log, [f"dnms.{site}.plan"])


async def test_a_message_that_the_log_lost_is_missed(log: Log, site: str, message: Any, follow: Any) -> None:
    """What a log that skips one would look like: by the stream's sequence, and by the chain alone."""
    plan, _ = await two_chains(log, site, message)
    records = await follow([f"dnms.{site}.>"]).to_the_end()
    whole = Checked([f"dnms.{site}.>"])
    whole.take(records[0])
    with pytest.raises(LogDamaged, match="the message at 3 comes after 1: messages are missing"):
        whole.take(records[2])
    part = Checked([plan])
    part.take(records[0])
    with pytest.raises(LogDamaged, match="the message at 4 follows 3, but the one before it is 1"):
        part.take(records[3])
    part = Checked([plan])
    part.take(records[0])
    with pytest.raises(LogDamaged, match="out of order"):
        part.take(records[0])


async def test_a_wrong_clock_is_told(log: Log, site: str, message: Any, follow: Any) -> None:
    plan = f"dnms.{site}.plan"
    await log.store(plan, message(1, time=1_000_000), expected=0)
    (record,) = await follow([plan]).to_the_end()
    stored = decode(record)
    with structlog.testing.capture_logs() as logged:
        assert deviation_alarm(stored)
        assert not deviation_alarm(msgspec.structs.replace(stored, stored_at=3_000_000))
        assert deviation_alarm(msgspec.structs.replace(stored, stored_at=3_000_001))
    assert [entry["log_level"] for entry in logged] == ["warning", "warning"]
    assert logged[1]["seconds"] == -2.0
