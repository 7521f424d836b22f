"""A cloud's pods: each has a subnet and an agent of its own, and one log has all of them (requirement C3)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from dnms.bus.reading import decode
from dnms.events import subjects
from dnms.events.address import AddressAllocated
from dnms.events.ip import parse_prefix
from dnms.events.node import NodeArrived
from tests.unit.agents.conftest import SITE, Clock, FrailLog, Node, Site, until

PODS = 20
PLAN = '[site]\nname = "s"\n' + "".join(
    f"""
[[subnet]]
name = "pod-{pod}"
prefixes = ["2001:db8:{pod:x}::/64"]
[[pool]]
name = "pod-{pod}"
subnet = "pod-{pod}"
range = "2001:db8:{pod:x}::/64"
"""
    for pod in range(PODS)
)


async def test_every_pod_is_served_by_its_agent_out_of_one_log(log: FrailLog, clock: Clock) -> None:
    site = Site(log, clock)
    await site.apply(PLAN)
    async with AsyncExitStack() as stack:
        # All agents have one name: there is one in each pod.
        pods = [await stack.enter_async_context(site.agent(subnet=f"pod-{pod}")) for pod in range(PODS)]
        nodes = [[Node(books, f"vm-{pod}-{number}") for number in range(3)] for pod, books in enumerate(pods)]
        await asyncio.gather(*(node.talk() for pod in nodes for node in pod))
        for pod, books in enumerate(pods):
            prefix = parse_prefix(f"2001:db8:{pod:x}::/64")
            held = [address for node in nodes[pod] for address in node.addresses]
            assert len(held) == 3
            assert set(held) == set(books.ledger.leases)
            assert all(address in prefix for address in held)
    ledgers = {
        stored.subject
        for stored in map(decode, log.records)
        for event in stored.commit.events
        if isinstance(event, AddressAllocated)
    }
    assert ledgers == {subjects.ledger(SITE, f"pod-{pod}") for pod in range(PODS)}


async def test_an_instance_that_goes_to_another_pod_is_known_there(log: FrailLog, clock: Clock) -> None:
    site = Site(log, clock)
    await site.apply(PLAN)
    async with site.agent(subnet="pod-1") as here, site.agent(subnet="pod-2") as there:
        before = Node(here, "vm")
        await before.talk()
        await until(lambda: there.knows(before.client))
        after = Node(there, "vm")
        await after.talk()
        assert before.addresses.isdisjoint(after.addresses)
        arrived = [(event.subnet, event.left) for event in log.events() if isinstance(event, NodeArrived)]
        assert arrived == [("pod-1", ""), ("pod-2", "pod-1")]
