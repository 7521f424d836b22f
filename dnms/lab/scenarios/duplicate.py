"""A stranger on the link has the address that the hash gives: the node finds out, declines it, and gets the next one.

Who the nodes are is drawn before they start, so that their addresses are known. One stranger uses the IPv6 address of
one node, another the IPv4 address of another node. The kernel's DAD and the agent's ARP probes must find out, and the
strangers must keep what they have. No other node notices anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from dnms.events.ip import family, format_address
from dnms.events.plan import Family
from dnms.lab.foresight import FAMILIES, Foreseen, Foresight
from dnms.lab.kernel import Kernel
from dnms.lab.lab import Lab, Outcome
from dnms.lab.observatory import Observatory
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    victims: dict[Family, int] = {6: 0, 4: min(1, lab.nodes - 1)}  # places of nodes
    async with Stage.built(lab) as stage, AsyncExitStack() as watching:
        foresight = Foresight(stage.site.site, stage.network.addressing.plan(NAME))
        foreseen = [
            foresight.enrol(
                lab.folder / node.name, used_by_others=[kind for kind in FAMILIES if victims[kind] == place]
            )
            for place, node in enumerate(stage.network.nodes)
        ]
        used = [foreseen[victims[kind]].first[kind] for kind in FAMILIES]
        observatory = Observatory([stage.network.add_stranger(address) for address in used])
        watching.callback(observatory.close)

        def robbed(place: int, found: Kernel) -> Iterator[str]:
            if not any(held.address == used[place] and held.usable for held in found.addresses):
                yield f"{format_address(used[place])} is not usable"

        def robbing(_: int, found: Kernel) -> Iterator[str]:
            for held in found.addresses:
                if held.address in used and held.usable:
                    yield f"{held} is a stranger's"

        strangers = await watching.enter_async_context(observatory.vigil(robbed))
        async with stage.vigil(robbing):
            await stage.start()
        stage.wrong += strangers.complaints()
        for place, node in enumerate(stage.network.nodes):
            has, should = stage.observatory.read(place).ours, frozenset(foreseen[place].last.values())
            if has != should:
                stage.wrong.append(f"{node.name}: it has {_text(has)}, and {_text(should)} was foreseen")
        declined = max((event.sequence for event in await stage.site.events("address.declined", after=0)), default=0)
        names = {stage.network.nodes[place].name for place in victims.values()}
        await stage.wait_for_event("configuration.applied", of=names, after=declined)
        await _check_log(stage, [(kind, foreseen[victims[kind]]) for kind in FAMILIES])
        await _check_views(stage, [(kind, foreseen[victims[kind]]) for kind in FAMILIES])
        return await verdict(stage, "duplicate")


async def _check_log(stage: Stage, declining: Sequence[tuple[Family, Foreseen]]) -> None:
    """Each of them declined one address and was moved on, in one commit, and then was given the next; nobody else."""
    allocated = await stage.site.events("address.allocated", after=0)
    declined = await stage.site.events("address.declined", after=0)
    moved = await stage.site.events("hash.moved", after=0)
    for kind, node in declining:
        client, first, last = node.client.hex(), format_address(node.first[kind]), format_address(node.last[kind])
        given = [event.fields["address"] for event in allocated if event.client == client]
        given = [address for address in given if (":" in address) == (kind == 6)]
        if given != [first, last]:
            stage.wrong.append(f"a node with a stranger's {first} was given {given}, and not that and {last}")
        at = [event.sequence for event in declined if (event.client, event.fields["address"]) == (client, first)]
        if len(at) != 1 or not any(event.sequence == at[0] and event.client == client for event in moved):
            stage.wrong.append(f"no commit, or more than one, has address.declined of {first} and hash.moved")
    if len(declined) != len(declining) or len(moved) != len(declining):
        stage.wrong.append(f"{len(declined)} addresses were declined, {len(moved)} moved; {len(declining)} were used")


async def _check_views(stage: Stage, declining: Sequence[tuple[Family, Foreseen]]) -> None:
    """The strangers' addresses rest, for who declined them, and the pools count them."""
    resting = {row.address: row.client for row in await stage.site.addresses() if row.state == "declined"}
    expected = {format_address(node.first[kind]): node.client.hex() for kind, node in declining}
    if resting != expected:
        stage.wrong.append(f"by the views {sorted(resting)} rest, and {sorted(expected)} should")
    shown = await stage.site.shown(node_name=stage.network.nodes[0].name)
    for pool in shown.pools:
        if (pool.held, pool.declined) != (stage.lab.nodes, 1):
            stage.wrong.append(f"by the views {pool.held} addresses of {pool.pool} are held, {pool.declined} rest")


def _text(addresses: frozenset[bytes]) -> str:
    return " and ".join(map(format_address, sorted(addresses, key=family, reverse=True))) or "nothing"
