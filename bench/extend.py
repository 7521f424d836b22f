"""What it costs a Subnet Agent that its nodes need not renew. `python -m bench.extend [-o json]`.

A real agent with sessions as in `bench.memory`, once with lifetimes so long that it only asks whether they are there,
once with lifetimes so short that it extends all of them again and again. The difference, over how many extensions there
were, is what one costs.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

import msgspec
from rich.console import Console

from bench.command import main
from bench.joins import NAME, PLAN, agent_of, nodes_of, served
from bench.loopback import Times
from bench.processes import cpu_seconds
from bench.sides import Stopwatch
from dnms.bus.jetstream import JetStreamLog
from dnms.events import codec, subjects
from dnms.events.address import AddressRenewed
from dnms.events.ip import family

SESSIONS = 1_000
AT_ONCE = 100
SECONDS = 90.0
PREFERRED = 90  # seconds; T1 is half of it, and long enough for nodes to be asked no oftener than others
SHORT = PLAN.replace("\n[[pool]]", f"\n[[pool]]\npreferred = {PREFERRED}\nvalid = {2 * PREFERRED}")


class Spell(msgspec.Struct, frozen=True):
    """Some time in which nobody comes or goes."""

    seconds: float
    cpu: float  # seconds, of the agent
    commits: int  # of the ledger
    extended: int  # nodes: each has one IPv4 lease, which is promised for one lifetime and so written each time


class Report(msgspec.Struct, frozen=True):
    """All that was measured."""

    sessions: int
    idle: Spell
    extending: Spell
    cpu_an_extension: float  # seconds


async def measure() -> Report:
    """Everything."""
    idle, extending = await _spell(PLAN), await _spell(SHORT)
    more = extending.cpu / extending.seconds - idle.cpu / idle.seconds
    each = more * extending.seconds / max(1, extending.extended)
    return Report(sessions=SESSIONS, idle=idle, extending=extending, cpu_an_extension=each)


async def _spell(plan: str) -> Spell:
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as directory:
        folder = Path(directory)
        async with (
            served(folder, plan) as (site, server, log),
            agent_of(site, server, folder) as (agent, at),
            nodes_of(site, folder) as nodes,
        ):
            for _ in range(SESSIONS // AT_ONCE):
                await nodes.tell("prepare", nodes=AT_ONCE, discovery=at.discovery)
                await nodes.ask("join", list[Times])
            await asyncio.sleep(PREFERRED / 2)  # they were extended once, and go together
            before, cpu, watch = await log.end(), cpu_seconds(agent.pid), Stopwatch()
            await asyncio.sleep(SECONDS)
            seconds, cpu = watch.seconds(), cpu_seconds(agent.pid) - cpu
            commits, extended = await _renewals(log, before)
    return Spell(seconds, cpu, commits, extended)


async def _renewals(log: JetStreamLog, after: int) -> tuple[int, int]:
    commits = extended = 0
    async with aclosing(log.follow([subjects.everything(NAME)], after=after)) as batches:
        async for batch in batches:
            for record in batch.records:
                events = codec.decode(record.data).events
                renewed = [event for event in events if isinstance(event, AddressRenewed)]
                commits += bool(renewed)
                extended += sum(family(event.address) == 4 for event in renewed)
            if batch.caught_up:
                break
    return commits, extended


def show(report: Report) -> None:
    """Print it for people."""
    idle, extending = report.idle, report.extending
    Console().print(
        f"{report.sessions:,} sessions, {extending.seconds:.0f} s: {extending.extended:,} extensions in "
        f"{extending.commits} commits, {extending.cpu:.2f} s of the agent's CPU, {idle.cpu:.2f} s in "
        f"{idle.seconds:.0f} s when idle: {1e6 * report.cpu_an_extension:.0f} µs an extension"
    )


if __name__ == "__main__":
    main("extend", "What it costs that nodes need not renew.", measure, show)
