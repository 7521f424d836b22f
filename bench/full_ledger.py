"""A Subnet Agent, and a peer, with very many leases: for `bench.alloc`, in a network namespace of its own.

Here are the bus, a link, and one after another the servers on it. The ledger that filled the log decides at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvloop

from bench import decisions, kea
from bench.agent_side import SUBNET
from bench.decisions import Rate
from bench.filled import fill
from bench.joins import served
from bench.processes import in_namespace, own_namespace
from bench.sides import Stopwatch
from bench.starts import Agent, Start, agent
from dnms.linux.namespaces import Bridge, Namespace, set_up

BRIDGE, INTERFACE = "link", "eth0"


class Full(msgspec.Struct, frozen=True):
    """All that was measured."""

    leases: int
    log_bytes: int  # of the bus's directory
    fill_seconds: float
    agent: Agent
    kea: Start | None  # None: not installed
    decisions: list[Rate]


def isolated(leases: int, *, again: int = 3, peer: bool = True) -> Full:
    """Run this module in a network namespace, and return what it says. RuntimeError if it has failed."""
    arguments = ("--leases", str(leases), "--again", str(again), *(() if peer else ("--no-peer",)))
    return in_namespace("bench.full_ledger", Full, *arguments)


async def measure(leases: int, *, again: int, peer: bool) -> Full:
    """Fill a log, and start each of them on a link that has a carrier."""
    own_namespace()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dnms-bench-")))
        set_up("lo")
        here = stack.enter_context(Namespace.current("here"))
        there = stack.enter_context(Namespace.create("there"))
        Bridge.create(here, BRIDGE).plug([there], INTERFACE)
        there.set_up(INTERFACE)
        async with served(folder) as (site, server, log):
            watch = Stopwatch()
            fold = await fill(log, site.name, SUBNET, site.secret, leases)
            fill_seconds = watch.seconds()
            found = await agent(site, server.url, folder, BRIDGE, again=again)
            size = sum(file.stat().st_size for file in site.log_directory.rglob("*") if file.is_file())
        beside = await kea.start(folder / "kea", BRIDGE, leases) if peer else None
    return Full(
        leases=leases,
        log_bytes=size,
        fill_seconds=fill_seconds,
        agent=found,
        kea=beside,
        decisions=decisions.measure(fold),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.full_ledger")
    parser.add_argument("--leases", type=int, required=True)
    parser.add_argument("--again", type=int, required=True)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        full = runner.run(measure(given.leases, again=given.again, peer=given.peer))
    sys.stdout.buffer.write(msgspec.json.encode(full))
