"""Rules for what is sent to this machine itself, and that they go back by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dnms.events.rule import RuleDefined
from dnms.linux.namespaces import Namespace
from dnms.subscribers.firewall.examples import (
    CALLS,
    SALES,
    leased,
    ledger,
    named,
)
from dnms.subscribers.subscriber import Subscriber
from tests.netns.subscribers.acting import (
    FOUR,
    GROUPS,
    Acting,
    acting,
    local,
    on,
    planned,
    rules,
)
from tests.netns.subscribers.conftest import Machine, run_once, running, until
from tests.netns.subscribers.logs import filled, memory_log
from tests.netns.subscribers.network import (
    DESK_6,
    STRANGER_6,
    falls,
    passes,
)

GREETER = """
import socket, sys
server = socket.create_server(("::", 4222), family=socket.AF_INET6)
print("ready", flush=True)
while True:
    server.accept()[0].sendall(b"INFO {}\\r\\n")
"""


@contextlib.contextmanager
def greeting(host: Namespace) -> Iterator[None]:
    """What answers as a bus does."""
    with host.entered():
        process = subprocess.Popen([sys.executable, "-c", GREETER], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline()
            yield
        finally:
            process.kill()
            process.wait()


ROUTER_6 = "2001:db8:1:1::fe"
ROUTER = bytes([0x1E]) * 16
OF_ROUTER = (
    planned(*GROUPS, FOUR, RuleDefined(rule=CALLS)),
    named(ROUTER, "desk-router"),
    ledger(leased(ROUTER, ROUTER_6, group=SALES), subnet="a"),
)


def with_input(directory: Path) -> Subscriber[Any, Any]:
    given = local(directory, "input = true\nconfirm = 2\n")
    return acting(msgspec.structs.replace(given, bus=f"nats://[{STRANGER_6}]:4222"))


def test_rules_for_input_stay_once_the_bus_was_reached_with_them(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk, _, stranger = hosts.values()
    with greeting(stranger):
        firewall = Acting(machine, tmp_path, with_input(tmp_path))
        firewall.add(*OF_ROUTER)
    assert falls(desk, DESK_6, machine.namespace, ROUTER_6)
    end = time.monotonic() + 3  # behind the time for the confirmation
    while time.monotonic() < end:
        assert falls(desk, DESK_6, machine.namespace, ROUTER_6)
    firewall = on(machine, tmp_path)  # which is not to keep them
    firewall.add(*OF_ROUTER)
    assert passes(desk, DESK_6, machine.namespace, ROUTER_6)
    assert "dnms_armed" not in machine.sets()


def test_rules_for_input_let_all_through_again_where_the_bus_is_not_reached(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    """By the kernel's clock: the subscriber may be dead."""
    desk = hosts["desk"]
    subscriber = with_input(tmp_path)

    async def work() -> None:
        log = await filled(memory_log(), OF_ROUTER)
        async with running(log, tmp_path, subscriber=subscriber, period=0.05, first_pause=0.05) as runner:
            await until(lambda: bool(rules(machine, "all passes until it is confirmed")))
            assert falls(desk, DESK_6, machine.namespace, ROUTER_6)
            await until(lambda: runner.counts.failed["not-confirmed"] >= 1)
            for failed in range(2, 8):  # the same rules are not tried again and again
                assert passes(desk, DESK_6, machine.namespace, ROUTER_6)
                await until(lambda failed=failed: runner.counts.failed["not-confirmed"] >= failed)  # type: ignore[misc]

    machine.run(work)


def test_rules_for_input_let_all_through_again_when_the_subscriber_is_killed(
    machine: Machine, hosts: dict[str, Namespace], tmp_path: Path
) -> None:
    desk = hosts["desk"]
    subscriber = with_input(tmp_path)

    def child() -> None:
        machine.namespace.enter()

        async def work() -> None:
            log = await filled(memory_log(), OF_ROUTER)
            await run_once(log, tmp_path, subscriber=subscriber)

        asyncio.run(work())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    try:
        end = time.monotonic() + 10
        while not rules(machine, "all passes until it is confirmed"):
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
        assert falls(desk, DESK_6, machine.namespace, ROUTER_6)
        assert passes(desk, DESK_6, machine.namespace, ROUTER_6, within=10)
    finally:
        process.kill()
        process.join()
