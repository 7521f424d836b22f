"""The ledgers and the nodes as the API sees and writes them: each is folded when first asked about, then to its end.

Operators write beside the Subnet Agents, whose commits and ours are put in their order by the expected sequence. A
plan that a ledger has not adopted yet is adopted first, as an agent would: what is decided has to hold by the newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from dnms.bus.committer import Committer, WriteOnly
from dnms.bus.port import Log
from dnms.bus.reading import learn_forgotten, read
from dnms.domain import uplinks
from dnms.domain.aggregate import Fold, State
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import Node, NodeShard
from dnms.domain.plan import PlanState, says_the_same
from dnms.events import subjects
from dnms.events.requests import AdoptPlan
from dnms.events.sealing import is_in_clear

S = TypeVar("S", bound=State)


class Ledgers:
    """The committers of one site's ledgers. `now` is in microseconds, `random` draws bytes."""

    def __init__(
        self,
        log: Log,
        *,
        site: str,
        secret: bytes,
        client_id: Callable[[bytes], bytes],
        actor: str,
        now: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        """`client_id`: what stands for a DUID in the log."""
        self.client_id = client_id
        self.now = now
        self.copying = asyncio.Lock()  # held by who has a copy of a ledger
        self.keys = log.keys
        self._log = log
        self._site = site
        self._secret = secret
        self._actor = actor
        self._random = random
        self._ledgers: dict[str, Committer[Ledger]] = {}
        self._shards: dict[str, Committer[NodeShard]] = {}
        self._asked: dict[str, Committer[WriteOnly]] = {}
        self._made = asyncio.Event()
        self._waiting: list[Coroutine[Any, Any, None]] = []  # committers that do not run yet

    async def run(self) -> None:
        """Write what is asked for, until cancelled. LogForked, LogDamaged: what cannot be mended here."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    while self._waiting:
                        tasks.create_task(self._waiting.pop())
                    self._made.clear()
                    await self._made.wait()
        finally:
            for never_run in self._waiting:
                never_run.close()

    async def folded(self, subnet: str) -> Committer[Ledger]:
        """The ledger of a subnet, folded to its end. LogError."""
        if subnet not in self._ledgers:
            self._ledgers[subnet] = self._committer(subjects.ledger(self._site, subnet), Ledger(self._secret))
        ledger = self._ledgers[subnet]
        await ledger.catch_up()
        return ledger

    async def current(self, subnet: str, plan: PlanState) -> Committer[Ledger]:
        """The ledger of a subnet, folded to its end and with the newest plan. LogError, Refused `level`."""
        ledger = await self.folded(subnet)
        wanted = plan.for_subnet(subnet)
        if not says_the_same(wanted, uplinks.planned(ledger.fold.state.plan)):
            while await ledger.submit(AdoptPlan(plan=wanted)):
                pass  # a large ledger ends its contradicted leases in several commits
        return ledger

    async def shard(self, client: bytes) -> Committer[NodeShard]:
        """The shard of the nodes with this one, folded to its end. LogError."""
        subject = subjects.node(self._site, client)
        if subject not in self._shards:
            self._shards[subject] = self._committer(subject, NodeShard())
        shard = self._shards[subject]
        await shard.catch_up()
        return shard

    async def asked(self, subscriber: str, instance: str) -> Committer[WriteOnly]:
        """What operators ask of an instance of a subscriber, folded to its end. LogError."""
        subject = subjects.effect_asked(self._site, subscriber, instance)
        if subject not in self._asked:
            self._asked[subject] = self._committer(subject, WriteOnly())
        asked = self._asked[subject]
        await asked.catch_up()
        return asked

    async def in_clear(self, client: bytes) -> int:
        """How many events of a client's shard have something personal of it that was never sealed. LogError."""
        found = 0
        async with aclosing(read(self._log, [subjects.node(self._site, client)])) as batches:
            async for batch in batches:
                for event in (event for stored in batch.stored for event in stored.commit.events):
                    found += getattr(event, "client", None) == client and is_in_clear(event)
                if batch.caught_up:
                    break
        return found

    async def finish_forgetting(self) -> None:
        """Destroy the keys of which the log says that they are: a server may have been killed after it said so."""
        await self.keys.load()
        await learn_forgotten(self._log, self._site)

    async def node(self, client: bytes) -> Node | None:
        """What is known of a node, in clear; None: nothing. LogError."""
        shard = await self.shard(client)
        known = shard.fold.state.nodes.get(client)
        return None if known is None else await self.keys.opened(known, client)

    def _committer(self, subject: str, state: S) -> Committer[S]:
        made = Committer(self._log, subject, Fold(state), actor=self._actor, now=self.now, random=self._random)
        self._waiting.append(made.run())
        self._made.set()
        return made
