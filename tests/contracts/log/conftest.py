"""The logs that pass the same tests: in memory, a fork of that, and on a real nats-server; each test has its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from dnms.bus.embedded import EmbeddedServer
from dnms.bus.forked import ForkedLog
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.memory import MemoryLog
from dnms.bus.port import Batch, Log, Record
from dnms.events import codec
from dnms.events.address import AddressReleased
from dnms.events.commit import Commit
from dnms.kit.clock import SystemClock

TOKEN = "3e8-not a number"
DEADLINE = 10.0  # seconds for what should come at once

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    directory: Path = tmp_path_factory.mktemp("bus")
    async with EmbeddedServer(directory, token=TOKEN) as running:
        yield running


@pytest.fixture
def site() -> str:
    return f"test-{next(_numbers)}"


@pytest.fixture(params=["memory", "forked", "jetstream"])
async def log(
    request: pytest.FixtureRequest, server: EmbeddedServer, site: str
) -> AsyncIterator[MemoryLog | ForkedLog | JetStreamLog]:
    if request.param != "jetstream":
        memory = MemoryLog(site, log_id="0" * 32, now=SystemClock().now)
        yield memory if request.param == "memory" else ForkedLog(memory, site, forked_at=0, now=SystemClock().now)
        return
    connected = await connect(server.url, site, token=TOKEN)
    yield connected
    await connected.close()


class Reader:
    """Takes batches from one follow, each within the deadline."""

    def __init__(self, follow: AsyncGenerator[Batch, None]) -> None:
        self._follow = follow

    async def batch(self) -> Batch:
        async with asyncio.timeout(DEADLINE):
            return await anext(self._follow)

    async def to_the_end(self) -> list[Record]:
        """All records up to the first batch that says that it caught up."""
        records: list[Record] = []
        while True:
            batch = await self.batch()
            records.extend(batch.records)
            if batch.caught_up:
                return records

    async def records(self, count: int) -> list[Record]:
        """At least so many records."""
        records: list[Record] = []
        while len(records) < count:
            records.extend((await self.batch()).records)
        return records


Follow = Callable[..., Reader]


@pytest.fixture
async def follow(log: Log) -> AsyncIterator[Follow]:
    """Begins a follow that ends with the test."""
    begun: list[AsyncGenerator[Batch, None]] = []

    def begin(subjects: Sequence[str], *, after: int = 0) -> Reader:
        begun.append(cast("AsyncGenerator[Batch, None]", log.follow(subjects, after=after)))
        return Reader(begun[-1])

    yield begin
    for each in begun:
        async with aclosing(each):
            pass


@pytest.fixture
def message() -> Callable[..., bytes]:
    """The bytes of a commit."""

    def make(number: int, *, predecessor: int = 0, time: int = 1_000_000) -> bytes:
        event = AddressReleased(address=bytes(16), client=bytes(16), iaid=number)
        identity = number.to_bytes(16)
        commit = Commit(id=identity, time=time, predecessor=predecessor, actor="agent/test", events=(event,))
        return codec.encode(commit)

    return make
