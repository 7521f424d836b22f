"""A ledger that holds very many leases, in a log: as group commit would have filled it, in the largest commits.

Leases alone, of one client each: no nodes are in the log, as a DHCP server has none in its lease file.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import aclosing

from dnms.bus.append import append
from dnms.bus.port import Log
from dnms.bus.reading import read
from dnms.domain.aggregate import Fold, Question, settle
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events import codec, subjects
from dnms.events.commit import MAX_EVENTS, Stored
from dnms.events.recorded import Request
from dnms.events.requests import AdoptPlan, AllocateAddress
from dnms.kit.clock import SystemClock

ACTOR = "agent/bench"


async def fill(log: Log, site: str, subnet: str, secret: bytes, leases: int) -> Fold[Ledger]:
    """Have the ledger adopt the site's plan, and give so many IPv6 leases. What the log holds now, folded."""
    fold, chance = Fold(Ledger(secret)), random.Random(leases)
    subject = subjects.ledger(site, subnet)

    async def commit(requests: Sequence[Request]) -> None:
        made, _ = settle(
            fold.state,
            [Question(request) for request in requests],
            commit_id=chance.randbytes(16),
            at=SystemClock().now(),
            predecessor=fold.sequence,
            actor=ACTOR,
        )
        data = codec.encode(made)
        sequence = await append(log, subject, data, expected=fold.sequence)
        fold.take(Stored(subject=subject, sequence=sequence, stored_at=made.time, commit=made, size=len(data)))

    plan = Fold(PlanState())
    async with aclosing(read(log, (subjects.plan(site),))) as batches:
        async for batch in batches:
            for stored in batch.stored:
                plan.take(stored)
            if batch.caught_up:
                break
    await commit([AdoptPlan(plan=plan.state.for_subnet(subnet))])
    for first in range(0, leases, MAX_EVENTS):
        await commit(clients(chance, min(MAX_EVENTS, leases - first)))
    if len(fold.state.leases) != leases:
        raise RuntimeError(f"{len(fold.state.leases)} leases were given and not {leases}")
    return fold


def clients(chance: random.Random, count: int) -> list[AllocateAddress]:
    """Requests of clients that nobody has seen before."""
    return [AllocateAddress(client=chance.randbytes(16), iaid=1, family=6) for _ in range(count)]
