"""The Subnet Agent's side of `bench.join` and `bench.memory`: its real shell on loopback, and a bare TLS server."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
import sys
import time
from pathlib import Path

import msgspec

from bench import processes
from bench.loopback import LoopbackLink
from bench.sampling import Sampler
from dnms.agents import tls
from dnms.agents.subnet.agent import SubnetSettings, attend
from dnms.agents.subnet.loop import new_event_loop
from dnms.bus.clock import LogClock
from dnms.bus.jetstream import connect
from dnms.disk.site import Site
from dnms.kit import logging

SUBNET, AGENT = "office", "agent-1"
BACKLOG = 1_024  # of the bare server
NEW_NODES = 1_000_000  # all of them come from one address, and are new in every round


class Listening(msgspec.Struct):
    """Where it listens."""

    sessions: int
    discovery: int
    bare: int


class Spent(msgspec.Struct):
    """What a process has used since it was asked to begin."""

    cpu: float  # seconds
    samples: dict[str, int]


class Meter:
    """The CPU of this process, and where it goes."""

    def __init__(self) -> None:
        self._sampler = Sampler()
        self._from = 0.0

    async def begin(self) -> None:
        """From now on."""
        self._sampler.start()
        self._from = time.process_time()

    async def end(self) -> Spent:
        """So far."""
        return Spent(time.process_time() - self._from, self._sampler.stop())


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One message there and back, and the end."""
    try:
        size = int.from_bytes(await reader.readexactly(4))
        writer.write(await reader.readexactly(size))
        await reader.read()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(path: Path, bus: str) -> None:
    """Serve until standard input ends."""
    site = Site.load(path)
    context = tls.serving(site.agent_certificate, site.agent_key)
    root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(site.root_certificate.read_text())).digest()
    settings = SubnetSettings(
        interface="lo", subnet=SUBNET, name=AGENT, site=path, bus=bus, port=0, new_nodes=NEW_NODES
    )
    log = await connect(bus, site.name, token=site.bus_token)
    clock = LogClock(log)
    await clock.measure()
    link, stop, meter = LoopbackLink(context), asyncio.Event(), Meter()
    attending = asyncio.create_task(
        attend(settings, site, log, clock, link, root=root, random=secrets.token_bytes, stop=stop)
    )
    bare = await asyncio.start_server(_echo, "::1", 0, ssl=context, backlog=BACKLOG)

    async def listening() -> Listening:
        sessions, discovery = await link.serving
        return Listening(sessions, discovery, bare.sockets[0].getsockname()[1])

    try:
        await processes.answer({"listening": listening, "begin": meter.begin, "end": meter.end})
    finally:
        bare.close()
        stop.set()
        await attending
        await log.close()


if __name__ == "__main__":
    logging.configure()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), sys.argv[2]))
