"""How another plan comes into a ledger, from operators or from above, and what follows from it for what was given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from dnms.domain import delegating, leaving, planned, rollouts, uplinks
from dnms.domain.aggregate import Refused
from dnms.domain.document import LEVEL
from dnms.domain.uplinks import Uplinks
from dnms.events.plan import AdoptedPlan, PlanAdopted
from dnms.events.recorded import Event
from dnms.events.requests import ReportUplink
from dnms.events.uplink import UplinkReceived

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

MAX_CONSEQUENCES: Final = 4_000
"""Leases that one adoption ends, and reservations that it changes; who adopts asks again until none is left."""


def adopt(ledger: Ledger, plan: AdoptedPlan, *, at: int) -> Iterator[Event]:
    """What has to happen for a ledger to decide by a plan of operators. Refused `level`."""
    if plan.position < ledger.plan.position:
        return  # it has a newer one already
    if plan.level > LEVEL:
        raise Refused("level", f"the site is at level {plan.level}; this release knows {LEVEL}: upgrade it")
    lost = tuple(uplinks.left(ledger.uplinks, plan))
    above = {} if lost else ledger.uplinks
    if plan.position > ledger.plan.position:
        yield from rollouts.begin(ledger, uplinks.resolved(uplinks.planned(plan), above))
    yield from lost
    yield from _settled(ledger, plan, above, at=at)


def report(ledger: Ledger, request: ReportUplink, *, at: int) -> Iterator[Event]:
    """What became of what is above, and what follows from that for what was given below. Refused `not-planned`."""
    plan = ledger.plan
    if plan.uplink is None or plan.uplink.name != request.uplink:
        raise Refused("not-planned", f"the plan has no uplink {request.uplink!r} for this subnet")
    happened = tuple(uplinks.happened(ledger.uplinks, request, at=at))
    after = ledger.uplinks
    for event in happened:
        after = uplinks.evolve(after, event)
    yield from happened
    lasts = all(isinstance(event, UplinkReceived) for event in happened)
    if not lasts or uplinks.resolved(uplinks.planned(plan), after) != plan:  # most reports only say that it lasts
        yield from _settled(ledger, plan, after, at=at)


def consequences(ledger: Ledger, plan: AdoptedPlan, above: Uplinks, *, at: int) -> Iterator[Event]:
    """What has to happen for leases, delegations and reservations to be as this plan says, with these uplinks."""
    yield from delegating.contradicted(ledger, plan, above, at=at)
    yield from leaving.contradicted(ledger, plan, above, at=at)
    yield from planned.changes(ledger, plan)


def _settled(ledger: Ledger, plan: AdoptedPlan, above: Uplinks, *, at: int) -> Iterator[Event]:
    wanted = uplinks.resolved(uplinks.planned(plan), above)
    if wanted != ledger.plan:
        yield PlanAdopted(plan=wanted)
    yield from islice(consequences(ledger, wanted, above, at=at), MAX_CONSEQUENCES)
