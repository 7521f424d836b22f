"""The subnet gets other prefixes, pools, a gateway and a DNS server, and no node loses a packet: make before break.

The router has addresses of both. All the while it pings every node and talks to it over TCP: at its old addresses until
they are drained, at the new ones as soon as they can be used. Both are valid at once, the old ones deprecated; then the
old ones go. The log says it in that order, and so do all who follow it, as the firewall does.
"""

from __future__ import annotations

import asyncio

import msgspec

from dnms.events.ip import family, format_address
from dnms.lab.kernel import Kernel
from dnms.lab.lab import Lab, Outcome
from dnms.lab.network import INTERFACE, Addressing
from dnms.lab.report import RenumberReport
from dnms.lab.site import NAME
from dnms.lab.steps import ALLOCATED, Stage
from dnms.lab.streams import Streams
from dnms.lab.verdict import counted, verdict

DRAIN = 10  # seconds
AHEAD = 2.0  # seconds before the end of the drain, at which nobody uses the old addresses any more
DNS = "2001:db8:2ab::53"
ORDER = ("address.deprecated", ALLOCATED, "address.withdrawn")


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage, Streams.opened(stage.network.router, stage.network.nodes) as streams:
        await stage.start()
        if not stage.all_configured():
            return await verdict(stage, "renumber")
        old = [stage.observatory.read(place).ours for place in range(lab.nodes)]
        position = await stage.site.position()
        both = await _renumber(stage, streams, old)
        await _check_order(stage, old, after=position)
        stage.wrong += streams.lost + streams.broken
        found = streams.counted
        return counted(
            await verdict(stage, "renumber"),
            RenumberReport,
            pings=found.pings,
            lost_pings=found.lost_pings,
            connections=found.connections,
            broken_connections=found.broken_connections,
            both_valid_seconds=round(both, 1),
        )


async def _renumber(stage: Stage, streams: Streams, old: list[frozenset[bytes]]) -> float:
    """Change the plan under the streams; for how many seconds every node could use both at least."""
    network, loop = stage.network, asyncio.get_running_loop()
    addressing = _renumbered(network.addressing)
    length = addressing.prefix4.partition("/")[2]
    network.router.ip(
        [
            f"address add 2001:db8:2ab::1/64 dev {INTERFACE} nodad",
            f"address add {format_address(addressing.gateway4)}/{length} dev {INTERFACE}",
        ]
    )
    for address in (each for addresses in old for each in addresses):
        streams.begin(address)
    await asyncio.sleep(1.0)  # of pings that nothing should disturb
    network.addressing = addressing
    began = loop.time()
    await stage.site.apply(addressing.plan(NAME))

    def has_both(found: Kernel) -> bool:
        usable = {family(each) for each in found.ours if addressing.in_pool(each) and found.lets_use(each)}
        return usable == {4, 6}

    await stage.wait_for_nodes(range(len(old)), "can use new addresses", has_both)
    new = [
        frozenset(each for each in stage.observatory.read(place).ours if addressing.in_pool(each))
        for place in range(len(old))
    ]
    for address in (each for addresses in new for each in addresses):
        streams.begin(address)
    for place, addresses in enumerate(old):
        for address in addresses - stage.observatory.read(place).ours:
            stage.wrong.append(f"{stage.names[place]}: {format_address(address)} went before the new ones came")
    await asyncio.sleep(max(0.0, began + DRAIN - AHEAD - loop.time()))
    await streams.end([each for addresses in old for each in addresses])
    await stage.wait_until_configured()  # and the old addresses are gone
    await streams.end([each for addresses in new for each in addresses])
    return min(_together(stage, place, old[place], new[place]) for place in range(len(old)))


def _together(stage: Stage, place: int, old: frozenset[bytes], new: frozenset[bytes]) -> float:
    """For how many seconds the node at this place could use an old and a new address of a family at once."""
    held = [each for each in stage.observatory.holdings() if each.machine == stage.names[place]]
    return min(
        max(
            (
                before.until - after.since
                for before in held
                for after in held
                if before.address in old and after.address in new and family(before.address) == family(after.address)
                if family(before.address) == kind
            ),
            default=0.0,
        )
        for kind in (4, 6)
    )


async def _check_order(stage: Stage, old: list[frozenset[bytes]], *, after: int) -> None:
    """Of every node and family the log says first that the old one is deprecated, then the new one, then the end."""
    await stage.wait_for_event(ORDER[-1], of=stage.names, after=after)
    events = await stage.site.events("address", after=after)
    for place, name in enumerate(stage.names):
        for address in old[place]:
            text = format_address(address)
            mine = [
                event.name
                for event in sorted(events, key=lambda event: event.position)
                if event.node == name and (":" in event.fields["address"]) == (":" in text) and event.name in ORDER
            ]
            if tuple(mine) != ORDER:
                stage.wrong.append(f"{name}: the log has {mine} of IPv{family(address)}, and not {list(ORDER)}")


def _renumbered(addressing: Addressing) -> Addressing:
    """With other prefixes of both families, and all that lies in them."""
    before, after = ("192.0.2.", "198.51.100.") if addressing.prefix4.startswith("192") else ("198.18.", "198.19.")
    return msgspec.structs.replace(
        addressing,
        prefix6="2001:db8:2ab::/64",
        prefix4=addressing.prefix4.replace(before, after),
        pool4=addressing.pool4.replace(before, after),
        dns=(DNS, *(each.replace(before, after) for each in addressing.dns[1:])),
        drain=DRAIN,
    )
