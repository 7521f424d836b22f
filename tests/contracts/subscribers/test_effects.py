"""What an instance of a subscriber writes to the log of what it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dnms.bus.memory import MemoryLog
from dnms.bus.port import Doubled, Unavailable
from dnms.disk.subscriber_state import SubscriberState
from dnms.events import codec, subjects
from dnms.events.commit import Stored
from dnms.events.effect import MAX_ITEMS, EffectApplied, EffectFailed
from dnms.events.node import NodeArrived
from dnms.events.recorded import Event
from dnms.events.seen import SessionOpened
from dnms.projections.example import ALICE, SITE, happened
from dnms.subscribers.effects import Effects
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import Actual, ApplyError, Local, PartlyApplied, Plan, Subscriber
from tests.contracts.projections.logs import write

PERIOD = 0.02  # seconds
PATIENCE = 20.0


class Places:
    """Wants a thing for each subnet to which anybody came."""

    def __init__(self) -> None:
        self.subnets: set[str] = set()

    def take(self, stored: Stored) -> bool:
        new = {event.subnet for event in stored.commit.events if isinstance(event, NodeArrived)} - self.subnets
        self.subnets |= new
        return bool(new)

    def wanted(self) -> frozenset[str]:
        return frozenset(self.subnets)


class Shelf:
    """A world in memory that can fail."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.broken = ""
        self.refused: set[str] = set()

    async def actual(self) -> Actual[str]:
        await asyncio.sleep(0)
        return Actual(ours=frozenset(self.there))

    async def apply(self, plan: Plan[str]) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise ApplyError(self.broken, "the test broke it")
        self.there = (self.there | plan.add - self.refused) - plan.drop
        if plan.add & self.refused:
            raise PartlyApplied("refused", "the test refuses it", plan.add & self.refused)


class Frail(MemoryLog):
    """A log that takes nothing while it is cut off."""

    cut = False

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        if self.cut:
            raise Unavailable("cut off by the test")
        return await super().store(subject, data, expected=expected)


def plan(wanted: frozenset[str], actual: Actual[str]) -> Plan[str]:
    return Plan(add=wanted - actual.ours, drop=actual.ours - wanted)


@pytest.fixture
def log() -> Frail:
    return Frail(SITE, log_id="one", now=lambda: 10)


def effects_of(log: MemoryLog) -> Effects:
    return Effects(log, "shelf", "here", site=SITE, now=lambda: 1_000)


def written(log: MemoryLog) -> list[Event]:
    subject = subjects.effect(SITE, "shelf", "here")
    found = (codec.decode(record.data).events for record in log.records if record.subject == subject)
    return [event for events in found for event in events]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    log: MemoryLog, shelf: Shelf, directory: Path, places: type[Places] = Places
) -> AsyncIterator[Runner[Any, Any]]:
    subscriber = Subscriber(name="shelf", about="", folding=lambda _: places(), world=lambda _: shelf, plan=plan)
    state = SubscriberState(directory, "shelf")
    runner = Runner(
        log, subscriber, state, local=Local(site=SITE), effects=effects_of(log), period=PERIOD, first_pause=PERIOD
    )
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    try:
        yield runner
    finally:
        stop.set()
        with suppress(Doubled):
            await task


def arrived(subnet: str) -> Any:
    return happened("node.0a", 10, NodeArrived(client=ALICE, subnet=subnet))


async def test_what_was_done_is_told_with_its_position_and_how_long_it_took(log: Frail, tmp_path: Path) -> None:
    await write(log, arrived("lan"))
    async with running(log, Shelf(), tmp_path):
        await until(lambda: len(written(log)) == 1)
        assert written(log) == [EffectApplied(position=1, added=("lan",))]
        end = len(log.records)
        await write(log, happened("node.0b", 10), arrived("lab"))
        await until(lambda: len(written(log)) == 2)
        assert written(log)[1] == EffectApplied(position=end + 2, added=("lab",), waited=990)


