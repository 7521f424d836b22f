"""Sets that are in the kernel lose no element by a log that is empty, partial or damaged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from dnms.bus.memory import MemoryLog
from dnms.bus.port import Batch, LogDamaged
from dnms.domain.document import LEVEL
from dnms.events import codec
from dnms.events.codec import UnknownToThisRelease
from dnms.events.plan import SiteDefined
from dnms.subscribers.firewall.examples import DESK, leased, ledger, named
from dnms.subscribers.firewall.kernel import Kernel
from dnms.subscribers.runner import NO_PLAN, NOT_FOLDED, NOT_REACHED
from dnms.subscribers.subscriber import Happened
from tests.contracts.subscribers.logs import SITE
from tests.netns.subscribers.conftest import Machine, Sets, kept, looks, run_once, running, stopped, until
from tests.netns.subscribers.logs import HISTORY, LENGTH, WITHDRAWN, copied, filled, memory_log, whole

# --- empty


def test_by_an_empty_log_that_nobody_knew_nothing_is_dropped(machine: Machine, before: Sets, tmp_path: Path) -> None:
    """It is at its end and its chain is unbroken; but it has no plan, which would say what is not wanted."""

    async def work() -> None:
        with capture_logs() as said:
            async with running(memory_log("new"), tmp_path / "fresh") as runner:
                await runner.settled.wait()
                await looks(runner)
                assert runner.counts.held_back
        assert [line["why"] for line in said if line["event"] == "nothing is dropped"] == [NO_PLAN]

    machine.run(work)
    assert machine.sets() == before


def test_nor_by_one_in_which_nodes_and_leases_are_but_no_plan(machine: Machine, before: Sets, tmp_path: Path) -> None:
    async def work() -> None:
        log = await filled(memory_log("new"), [named(DESK, "desk-1"), ledger(leased(DESK, "192.0.2.1"))])
        async with running(log, tmp_path / "fresh") as runner:
            await runner.settled.wait()
            await looks(runner)

    machine.run(work)
    assert machine.sets() == before


def test_the_first_plan_of_a_new_log_is_heard(machine: Machine, before: Sets, tmp_path: Path) -> None:
    """So what held it back was the plan that was missing."""

    async def work() -> None:
        log = memory_log("new")
        async with running(log, tmp_path / "fresh") as runner:
            await runner.settled.wait()
            await filled(log, [Happened("plan", (SiteDefined(name="example", level=1),))])
            await until(lambda: not machine.sets())

    machine.run(work)


# --- partial


@pytest.mark.parametrize("brought", range(LENGTH))
@pytest.mark.parametrize("says_so", [True, False], ids=["says that there is more", "is silent"])
def test_a_log_that_brings_only_its_beginning_takes_nothing(
    machine: Machine, before: Sets, directory: Path, brought: int, says_so: bool
) -> None:
    """At every length; and it may even say that it has come to its end."""

    async def work() -> None:
        log = copied(await whole())
        log.withheld, log.says_so = frozenset(range(brought + 1, LENGTH + 1)), says_so
        with capture_logs() as said:
            async with running(log, directory) as runner:
                await until(lambda: runner.position == brought)
                await looks(runner)
                assert not runner.settled.is_set()
                assert not runner.counts.dropped
        if brought:
            assert NOT_FOLDED in [line.get("why") for line in said]

    machine.run(work)
    assert kept(before, machine)  # what was over may be back


def test_it_adds_by_a_log_that_does_not_come_to_its_end(machine: Machine, tmp_path: Path) -> None:
    """After a reboot, for one: the sets are there, with what is known."""

    async def work() -> None:
        log = copied(await whole())
        log.withheld = frozenset(range(5, LENGTH + 1))
        async with running(log, tmp_path) as runner:
            await until(lambda: runner.counts.added > 0)

    machine.run(work)
    assert machine.sets() == {
        "sales-4": {"192.0.2.1"},
        "sales-6": {"2001:db8:1:1:5a1e::1"},
        "voip-4": set(),
        "voip-6": set(),
    }


class Slow(MemoryLog):
    """A log of which every message comes alone, and the next one when there was time to look and to apply."""

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        kernel = Kernel()
        async with aclosing(super().follow(subjects, after=after)) as batches:
            async for batch in batches:
                for record in batch.records:
                    yield Batch((record,), caught_up=record.sequence == len(self.records))
                    for _ in range(3):
                        await kernel.actual()


def test_what_is_over_in_the_log_does_not_come_back_while_it_is_folded(machine: Machine, tmp_path: Path) -> None:
    async def work() -> None:
        log = await filled(Slow(SITE, log_id="one", now=lambda: 0), HISTORY)
        async with running(log, tmp_path, period=3_600) as runner:
            await runner.settled.wait()
            assert (runner.counts.looked, runner.counts.dropped) == (1, 0)

    machine.run(work)
    assert "192.0.2.2" not in str(machine.listed())


@pytest.mark.parametrize("leaves_after", range(1, LENGTH + 1))
def test_a_bus_that_goes_away_in_the_middle_takes_nothing_until_it_is_back(
    machine: Machine, before: Sets, directory: Path, leaves_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnms.subscribers.following.PAUSE", 0.01)

    async def work() -> None:
        log = copied(await filled(await whole(), WITHDRAWN))
        log.leaves_after = leaves_after
        async with running(log, directory) as runner:
            await until(lambda: log.away and runner.position == leaves_after)
            await looks(runner)
            assert kept(before, machine)
            log.leaves_after, log.away = 0, False
            await runner.settled.wait()
        assert set(machine.sets()) == {"_7-guests-4", "_7-guests-6"}

    machine.run(work)


def test_a_bus_that_is_away_at_the_start_takes_nothing(machine: Machine, before: Sets, state: Path) -> None:
    async def work() -> None:
        log = copied(await whole())
        log.away = True
        async with running(log, state) as runner:
            await looks(runner)
            assert not runner.settled.is_set()

    machine.run(work)
    assert machine.sets() == before


def test_while_the_bus_is_away_it_mends_and_does_not_drop(machine: Machine, before: Sets, state: Path) -> None:
    async def work() -> None:
        log = copied(await whole())
        async with running(log, state) as runner:
            await runner.settled.wait()
            log.away = True
            with capture_logs() as said:
                machine.nft("flush set inet dnms sales-6; add element inet dnms sales-4 { 198.51.100.1 }")
                await until(lambda: kept(before, machine))
                await looks(runner)
                assert machine.sets()["sales-4"] == before["sales-4"] | {"198.51.100.1"}
            assert NOT_REACHED in [line.get("why") for line in said]
            log.away = False
            await until(lambda: machine.sets() == before)

    machine.run(work)


# --- damaged


@pytest.mark.parametrize("missing", range(1, LENGTH + 1))
def test_a_gap_anywhere_takes_nothing(machine: Machine, before: Sets, directory: Path, missing: int) -> None:
    async def work() -> None:
        log = copied(await whole())
        log.withheld, log.says_so = frozenset({missing}), False
        if missing < LENGTH:
            assert "messages are missing" in await stopped(log, directory, LogDamaged)
            return
        async with running(log, directory) as runner:  # behind the last one nothing shows that it is missing
            await until(lambda: runner.position == LENGTH - 1)
            await looks(runner)
            assert not runner.settled.is_set()
            assert not runner.counts.dropped

    machine.run(work)
    assert machine.sets() == before


@pytest.mark.parametrize("place", range(LENGTH))
def test_an_event_that_this_release_does_not_know_takes_nothing(
    machine: Machine, before: Sets, state: Path, place: int
) -> None:
    async def work() -> None:
        log = copied(await whole())
        data = log.records[place].data
        kind = next(iter(codec.decode(data).events)).NAME.encode()
        renamed = data.replace(kind, b"x" + kind[1:], 1)
        log.records[place] = msgspec.structs.replace(log.records[place], data=renamed)
        assert "unknown name" in await stopped(log, state, UnknownToThisRelease)

    machine.run(work)
    assert machine.sets() == before


def test_a_site_of_a_higher_level_takes_nothing(machine: Machine, before: Sets, state: Path) -> None:
    async def work() -> None:
        raised = Happened("plan", (SiteDefined(name="example", level=LEVEL + 1), *WITHDRAWN[0].events))
        log = await filled(await whole(), [raised])
        assert f"level {LEVEL + 1}" in await stopped(log, state, UnknownToThisRelease)

    machine.run(work)
    assert machine.sets() == before


def test_damage_that_comes_later_stops_it_too(machine: Machine, before: Sets, state: Path) -> None:
    async def work() -> None:
        log = copied(await whole())
        log.withheld, log.says_so = frozenset({LENGTH + 1}), False
        stop = asyncio.Event()
        with pytest.raises(LogDamaged, match="messages are missing"):
            async with running(log, state) as runner:
                await runner.settled.wait()
                await filled(log, [*WITHDRAWN, named(DESK, "desk-2")])
                await stop.wait()  # it is the runner that ends this

    machine.run(work)
    assert machine.sets() == before


def test_what_is_no_longer_wanted_goes_where_nothing_is_wrong(machine: Machine, before: Sets, state: Path) -> None:
    """Else all of the above would hold for a subscriber that never drops."""

    async def work() -> None:
        await run_once(await filled(await whole(), WITHDRAWN), state)

    machine.run(work)
    assert set(machine.sets()) == {"_7-guests-4", "_7-guests-6"}
