"""What the benchmarks of the log have in common: a server, connections to it, and sides that take turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, connect

TOKEN = "bench"

Turn = Callable[[], Awaitable[float]]
"""Does one side's work once, and returns how much it did a second."""


@asynccontextmanager
async def embedded() -> AsyncIterator[EmbeddedServer]:
    """The server as `dnms serve` starts it, with an empty directory below the one for temporary files."""
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as directory:
        async with EmbeddedServer(Path(directory), token=TOKEN) as server:
            yield server


@asynccontextmanager
async def opened(server: EmbeddedServer, site: str) -> AsyncIterator[JetStreamLog]:
    """A log through our port."""
    log = await connect(server.url, site, token=TOKEN)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def bare(server: EmbeddedServer) -> AsyncIterator[Client]:
    """A connection of plain nats-py."""
    async with plain(server.url, TOKEN) as client:
        yield client


@asynccontextmanager
async def plain(url: str, token: str) -> AsyncIterator[Client]:
    """A connection of plain nats-py to any server."""
    client = await nats.connect(url, token=token)
    try:
        yield client
    finally:
        await client.close()


async def medians(sides: Mapping[str, Turn], *, rounds: int) -> dict[str, float]:
    """Let every side take its turn in each round, and return the median of each."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, turn in sides.items():
            rates[name].append(await turn())
    return {name: statistics.median(found) for name, found in rates.items()}


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self._began
