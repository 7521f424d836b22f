"""Nodes with agents, clients of DHCPv6 and of DHCPv4, and hosts that make their addresses themselves share a link.

There are as many of each kind. In the middle a router comes that the plan does not know, and advertises a prefix of
its own. In the end all addresses that any kernel has are in one list, each with its source, and the router is named.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

import msgspec

from dnms.events.ip import parse_prefix
from dnms.lab import kernel
from dnms.lab.lab import Lab, Outcome
from dnms.lab.machines import ROGUE, ROGUE_PREFIX, Machines
from dnms.lab.network import INTERFACE
from dnms.lab.report import MixedReport
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.lab.tables import addresses
from dnms.lab.verdict import counted, verdict
from dnms.linux.namespaces import Namespace
from dnms.projections.history.queries import LEASE

WITHIN = 60.0  # seconds for a step
POLL = 0.2

Listed = Mapping[str, Collection[str]]
"""Addresses that anybody has now, by the views, and the sources that say so."""


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        machines = Machines(stage.network, lab.folder)
        try:
            return await Scenario(stage, machines).run()
        finally:
            machines.close()


class Scenario:
    """The steps, and what they found."""

    def __init__(self, stage: Stage, machines: Machines) -> None:
        self._stage = stage
        self._machines = machines

    async def run(self) -> Outcome:
        """All of them."""
        stage, machines = self._stage, self._machines
        network = stage.network
        network.addressing = msgspec.structs.replace(network.addressing, advertise="managed = true")
        await stage.site.apply(network.addressing.plan(NAME))
        for number, agent in enumerate(network.agents):
            agent.ip([f"address add {network.addressing.agent4(number)} dev {INTERFACE}"])
        await stage.start_subnet_agents(dhcp=True)
        machines.start(stage.lab.nodes)
        await stage.wait_for_slaac()
        await stage.start_nodes()
        await stage.wait_until_configured()
        await self._until("clients with a lease", [*machines.dhcp6, *machines.dhcp4], _has_a_lease)
        await self._until("hosts with temporary addresses", machines.slaac, _has_a_temporary_one)
        machines.start_rogue()
        await self._until("hosts that heed the rogue router", machines.slaac, _heeds_the_rogue)
        everybody = [*network.nodes, *machines.all]
        rogues = await self._rogues()
        await self._until("machines of which every address is listed", everybody, _is_listed)
        listed = await stage.site.listed()
        found = {one.name: {str(each): listed.get(str(each), []) for each in _addresses(one)} for one in everybody}
        outcome = counted(
            await verdict(stage, "mixed"),
            MixedReport,
            machines=len(everybody),
            addresses=len(listed),
            sources=dict(Counter(source for sources in listed.values() for source in sources)),
            rogues=rogues,
        )
        report = msgspec.structs.replace(outcome.report, listed=found)
        return msgspec.structs.replace(outcome, report=report, tables=(addresses(found), *outcome.tables))

    async def _rogues(self) -> list[str]:
        """Wait until the rogue router is named; whatever else somebody is warned of is wrong."""
        end = asyncio.get_running_loop().time() + WITHIN
        with self._stage.lab.display.phase("the rogue router is named"):
            while not (alarms := await self._stage.site.alarms()):
                if asyncio.get_running_loop().time() > end:
                    self._stage.wrong.append("nobody is warned of the rogue router")
                    break
                await asyncio.sleep(POLL)
        rogues = [alarm.address for alarm in alarms if alarm.alarm == "router" and alarm.address is not None]
        self._stage.wrong += [
            f"a false alarm: {alarm.alarm} {alarm.address} {alarm.why}" for alarm in alarms if alarm.address != ROGUE
        ]
        return rogues

    async def _until(self, what: str, which: list[Namespace], done: Callable[[Namespace, Listed], bool]) -> None:
        """Wait until it is so of each; of which it is not at the deadline is wrong."""
        end = asyncio.get_running_loop().time() + WITHIN
        with self._stage.lab.display.phase(what, len(which)) as phase:
            while True:
                listed = await self._stage.site.listed()
                late = [machine for machine in which if not done(machine, listed)]
                phase.reached(len(which) - len(late))
                if not late:
                    break
                self._stage.check_alive()
                if asyncio.get_running_loop().time() > end:
                    self._stage.wrong += [f"{machine.name} is none of the {what}" for machine in late]
                    break
                await asyncio.sleep(POLL)


def _addresses(machine: Namespace) -> Iterator[kernel.Held]:
    return (held for held in kernel.read(machine).addresses if held.usable and not held.is_loopback)


def _has_a_lease(machine: Namespace, listed: Listed) -> bool:
    return any(LEASE in listed.get(str(held), ()) for held in _addresses(machine))


def _has_a_temporary_one(machine: Namespace, _: Listed) -> bool:
    return any(held.temporary for held in _addresses(machine))


def _heeds_the_rogue(machine: Namespace, _: Listed) -> bool:
    prefix = parse_prefix(ROGUE_PREFIX)
    return any(held.address in prefix for held in _addresses(machine))


def _is_listed(machine: Namespace, listed: Listed) -> bool:
    return all(str(held) in listed for held in _addresses(machine))
