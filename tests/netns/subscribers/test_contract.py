"""What every subscriber does to the real world: one step, once, nothing foreign, and the log in the end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dnms.bus.reading import decode
from dnms.subscribers.subscriber import Example, Plan, Subscriber
from tests.contracts.subscribers.logs import CASES, IDS, STATES, examples, local
from tests.netns.subscribers.conftest import Machine, looks, run_once, running, until
from tests.netns.subscribers.logs import filled, memory_log

KILLS = 5

OPERATORS = """
table ip dnms {
    set sales-4 { type ipv4_addr; elements = { 198.51.100.1 }; }
}
table inet filter {
    set sales-6 { type ipv6_addr; comment "dnms"; elements = { 2001:db8:f::1 }; }
    chain input {
        type filter hook input priority filter; policy accept;
        ip6 saddr @sales-6 drop
    }
}
table inet dnms {
    set blocked { type ipv4_addr; elements = { 198.51.100.1 }; }
    set blocked-6 { type ipv6_addr; elements = { 2001:db8:f::1 }; }
    set wide-4 { type ipv4_addr; flags interval; comment "dnms"; elements = { 198.51.100.0/24 }; }
    map verdicts-4 { type ipv4_addr : verdict; elements = { 198.51.100.1 : drop }; }
    counter passed { packets 3 bytes 4; }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip saddr @blocked counter packets 5 bytes 6 drop
        ip6 saddr @blocked-6 drop comment "@sales-6"
    }
}
"""


def operators(machine: Machine) -> None:
    machine.nft(OPERATORS)


def without_ours(machine: Machine) -> list[Any]:
    """The whole ruleset but for our sets, chains and rules."""

    def is_ours(said: dict[str, Any]) -> bool:
        return (said.get("family"), said.get("table"), said.get("comment")) == ("inet", "dnms", "dnms") and (
            "flags" not in said
        )

    def is_chain_of_ours(name: str) -> bool:
        return name.startswith("dnms_")

    return [
        entry
        for entry in machine.listed()
        if not ("set" in entry and is_ours(entry["set"]))
        and not ("chain" in entry and is_chain_of_ours(entry["chain"]["name"]))
        and not ("rule" in entry and is_chain_of_ours(entry["rule"]["chain"]))
    ]


ROUTES = [
    "address add 2001:db8:1::1/64 dev dnms-home nodad",
    "route add 2001:db8:1:10::/60 via fe80::d dev dnms-home proto static",
    "route add 2001:db8:1:20::/60 via fe80::d dev dnms-home proto bird metric 1",
    "route add 2001:db8:2::/56 via fe80::d dev dnms-guests proto static",
    "route add unreachable 2001:db8:1::/56 proto static metric 9999",
    "route add 2001:db8:9::/64 dev dnms-home proto 196",
    "route add 2001:db8:1:10::/60 via fe80::d dev dnms-home table 99 proto 199",
]
"""What an operator, a routing daemon and the kernel have, some to the same destinations, and ours in another table."""


def routed(machine: Machine) -> None:
    """All of these, and those that the kernel adds by itself behind the command that adds an address or a link."""
    machine.namespace.ip(ROUTES)

    def are_local() -> bool:
        listed = json.loads(machine.namespace.run("ip", "-6", "-json", "address", "show", "up"))
        addresses = {one["local"] for link in listed for one in link["addr_info"]}
        routes = json.loads(machine.namespace.run("ip", "-6", "-json", "route", "show", "table", "local"))
        return addresses <= {route["dst"] for route in routes}

    machine.run(lambda: until(are_local))


def others_routes(machine: Machine) -> list[str]:
    """All routes of all tables, those of the kernel among them, but for ours."""
    listed = machine.namespace.run("ip", "-6", "-details", "route", "show", "table", "all").splitlines()
    return [line for line in listed if " proto 199 " not in line or " table 99 " in line]


FOREIGN: dict[str, tuple[Callable[[Machine], None], Callable[[Machine], Any]]] = {
    "firewall": (operators, without_ours),
    "routes": (routed, others_routes),
}
"""For each subscriber: puts things of others beside its own, in its own places as well; and what of them is there."""


def test_every_subscriber_is_tried_among_what_others_have() -> None:
    assert FOREIGN.keys() == {subscriber.name for subscriber in STATES}


@pytest.mark.parametrize(("subscriber", "example"), CASES, ids=IDS)
def test_the_world_becomes_what_the_log_says_in_one_step(
    machine: Machine, tmp_path: Path, subscriber: Subscriber[Any, Any], example: Example[Any]
) -> None:
    put, foreign = FOREIGN[subscriber.name]
    put(machine)
    before = foreign(machine)

    async def work() -> None:
        world = subscriber.world(local(subscriber.name))
        log = await filled(memory_log(), example.log)
        had = (await world.actual()).ours
        async with running(log, tmp_path, subscriber=subscriber) as runner:
            await runner.settled.wait()
            there = (await world.actual()).ours
            assert there == (had if example.wanted is None else example.wanted)
            done = runner.counts.added, runner.counts.dropped
            await looks(runner)
            assert (runner.counts.added, runner.counts.dropped) == done  # the first look did it all
        await run_once(log, tmp_path, subscriber=subscriber)
        assert (await world.actual()).ours == there

    machine.run(work)
    assert foreign(machine) == before


@pytest.mark.parametrize("subscriber", STATES, ids=lambda subscriber: subscriber.name)
def test_applying_twice_is_applying_once(machine: Machine, tmp_path: Path, subscriber: Subscriber[Any, Any]) -> None:
    async def work() -> None:
        world = subscriber.world(local(subscriber.name))
        for example in examples(subscriber.name):
            if example.wanted is None:
                continue
            for _ in range(2):
                plan = subscriber.plan(example.wanted, await world.actual())
                await world.apply(plan)
                assert (await world.actual()).ours == example.wanted
            assert not plan.add
            assert not plan.drop

    machine.run(work)


@pytest.mark.parametrize("subscriber", STATES, ids=lambda subscriber: subscriber.name)
def test_every_change_of_the_log_comes_into_the_world(
    machine: Machine, tmp_path: Path, subscriber: Subscriber[Any, Any]
) -> None:
    """Commit by commit, at once: the timer is an hour away."""
    example = max(examples(subscriber.name), key=lambda each: len(each.log))

    async def work() -> None:
        world, log = subscriber.world(local(subscriber.name)), memory_log()
        async with running(log, tmp_path, subscriber=subscriber, period=3_600) as runner:
            folding = subscriber.folding(local(subscriber.name))
            for one in example.log:
                before = folding.wanted()
                await filled(log, [one])
                folding.take(decode(log.records[-1]))
                if (wanted := folding.wanted()) != before:
                    while (await world.actual()).ours != wanted:  # noqa: ASYNC110  # a kernel tells nobody
                        await asyncio.sleep(0.005)
            assert not runner.counts.failed

    machine.run(work)


@pytest.mark.parametrize("subscriber", STATES, ids=lambda subscriber: subscriber.name)
def test_one_that_is_stopped_in_the_middle_of_an_apply_ends_equal_to_the_log_the_next_time(
    machine: Machine, tmp_path: Path, subscriber: Subscriber[Any, Any]
) -> None:
    """After ever more turns of the event loop, until an apply comes to its end."""
    example = max(examples(subscriber.name), key=lambda each: len(each.log))
    assert example.wanted is not None
    wanted = example.wanted

    async def work() -> None:
        world = subscriber.world(local(subscriber.name))
        everything, nothing = Plan(add=wanted), frozenset[Any]()
        turns, ended = 0, False
        while not ended:
            task = asyncio.create_task(world.apply(everything))
            for _ in range(turns):
                await asyncio.sleep(0)
                if task.done():
                    break
            ended = task.done()
            task.cancel()
            await asyncio.wait((task,))
            there = (await world.actual()).ours
            log = await filled(memory_log(), example.log)
            await run_once(log, tmp_path / str(turns), subscriber=subscriber)
            assert (await world.actual()).ours == wanted, (turns, there)
            await world.apply(subscriber.plan(nothing, await world.actual()))
            turns = 2 * turns + 1
        assert turns >= 3  # one was stopped, at least before it began

    machine.run(work)


@pytest.mark.parametrize("subscriber", STATES, ids=lambda subscriber: subscriber.name)
def test_after_one_that_was_killed_in_an_apply_the_next_one_ends_equal_to_the_log(
    machine: Machine, tmp_path: Path, subscriber: Subscriber[Any, Any]
) -> None:
    """With SIGKILL, while things are added and while they are dropped; what others have stays."""
    example = max(examples(subscriber.name), key=lambda each: len(each.log))
    put, foreign = FOREIGN[subscriber.name]
    put(machine)
    before = foreign(machine)

    def killed(lines: int) -> None:
        words = [sys.executable, "-m", "tests.netns.subscribers.endless", subscriber.name]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline()
            process.kill()

    async def again() -> None:
        await run_once(await filled(memory_log(), example.log), tmp_path, subscriber=subscriber)
        assert (await subscriber.world(local(subscriber.name)).actual()).ours == example.wanted

    for lines in range(1, 1 + KILLS):
        machine.call(partial(killed, lines))
        machine.run(again)
    assert foreign(machine) == before
