"""The link falls in two, no agent reaches the log, and on either side somebody is to have one and the same address.

Hashes of 48 bits do not collide because a scenario would like it, so an operator is had to help: who the node is that
comes on the far side is drawn before, and with that the address that the hash gives it; while the near side still has
the log, a node there is moved to that very address (`dnms address move`). The agents of the far side hear nothing of
that, and DAD does not reach over the cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from dnms.events.ip import family, format_address
from dnms.lab.doubled import doubled
from dnms.lab.foresight import Foresight
from dnms.lab.lab import LabError
from dnms.lab.outage import configure, halves, last, unchanged
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.linux.namespaces import Namespace

SETTLE = 0.5  # seconds in which the bus has stored what it had received
HOLDER, COMER = 0, 1  # places of the node that has the address in the log, and of the one that the hash gives it to


class Parted(msgspec.Struct, kw_only=True):
    """An outage that is over: the places of nodes that were there before it and that came in it, and what was seen."""

    early: range
    late: range
    address: bytes  # that of the holder, which the hash gives to the comer
    position: int  # where the log ended at its begin
    held: dict[int, dict[bytes, float]]  # what those that came in it used at its end, by place, and since when
    twice: bool  # whether both kernels let the address be used then


async def live_through(stage: Stage, seconds: float) -> Parted | None:
    """Half of the nodes are configured, then comes the outage with the others, and all is well again in the end.

    None where the first half was not configured, as the verdict says. LabError where it cannot go on.
    """
    if stage.lab.agents < 2:
        raise LabError("this outage needs 2 Subnet Agents or more: the link falls in two, with one on either side")
    early, late = halves(stage)
    nodes = stage.network.nodes
    foresight = Foresight(stage.site.site, stage.network.addressing.plan(NAME))
    address = foresight.enrol(stage.lab.folder / nodes[COMER].name).first[6]
    if not await configure(stage, early):
        return None
    async with AsyncExitStack() as apart:
        near = await _part(stage, apart)
        await _move(stage, address)
        async with stage.vigil(unchanged(stage, early)):
            with stage.network.management_cut(near):
                async with nothing_is_logged(stage) as position:
                    await stage.start_nodes(nodes[place] for place in late)
                    await last(stage, seconds)
                    held = {place: stage.observatory.used(place) for place in late}
                    twice = all(stage.observatory.read(place).lets_use(address) for place in (HOLDER, COMER))
                await apart.aclose()  # all at one moment
            await stage.wait_until_configured()
            await stage.wait_for_event("configuration.applied", of=stage.names, after=0)
            await stage.wait_for_nodes([COMER], "have left it", lambda found: address not in found.ours)
    return Parted(early=early, late=late, address=address, position=position, held=held, twice=twice)


async def _part(stage: Stage, apart: AsyncExitStack) -> Sequence[Namespace]:
    """Until `apart` is closed the link is in two, and the far agents are without the log; the near agents.

    The holder is to hear of its move, so the near ones are those with the agent that it has.
    """
    network = stage.network
    serving = next(row.agent for row in await stage.site.nodes() if row.name == stage.names[HOLDER])
    odd = next(number for number, agent in enumerate(network.agents) if agent.name == serving) % 2
    near, far = network.agents[odd::2], network.agents[1 - odd :: 2]
    others = [node for place, node in enumerate(network.nodes) if place % 4 in (1, 2)]  # some that are there, some not
    apart.enter_context(network.parted([*far, *others]))
    apart.enter_context(network.management_cut(far))
    stage.lab.display.line(f"{', '.join(agent.name for agent in far)} and {len(others)} nodes are on the far side")
    return near


async def _move(stage: Stage, address: bytes) -> None:
    before = next(each for each in stage.observatory.read(HOLDER).ours if family(each) == 6)
    await stage.site.move(before, address)
    await stage.wait_for_nodes([HOLDER], f"use {format_address(address)}", lambda found: found.lets_use(address))


@asynccontextmanager
async def nothing_is_logged(stage: Stage) -> AsyncGenerator[int, None]:
    """The log does not grow meanwhile, nor do the commits come that were under way; the position at which it ends."""
    await asyncio.sleep(SETTLE)
    position = await stage.site.position()
    yield position
    if await stage.site.position() != position:
        stage.wrong.append(f"the log grew behind {position} while nobody could reach it")


def double_held_ms(stage: Stage) -> int:
    """For how long two nodes could use one address, in all, told or not."""
    return round(sum(each.until - each.since for each in doubled(stage.observatory.holdings())) * 1_000)
