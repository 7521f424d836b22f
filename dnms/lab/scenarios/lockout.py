"""An operator gives all nodes gateways that lead nowhere: each finds out, goes back to what it had, and says so."""

from __future__ import annotations

import asyncio
import time

import msgspec

from dnms.lab.judge import stranded
from dnms.lab.lab import Lab, Outcome
from dnms.lab.report import LockoutReport
from dnms.lab.site import NAME
from dnms.lab.steps import POLL, Stage
from dnms.lab.verdict import counted, verdict

CONFIRM = 5  # seconds
NOWHERE = "fe80::dead"
DEADLINE = 60.0  # seconds


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        addressing = msgspec.structs.replace(stage.network.addressing, policy=f"confirm = {CONFIRM}")
        await stage.site.apply(addressing.plan(NAME))
        await stage.start()
        nowhere4 = addressing.pool4.rpartition("-")[2]
        wrong = msgspec.structs.replace(addressing, gateways=(NOWHERE, nowhere4))
        position, began = await stage.site.position(), time.monotonic()
        await stage.site.apply(wrong.plan(NAME))
        rolled_back: set[str] = set()
        while len(rolled_back) < lab.nodes and time.monotonic() < began + DEADLINE:
            events = await stage.site.events("configuration.applied", after=position)
            rolled_back = {event.node or "" for event in events if event.fields.get("why") == "gateway"}
            stage.check_alive()
            await asyncio.sleep(POLL)
        took = time.monotonic() - began
        await stage.site.apply(addressing.plan(NAME))
        lost = 0
        for place, name in enumerate(stage.names):
            complaints = list(stranded(stage.observatory.read(place), addressing))
            lost += bool(complaints)
            stage.wrong += [f"{name}: {complaint}" for complaint in complaints]
        await stage.wait_until_configured()
        return counted(
            await verdict(stage, "lockout"),
            LockoutReport,
            rolled_back=len(rolled_back),
            lost=lost,
            seconds_to_roll_back=round(took, 1),
        )
