"""Nodes with SLAAC addresses join a subnet and are given managed ones, and all of it is in the log."""

from __future__ import annotations

from dnms.lab.lab import Lab, Outcome
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict


async def run(lab: Lab) -> Outcome:
    """Start all of it, and judge. LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        await stage.start()
        return await verdict(stage, "basic")
