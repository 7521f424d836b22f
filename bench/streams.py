"""Append and read back: bare nats-py, our port with the same bytes, and commits as writers and readers have them."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from bench.sides import Stopwatch, bare, medians, opened
from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, configuration
from dnms.bus.reading import read
from dnms.domain.aggregate import Question, settle
from dnms.domain.ledger import Ledger
from dnms.events import codec, subjects
from dnms.events.commit import Commit
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.plan import AdoptedPlan, PlanAdopted, Pool, Subnet
from dnms.events.requests import AllocateAddress

ROUNDS = 5

COMMITS = {1: 2_500, 10: 2_500, 100: 1_000, 1_000: 75}
"""Events a commit, and how many commits a turn appends at most."""

TURN = 0.4  # seconds; on a slow disk a turn ends before it has appended all

IN_FLIGHT = 8
"""Commits, each on a subject of its own, since the writer of a subject waits for its acknowledgement."""

SECRET = bytes(32)
SUBNET = "office"
PLAN = AdoptedPlan(
    position=1,
    level=1,
    subnet=Subnet(name=SUBNET, realm="default", prefixes=(parse_prefix("2001:db8:1:1::/64"),)),
    pools=(
        Pool(
            name=SUBNET,
            subnet=SUBNET,
            first=parse_address("2001:db8:1:1::"),
            last=parse_address("2001:db8:1:1:ffff:ffff:ffff:ffff"),
        ),
    ),
)


class Rates(msgspec.Struct, frozen=True):
    """Medians, in events a second."""

    bare: float
    port: float
    commits: float
    port_to_bare: float
    commits_to_bare: float


class Batch(msgspec.Struct, frozen=True):
    """What one size of commits came to."""

    events: int  # a commit
    bytes: int
    append: Rates
    read: Rates


async def measure(server: EmbeddedServer, events: int) -> Batch:
    """Append and read back commits of so many events."""
    commit = a_commit(events)
    data = codec.encode(commit)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(bare(server))
        stream = _Bare(client, f"bare-{events}", data)
        await stream.create()
        port = _Port(await stack.enter_async_context(opened(server, f"port-{events}")), data)
        commits = _Commits(await stack.enter_async_context(opened(server, f"commits-{events}")), commit)
        appended = await _rates(events, {"bare": stream.append, "port": port.append, "commits": commits.append})
        back = await _rates(events, {"bare": stream.read, "port": port.read, "commits": commits.read})
        return Batch(events=events, bytes=len(data), append=appended, read=back)


def a_commit(events: int) -> Commit:
    """A commit of a ledger as its settling makes it, with so many leases."""
    ledger, chance = Ledger(SECRET), random.Random(events)
    ledger.evolve(PlanAdopted(plan=PLAN), at=0, position=1)
    questions = [Question(AllocateAddress(client=chance.randbytes(16), iaid=1, family=6)) for _ in range(events)]
    identity, at = chance.randbytes(16), 1_772_366_400_000_000
    commit, _ = settle(ledger, questions, commit_id=identity, at=at, predecessor=0, actor="agent/bench")
    return commit


async def _rates(events: int, sides: dict[str, Callable[[int], Awaitable[int]]]) -> Rates:
    """Each side is told how many commits a turn has at most, and says how many it moved."""

    def turn(side: Callable[[int], Awaitable[int]]) -> Callable[[], Awaitable[float]]:
        async def timed() -> float:
            watch = Stopwatch()
            moved = await side(COMMITS[events])
            return moved * events / watch.seconds()

        return timed

    found = await medians({name: turn(side) for name, side in sides.items()}, rounds=ROUNDS)
    return Rates(**found, port_to_bare=found["port"] / found["bare"], commits_to_bare=found["commits"] / found["bare"])


async def _in_flight(commits: int, write: Callable[[int], Awaitable[None]]) -> int:
    """Have as many writers as may be in flight append so many commits in all, or fewer; how many it were."""
    begun, watch = 0, Stopwatch()

    async def writer(number: int) -> None:
        nonlocal begun
        while begun < commits and watch.seconds() < TURN:
            begun += 1
            await write(number)

    async with asyncio.TaskGroup() as writers:
        for number in range(IN_FLIGHT):
            writers.create_task(writer(number))
    return begun


class _Bare:
    """Plain nats-py: `publish`, and a push consumer with a callback that does nothing."""

    def __init__(self, client: Client, name: str, data: bytes) -> None:
        self._js: JetStreamContext = client.jetstream()
        self._name = name
        self._data = data
        self._stored = 0

    async def create(self) -> None:
        """Make a stream as a log's is."""
        config: dict[str, Any] = configuration(self._name) | {"num_replicas": 1}
        await self._js._nc.request(f"$JS.API.STREAM.CREATE.{config['name']}", msgspec.json.encode(config), timeout=5.0)

    async def append(self, commits: int) -> int:
        async def write(number: int) -> None:
            await self._js.publish(subjects.ledger(self._name, f"lan-{number}"), self._data)

        appended = await _in_flight(commits, write)
        self._stored += appended
        return appended

    async def read(self, _: int) -> int:
        came, all_came = 0, asyncio.Event()

        async def count(_: Msg) -> None:
            nonlocal came
            came += 1
            if came == self._stored:
                all_came.set()

        subscription = await self._js.subscribe(
            subjects.everything(self._name),
            stream=subjects.stream(self._name),
            cb=count,
            manual_ack=True,
            config=ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True),
            flow_control=True,
            idle_heartbeat=1.0,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
        )
        await all_came.wait()
        await subscription.unsubscribe()
        return came


class _Port:
    """The same bytes through our port."""

    def __init__(self, log: JetStreamLog, data: bytes) -> None:
        self._log = log
        self._data = data
        self._heads = [0] * IN_FLIGHT

    async def append(self, commits: int) -> int:
        async def write(number: int) -> None:
            subject = subjects.ledger(self._log.site, f"lan-{number}")
            self._heads[number] = await append(self._log, subject, self._data, expected=self._heads[number])

        return await _in_flight(commits, write)

    async def read(self, _: int) -> int:
        came = 0
        async with aclosing(self._log.follow([subjects.everything(self._log.site)])) as batches:
            async for batch in batches:
                came += len(batch.records)
                if batch.caught_up:
                    break
        return came


class _Commits:
    """Commits, as writers and readers have them."""

    def __init__(self, log: JetStreamLog, commit: Commit) -> None:
        self._log = log
        self._commit = commit
        self._heads = [0] * IN_FLIGHT

    async def append(self, commits: int) -> int:
        async def write(number: int) -> None:
            subject, head = subjects.ledger(self._log.site, f"lan-{number}"), self._heads[number]
            commit = msgspec.structs.replace(self._commit, id=secrets.token_bytes(16), predecessor=head)
            self._heads[number] = await append(self._log, subject, codec.encode(commit), expected=head)

        return await _in_flight(commits, write)

    async def read(self, _: int) -> int:
        came = 0
        async with aclosing(read(self._log, [subjects.everything(self._log.site)])) as batches:
            async for batch in batches:
                came += len(batch.stored)
                if batch.caught_up:
                    break
        return came
