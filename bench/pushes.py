"""A plan with another DNS server, and how long it takes to reach every node: for `bench.node`, in its own namespaces.

The network is that of `dnms lab run basic`: real Node Agents, each a process in a namespace of its own, with sessions
to one Subnet Agent, and a bus. What is timed begins when the operator's request is made and ends for each node when
its own resolv.conf has the server (by the file's time), and when the log has its `configuration.applied`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.link_up import Spread
from bench.processes import cpu_seconds, in_namespace, own_namespace
from bench.sides import Stopwatch
from dnms.kit import logging
from dnms.lab.lab import Lab
from dnms.lab.network import SUBNET
from dnms.lab.nursery import Nursery
from dnms.lab.progress import Display
from dnms.lab.site import NAME
from dnms.lab.steps import Stage

NODES = 200
PUSHES = 5
QUIET, QUIET_WITHIN = 3.0, 120.0  # seconds without an event, after which all that a join brings has come
REACHED_WITHIN = 60.0
POLL = 0.05


class Push(msgspec.Struct, frozen=True):
    """One change of the plan."""

    committed: float  # milliseconds until the plan was in the log
    written: Spread  # until the nodes had it in their files
    applied: Spread  # until the log knew that
    agent_cpu: float  # milliseconds of the Subnet Agent's CPU
    nodes_cpu: float  # of all Node Agents together


class Pushes(msgspec.Struct, frozen=True):
    """All of them."""

    nodes: int
    pushes: list[Push]


def isolated(nodes: int, pushes: int = PUSHES) -> Pushes:
    """Run this module in a network namespace, and return what it says. RuntimeError if it has failed."""
    return in_namespace("bench.pushes", Pushes, "--nodes", str(nodes), "--pushes", str(pushes))


async def measure(lab: Lab, pushes: int) -> Pushes:
    """Start all of it, and change the plan so often. LabError, RuntimeError."""
    async with Stage.built(lab) as stage:
        await stage.start()
        if not stage.all_configured():
            raise RuntimeError("not all nodes are configured")
        found = []
        for number in range(pushes):
            await _settled(stage)
            found.append(await _push(stage, f"2001:db8:1ab::53:{number + 1:x}"))
        late = await lab.nursery.stop_all(deadline=30.0)
        if late:
            raise RuntimeError(f"{len(late)} agents did not leave")
    return Pushes(lab.nodes, found)


async def _push(stage: Stage, server: str) -> Push:
    stage.network.addressing = msgspec.structs.replace(stage.network.addressing, dns=(server,))
    after, cpu = await stage.site.position(), _cpu(stage)
    begin = time.time()
    await stage.site.apply(stage.network.addressing.plan(NAME))
    committed = time.time() - begin
    files = [stage.resolv_conf(node) for node in stage.network.nodes]
    written = await _written(files, server)
    names, applied = set(stage.names), dict[str, float]()
    watch = Stopwatch()
    while len(applied) < len(names):
        if watch.seconds() > REACHED_WITHIN:
            raise RuntimeError(f"the log does not know it of {len(names) - len(applied)} nodes")
        await asyncio.sleep(POLL)
        for event in await stage.site.events("configuration.applied", after=after):
            if event.node in names:
                applied.setdefault(event.node, event.time.timestamp())
    spent = _cpu(stage)
    agents = {agent.name for agent in stage.network.agents}
    return Push(
        committed=round(committed * 1_000, 1),
        written=_spread([at - begin for at in written]),
        applied=_spread([at - begin for at in applied.values()]),
        agent_cpu=round(sum(spent[name] - cpu[name] for name in agents) * 1_000),
        nodes_cpu=round(sum(spent[name] - cpu[name] for name in names) * 1_000),
    )


async def _written(files: Sequence[Path], server: str) -> list[float]:
    """When each of the files was given this server: seconds since 1970-01-01 UTC."""
    waiting, found, watch = set(files), dict[Path, float](), Stopwatch()
    while waiting:
        if watch.seconds() > REACHED_WITHIN:
            raise RuntimeError(f"{len(waiting)} nodes do not have it")
        await asyncio.sleep(POLL)
        for file in [each for each in waiting if server in each.read_text().split()]:
            found[file] = file.stat().st_mtime
            waiting.discard(file)
    return list(found.values())


async def _settled(stage: Stage) -> None:
    """Wait until nothing happens."""
    end, quiet, watch = await stage.site.position(), Stopwatch(), Stopwatch()
    while quiet.seconds() < QUIET:
        if watch.seconds() > QUIET_WITHIN:
            raise RuntimeError(f"{SUBNET} does not come to rest")
        await asyncio.sleep(POLL)
        if (now := await stage.site.position()) != end:
            end, quiet = now, Stopwatch()


def _cpu(stage: Stage) -> dict[str, float]:
    return {name: cpu_seconds(process.pid) for name, process in stage.running.items()}


def _spread(seconds: Sequence[float]) -> Spread:
    spread = Spread.of(seconds)
    assert spread is not None
    return spread


def main(nodes: int, pushes: int) -> Pushes:
    """All of it; the nursery is forked while there is neither a thread nor an event loop."""
    own_namespace()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two a node
    logging.configure()
    nursery, watch = Nursery(), Stopwatch()
    try:
        with tempfile.TemporaryDirectory(prefix="dnms-bench-") as folder, Display(sys.stderr) as display:
            lab = Lab(
                nodes=nodes, agents=1, folder=Path(folder), nursery=nursery, display=display, seconds=watch.seconds
            )
            return asyncio.run(measure(lab, pushes))
    finally:
        nursery.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.pushes")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--pushes", type=int, default=PUSHES)
    given = parser.parse_args()
    sys.stdout.buffer.write(msgspec.json.encode(main(given.nodes, given.pushes)))
