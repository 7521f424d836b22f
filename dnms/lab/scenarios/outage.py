"""The link falls in two and the bus is cut off from all of its agents for 30 s, and these go on by themselves.

Half of the nodes join meanwhile: they get IPv6 by the hash and the agents' journals, and the rest when the bus is back.
The others renew. One of those that join is given an address that one on the other side has: both use it, until the
journals are merged. Then the one in the log keeps it, the other has another one, and all that was given is in the log.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from dnms.agents.subnet.outage import COUNTED
from dnms.events.ip import family, format_address
from dnms.lab.lab import Lab, Outcome
from dnms.lab.outage import expect_lines, only_renewed
from dnms.lab.parted import COMER, HOLDER, Parted, double_held_ms, live_through
from dnms.lab.report import OutageReport
from dnms.lab.scenarios.cut import PREFERRED, VALID
from dnms.lab.site import NAME
from dnms.lab.steps import ALLOCATED, GRANTED, Stage
from dnms.lab.verdict import counted, verdict

LASTS = 30.0  # seconds


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        network = stage.network
        network.addressing = msgspec.structs.replace(network.addressing, preferred=PREFERRED, valid=VALID)
        await stage.site.apply(network.addressing.plan(NAME))
        parted = await live_through(stage, LASTS)
        if parted is not None:
            await _check(stage, parted)
        for agent in network.agents:
            expect_lines(stage, agent.name, "outage: the log cannot be reached", "outage is over")
        return await judged(stage, "outage")


async def judged(stage: Stage, scenario: str) -> Outcome:
    """The verdict, with what is said beside it of an outage."""
    granted = await stage.site.events(GRANTED, after=0)
    counts = _counts(stage)
    milliseconds = double_held_ms(stage)
    return counted(
        await verdict(stage, scenario),
        OutageReport,
        refused=counts["refused"],
        moved=sum(bool(event.fields.get("contested")) for event in granted),
        journalled=counts["granted"],
        merged=len({(event.client, event.fields["address"]) for event in granted}),
        double_held_ms=milliseconds,
    )


async def _check(stage: Stage, parted: Parted) -> None:
    names = stage.names
    late = [names[place] for place in parted.late]
    if not parted.twice:
        stage.wrong.append(f"{format_address(parted.address)} was not held twice in the end, so nothing is shown")
    for place in parted.late:
        kinds = sorted({family(address) for address in parted.held[place]})
        if kinds != [6]:
            stage.wrong.append(
                f"{names[place]}: in the outage it had addresses of the families {kinds}, not of 6 alone"
            )
    await stage.wait_for_event(GRANTED, of=late, after=parted.position)
    await stage.wait_for_event("address.renewed", of=[names[place] for place in parted.early], after=parted.position)
    await only_renewed(stage, parted.early, after=parted.position)
    given = await stage.site.events(GRANTED, after=parted.position)
    for place in parted.late:
        kept = {event.fields["address"] for event in given if event.node == names[place]}
        has = {format_address(address) for address in stage.observatory.read(place).ours}
        if place != COMER and not kept & has:
            stage.wrong.append(f"{names[place]}: it does not have what it was given in the outage, {', '.join(kept)}")
    await _check_the_contested(stage, parted)


async def _check_the_contested(stage: Stage, parted: Parted) -> None:
    """Who has the address in the log keeps it; the other is given another one in the commit that tells of both."""
    text = format_address(parted.address)
    holder, comer = stage.names[HOLDER], stage.names[COMER]
    given = await stage.site.events(GRANTED, after=parted.position)
    contested = [event for event in given if event.fields.get("contested")]
    if [(event.node, event.fields["address"]) for event in contested] != [(comer, text)]:
        stage.wrong.append(f"{text} of {comer} alone is another's, and the log says it of {len(contested)} grants")
    allocated = [
        event for event in await stage.site.events(ALLOCATED, after=parted.position) if ":" in event.fields["address"]
    ]
    if [(event.sequence, event.node) for event in allocated] != [(event.sequence, comer) for event in contested]:
        stage.wrong.append(
            f"IPv6 addresses were allocated to {[event.node for event in allocated]}, not to {comer} alone"
        )
    by_the_views = [(row.node, row.state) for row in await stage.site.addresses() if row.address == text]
    if by_the_views != [(holder, "held")] or not stage.observatory.read(HOLDER).lets_use(parted.address):
        stage.wrong.append(f"{text} is not {holder}'s, which had it in the log: {by_the_views}")


def _counts(stage: Stage) -> Counter[str]:
    """What the agents say at the end of their outages, in all. Those that wait for the log have none, and say each."""
    counts: Counter[str] = Counter()
    for agent in stage.network.agents:
        lines = (stage.lab.folder / f"{agent.name}.log").read_text().splitlines()
        ends = [line for line in lines if "outage is over" in line]
        for line in ends:
            counts.update({word: sum(map(int, re.findall(rf"\b{word}=(\d+)", line))) for word in COUNTED})
        if not ends:
            counts["refused"] += sum("not answered" in line for line in lines)
    return counts
