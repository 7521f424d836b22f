"""When an agent lets leases expire after a start: at once only if its snapshot tells that no clock was set since."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from dnms.agents.subnet.agent import keeper_of
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.expiring import EXPIRY_GRACE
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.snapshot import Whose
from dnms.agents.subnet.start import waits
from dnms.bus.clock import MAX_JUMP, LogClock, Told
from dnms.events.requests import AllocateAddress
from tests.unit.agents.conftest import PLAN, SITE, SUBNET, Clock, Site, running, until
from tests.unit.agents.test_snapshot import MemorySnapshots
from tests.virtual_time import pass_time

SECOND = 1_000_000
VALID = 20  # seconds
HORIZON = 4 * VALID  # of what is given in IPv6
ASKED = AllocateAddress(client=bytes(16), iaid=1, family=6)
TOLD = Told(1_000 * SECOND, 50.0, "boot")
BEGINS = {4: 90.0, 6: 150.0}


class Fixed:
    """A log that tells one time."""

    def __init__(self, micros: int) -> None:
        self.micros = micros

    async def clock(self) -> int:
        return self.micros


async def told_again(seconds: float, *, jump: int = 0, boot: str = "boot") -> LogClock:
    """Of an agent that starts so long after TOLD was told, when the log's clock was set by `jump` microseconds."""
    clock = LogClock(Fixed(TOLD.said + round(seconds * SECOND) + jump), elapsed=lambda: TOLD.at + seconds, boot=boot)
    await clock.measure()
    return clock


def snapshot(told: Told | None = TOLD, begins: dict[int, float] | None = BEGINS) -> Folds:
    folds = Folds(bytes(32))
    folds.told, folds.expires_from = told, begins
    return folds


@pytest.mark.parametrize("jump", [0, MAX_JUMP, -MAX_JUMP])
async def test_an_agent_waits_no_longer_than_its_former_self_would_have(jump: int) -> None:
    assert waits(snapshot(), await told_again(60, jump=jump)) == {4: 0.0, 6: 40.0}


@pytest.mark.parametrize("jump", [MAX_JUMP + 1, -MAX_JUMP - 1])
async def test_nobody_can_tell_when_the_logs_clock_was_set_meanwhile(jump: int) -> None:
    assert waits(snapshot(), await told_again(60, jump=jump)) is None


async def test_nobody_can_tell_after_another_boot_or_without_what_the_snapshot_should_say() -> None:
    assert waits(snapshot(), await told_again(60, boot="another")) is None
    clock = await told_again(60)
    for folds in (None, snapshot(told=None), snapshot(begins=None)):
        assert waits(folds, clock) is None
    assert waits(snapshot(), LogClock(Fixed(0), boot="boot")) is None


async def stopped(site: Site, clock: Clock, seconds: float) -> tuple[Folds, LogClock]:
    """An agent that began when one address was given, and ran so long, as it is in its snapshot; and its clock."""
    clocked = LogClock(Fixed(clock.micros), elapsed=asyncio.get_running_loop().time, boot="boot")
    await clocked.measure()
    await site.apply(PLAN.replace('"\n[[pool]]', f'"\nvalid = {VALID}\npreferred = 5\n[[pool]]'))
    async with site.agent("a1") as books:
        await until(lambda: any(pool.valid == VALID for pool in books.ledger.plan.pools))
        await books.decide(ASKED)
    snapshots, whose = MemorySnapshots(), Whose(SITE, SUBNET, "a1")
    books = site.books()
    async with running(books):
        await books.caught_up.wait()
        await pass_time(seconds)
        await books.settled()
        await keeper_of(books, snapshots, whose, clocked).keep()
    return snapshots.folds(whose), clocked


async def expired_after(books: Books) -> float:
    """Seconds after the start until the lease is over."""
    began = asyncio.get_running_loop().time()
    async with running(books):
        await books.caught_up.wait()
        assert books.ledger.leases
        await until(lambda: not books.ledger.leases, seconds=2 * HORIZON)
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("away", [10, HORIZON - VALID - 15, HORIZON])
async def test_what_an_agent_waited_for_goes_on_while_it_is_away(site: Site, clock: Clock, away: float) -> None:
    folds, clocked = await stopped(site, clock, seconds=10)
    await pass_time(away)
    clock.micros += 2 * HORIZON * SECOND + EXPIRY_GRACE  # over long ago: what is seen is how long it waits
    left = max(HORIZON - 10 - away, VALID)  # another agent may have prolonged it in an outage
    assert await expired_after(site.books(folds=folds, waits=waits(folds, clocked))) == pytest.approx(left, abs=3)


@pytest.mark.parametrize("known", [None, {4: 0.0, 6: 0.0}])
async def test_what_came_into_the_ledger_meanwhile_was_promised_by_a_clock_that_nobody_here_has_seen(
    site: Site, clock: Clock, known: Mapping[int, float] | None
) -> None:
    folds, _ = await stopped(site, clock, seconds=10)
    async with site.agent("a2") as other:
        await other.decide(AllocateAddress(client=bytes([1] * 16), iaid=1, family=6))
    clock.micros += 2 * HORIZON * SECOND + EXPIRY_GRACE
    assert await expired_after(site.books(folds=folds, waits=known)) == pytest.approx(HORIZON, abs=3)
