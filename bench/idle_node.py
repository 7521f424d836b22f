"""One real Node Agent with a session, and nothing to do: for `bench.memory` and `bench.node`, in its own namespace.

Here are the bus, a Subnet Agent and a bridge; the Node Agent is in a second namespace, at the other end of a cable.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bench.agent_side import AGENT, SUBNET
from bench.joins import served
from bench.processes import Memory, cpu_seconds, established, in_namespace, memory, own_namespace, running
from bench.sides import Stopwatch
from dnms.linux.namespaces import Bridge, Namespace, set_up
from dnms.wire.messages import PORT

BRIDGE, INTERFACE = "link", "eth0"
READY_WITHIN = 30.0  # seconds
SETTLED = 3.0  # seconds in which what a join has begun comes to its end


class Idle(msgspec.Struct, frozen=True):
    """What it holds, and what it uses while nothing happens."""

    memory: Memory  # at the end
    cpu: float  # seconds of CPU, in
    seconds: float
    switches: int  # how often it was woken in these seconds


def isolated(idle: float = 0.0) -> Idle:
    """Run this module in a network namespace, and return what it says. RuntimeError if it has failed."""
    return in_namespace("bench.idle_node", Idle, "--idle", str(idle))


async def measure(idle: float) -> Idle:
    """Start all of it, and look at the Node Agent once it is idle, and for so many seconds more."""
    own_namespace()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dnms-bench-")))
        set_up("lo")
        here = stack.enter_context(Namespace.current("here"))
        there = stack.enter_context(Namespace.create("node"))
        Bridge.create(here, BRIDGE).plug([there], INTERFACE)
        there.set_up(INTERFACE)
        async with served(folder) as (site, server, _):
            agent = ("--interface", BRIDGE, "--subnet", SUBNET, "--name", AGENT, "--site", str(site.path))
            stack.enter_context(
                running(
                    sys.executable, "-m", "dnms.agents.subnet", *agent, "--bus", server.url, log=folder / "agent.log"
                )
            )
            node = ("--interface", INTERFACE, "--root-certificate", str(site.root_certificate))
            kept = ("--state", str(folder / "state"), "--resolv-conf", str(folder / "resolv.conf"))
            with there.entered():
                process = stack.enter_context(
                    running(sys.executable, "-m", "dnms.agents.node", *node, *kept, log=folder / "node.log")
                )
            async with asyncio.timeout(READY_WITHIN):
                while not (established(PORT) and "assignment applied" in (folder / "node.log").read_text()):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await asyncio.sleep(SETTLED)
            cpu, switches, watch = cpu_seconds(process.pid), _switches(process.pid), Stopwatch()
            await asyncio.sleep(idle)
            found = Idle(
                memory=memory(process.pid),
                cpu=cpu_seconds(process.pid) - cpu,
                seconds=watch.seconds(),
                switches=_switches(process.pid) - switches,
            )
            stack.close()  # the agents, before the bus that they use
    return found


def _switches(pid: int) -> int:
    """How often all threads of a process have gone to sleep by themselves (proc(5), `status`)."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches:")
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.idle_node")
    parser.add_argument("--idle", type=float, default=0.0)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure(parser.parse_args().idle))))
