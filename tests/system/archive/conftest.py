"""A site with a log of its own, and servers to copy it to."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from dnms.bus.append import append
from dnms.bus.connection import Connection
from dnms.bus.embedded import EmbeddedServer, binary, deployment
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import LogError, Record
from dnms.disk.site import Site
from dnms.events import codec, subjects
from dnms.events.address import AddressReleased
from dnms.events.commit import Commit

NAME = "here"
PLACES = ("plan", "ledger.lan", "node.0a")
DEADLINE = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site", NAME)


@asynccontextmanager
async def opened(url: str, site: Site) -> AsyncIterator[JetStreamLog]:
    log = await connect(url, site.name, token=site.bus_token)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[JetStreamLog]:
    """The site's own log."""
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server, opened(server.url, site) as log:
        yield log


async def write(log: JetStreamLog, commits: int, *, padding: int = 0) -> None:
    """Append commits as their writers do, after what is there."""
    heads = {record.subject: record.sequence for record in await read_all(log)}
    for number in range(commits):
        subject = f"dnms.{log.site}.{PLACES[number % len(PLACES)]}"
        commit = Commit(
            id=os.urandom(16),
            time=1_000_000,
            predecessor=heads.get(subject, 0),
            actor="agent/test" + "t" * padding,
            events=(AddressReleased(address=bytes(16), client=bytes(16), iaid=number),),
        )
        heads[subject] = await append(log, subject, codec.encode(commit), expected=commit.predecessor)


async def read_all(log: JetStreamLog) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(DEADLINE), aclosing(log.follow([subjects.everything(log.site)])) as batches:
        async for batch in batches:
            found.extend(batch.records)
            if batch.caught_up:
                return found
    raise AssertionError("a follow ended")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now, all taken at once so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@asynccontextmanager
async def cluster(directory: Path, *, token: str) -> AsyncIterator[Sequence[str]]:
    """Three servers on loopback with the configuration that DNMS brings; where each is."""
    ports = free_ports(6)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[3:])
    configuration = deployment("cluster.conf").read_text()
    urls = [f"nats://127.0.0.1:{port}" for port in ports[:3]]
    async with AsyncExitStack() as stack:
        for number in range(3):
            own = directory / f"server-{number}"
            own.mkdir(parents=True)
            text = (
                configuration.replace('"0.0.0.0:4222"', f'"127.0.0.1:{ports[number]}"')
                .replace('"0.0.0.0:6222"', f'"127.0.0.1:{ports[3 + number]}"')
                .replace('"/data"', f'"{own / "data"}"')
            )
            (own / "nats.conf").write_text(text)
            environment = {
                "DNMS_BUS_NAME": f"server-{number}",
                "DNMS_BUS_ROUTES": f"[{routes}]",
                "DNMS_BUS_TOKEN": f'"{token}"',
            }
            process = await asyncio.create_subprocess_exec(
                *(binary(), "--config", own / "nats.conf", "--log", own / "log"), env={**os.environ, **environment}
            )
            stack.push_async_callback(end, process)
        await until_elected(urls, token)
        yield urls


async def end(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def until_elected(urls: Sequence[str], token: str) -> None:
    """Wait until the three have a leader, and so an answer to anything."""
    async with asyncio.timeout(DEADLINE):
        connection = Connection(list(urls), token=token, name="test")
        await connection.open(DEADLINE)
        try:
            while True:
                try:
                    answer = await connection.request("$JS.API.STREAM.NAMES", b"", timeout=1.0)
                    if b"error" not in answer.data:
                        return
                except LogError:
                    pass
                await asyncio.sleep(0.1)
        finally:
            await connection.close()
