"""One real Node Agent with a session, and nothing to do: for `bench.memory`, in a network namespace of its own.

Here are the bus, a Subnet Agent and a bridge; the Node Agent is in a second namespace, at the other end of a cable.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bench.agent_side import AGENT, SUBNET
from bench.joins import served
from bench.processes import Memory, established, in_namespace, memory, running
from dnms.linux.namespaces import Bridge, Namespace, set_up
from dnms.wire.messages import PORT

BRIDGE, INTERFACE = "link", "eth0"
READY_WITHIN = 30.0  # seconds
IDLE = 3.0  # seconds in which what a join has begun comes to its end


def isolated() -> Memory:
    """Run this module in a network namespace, and return what it says. RuntimeError if it has failed."""
    return in_namespace("bench.idle_node", Memory)


async def measure() -> Memory:
    """Start all of it, and look at the Node Agent once it is idle."""
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
            await asyncio.sleep(IDLE)
            found = memory(process.pid)
            stack.close()  # the agents, before the bus that they use
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure())))
