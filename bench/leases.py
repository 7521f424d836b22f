"""Group commit: many clients ask one ledger, beside a bare loop that publishes as large commits, one in flight."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from nats.aio.client import Client

from bench.sides import Stopwatch, bare, medians, opened
from bench.streams import PLAN, SECRET, SUBNET
from dnms.bus.committer import Committer
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, configuration
from dnms.domain.aggregate import Fold, Question, settle
from dnms.domain.ledger import Ledger
from dnms.domain.renewing import HORIZON
from dnms.events import codec, subjects
from dnms.events.recorded import Request
from dnms.events.requests import AdoptPlan, AllocateAddress, RenewAddress
from dnms.kit.clock import MICROSECONDS, SystemClock

ROUNDS = 5
CLIENTS = 200
LEASES = 10_000  # a turn
SITE, BARE = "leases", "leases-bare"

EVENT_LATER = (HORIZON[6] * PLAN.pools[0].valid) * MICROSECONDS
"""A renewal so much later is past the recorded horizon, so that it is an event and not just an answer."""


SINGLE = 200  # leases that are asked for one at a time


class Leases(msgspec.Struct, frozen=True):
    """What group commit came to, for one kind of request."""

    request: str
    per_second: float
    bare_per_second: float
    ratio: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of this process a lease, those of the clients included
    per_commit: float


async def measure(server: EmbeddedServer) -> list[Leases]:
    """Allocations, and renewals of what was allocated."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(bare(server))
        config = configuration(BARE) | {"num_replicas": 1}
        await client.request(f"$JS.API.STREAM.CREATE.{config['name']}", msgspec.json.encode(config), timeout=5.0)
        log = await stack.enter_async_context(opened(server, SITE))
        subnet = await stack.enter_async_context(_subnet(log))
        allocations, renewals = _Side("address.allocate", subnet, client), _Side("address.renew", subnet, client)
        found = await medians(
            {
                "allocate": lambda: allocations.ours(subnet.new_clients(LEASES)),
                "allocate bare": lambda: allocations.bare(subnet.new_clients),
                "renew": lambda: renewals.ours(subnet.renewals(LEASES)),
                "renew bare": lambda: renewals.bare(subnet.renewals),
            },
            rounds=ROUNDS,
        )
        return [
            allocations.outcome(found["allocate"], found["allocate bare"]),
            renewals.outcome(found["renew"], found["renew bare"]),
        ]


class Single(msgspec.Struct, frozen=True):
    """One client at a time: how long it waits for a new lease that is in the log, in milliseconds."""

    p50_ms: float
    p99_ms: float
    bare_p50_ms: float  # a prepared commit of one lease, published by nats-py
    bare_p99_ms: float


