"""A machine that was entered by what stands on its label has, in its kernel, what was printed before it came."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

from dnms.bus.committer import Committer
from dnms.domain.aggregate import Fold, State
from dnms.domain.document import from_toml
from dnms.domain.identity import duid_of_hardware, iaid_of, iaid_of_hardware
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events import codec, subjects
from dnms.events.address import AddressAllocated, AddressHeld
from dnms.events.ip import format_address, parse_address
from dnms.events.node import NodeJoined
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import AdoptPlan, EnterNode, HoldAddress
from dnms.kit.clock import SystemClock
from tests.netns.agents.conftest import PLAN, Network


async def write(network: Network, subject: str, state: State, *requests: Request) -> list[Event]:
    """What the log then has, as an operator's program writes it."""
    committer = Committer(
        network.log,
        subject,
        Fold(state),
        actor="operator/test",
        now=SystemClock().now,
        random=secrets.token_bytes,
    )
    await committer.catch_up()
    running = asyncio.create_task(committer.run())
    try:
        return [event for request in requests for event in await committer.submit(request)]
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def test_a_machine_has_the_addresses_that_were_kept_for_its_hardware_address(network: Network) -> None:
    shown = network.node.run("ip", "-o", "link", "show", "dev", "eth0")
    hardware = bytes.fromhex(shown.split("link/ether ")[1].split()[0].replace(":", ""))
    duid, iaid = duid_of_hardware(hardware), iaid_of_hardware(hardware)
    client = network.site.client_id(duid)
    plan = PlanState()
    await write(network, subjects.plan("s"), plan, from_toml(PLAN))
    enter = EnterNode(
        client=client, duid=Personal(duid), name=Personal("label"), iaid=iaid, hardware=(Personal(hardware),)
    )
    await write(network, subjects.node("s", client), NodeShard(), enter)
    held = await write(
        network,
        subjects.ledger("s", "office"),
        Ledger(network.site.secret),
        AdoptPlan(plan=plan.for_subnet("office")),
        HoldAddress(client=client, iaid=iaid, family=6),
        HoldAddress(client=client, iaid=iaid, family=4),
    )
    printed = [format_address(event.address) for event in held if isinstance(event, AddressHeld)]
    assert len(printed) == 2
    network.serve()
    network.live()
    await network.until(lambda: network.has(*(f"{address}/" for address in printed)))
    events = [event for record in network.log.records for event in codec.decode(record.data).events]
    [joined] = [event for event in events if isinstance(event, NodeJoined)]
    assert joined.client == client
    kept = [event for event in events if isinstance(event, AddressHeld) and event.client == joined.into]
    assert {event.iaid for event in kept} == {iaid_of("eth0")}
    addresses = network.node.run("ip", "-o", "address", "show", "dev", "eth0", "scope", "global")
    assert {line.split()[3].partition("/")[0] for line in addresses.splitlines()} == set(printed)


async def test_an_interface_has_all_the_addresses_that_are_kept_for_it(network: Network) -> None:
    """Secondary addresses (requirement C13): its own, and those that an operator adds while it runs."""
    plan = PlanState()
    await write(network, subjects.plan("s"), plan, from_toml(PLAN))
    await write(
        network,
        subjects.ledger("s", "office"),
        Ledger(network.site.secret),
        AdoptPlan(plan=plan.for_subnet("office")),
    )
    agent = network.serve()
    network.live()
    await network.until(lambda: network.has("2001:db8:5::", "192.0.2."))
    [client] = {event.client for event in leases(network)}
    kept = ["2001:db8:5::a", "2001:db8:5::b", "2001:db8:5::c", "192.0.2.201", "192.0.2.202"]
    holds = [
        HoldAddress(client=client, iaid=iaid_of("eth0"), family=4 if "." in each else 6, address=parse_address(each))
        for each in kept
    ]
    writing = write(network, subjects.ledger("s", "office"), Ledger(network.site.secret), *holds)
    await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(writing, agent.loop)
    )  # on which the log wakes its readers
    await network.until(lambda: network.has(*(f"{each}/" for each in kept)))


def leases(network: Network) -> Iterator[AddressAllocated]:
    for record in network.log.records:
        events = codec.decode(record.data).events
        yield from (event for event in events if isinstance(event, AddressAllocated))
