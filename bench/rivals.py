"""Several agents on one ledger, at a load that is offered whatever they do; one agent at the same load beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from bench.joins import median, percentile
from bench.processes import Side
from bench.rival_side import BEGIN_WITHIN, Served
from bench.sides import opened
from bench.streams import PLAN, SECRET, SUBNET
from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.reading import read
from dnms.domain.aggregate import Fold
from dnms.domain.ledger import Ledger
from dnms.events import codec, subjects
from dnms.events.address import AddressAllocated
from dnms.events.commit import Commit
from dnms.events.plan import PlanAdopted

AGENTS = 5
OFFERED = 5_000  # leases a second, by all agents together
SECONDS = 1.0  # of a turn
ROUNDS = 7
WARM = 0.5  # seconds of a turn that is not counted
ALONE, TOGETHER = "rivals-alone", "rivals-together"


class Agent(msgspec.Struct, frozen=True):
    """What one agent came to, in all turns."""

    share: float  # of all leases that were given
    p50_ms: float
    p99_ms: float
    failed: int
    lost_races: int
    commits: int
    cpu_us: float  # a lease


class Crowd(msgspec.Struct, frozen=True):
    """What agents of one ledger came to together."""

    agents: list[Agent]
    offered_per_second: float
    per_second: float  # leases given
    p50_ms: float  # medians of the turns, as is the next
    p99_ms: float
    per_commit: float


class Rivals(msgspec.Struct, frozen=True):
    """Several agents, and one."""

    alone: Crowd
    together: Crowd
    p99_ratio: float  # of several to one
    slowest_p99_ratio: float  # of the slowest agent's to the one's
    smallest_share: float  # of its fair one: 1.0 is fair
    wrong: int  # answers that the log does not have, and addresses that it gives twice


async def measure(
    server: EmbeddedServer,
    folder: Path,
    *,
    agents: int = AGENTS,
    offered: float = OFFERED,
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
) -> Rivals:
    """In turns: one agent, and several; each of them, and the bus, is a process of its own."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(_site(server, folder, ALONE, 1))
        many = await stack.enter_async_context(_site(server, folder, TOGETHER, agents))
        for site in (one, many):
            await site.turn(offered, WARM)
            site.turns.clear()
        for _ in range(rounds):
            for site in (one, many):
                await site.turn(offered, seconds)
        alone, together = one.outcome(), many.outcome()
        return Rivals(
            alone=alone,
            together=together,
            p99_ratio=together.p99_ms / alone.p99_ms,
            slowest_p99_ratio=max(each.p99_ms for each in together.agents) / alone.p99_ms,
            smallest_share=min(each.share for each in together.agents) * agents,
            wrong=await one.wrong() + await many.wrong(),
        )


class _Site:
    """A ledger, and the agents on it."""

    def __init__(self, log: JetStreamLog, sides: Sequence[Side]) -> None:
        self.turns: list[list[Served]] = []
        self._log = log
        self._sides = sides
        self._seconds = 0.0
        self._seed = 0
        self._given: list[tuple[bytes, bytes]] = []

    async def turn(self, offered: float, seconds: float) -> None:
        """Have clients come to all agents for so long, each as many."""
        begin, rate, self._seconds = time.monotonic() + BEGIN_WITHIN, offered / len(self._sides), seconds
        self._seed += 1
        asked = [
            side.ask("serve", Served, rate=rate, seconds=seconds, seed=100 * self._seed + number, begin=begin)
            for number, side in enumerate(self._sides)
        ]
        served = list(await asyncio.gather(*asked))
        self._given += [each for one in served for each in one.given]
        self.turns.append(served)

    def outcome(self) -> Crowd:
        """Of all turns since they were cleared."""
        waited = [[seconds for one in turn for seconds in one.waited] for turn in self.turns]
        answered = sum(map(len, waited))
        return Crowd(
            agents=[_agent(each, answered) for each in zip(*self.turns, strict=True)],
            offered_per_second=median([sum(one.offered for one in turn) for turn in self.turns]) / self._seconds,
            per_second=median([len(each) for each in waited]) / self._seconds,
            p50_ms=median([percentile(each, 50) for each in waited]) * 1_000,
            p99_ms=median([percentile(each, 99) for each in waited]) * 1_000,
            per_commit=answered / sum(one.commits for turn in self.turns for one in turn),
        )

    async def wrong(self) -> int:
        """How many answers the log does not bear out, and how often it gives an address twice."""
        fold, given = Fold(Ledger(SECRET)), list[bytes]()
        async with aclosing(read(self._log, (subjects.ledger(self._log.site, SUBNET),))) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    fold.take(stored)
                    given += [event.address for event in stored.commit.events if isinstance(event, AddressAllocated)]
                if batch.caught_up:
                    break
        leases = fold.state.leases
        unknown = sum(address not in leases or leases[address].client != client for client, address in self._given)
        twice = len(given) - len(set(given))
        more = len(self._given) - len(set(self._given))
        return unknown + twice + more


def _agent(turns: Sequence[Served], answered: int) -> Agent:
    waited = [seconds for one in turns for seconds in one.waited]
    return Agent(
        share=len(waited) / answered,
        p50_ms=percentile(waited, 50) * 1_000,
        p99_ms=median([percentile(one.waited, 99) for one in turns]) * 1_000,
        failed=sum(one.failed for one in turns),
        lost_races=sum(one.lost_races for one in turns),
        commits=sum(one.commits for one in turns),
        cpu_us=sum(one.cpu for one in turns) / len(waited) * 1_000_000,
    )


@asynccontextmanager
async def _site(server: EmbeddedServer, folder: Path, name: str, agents: int) -> AsyncIterator[_Site]:
    """A new log with a plan in its ledger, and so many agents that have folded it."""
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(opened(server, name))
        commit = Commit(id=bytes(16), time=0, predecessor=0, actor="bench", plan=0, events=(PlanAdopted(plan=PLAN),))
        await append(log, subjects.ledger(name, SUBNET), codec.encode(commit), expected=0)
        sides = []
        for number in range(agents):
            agent = f"agent/{number}"
            started = Side.started("bench.rival_side", server.url, name, agent, log=folder / f"{name}-{number}.log")
            sides.append(await stack.enter_async_context(started))
        for side in sides:
            await side.tell("ready")
        yield _Site(log, sides)
