"""A router's routes follow its ledgers: each appears, changes and goes with its event, and is back after a reboot."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dnms.bus.memory import MemoryLog
from dnms.domain.routes import Route, delegated
from dnms.events.commit import MAX_EVENTS
from dnms.events.ip import Prefix, parse_prefix
from dnms.events.prefix import PrefixExpired, PrefixReleased, PrefixWithdrawn
from dnms.linux.namespaces import Namespace
from dnms.subscribers import routes
from dnms.subscribers.routes.examples import (
    LAPTOP,
    LOCAL,
    OLD,
    adopted,
    ended,
    given,
    ledger,
    nowhere,
    own,
    received,
    renewed,
    replaced,
    site,
    to,
)
from dnms.subscribers.routes.kernel import Kernel
from dnms.subscribers.subscriber import Happened
from tests.netns.subscribers.conftest import Machine, looks, run_once, running, until
from tests.netns.subscribers.logs import filled, memory_log

PREFIX, HOP, OTHER_HOP = "2001:db8:1:10::/60", "fe80::a", "fe80::b"
BEGINNING = [site(), ledger(received(OLD), adopted("2001:db8:1::/64"))]
LINK = [nowhere(OLD), own("2001:db8:1::/64")]
GIVEN = ledger(given(LAPTOP, PREFIX, HOP))
MANY = 10_000


def shown(machine: Machine) -> set[str]:
    """Our routes as iproute2 shows them, not read by our own reader."""
    lines = machine.namespace.run("ip", "-6", "route", "show", "proto", "199").splitlines()
    return {line.split(" pref ")[0].replace(" dev lo", "").strip() for line in lines}


def there(machine: Machine, *wanted: Route) -> bool:
    """Whether our routes are these and no others; those that a carrier is missing for are there."""
    return {line.replace(" linkdown", "") for line in shown(machine)} == set(map(str, wanted))


async def log_of(*happened: Happened) -> MemoryLog:
    return await filled(memory_log(), happened)


@pytest.mark.parametrize("kind", [PrefixReleased, PrefixExpired, PrefixWithdrawn])
def test_a_route_comes_changes_and_goes_with_its_events(
    machine: Machine, tmp_path: Path, kind: type[PrefixReleased | PrefixExpired | PrefixWithdrawn]
) -> None:
    async def work() -> None:
        log = await log_of(*BEGINNING)
        async with running(log, tmp_path, subscriber=routes.SUBSCRIBER, period=3_600) as runner:
            await runner.settled.wait()
            assert there(machine, *LINK)
            await filled(log, [GIVEN])
            await until(lambda: there(machine, *LINK, to(PREFIX, HOP)))
            await filled(log, [ledger(renewed(LAPTOP, PREFIX, OTHER_HOP))])
            await until(lambda: there(machine, *LINK, to(PREFIX, OTHER_HOP)))
            await filled(log, [ledger(replaced(LAPTOP, PREFIX, OTHER_HOP))])
            await until(lambda: runner.position == len(log.records))
            assert there(machine, *LINK, to(PREFIX, OTHER_HOP))
            await filled(log, [ledger(ended(kind, LAPTOP, PREFIX, OTHER_HOP))])
            await until(lambda: there(machine, *LINK))
            assert not runner.counts.failed

    machine.run(work)


def test_after_a_reboot_the_routes_are_back(tmp_path: Path) -> None:
    for _ in range(2):
        with Namespace.create("router") as namespace:
            namespace.ip([f"link add {name} up type bridge" for name in LOCAL.interfaces.values()])
            router = Machine(namespace)
            assert there(router)
            router.run(lambda: _run(tmp_path, [*BEGINNING, GIVEN]))
            assert there(router, *LINK, to(PREFIX, HOP))


def test_what_an_operator_routes_elsewhere_stays_and_wins(machine: Machine, tmp_path: Path) -> None:
    machine.namespace.ip([f"route add {PREFIX} via fe80::d dev dnms-guests proto static"])

    def leads() -> str:
        return machine.namespace.run("ip", "-6", "route", "get", "2001:db8:1:10::1").partition(" via ")[2].split()[0]

    async def work() -> None:
        log = await log_of(*BEGINNING, GIVEN)
        async with running(log, tmp_path, subscriber=routes.SUBSCRIBER) as runner:
            await runner.settled.wait()
            assert there(machine, *LINK, to(PREFIX, HOP))
            assert "via fe80::d dev dnms-guests" in machine.namespace.run(
                "ip", "-6", "route", "get", "2001:db8:1:10::1"
            )
            await filled(log, [ledger(ended(PrefixReleased, LAPTOP, PREFIX, HOP))])
            await until(lambda: there(machine, *LINK))
            assert "via fe80::d dev dnms-guests" in machine.namespace.run(
                "ip", "-6", "route", "get", "2001:db8:1:10::1"
            )

    machine.run(work)


def test_one_that_somebody_deletes_is_back_and_one_that_nobody_gave_goes(machine: Machine, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(await log_of(*BEGINNING, GIVEN), tmp_path, subscriber=routes.SUBSCRIBER) as runner:
            await runner.settled.wait()
            machine.namespace.ip(
                [f"route del {PREFIX} proto 199", "route add 2001:db8:9::/64 dev dnms-home metric 1025 proto 199"]
            )
            await until(lambda: there(machine, *LINK, to(PREFIX, HOP)))

    machine.run(work)


def test_a_link_that_is_not_there_keeps_its_own_routes_waiting_alone_and_they_come_with_it(
    machine: Machine, tmp_path: Path
) -> None:
    machine.namespace.ip(["link del dnms-home"])
    elsewhere = given(LAPTOP, "2001:db8:1:f0::/60", HOP)

    async def work() -> None:
        log = await log_of(*BEGINNING, GIVEN, ledger(elsewhere, subnet="guests"))
        with capture_logs() as said:
            async with running(log, tmp_path, subscriber=routes.SUBSCRIBER, period=3_600) as runner:
                await runner.settled.wait()
                others = [nowhere(OLD), to("2001:db8:1:f0::/60", HOP, "dnms-guests")]
                assert there(machine, *others)
                note = "interface dnms-home is not there, or not up: routes over it wait for that"
                assert [line["event"] for line in said].count(note) == 1
                machine.namespace.ip(["link add dnms-home type bridge"])
                await looks(runner, 1)
                assert there(machine, *others)
                machine.namespace.ip(["link set dev dnms-home up"])
                await until(lambda: there(machine, *LINK, *others, to(PREFIX, HOP)))
                machine.namespace.ip(["link set dev dnms-home down", "link set dev dnms-home up"])
                await until(lambda: there(machine, *LINK, *others, to(PREFIX, HOP)))
                assert not runner.counts.failed

    machine.run(work)


def test_one_that_the_kernel_refuses_is_said_and_tried_again_and_the_others_do_not_wait(
    machine: Machine, tmp_path: Path
) -> None:
    route = to(PREFIX, HOP)
    machine.namespace.ip([f"route add {PREFIX} via fe80::d dev dnms-home metric {route.metric} proto static"])
    later = given(LAPTOP, "2001:db8:1:20::/60", HOP)

    async def work() -> None:
        log = await log_of(*BEGINNING, GIVEN)
        options = {"period": 3_600.0, "first_pause": 3_600.0}
        async with running(log, tmp_path, subscriber=routes.SUBSCRIBER, **options) as runner:
            await until(lambda: bool(runner.counts.failed))
            assert there(machine, *LINK)
            await filled(log, [ledger(later)])
            await until(lambda: there(machine, *LINK, to("2001:db8:1:20::/60", HOP)))
            assert runner.counts.failed.keys() == {"exists"}
            assert runner.settled.is_set()
        async with running(log, tmp_path, subscriber=routes.SUBSCRIBER, period=3_600) as runner:
            await until(lambda: bool(runner.counts.failed))
            machine.namespace.ip([f"route del {PREFIX} proto static"])
            await until(lambda: there(machine, *LINK, to("2001:db8:1:20::/60", HOP), route))

    machine.run(work)


def many() -> tuple[list[Happened], list[Route]]:
    """Commits with many delegations, and their routes."""
    first = parse_prefix("2001:db8:1000::/64").first
    prefixes = [Prefix((first + (number << 64)).to_bytes(16), 64) for number in range(MANY)]
    events = [given(LAPTOP, str(prefix), HOP) for prefix in prefixes]
    commits = [ledger(*events[at : at + MAX_EVENTS]) for at in range(0, MANY, MAX_EVENTS)]
    return commits, [delegated(prefix, events[0].next_hop, "dnms-home") for prefix in prefixes]


def test_ten_thousand_are_there_after_one_look(machine: Machine, tmp_path: Path) -> None:
    delegations, wanted = many()

    async def work() -> None:
        async with running(await log_of(*BEGINNING, *delegations), tmp_path, subscriber=routes.SUBSCRIBER) as runner:
            await runner.settled.wait()
            assert runner.counts.looked == 1
            assert runner.counts.added == MANY + len(LINK)
            assert (await Kernel().actual()).ours == {*wanted, *LINK}

    machine.run(work)


@pytest.mark.parametrize("count", [0, 1, MANY // 3, MANY - 1])
def test_killed_at_any_point_and_started_again_it_is_as_the_log_says(
    machine: Machine, tmp_path: Path, count: int
) -> None:
    """Killed when so many routes are there, those of the log before among them, which are to go."""
    delegations, wanted = many()
    before = [*BEGINNING, GIVEN]
    after = [*before, ledger(ended(PrefixReleased, LAPTOP, PREFIX, HOP)), *delegations]
    if count:
        machine.run(lambda: _run(tmp_path, before))
    child = os.fork()
    if not child:
        try:
            machine.run(lambda: _run(tmp_path, after))
        finally:
            os._exit(0)

    async def begun() -> None:
        world = Kernel()
        while len((await world.actual()).ours) < count:  # noqa: ASYNC110  # a kernel tells nobody
            await asyncio.sleep(0)

    async def again() -> None:
        await _run(tmp_path, after)
        assert (await Kernel().actual()).ours == {*wanted, *LINK}

    try:
        machine.run(begun)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    machine.run(again)


async def _run(directory: Path, happened: Sequence[Happened]) -> None:
    await run_once(await log_of(*happened), directory, subscriber=routes.SUBSCRIBER)
