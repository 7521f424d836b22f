"""The link has relays alone, and its Subnet Agents are where the bus is. One relay is killed, then one agent.

The lab's agents' namespaces have the relays, which reach two agents over the management link. Nodes whose session went
through what is killed have one through the others at once, and no node loses what it has, or is given anything anew.
"""

from __future__ import annotations

import datetime
import signal
from collections import Counter
from collections.abc import Mapping

from dnms.agents import relay, subnet
from dnms.agents.usage import endpoint
from dnms.disk.relay_credentials import store
from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.network import INTERFACE, SITE_ADDRESS, SUBNET
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict
from dnms.linux.namespaces import Namespace

PORTS = {"far-1": 61_047, "far-2": 61_048}
"""Of the Subnet Agents, which share a namespace."""


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    if lab.agents < 2:
        raise LabError("relay needs 2 Subnet Agents or more: there are as many relays, and one of them is killed")
    async with Stage.built(lab) as stage:
        relays = {namespace: _relay(stage, namespace) for namespace in stage.network.agents}
        with Namespace.current("far-1") as one, Namespace.current("far-2") as two:
            for far in (one, two):
                await _start_agent(stage, far)
            await stage.start_relays(relays)
            await stage.wait_for_slaac()
            await stage.start_nodes()
            await stage.wait_until_configured()
            await stage.wait_for_event("configuration.applied", of=stage.names, after=0)
            held = {place: stage.observatory.read(place).ours for place in range(lab.nodes)}
            begun = await stage.site.position()
            async with stage.vigil(stage.kept(held)):
                through = {
                    str(event.node): str(event.fields["relay"])
                    for event in await stage.site.events("session.opened", after=0)  # the newest comes last
                }
                name, cut_off = _most(through)
                killed = next(namespace for namespace in relays if namespace.name == name)
                stage.lab.display.line(f"{name} is killed: {len(cut_off)} nodes have a session through it")
                await stage.end([killed], signal.SIGKILL)
                await stage.wait_for_event("session.opened", of=cut_off, after=begun)
                await stage.start_relays({killed: relays[killed]})

                name, cut_off = _most({str(row.name): str(row.agent) for row in await stage.site.nodes()})
                killed = one if name == one.name else two
                position = await stage.site.position()
                stage.lab.display.line(f"{name} is killed: {len(cut_off)} nodes have a session with it")
                await stage.end([killed], signal.SIGKILL)
                await stage.wait_for_event("session.opened", of=cut_off, after=position)
                await _start_agent(stage, killed)
                await stage.wait_for_event("session.closed", of=cut_off, after=position)  # it ends what it left open
            await stage.nothing_was_allocated(after=begun)
            return await verdict(stage, "relay")


def _most(ends: Mapping[str, str]) -> tuple[str, list[str]]:
    """Of the other ends of the nodes' sessions, by their names: the one that has the most, and the nodes."""
    ((name, _),) = Counter(ends.values()).most_common(1)
    return name, [node for node, end in ends.items() if end == name]


async def _start_agent(stage: Stage, far: Namespace) -> None:
    settings = subnet.SubnetSettings(
        interface="",
        relays=tuple(namespace.name for namespace in stage.network.agents),
        subnet=SUBNET,
        name=far.name,
        site=stage.site.site.path,
        bus=stage.site.bus,
        port=PORTS[far.name],
    )
    await stage.fork(far, subnet.run, settings, loop_factory=subnet.new_event_loop)


def _relay(stage: Stage, namespace: Namespace) -> relay.RelaySettings:
    """The settings of the one in this namespace, which has a certificate by that name."""
    directory = stage.lab.folder / f"{namespace.name}.relay"
    store(stage.site.site.issue_relay(namespace.name, at=datetime.datetime.now(datetime.UTC)), directory)
    return relay.RelaySettings(
        interface=INTERFACE,
        subnet=SUBNET,
        agents=tuple(endpoint(f"{SITE_ADDRESS}:{port}") for port in PORTS.values()),
        directory=directory,
    )
