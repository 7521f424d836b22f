"""The management link between the bus and its agents is cut for 20 s and heals, while nodes join and others renew.

No TCP session is reset by that; half of the agents see no more than silence. Lifetimes are so short that T1 and T2 of
those who are configured pass meanwhile. The subnet is strict: agents give nothing that the log does not have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from dnms.lab.lab import Lab, Outcome
from dnms.lab.outage import expect_lines, live_through
from dnms.lab.parted import nothing_is_logged
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict

PREFERRED = 24  # seconds: T1 after 12, T2 after 19
VALID = 120


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        network = stage.network
        network.addressing = msgspec.structs.replace(network.addressing, preferred=PREFERRED, valid=VALID, strict=True)
        await stage.site.apply(network.addressing.plan(NAME))
        await live_through(stage, cut_off(stage))
        for agent in network.agents:
            expect_lines(stage, agent.name, "connection to the bus lost", "connection to the bus is back")
        return await verdict(stage, "cut")


@asynccontextmanager
async def cut_off(stage: Stage) -> AsyncGenerator[None, None]:
    """No agent reaches the bus meanwhile.

    The site itself does, so it sees that nothing comes; and afterwards, that renewals do.
    """
    renewing = [node.name for node in stage.network.nodes[0::2]]
    with stage.network.management_cut():
        async with nothing_is_logged(stage) as position:
            yield
    await stage.wait_for_event("address.renewed", of=renewing, after=position)
