"""The management link between the bus and its agents is cut for 30 s, and the agents go on by themselves.

Half of the nodes join meanwhile: they get IPv6 by the hash and the agents' journals, and the rest when the bus is back.
The others renew. Then all that was given is in the log, and nobody has what another has.
"""

from __future__ import annotations

import re

import msgspec

from dnms.agents.subnet.outage import COUNTED
from dnms.events.ip import family, format_address
from dnms.lab.lab import Lab, Outcome
from dnms.lab.outage import configure, expect_lines, halves, last, only_renewed, unchanged
from dnms.lab.report import OutageReport
from dnms.lab.scenarios.cut import PREFERRED, VALID, cut_off
from dnms.lab.site import NAME
from dnms.lab.steps import ALLOCATED, Stage
from dnms.lab.verdict import verdict

LASTS = 30.0  # seconds
GRANTED = "outage.granted"


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        network = stage.network
        network.addressing = msgspec.structs.replace(network.addressing, preferred=PREFERRED, valid=VALID)
        await stage.site.apply(network.addressing.plan(NAME))
        await _live_through(stage)
        for agent in network.agents:
            expect_lines(stage, agent.name, "outage: the log cannot be reached", "outage is over")
        granted = await stage.site.events(GRANTED, after=0)
        outcome = await verdict(stage, "outage")
        counts = _counts(stage)
        report = OutageReport(
            **{name: getattr(outcome.report, name) for name in outcome.report.__struct_fields__},
            refused=counts["refused"],
            moved=sum(bool(event.fields.get("contested")) for event in granted),
            journalled=counts["granted"],
            merged=len({(event.client, event.fields["address"]) for event in granted}),
        )
        return msgspec.structs.replace(outcome, report=report)


async def _live_through(stage: Stage) -> None:
    early, late = halves(stage)
    nodes = stage.network.nodes
    if not await configure(stage, early):
        return  # the verdict says what
    position = await stage.site.position()
    async with stage.vigil(unchanged(stage, early)):
        async with cut_off(stage):
            await stage.start_nodes(nodes[place] for place in late)
            await last(stage, LASTS)
            for place in late:
                _by_the_journal(
                    stage, nodes[place].name, {family(address) for address in stage.observatory.used(place)}
                )
        await stage.wait_until_configured()
        await stage.wait_for_event(GRANTED, of=[nodes[place].name for place in late], after=position)
        await stage.wait_for_event("configuration.applied", of=stage.names, after=0)
    await only_renewed(stage, early, after=position)
    given = await stage.site.events(GRANTED, after=position)
    for place in late:
        name = nodes[place].name
        kept = {event.fields["address"] for event in given if event.node == name and not event.fields.get("contested")}
        if not kept & {format_address(address) for address in stage.observatory.read(place).ours}:
            stage.wrong.append(f"{name}: it does not have what it was given in the outage, {', '.join(kept)}")
    for event in await stage.site.events(ALLOCATED, after=position):
        if ":" in str(event.fields["address"]):
            stage.wrong.append(f"{event.node}: it was allocated another IPv6 address, {event.fields['address']}")


def _by_the_journal(stage: Stage, name: str, kinds: set[int]) -> None:
    if kinds != {6}:
        stage.wrong.append(
            f"{name}: in the outage it had addresses of the families {sorted(kinds)}, and not of IPv6 alone"
        )


def _counts(stage: Stage) -> dict[str, int]:
    """What the agents say at the end of their outages, in all."""
    counts = dict.fromkeys(COUNTED, 0)
    for agent in stage.network.agents:
        for line in (stage.lab.folder / f"{agent.name}.log").read_text().splitlines():
            if "outage is over" in line:
                for word in COUNTED:
                    counts[word] += sum(map(int, re.findall(rf"\b{word}=(\d+)", line)))
    return counts
