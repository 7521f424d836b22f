from __future__ import annotations

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.plan import PlanState
from dnms.events.commit import MAX_EVENTS
from dnms.events.plan import Realm, RealmWithdrawn
from dnms.events.requests import ApplyPlan


def plan(realms: int) -> ApplyPlan:
    return ApplyPlan(site="s", level=1, realms=tuple(Realm(name=f"r{number}") for number in range(realms)))


def test_what_no_commit_can_hold_is_refused_in_words() -> None:
    with pytest.raises(Refused, match=r"^\$: 5001 changes at once; apply at most 5000 at a time$") as refusal:
        PlanState().decide(plan(MAX_EVENTS), at=0, entropy=bytes(32))
    assert refusal.value.why == "invalid-plan"
    assert len(PlanState().decide(plan(MAX_EVENTS - 1), at=0, entropy=bytes(32))) == MAX_EVENTS


def test_a_large_plan_is_withdrawn_quickly() -> None:
    state = PlanState()
    for event in state.decide(plan(MAX_EVENTS - 1), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    events = state.decide(plan(1), at=0, entropy=bytes(32))  # in less time than comparing all with all takes
    assert all(isinstance(event, RealmWithdrawn) for event in events)
    assert len(events) == MAX_EVENTS - 2
