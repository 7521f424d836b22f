"""A plan with gateways that lead nowhere goes out in waves, and stops at the canary; a right one reaches all.

Nobody but the canary is ever told the wrong gateways. The right plan comes while the wrong one stands still: one node
has it first, then half of them, then all, each only when those before have proven it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from dnms.lab.judge import stranded
from dnms.lab.lab import Lab, Outcome
from dnms.lab.network import Addressing
from dnms.lab.report import WavesReport
from dnms.lab.site import NAME
from dnms.lab.steps import POLL, Stage
from dnms.lab.verdict import counted, verdict
from dnms.projections.events.queries import EventRow

CONFIRM = 5  # seconds
ROLLOUT = "canaries = 1, waves = [50, 100], pause = 1, within = 60"
NOWHERE = "fe80::dead"
DNS = "2001:db8:1ab::53"
DEADLINE = 90.0  # seconds, for each of the two


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        addressing = msgspec.structs.replace(stage.network.addressing, policy=f"confirm = {CONFIRM}", rollout=ROLLOUT)
        await stage.site.apply(addressing.plan(NAME))
        await stage.start()
        nowhere4 = addressing.pool4.rpartition("-")[2]
        wrong = msgspec.structs.replace(addressing, gateways=(NOWHERE, nowhere4))
        stopped, to_stop = await _rolled_out(stage, wrong, lambda event: event.name == "rollout.stopped")
        touched = {event.node for event in stopped if event.name == "configuration.applied" and event.fields.get("why")}
        lost = 0
        for place, name in enumerate(stage.names):
            complaints = list(stranded(stage.observatory.read(place), addressing))
            lost += bool(complaints)
            stage.wrong += [f"{name}: {complaint}" for complaint in complaints]
        right = msgspec.structs.replace(addressing, dns=(DNS,))
        ended, to_end = await _rolled_out(stage, right, lambda event: event.fields.get("why") == "proven")
        stage.network.addressing = right
        stage.wrong += [f"{name}: is not told the new DNS server" for name in _without(stage, right)]
        waves = [len(event.fields["clients"]) for event in ended if event.name == "rollout.told"]
        return counted(
            await verdict(stage, "waves"),
            WavesReport,
            canaries_lost=len(touched),
            lost=lost,
            waves=waves,
            seconds_to_stop=round(to_stop, 1),
            seconds_to_end=round(to_end, 1),
        )


async def _rolled_out(
    stage: Stage, addressing: Addressing, is_over: Callable[[EventRow], bool]
) -> tuple[list[EventRow], float]:
    """Apply a plan; what happened until its rollout was over, and how many seconds that took."""
    position, began = await stage.site.position(), time.monotonic()
    await stage.site.apply(addressing.plan(NAME))
    while time.monotonic() < began + DEADLINE:
        rollouts = await stage.site.events("rollout", after=position)
        if any(map(is_over, rollouts)):
            return [*rollouts, *await stage.site.events("configuration.applied", after=position)], (
                time.monotonic() - began
            )
        stage.check_alive()
        await asyncio.sleep(POLL)
    stage.wrong.append(f"the rollout is not over after {DEADLINE:.0f} s")
    return [], time.monotonic() - began


def _without(stage: Stage, addressing: Addressing) -> list[str]:
    """Names of the nodes whose resolver is not the plan's."""
    names = []
    for namespace, name in zip(stage.network.nodes, stage.names, strict=True):
        resolver = Path(stage.resolv_conf(namespace))
        if not resolver.exists() or addressing.dns[0] not in resolver.read_text():
            names.append(name)
    return names
