"""Decisions of the pure core: no bus, no event loop, one core. In commits, and each as a commit of its own."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

from bench.filled import ACTOR, clients
from dnms.domain.aggregate import Fold, Question, settle
from dnms.domain.leases import Lease
from dnms.domain.ledger import Ledger
from dnms.domain.renewing import HORIZON
from dnms.events.commit import Commit, Stored
from dnms.events.plan import PlanAdopted
from dnms.events.recorded import Request
from dnms.events.requests import AllocateAddress, RenewAddress
from dnms.kit.clock import MICROSECONDS

TOGETHER = 250  # in one commit
ROUNDS = 9
ALONE = 100  # commits of one, in a round


class Rate(msgspec.Struct, frozen=True):
    """How fast one kind of request is decided."""

    request: str
    leases: int  # that the ledger holds
    per_second: float  # in commits of TOGETHER
    cpu_us: float  # each
    alone_per_second: float  # each as a commit of its own
    alone_cpu_us: float


def measure(full: Fold[Ledger]) -> list[Rate]:
    """Allocations and renewals, with a full ledger and with one that has hardly any leases, by turns.

    The full one is left as it was; the other holds as many leases as are renewed in one commit.
    """
    few, chance = Fold(Ledger(full.state.secret)), random.Random(1)
    few.state.evolve(PlanAdopted(plan=full.state.plan), at=full.time, position=1)
    few.sequence, few.time = 1, full.time
    made = _settled(few, clients(chance, TOGETHER), few.time)
    few.take(Stored(subject="", sequence=2, stored_at=made.time, commit=made, size=0))
    at = full.time
    due = at + HORIZON[6] * max(pool.valid for pool in full.state.plan.pools) * MICROSECONDS
    of_full, of_few = _some(full, chance), _some(few, chance)
    return [
        *_by_turns("allocate", {full: lambda: clients(chance, TOGETHER), few: lambda: clients(chance, TOGETHER)}, at),
        *_by_turns("renew, no event", {full: lambda: _renewals(of_full), few: lambda: _renewals(of_few)}, at),
        *_by_turns("renew, an event", {full: lambda: _renewals(of_full), few: lambda: _renewals(of_few)}, due),
    ]


def _by_turns(request: str, sides: dict[Fold[Ledger], Callable[[], Sequence[Request]]], at: int) -> list[Rate]:
    together: dict[Fold[Ledger], list[float]] = {fold: [] for fold in sides}
    alone: dict[Fold[Ledger], list[float]] = {fold: [] for fold in sides}
    for _ in range(ROUNDS):
        for fold, requests in sides.items():
            batch = requests()
            together[fold].append(_seconds(fold, [batch], at) / len(batch))
            singles = [[each] for each in requests()[:ALONE]]
            alone[fold].append(_seconds(fold, singles, at) / len(singles))
    rates = []
    for fold in sides:
        each, single = statistics.median(together[fold]), statistics.median(alone[fold])
        rates.append(
            Rate(
                request=request,
                leases=len(fold.state.leases),
                per_second=1 / each,
                cpu_us=each * 1_000_000,
                alone_per_second=1 / single,
                alone_cpu_us=single * 1_000_000,
            )
        )
    return rates


def _seconds(fold: Fold[Ledger], commits: Sequence[Sequence[Request]], at: int) -> float:
    """Of CPU, for all of them: with one core it is what decides how many there are a second."""
    begin = time.process_time()
    for requests in commits:
        _settled(fold, requests, at)
    return time.process_time() - begin


def _settled(fold: Fold[Ledger], requests: Sequence[Request], at: int) -> Commit:
    made, answers = settle(
        fold.state,
        [Question(request) for request in requests],
        commit_id=bytes(16),
        at=at,
        predecessor=fold.sequence,
        actor=ACTOR,
    )
    if any(isinstance(answer, Exception) for answer in answers):
        raise RuntimeError("a request was refused")
    if isinstance(requests[0], AllocateAddress) and len(made.events) < len(requests):
        raise RuntimeError("a new client was given nothing")
    return made


def _some(fold: Fold[Ledger], chance: random.Random) -> list[Lease]:
    return chance.sample(list(fold.state.leases.values()), TOGETHER)


def _renewals(leases: Sequence[Lease]) -> list[RenewAddress]:
    return [RenewAddress(client=lease.client, iaid=lease.iaid, address=lease.address) for lease in leases]
