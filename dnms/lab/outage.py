"""The log is away for a while: nodes that are configured stay so, those that come wait, and all goes on by itself.

What takes the log away is the scenario's, which has a strict subnet. What is shown is the
same: no kernel loses anything, nobody is allocated more than once, and those who wait are told why.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from dnms.lab.lab import LabError
from dnms.lab.observatory import Complaints
from dnms.lab.steps import POLL, Stage

LASTS = 20.0  # seconds; longer than the 15 s for which agents try to commit before they tell their nodes
LATE_TOLD = "outage"  # what a node is told that waits


async def live_through(stage: Stage, outage: AbstractAsyncContextManager[None]) -> None:
    """Half of the nodes are configured, then the log is away as long as `outage` is entered, and the others come.

    LabError where it cannot go on.
    """
    early, late = halves(stage)
    nodes = stage.network.nodes
    if not await configure(stage, early):
        return  # the verdict says what
    position = await stage.site.position()
    async with stage.vigil(unchanged(stage, early)):
        async with outage:
            await stage.start_nodes(nodes[place] for place in late)
            await last(stage, LASTS)
            waiting = [place for place in late if not stage.observatory.used(place)]
        stage.lab.display.line(f"{len(waiting)} of {len(late)} nodes that came in the outage wait at its end")
        await stage.wait_until_configured()
        await stage.wait_for_event("configuration.applied", of=stage.names, after=0)
    for place in waiting:
        if LATE_TOLD not in (stage.lab.folder / f"{nodes[place].name}.log").read_text():
            stage.wrong.append(f"{nodes[place].name}: nobody told it `{LATE_TOLD}`")
    if not waiting:
        stage.wrong.append("nobody had to wait, so nothing is shown")
    await only_renewed(stage, early, after=position)
    await stage.everyone_was_allocated_once()


def halves(stage: Stage) -> tuple[range, range]:
    """The places of the nodes that are there before an outage, and of those that come in it. LabError."""
    if stage.lab.nodes < 2:
        raise LabError("an outage needs 2 nodes or more: one is configured before it, another comes in it")
    return range(0, stage.lab.nodes, 2), range(1, stage.lab.nodes, 2)


async def configure(stage: Stage, early: range) -> bool:
    """Start all but the nodes that come later; whether those at these places are configured then. LabError."""
    await stage.start_subnet_agents()
    await stage.wait_for_slaac()
    await stage.start_nodes(stage.network.nodes[place] for place in early)
    await stage.wait_until_configured(early)
    return not any(text for place in early for text in stage.missing(place, stage.observatory.read(place)))


def unchanged(stage: Stage, early: range) -> Complaints:
    """What is wrong with the nodes at these places, for a vigil: they are to keep what they have now."""
    return stage.kept({place: stage.observatory.read(place).ours for place in early})


async def only_renewed(stage: Stage, early: range, *, after: int) -> None:
    """See that behind the position `after` the nodes at these places only kept what they had."""
    names = {stage.network.nodes[place].name for place in early}
    for event in await stage.site.events("address", after=after):
        if event.node in names and event.name != "address.renewed":
            stage.wrong.append(f"{event.node}: {event.name} at {event.position}, though nothing had to change")


def expect_lines(stage: Stage, name: str, *texts: str) -> None:
    """See that a log in the lab's folder says all of this."""
    log = (stage.lab.folder / f"{name}.log").read_text()
    stage.wrong += [f"{name}.log does not say {text!r}" for text in texts if text not in log]


async def last(stage: Stage, seconds: float) -> None:
    """Let so many seconds of an outage pass. LabError if an agent ends in them."""
    end = asyncio.get_running_loop().time() + seconds
    with stage.lab.display.phase("seconds of outage", round(seconds)) as phase:
        while (left := end - asyncio.get_running_loop().time()) > 0:
            phase.reached(round(seconds - left))
            stage.check_alive()
            await asyncio.sleep(POLL)
        phase.reached(phase.total)
