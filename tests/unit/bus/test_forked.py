"""A fork reads what the other log had, goes on by itself, and leaves the other as it was."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from dnms.bus.forked import ForkedLog
from dnms.bus.memory import MemoryLog
from dnms.bus.port import LostRace
from dnms.events.recorded import Personal
from dnms.events.requests import IdentifyNode
from dnms.kit.clock import SystemClock

PLAN, LEDGER = "dnms.s.plan", "dnms.s.ledger.lan"


@pytest.fixture
async def whole() -> MemoryLog:
    log = MemoryLog("s", log_id="one", now=SystemClock().now)
    await log.store(PLAN, b"1", expected=0)
    await log.store(LEDGER, b"2", expected=0)
    return log


async def fork(log: MemoryLog) -> ForkedLog:
    return ForkedLog(log, "s", forked_at=await log.end(), now=SystemClock().now)


async def read(log: ForkedLog, *, after: int = 0) -> list[bytes]:
    """All on the ledger until it is caught up."""
    found: list[bytes] = []
    async with aclosing(log.follow([LEDGER], after=after)) as batches:
        async with asyncio.timeout(5):
            async for batch in batches:
                found += [record.data for record in batch.records]
                if batch.caught_up:
                    break
    return found


async def test_each_goes_its_own_way(whole: MemoryLog) -> None:
    forked = await fork(whole)
    await whole.store(LEDGER, b"3 there", expected=2)
    assert await forked.store(LEDGER, b"3 here", expected=2) == 3
    assert await forked.store(PLAN, b"4 here", expected=1) == 4
    assert await read(forked) == [b"2", b"3 here"]
    assert await read(forked, after=2) == [b"3 here"]
    assert [record.data for record in whole.records] == [b"1", b"2", b"3 there"]
    assert await forked.end() == 4
    first = await forked.first_after(LEDGER, 2)
    assert first is not None
    assert first.data == b"3 here"
    assert forked.log_id == whole.log_id


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_who_expects_another_end_loses(whole: MemoryLog, expected: int) -> None:
    forked = await fork(whole)
    with pytest.raises(LostRace):
        await forked.store(LEDGER, b"x", expected=expected)


async def test_what_is_sealed_there_is_read_here_and_no_key_is_made_there(whole: MemoryLog) -> None:
    asked = [
        IdentifyNode(client=bytes([n]) * 16, duid=Personal(b"duid"), name=Personal(f"pc-{n}"), subnet="lan")
        for n in (1, 2)
    ]
    (sealed,) = await whole.keys.seal(asked[:1], patience=1)
    forked = await fork(whole)
    opened = await forked.keys.opened(sealed, sealed.client)
    assert opened.name.value == "pc-1"
    before = dict(whole.keys.store.keys)  # type: ignore[attr-defined]  # of a log in memory
    (other,) = await forked.keys.seal(asked[1:], patience=1)
    assert other.name.value is None
    assert (await forked.keys.opened(other, other.client)).name.value == "pc-2"
    (key,) = before.values()
    await forked.keys.store.destroy(key.id, key.client)
    assert await forked.keys.store.find(key.client) is None
    assert whole.keys.store.keys == before  # type: ignore[attr-defined]