async def single(server: EmbeddedServer) -> Single:
    """One client after another, and as many bare commits, by turns."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(bare(server))
        name, bare_name = f"{SITE}-single", f"{BARE}-single"
        config = configuration(bare_name) | {"num_replicas": 1}
        await client.request(f"$JS.API.STREAM.CREATE.{config['name']}", msgspec.json.encode(config), timeout=5.0)
        log = await stack.enter_async_context(opened(server, name))
        subnet = await stack.enter_async_context(_subnet(log, name))
        js, ours, theirs = client.jetstream(), list[float](), list[float]()
        data = _prepared(subnet, subnet.new_clients(1))[0]
        for request in subnet.new_clients(SINGLE):
            watch = Stopwatch()
            await subnet.committer.submit(request)
            ours.append(watch.seconds() * 1_000)
            watch = Stopwatch()
            await js.publish(subjects.ledger(bare_name, SUBNET), data)
            theirs.append(watch.seconds() * 1_000)
    (p50, p99), (bare_p50, bare_p99) = map(_percentiles, (ours, theirs))
    return Single(p50_ms=p50, p99_ms=p99, bare_p50_ms=bare_p50, bare_p99_ms=bare_p99)


def _percentiles(values: list[float]) -> tuple[float, float]:
    found = statistics.quantiles(values, n=100)
    return found[49], found[98]


def _prepared(subnet: _Subnet, requests: list[Request]) -> tuple[bytes, int]:
    """A commit of these requests as it would be stored, and how many events it has."""
    state, questions = subnet.committer.fold.state, [Question(request) for request in requests]
    at = subnet.now()
    commit, _ = settle(state, questions, commit_id=bytes(16), at=at, predecessor=0, actor="agent/bench")
    return codec.encode(commit), len(commit.events)


class _Subnet:
    """One ledger, its committer, and a clock that can be set forward."""

    def __init__(self, log: JetStreamLog, site: str) -> None:
        self._ahead = 0
        self._clock = SystemClock()
        self.committer = Committer(
            log,
            subjects.ledger(site, SUBNET),
            Fold(Ledger(SECRET)),
            actor="agent/bench",
            now=self.now,
            random=secrets.token_bytes,
        )

    def now(self) -> int:
        return self._clock.now() + self._ahead

    def new_clients(self, count: int) -> list[Request]:
        return [AllocateAddress(client=secrets.token_bytes(16), iaid=1, family=6) for _ in range(count)]

    def renewals(self, count: int) -> list[Request]:
        """Of the newest leases, when they are due."""
        self._ahead += EVENT_LATER
        leases = list(self.committer.fold.state.leases.values())[-count:]
        return [RenewAddress(client=lease.client, iaid=lease.iaid, address=lease.address) for lease in leases]


@asynccontextmanager
async def _subnet(log: JetStreamLog, site: str = SITE) -> AsyncIterator[_Subnet]:
    subnet = _Subnet(log, site)
    running = asyncio.create_task(subnet.committer.run())
    try:
        await subnet.committer.submit(AdoptPlan(plan=PLAN))
        yield subnet
    finally:
        running.cancel()
        await asyncio.wait({running})


class _Side:
    """One kind of request: by group commit, and as prepared commits of the same size."""

    def __init__(self, request: str, subnet: _Subnet, client: Client) -> None:
        self._request = request
        self._subnet = subnet
        self._js = client.jetstream()
        self._latencies: list[float] = []
        self._sizes: list[float] = []  # leases a commit, of each turn
        self._cpu: list[float] = []  # seconds a lease, of each turn

    async def ours(self, requests: list[Request]) -> float:
        """Let the clients ask for all of these, each for its next one when it is answered."""
        submit, counts = self._subnet.committer.submit, self._subnet.committer.counts
        commits, latencies = counts["commits"], self._latencies
        waiting = iter(requests)

        async def client() -> None:
            for request in waiting:
                began = time.perf_counter()
                events = await submit(request)
                latencies.append(time.perf_counter() - began)
                if not events:
                    raise RuntimeError(f"{self._request} was answered without an event")

        watch, cpu = Stopwatch(), time.process_time()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(client())
        seconds = watch.seconds()
        self._cpu.append((time.process_time() - cpu) / len(requests))
        self._sizes.append(len(requests) / (counts["commits"] - commits))
        return len(requests) / seconds

    async def bare(self, requests: Callable[[int], list[Request]]) -> float:
        """Publish as many leases in prepared commits of the size that ours just had."""
        data, events = _prepared(self._subnet, requests(round(self._sizes[-1])))
        subject = subjects.ledger(BARE, SUBNET)
        published = 0
        watch = Stopwatch()
        while published < LEASES:
            await self._js.publish(subject, data)
            published += events
        return published / watch.seconds()

    def outcome(self, per_second: float, bare_per_second: float) -> Leases:
        p50, p99 = _percentiles(self._latencies)
        return Leases(
            request=self._request,
            per_second=per_second,
            bare_per_second=bare_per_second,
            ratio=per_second / bare_per_second,
            p50_ms=p50 * 1_000,
            p99_ms=p99 * 1_000,
            cpu_us=statistics.median(self._cpu) * 1_000_000,
            per_commit=statistics.median(self._sizes),
        )
