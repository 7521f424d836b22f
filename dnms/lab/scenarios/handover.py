"""Subnet Agents and Node Agents leave and come back, and the plan changes under them; no node loses what it has.

Subnet Agents end in turn, asked to (SIGTERM) and killed, until none is left; nodes find another one while there is one.
Then all come back. Then all Node Agents end, half of them killed, and come back. All the while every kernel has what it
was given, and nothing else, although the router goes on to advertise itself. Last, a plan with another DNS server and
a pool that excludes some nodes' IPv4 addresses reaches every kernel, while everything runs: these nodes have both
addresses until the old one is drained.
"""

from __future__ import annotations

import ipaddress
import signal
from collections.abc import Iterator, Sequence

import msgspec

from dnms.events.ip import MAPPED, family, format_address
from dnms.lab.judge import stranded
from dnms.lab.kernel import Kernel
from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.network import Addressing
from dnms.lab.outage import expect_lines
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict

DNS = "2001:db8:1ab::53"
WITHOUT_SUBNET_AGENT = 2  # Router Advertisements that nodes get meanwhile; one comes every 3 to 4 s
WITHOUT_NODE_AGENT = 1
DRAIN = 3  # seconds


async def run(lab: Lab) -> Outcome:
    """Each step waits for the one before. LabError where it cannot go on."""
    if lab.agents < 2:
        raise LabError("handover needs 2 Subnet Agents or more: nodes of one that leaves look for another")
    async with Stage.built(lab) as stage:
        await stage.start()
        if not stage.all_configured():
            return await verdict(stage, "handover")
        held = [stage.observatory.read(place).ours for place in range(lab.nodes)]
        position = await stage.site.position()
        async with stage.vigil(stage.kept(dict(enumerate(held)))):
            await _subnet_agents_leave(stage)
            await _subnet_agents_come_back(stage)
            await _node_agents_leave_and_come_back(stage)
        await stage.nothing_was_allocated(after=position)
        await _plan_changes(stage, held)
        for place, node in enumerate(stage.network.nodes):
            for address in stage.observatory.removed(place):
                if address in held[place] and stage.network.addressing.in_pool(address):
                    stage.wrong.append(f"{node.name}: {format_address(address)} was away for a moment")
        for name, agents in (await stage.site.open_sessions()).items():
            if len(agents) != 1:
                stage.wrong.append(f"{name}: by the views it has sessions with {agents}, and not with one agent")
        return await verdict(stage, "handover")


async def _subnet_agents_leave(stage: Stage) -> None:
    """One after the other; the nodes of one have found another before that leaves too."""
    *others, last = stage.network.agents
    for number, agent in enumerate((*others, last)):
        served = [node.name for node in await stage.site.nodes() if node.agent == agent.name and node.name]
        position = await stage.site.position()
        await stage.end([agent], signal.SIGKILL if number % 2 else signal.SIGTERM)
        if agent is not last:
            await stage.wait_for_event("session.opened", of=served, after=position)
    await stage.wait_for_advertisements(WITHOUT_SUBNET_AGENT)


async def _subnet_agents_come_back(stage: Stage) -> None:
    """The first one alone, so that it gets every node. It was asked to end, and so has a snapshot to begin with."""
    first, *others = stage.network.agents
    position = await stage.site.position()
    await stage.start_subnet_agents([first])
    expect_lines(stage, first.name, "from a snapshot")
    await stage.wait_for_assignments(after=position)
    await stage.start_subnet_agents(others)


async def _node_agents_leave_and_come_back(stage: Stage) -> None:
    nodes = stage.network.nodes
    await stage.end(nodes[::2], signal.SIGKILL)
    await stage.end(nodes[1::2], signal.SIGTERM)
    await stage.wait_for_advertisements(WITHOUT_NODE_AGENT)
    position = await stage.site.position()
    await stage.start_nodes()
    await stage.wait_for_assignments(after=position)


async def _plan_changes(stage: Stage, held: Sequence[frozenset[bytes]]) -> None:
    """Whose address the new pool excludes gets another one before the old one goes; all others keep theirs."""
    addressing = _with_a_smaller_pool(stage.network.addressing, held)
    kept = [frozenset(each for each in addresses if addressing.in_pool(each)) for addresses in held]
    excluded = {name for name, had, keeps in zip(stage.names, held, kept, strict=True) if had != keeps}

    def connected(place: int, found: Kernel) -> Iterator[str]:
        yield from stranded(found, addressing)
        for address in kept[place] - found.ours:
            yield f"{format_address(address)} is gone"

    async with stage.vigil(connected):
        position = await stage.site.position()
        stage.network.addressing = addressing
        await stage.site.apply(addressing.plan(NAME))
        await stage.wait_until_configured()
        await stage.wait_for_event("configuration.applied", of=stage.names, after=position)
        await stage.wait_for_event("address.withdrawn", of=sorted(excluded), after=position)
    for kind in ("address.deprecated", "address.allocated", "address.withdrawn"):
        of = sorted(event.node or "nobody" for event in await stage.site.events(kind, after=position))
        if of != sorted(excluded):
            stage.wrong.append(f"{kind} of {of}, and the new pool excludes {sorted(excluded)}")


def _with_a_smaller_pool(addressing: Addressing, held: Sequence[frozenset[bytes]]) -> Addressing:
    """Without the lowest third of the IPv4 addresses in use or the highest, whichever leaves more; and another DNS."""
    used = sorted(each for addresses in held for each in addresses if family(each) == 4)
    first, last = map(ipaddress.IPv4Address, addressing.pool4.split("-"))
    cut = max(1, len(used) // 3)
    lower, upper = (ipaddress.IPv4Address(used[place].removeprefix(MAPPED)) for place in (cut - 1, -cut))
    pool4 = f"{lower + 1}-{last}" if int(last) - int(lower) > int(upper) - int(first) else f"{first}-{upper - 1}"
    return msgspec.structs.replace(addressing, pool4=pool4, dns=(DNS, *addressing.dns[1:]), drain=DRAIN)
