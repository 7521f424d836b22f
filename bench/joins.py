"""Nodes that join at once: how long it takes them, and what it costs whom; with bare TLS and bare commits beside it."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import groupby
from pathlib import Path

import msgspec
from nats.aio.client import Client

from bench.agent_side import SUBNET, Listening, Spent
from bench.loopback import Times
from bench.node_side import Bare
from bench.processes import Side, cpu_seconds, established
from bench.sides import Stopwatch, plain
from dnms.bus.committer import Committer
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, configuration, connect
from dnms.bus.port import Record
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.kit.clock import SystemClock

NAME, BARE = "join", "join-bare"
QUIET = 0.3  # seconds without a commit, after which nothing more comes of what happened
POLL = 0.1
SETTLED_WITHIN = 30.0  # seconds

PLAN = f"""
[site]
name = "{NAME}"
[[subnet]]
name = "{SUBNET}"
prefixes = ["2001:db8:1:1::/64", "198.18.0.0/15"]
gateways = ["fe80::1", "198.18.0.1"]
dns = ["2001:db8:1:1::53"]
[[pool]]
name = "{SUBNET}-v6"
subnet = "{SUBNET}"
range = "2001:db8:1:1::/64"
[[pool]]
name = "{SUBNET}-v4"
subnet = "{SUBNET}"
range = "198.18.1.0-198.19.255.254"
"""


class Round(msgspec.Struct, frozen=True):
    """Nodes that joined at once."""

    times: list[Times]
    agent: Spent
    nodes: Spent
    server: float  # seconds of CPU
    commits: list[Record]

    @property
    def seconds(self) -> float:
        """From the first hello to the last assigned."""
        return max(one.assigned for one in self.times) - min(one.connected for one in self.times)


class BareRound(msgspec.Struct, frozen=True):
    """Bare TLS clients that came at once."""

    took: Bare
    agent: Spent
    nodes: Spent


class Network:
    """A site, its log, one Subnet Agent, and nodes."""

    def __init__(
        self, server: EmbeddedServer, log: JetStreamLog, client: Client, *, agent: Side, nodes: Side, at: Listening
    ) -> None:
        self.agent = agent
        self.nodes = nodes
        self._server = server
        self._log = log
        self._client = client
        self._at = at

    async def join(self, nodes: int, *, leave: bool = True) -> Round:
        """Have so many new nodes join at once, and leave when nothing more comes of that."""
        await self.nodes.tell("prepare", nodes=nodes, discovery=self._at.discovery)
        before, server = await self._log.end(), self._server_cpu()
        await self.agent.tell("begin")
        await self.nodes.tell("begin")
        times = await self.nodes.ask("join", list[Times])
        await self._settled()
        spent = await self.agent.ask("end", Spent), await self.nodes.ask("end", Spent)
        done = Round(times, *spent, self._server_cpu() - server, await self._commits(before))
        if leave:
            await self.leave()
        return done

    async def leave(self) -> None:
        """All nodes take leave, and the agent knows it."""
        await self.nodes.tell("leave")
        async with asyncio.timeout(SETTLED_WITHIN):
            while established(self._at.sessions):  # noqa: ASYNC110  # it is the kernel that is waited for
                await asyncio.sleep(POLL)
        await self._settled()

    async def bare_tls(self, clients: int) -> BareRound:
        """So many bare clients at once."""
        await self.agent.tell("begin")
        await self.nodes.tell("begin")
        took = await self.nodes.ask("bare", Bare, clients=clients, port=self._at.bare)
        spent = await self.agent.ask("end", Spent), await self.nodes.ask("end", Spent)
        return BareRound(took, *spent)

    async def bare_commits(self, commits: Sequence[Record]) -> float:
        """Publish the same bytes once more: in order on each subject, all subjects side by side. Seconds."""
        js = self._client.jetstream()
        by_subject: dict[str, list[bytes]] = {}
        for record in commits:
            by_subject.setdefault(record.subject.replace(f".{NAME}.", f".{BARE}.", 1), []).append(record.data)

        async def publish(subject: str, all_data: list[bytes]) -> None:
            for data in all_data:
                await js.publish(subject, data)

        watch = Stopwatch()
        async with asyncio.TaskGroup() as writers:
            for subject, all_data in by_subject.items():
                writers.create_task(publish(subject, all_data))
        return watch.seconds()

    def _server_cpu(self) -> float:
        assert self._server.pid is not None
        return cpu_seconds(self._server.pid)

    async def _settled(self) -> None:
        """Wait until nothing more is committed."""
        async with asyncio.timeout(SETTLED_WITHIN):
            end, quiet = await self._log.end(), Stopwatch()
            while quiet.seconds() < QUIET:
                await asyncio.sleep(POLL)
                if (now := await self._log.end()) != end:
                    end, quiet = now, Stopwatch()

    async def _commits(self, after: int) -> list[Record]:
        found: list[Record] = []
        async with aclosing(self._log.follow([subjects.everything(NAME)], after=after)) as batches:
            async for batch in batches:
                found += batch.records
                if batch.caught_up:
                    break
        return found


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """A new site on the embedded server, its agent and its nodes, each a process of its own."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dnms-bench-")))
        site, server, log = await stack.enter_async_context(served(folder))
        client = await stack.enter_async_context(plain(server.url, site.bus_token))
        config = configuration(BARE) | {"num_replicas": 1}
        await client.request(f"$JS.API.STREAM.CREATE.{config['name']}", msgspec.json.encode(config), timeout=5.0)
        agent, at = await stack.enter_async_context(agent_of(site, server, folder))
        nodes = await stack.enter_async_context(nodes_of(site, folder))
        yield Network(server, log, client, agent=agent, nodes=nodes, at=at)


