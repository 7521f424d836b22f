"""One agent of `bench.rivals`, as far as it commits: the committer of a ledger, and a follow that feeds it.

Beside the sessions that a Subnet Agent holds, this is what its books do. Who asks are clients that come whether those
before them were answered or not (an open loop), in a process as random as that of many nodes which do not know of each
other: a client waits from when it came, also where the event loop was late to see it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import time
from contextlib import aclosing

import msgspec
import uvloop

from bench import processes
from bench.sides import TOKEN
from bench.streams import SECRET, SUBNET
from dnms.bus.committer import Committer
from dnms.bus.jetstream import connect
from dnms.bus.port import LogError
from dnms.bus.reading import read
from dnms.domain.aggregate import Fold
from dnms.domain.ledger import Ledger
from dnms.events import subjects
from dnms.events.address import AddressAllocated
from dnms.events.requests import AllocateAddress
from dnms.kit import logging
from dnms.kit.clock import SystemClock

BEGIN_WITHIN = 0.5  # seconds from now; so that all agents begin together


class Served(msgspec.Struct):
    """What became of the clients of one agent in one turn."""

    offered: int
    waited: list[float]  # seconds, of each client that was answered
    given: list[tuple[bytes, bytes]]  # client and address
    failed: int  # clients that were told that there is no answer
    lost_races: int
    commits: int
    cpu: float  # seconds


class Agent:
    """Its clients and its committer."""

    def __init__(self, committer: Committer[Ledger]) -> None:
        self._committer = committer
        self._waited: list[float] = []
        self._given: list[tuple[bytes, bytes]] = []
        self._failed = 0

    async def serve(self, rate: float, seconds: float, seed: int, begin: float) -> Served:
        """Let clients come for so long from the instant `begin` (CLOCK_MONOTONIC), `rate` a second, and answer all."""
        self._waited, self._given, self._failed = [], [], 0
        counts, chance = self._committer.counts, random.Random(seed)
        await asyncio.sleep(max(0.0, begin - time.monotonic()))
        lost, commits, cpu = counts["lost-race"], counts["commits"], time.process_time()
        due, offered = chance.expovariate(rate), 0
        async with asyncio.TaskGroup() as clients:
            while due < seconds:
                while due < min(seconds, time.monotonic() - begin):
                    clients.create_task(self._client(chance.randbytes(16), begin + due))
                    due += chance.expovariate(rate)
                    offered += 1
                await asyncio.sleep(max(0.0, begin + min(due, seconds) - time.monotonic()))
        return Served(
            offered=offered,
            waited=self._waited,
            given=self._given,
            failed=self._failed,
            lost_races=counts["lost-race"] - lost,
            commits=counts["commits"] - commits,
            cpu=time.process_time() - cpu,
        )

    async def _client(self, client: bytes, came: float) -> None:
        try:
            events = await self._committer.submit(AllocateAddress(client=client, iaid=1, family=6))
        except LogError:
            self._failed += 1
            return
        self._waited.append(time.monotonic() - came)
        self._given += [(client, event.address) for event in events if isinstance(event, AddressAllocated)]


async def main(url: str, site: str, name: str) -> None:
    """Follow and commit until standard input ends."""
    log = await connect(url, site, token=TOKEN)
    subject, folded = subjects.ledger(site, SUBNET), asyncio.Event()
    clock, random_bytes = SystemClock(), secrets.token_bytes
    committer = Committer(log, subject, Fold(Ledger(SECRET)), actor=name, now=clock.now, random=random_bytes)
    agent = Agent(committer)

    async def follow() -> None:
        async with aclosing(read(log, (subject,))) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    committer.take(stored)
                if batch.caught_up:
                    folded.set()

    async def ready() -> None:
        await folded.wait()

    work = [asyncio.create_task(follow()), asyncio.create_task(committer.run())]
    try:
        await processes.answer({"ready": ready, "serve": agent.serve})
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        await log.close()


if __name__ == "__main__":
    logging.configure()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
