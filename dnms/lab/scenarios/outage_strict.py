"""The outage in which two nodes get one address, on a strict subnet: there nobody does, and who comes waits.

Whoever must not have it otherwise pays with that: while the log is away the agents give nothing at all.
"""

from __future__ import annotations

import msgspec

from dnms.events.ip import format_address
from dnms.lab.lab import Lab, Outcome
from dnms.lab.outage import LASTS, LATE_TOLD, expect_lines, only_renewed
from dnms.lab.parted import COMER, HOLDER, Parted, live_through
from dnms.lab.scenarios.cut import PREFERRED, VALID
from dnms.lab.scenarios.outage import judged
from dnms.lab.site import NAME
from dnms.lab.steps import Stage


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        network = stage.network
        network.addressing = msgspec.structs.replace(network.addressing, preferred=PREFERRED, valid=VALID, strict=True)
        await stage.site.apply(network.addressing.plan(NAME))
        parted = await live_through(stage, LASTS)
        if parted is not None:
            await _check(stage, parted)
        for agent in network.agents:
            expect_lines(stage, agent.name, "connection to the bus lost", "connection to the bus is back")
        return await judged(stage, "outage-strict")


async def _check(stage: Stage, parted: Parted) -> None:
    names = stage.names
    for place in parted.late:
        if LATE_TOLD not in (stage.lab.folder / f"{names[place]}.log").read_text():
            stage.wrong.append(f"{names[place]}: nobody told it `{LATE_TOLD}`")
        for address in parted.held[place]:
            stage.wrong.append(f"{names[place]}: it was given {format_address(address)} while the log was away")
    if not stage.observatory.read(HOLDER).lets_use(parted.address):
        stage.wrong.append(f"{names[HOLDER]} does not have {format_address(parted.address)}, which it was moved to")
    if parted.address in stage.observatory.used(COMER):
        stage.wrong.append(f"{names[COMER]} had {format_address(parted.address)}, which is {names[HOLDER]}'s")
    await only_renewed(stage, parted.early, after=parted.position)
