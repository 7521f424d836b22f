"""Nodes that have configured themselves are watched first, and then taken over while somebody is logged in on each.

The router talks to every node over TCP at the address that the node made itself by SLAAC. The plan only observes, so
nothing changes; then it manages. The connections live on over addresses that are deprecated at once, and these go when
the connections have ended.
"""

from __future__ import annotations

import msgspec

from dnms.events.ip import family, format_address
from dnms.lab.kernel import OURS, Kernel
from dnms.lab.lab import Lab, Outcome
from dnms.lab.report import TakeoverReport
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.lab.streams import Streams
from dnms.lab.verdict import counted, verdict


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage, Streams.opened(stage.network.router, stage.network.nodes) as streams:
        addressing = stage.network.addressing
        await stage.site.apply(msgspec.structs.replace(addressing, policy='mode = "observe"').plan(NAME))
        await stage.start_subnet_agents()
        await stage.wait_for_slaac()
        await stage.start_nodes()
        await stage.wait_for_event("configuration.registered", of=stage.names, after=0)
        made = [
            next(held.address for held in stage.observatory.read(place).addresses if held.is_global and held.usable)
            for place in range(lab.nodes)
        ]
        for place, name in enumerate(stage.names):
            if stage.observatory.read(place).ours:
                stage.wrong.append(f"{name}: it was to be observed, and has an address of ours")
        for address in made:
            streams.begin(address)
        await stage.site.apply(addressing.plan(NAME))

        def is_taken_over(found: Kernel) -> bool:
            return len({family(each) for each in found.ours if found.lets_use(each)}) == 2

        await stage.wait_for_nodes(range(lab.nodes), "are taken over", is_taken_over)
        for place, address in enumerate(made):
            if not any(held.address == address for held in stage.observatory.read(place).addresses):
                stage.wrong.append(f"{stage.names[place]}: {format_address(address)} went while it was used")
        await streams.end(made)
        stage.wrong += streams.broken
        await stage.wait_until_configured()  # and what was not assigned has gone
        left = sum(
            held.is_global and held.protocol != OURS
            for place in range(lab.nodes)
            for held in stage.observatory.read(place).addresses
        )
        found = streams.counted
        return counted(
            await verdict(stage, "takeover"),
            TakeoverReport,
            connections=found.connections,
            broken_connections=found.broken_connections,
            strays_left=left,
        )