@asynccontextmanager
async def served(folder: Path, plan: str = PLAN) -> AsyncIterator[tuple[Site, EmbeddedServer, JetStreamLog]]:
    """A new site with a plan."""
    async with AsyncExitStack() as stack:
        site = Site.create(folder / "site", NAME)
        server = EmbeddedServer(site.log_directory, token=site.bus_token)
        await stack.enter_async_context(server)
        log = await connect(server.url, NAME, token=site.bus_token)
        stack.push_async_callback(log.close)
        await adopt(log, plan)
        yield site, server, log


async def adopt(log: JetStreamLog, plan: str) -> None:
    """Make it the site's plan, as an operator does."""
    subject, fold = subjects.plan(NAME), Fold(PlanState())
    clock = SystemClock()
    committer = Committer(log, subject, fold, actor="operator/bench", now=clock.now, random=secrets.token_bytes)
    await committer.catch_up()
    running = asyncio.create_task(committer.run())
    try:
        await committer.submit(from_toml(plan))
    finally:
        running.cancel()
        await asyncio.wait((running,))


@asynccontextmanager
async def agent_of(site: Site, server: EmbeddedServer, folder: Path) -> AsyncIterator[tuple[Side, Listening]]:
    """A Subnet Agent, and where it listens."""
    arguments = str(site.path), server.url
    async with Side.started("bench.agent_side", *arguments, log=folder / "agent.log") as agent:
        yield agent, await agent.ask("listening", Listening)


@asynccontextmanager
async def nodes_of(site: Site, folder: Path) -> AsyncIterator[Side]:
    """A process for nodes."""
    arguments = str(folder), str(site.root_certificate)
    async with Side.started("bench.node_side", *arguments, log=folder / "nodes.log") as nodes:
        yield nodes


def shares(all_spent: Sequence[Spent]) -> dict[str, float]:
    """Of the CPU of several rounds, what each part has used."""
    samples: Counter[str] = Counter()
    for spent in all_spent:
        samples.update(spent.samples)
    return {part: count / samples.total() for part, count in samples.most_common()}


def percentile(values: Sequence[float], percent: int) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median(values: Sequence[float]) -> float:
    """Of the rounds."""
    return statistics.median(values)


def commits_a_subject(commits: Sequence[Record]) -> dict[str, int]:
    """How many commits each family of subjects has."""
    families = sorted(record.subject.split(".")[2] for record in commits)
    return {family: len(list(group)) for family, group in groupby(families)}
