"""The nodes' side of `bench.join` and `bench.memory`: real Node Agents in one process, and bare TLS clients."""

from __future__ import annotations

import asyncio
import resource
import ssl
import sys
import time
from pathlib import Path

import msgspec

from bench import processes
from bench.agent_side import Meter
from bench.loopback import Forgetful, LoopbackMachine, Times
from dnms.agents import tls
from dnms.agents.node.agent import NodeAgent
from dnms.kit import logging
from dnms.wire.messages import AGENT_NAME

JOINED_WITHIN = 60.0  # seconds
HELLO = bytes(250)  # as long as a hello


class Bare(msgspec.Struct):
    """How long bare clients took, in seconds."""

    each: list[float]
    all: float


class Nodes:
    """The agents that run, and those that wait for the word."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root
        self._gun = asyncio.Event()
        self._stop = asyncio.Event()
        self._made = 0
        self._waiting: list[LoopbackMachine] = []
        self._lives: list[asyncio.Task[None]] = []

    async def prepare(self, nodes: int, discovery: int) -> None:
        """Start so many agents up to where they would look for an agent."""
        self._gun = asyncio.Event()
        for _ in range(nodes):
            self._made += 1
            name = f"node-{self._made}"
            machine = LoopbackMachine(name, self._root, discovery, self._gun)
            directory = Forgetful(self._folder / name)
            agent = NodeAgent(machine, directory, name=name)
            self._lives.append(asyncio.create_task(agent.live_until(self._stop)))
            self._waiting.append(machine)
        async with asyncio.timeout(JOINED_WITHIN):
            while not all(machine.waits for machine in self._waiting):  # noqa: ASYNC110  # no event says so
                await asyncio.sleep(0.01)

    async def join(self) -> list[Times]:
        """Let all look for an agent that wait for it; their times, when all have what they were assigned."""
        joining, self._waiting = self._waiting, []
        self._gun.set()
        async with asyncio.timeout(JOINED_WITHIN):
            for machine in joining:
                await machine.configured.wait()
        return [machine.times for machine in joining]

    async def leave(self) -> None:
        """All take leave."""
        self._stop.set()
        if self._lives:
            await asyncio.wait(self._lives)
        self._stop, self._lives = asyncio.Event(), []

    async def bare(self, clients: int, port: int) -> Bare:
        """So many TLS connections at once, with one message there and back on each."""
        context = tls.trusting(self._root)
        began = time.monotonic()
        done = await asyncio.gather(*(_exchange(port, context) for _ in range(clients)))
        return Bare([at - began for at in done], max(done) - began)


async def _exchange(port: int, context: ssl.SSLContext) -> float:
    """When the answer had come, on the monotonic clock."""
    reader, writer = await asyncio.open_connection("::1", port, ssl=context, server_hostname=AGENT_NAME)
    writer.write(len(HELLO).to_bytes(4) + HELLO)
    await reader.readexactly(len(HELLO))
    done = time.monotonic()
    writer.close()
    await writer.wait_closed()
    return done


async def main(folder: Path, root: Path) -> None:
    """Do as told until standard input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one a session, and 1 024 is a usual limit
    nodes, meter = Nodes(folder, root), Meter()
    try:
        await processes.answer(
            {
                "prepare": nodes.prepare,
                "join": nodes.join,
                "leave": nodes.leave,
                "bare": nodes.bare,
                "begin": meter.begin,
                "end": meter.end,
            }
        )
    finally:
        await nodes.leave()


if __name__ == "__main__":
    logging.configure()
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