async def test_where_nothing_has_to_be_done_that_is_told_once(log: Frail, tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.there = {"lan"}
    await write(log, arrived("lan"))
    async with running(log, shelf, tmp_path) as runner:
        await until(lambda: runner.counts.looked > 5)
        assert written(log) == [EffectApplied(position=1)]


async def test_a_position_that_others_wait_for_is_told_also_where_nothing_else_is_wanted(
    log: Frail, tmp_path: Path
) -> None:
    await write(log, arrived("lan"))
    async with running(log, Shelf(), tmp_path) as runner:
        await until(lambda: len(written(log)) == 1)
        await write(log, arrived("lan"), happened("seen.lan.east", 10, SessionOpened(client=ALICE, peer=bytes(16))))
        end = len(log.records)
        await until(lambda: len(written(log)) == 2)
        assert written(log)[1] == EffectApplied(position=end)
        looked = runner.counts.looked
        await write(log, happened("seen.lan.east", 10, SessionOpened(client=ALICE, peer=bytes(16))))
        await until(lambda: runner.counts.looked > looked + 5)
        assert len(written(log)) == 2  # by what is only seen nobody's position is asked for


async def test_a_fold_for_which_everything_matters_is_not_told_of_what_it_does(log: Frail, tmp_path: Path) -> None:
    class Everything(Places):
        def take(self, stored: Stored) -> bool:
            super().take(stored)
            return True

    await write(log, arrived("lan"))
    async with running(log, Shelf(), tmp_path, Everything) as runner:
        await until(lambda: runner.counts.looked > 10)
        assert len(written(log)) == 1


async def test_a_failure_is_told_once_and_so_is_its_end(log: Frail, tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.broken = "denied"
    await write(log, arrived("lan"))
    async with running(log, shelf, tmp_path) as runner:
        await until(lambda: runner.counts.failed["denied"] >= 3)
        shelf.broken = ""
        await until(lambda: len(written(log)) == 2)
    failed, applied = written(log)
    assert failed == EffectFailed(position=1, why="denied", text="the test broke it")
    assert isinstance(applied, EffectApplied)
    assert applied.added == ("lan",)


async def test_what_is_refused_holds_up_nobody_who_waits_for_the_rest(log: Frail, tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.refused = {"lab"}
    await write(log, arrived("lab"))
    async with running(log, shelf, tmp_path) as runner:
        await until(lambda: runner.counts.failed["refused"] >= 3)
        assert runner.settled.is_set()
        assert written(log)[0] == EffectApplied(position=1, lacks=("lab",))
        assert [type(event) for event in written(log)] == [EffectApplied, EffectFailed]
        await write(log, arrived("lan"))
        end = len(log.records)
        await until(lambda: len(written(log)) == 3)
        applied = written(log)[2]
        assert isinstance(applied, EffectApplied) and applied.position == end
        shelf.refused = set()
        await until(lambda: len(written(log)) == 4)
    applied = written(log)[3]
    assert isinstance(applied, EffectApplied) and applied.added == ("lab",)


async def test_a_failure_ends_also_where_nothing_else_was_wanted_meanwhile(log: Frail, tmp_path: Path) -> None:
    shelf = Shelf()
    await write(log, arrived("lan"))
    async with running(log, shelf, tmp_path):
        await until(lambda: len(written(log)) == 1)
        shelf.broken = "denied"
        shelf.there = {"strange"}
        await until(lambda: len(written(log)) == 2)
        shelf.there = {"lan"}
        shelf.broken = ""
        await until(lambda: len(written(log)) == 3)
    assert [type(event) for event in written(log)] == [EffectApplied, EffectFailed, EffectApplied]


async def test_a_log_that_is_away_holds_nothing_up_and_hears_of_it_later(log: Frail, tmp_path: Path) -> None:
    shelf = Shelf()
    await write(log, arrived("lan"))
    log.cut = True
    async with running(log, shelf, tmp_path):
        await until(lambda: shelf.there == {"lan"})
        assert written(log) == []
        log.cut = False
        await until(lambda: len(written(log)) == 1)


async def test_only_the_first_of_many_are_listed(log: Frail) -> None:
    effects = effects_of(log)
    task = asyncio.create_task(effects.run())
    effects.applied(7, Plan(add=frozenset(f"{n:03}" for n in range(300)), drop=frozenset({"x"})), since=0)
    await until(lambda: bool(written(log)))
    task.cancel()
    [event] = written(log)
    assert isinstance(event, EffectApplied)
    assert (len(event.added), event.dropped, event.more) == (MAX_ITEMS, ("x",), 200)


async def test_two_of_one_name_are_noticed_and_a_restart_is_not(log: Frail, tmp_path: Path) -> None:
    await write(log, arrived("lan"))
    async with running(log, Shelf(), tmp_path / "a"):
        await until(lambda: len(written(log)) == 1)
    async with running(log, Shelf(), tmp_path / "a"):
        await until(lambda: len(written(log)) == 2)
    first, second = effects_of(log), effects_of(log)
    tasks = [asyncio.create_task(each.run()) for each in (first, second)]
    for position in range(3, 20):
        for each in (first, second):
            count = len(written(log))
            each.applied(position, Plan(add=frozenset({"x"})), since=0)
            await until(lambda count=count: len(written(log)) > count or any(task.done() for task in tasks))  # type: ignore[misc]
        if any(task.done() for task in tasks):
            break
    done, others = await asyncio.wait(tasks, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert any(isinstance(task.exception(), Doubled) for task in done)
    for task in others:
        task.cancel()
