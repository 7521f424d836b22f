from __future__ import annotations

import pytest

from dnms.domain import forecast
from dnms.domain.document import from_toml
from dnms.domain.forecast import SubnetForecast, foresee
from dnms.domain.plan import PlanState
from dnms.domain.plan_difference import differences
from dnms.events.ip import format_address
from dnms.events.requests import AllocateAddress, ApplyPlan, HoldAddress
from tests.unit.domain.clerk import Clerk, client
from tests.unit.domain.conftest import PLAN

VOIP = 0x5A1E


def foreseen(clerk: Clerk, text: str, groups: dict[bytes, int] | None = None) -> SubnetForecast:
    """What a plan would do, and that nothing of the ledger is changed by asking."""
    ledger = clerk.ledger
    leases, plan = dict(ledger.leases), ledger.plan
    state = PlanState()
    for event in state.decide(from_toml(text), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=clerk.position + 1)
    found = foresee(ledger, "office", plan, state.for_subnet("office"), groups=groups or {}, at=0)
    assert (dict(ledger.leases), ledger.plan) == (leases, plan)
    return found


def test_a_plan_that_says_the_same_does_nothing(clerk: Clerk) -> None:
    clerk.allocate(1), clerk.allocate(1, 4)
    found = foreseen(clerk, PLAN)
    assert (found.leases, found.withdrawn, found.moved, found.without) == (2, 0, 0, 0)
    assert [(pool.pool, pool.held, pool.too_small, pool.runs_out) for pool in found.pools] == [
        ("office-v6", 1, False, False),
        ("office-v4", 1, False, False),
    ]


def test_what_is_foreseen_of_a_smaller_pool_is_what_happens(clerk: Clerk) -> None:
    for number in range(1, 9):
        clerk.allocate(number, 4)
    smaller = PLAN.replace('range = "192.0.2.0/28"', 'range = "192.0.2.8/29"')
    found = foreseen(clerk, smaller)
    kept = found.leases - found.withdrawn
    pool = found.pools[1]
    assert (pool.pool, pool.size, pool.held_before) == ("office-v4", 7, 8)  # .15 is the broadcast address
    assert pool.too_small
    assert pool.runs_out
    assert (pool.held, found.without) == (7, 1)
    clerk.adopt(smaller)
    assert len(clerk.ledger.leases) == kept


def test_what_is_kept_and_would_be_in_no_pool_is_counted(clerk: Clerk) -> None:
    for number in (1, 2, 3):
        clerk.ask(HoldAddress(client=client(number), iaid=1, family=4))
    lost = PLAN[: PLAN.index('[[pool]]\nname = "office-v4"')]
    assert (foreseen(clerk, PLAN).unplaced, foreseen(clerk, lost).unplaced) == (0, 3)
    clerk.adopt(lost)
    assert foreseen(clerk, lost.replace("dns =", "search = []\ndns =")).unplaced == 0  # they are so already


def test_a_pool_that_is_withdrawn_leaves_its_clients_without(clerk: Clerk) -> None:
    clerk.allocate(1), clerk.allocate(1, 4), clerk.allocate(2, 4)
    found = foreseen(clerk, PLAN[: PLAN.index('[[pool]]\nname = "office-v4"')])
    assert (found.withdrawn, found.without) == (2, 2)
    assert [pool.pool for pool in found.pools] == ["office-v6"]


def test_who_comes_into_another_group_moves_where_the_address_says_the_group(clerk: Clerk) -> None:
    for number in (1, 2, 3):
        clerk.allocate(number), clerk.allocate(number, 4)
    found = foreseen(clerk, PLAN, {client(1): VOIP, client(2): VOIP})
    assert (found.withdrawn, found.moved) == (0, 2)
    assert [pool.held for pool in found.pools] == [5, 3]  # with those that are drained; IPv4 has no range for it


def test_what_nobody_has_looked_at_is_counted(clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        clerk.allocate(number)
    assert foreseen(clerk, PLAN, {client(number): VOIP for number in (1, 2, 3)}).undecided == 0
    monkeypatch.setattr(forecast, "MAX_DECIDED", 2)
    assert foreseen(clerk, PLAN, {client(number): VOIP for number in (1, 2, 3)}).undecided == 1


def test_the_parts_in_which_plans_differ(document: ApplyPlan) -> None:
    assert differences(document, document) == ()
    other = PLAN.replace('range = "192.0.2.0/28"', 'range = "192.0.2.8/29"').replace(
        '[[group]]\nname = "voip"\nnumber = 0x5a1e', '[[group]]\nname = "sales"'
    )
    found = {(one.part, one.name): one for one in differences(document, from_toml(other))}
    assert found["pool", "office-v4"].fields == {"range": ["192.0.2.0/28", "192.0.2.8/29"]}
    assert found["group", "voip"].change == "withdrawn"
    assert (found["group", "sales"].change, found["group", "sales"].fields) == ("new", {})
    assert len(found) == 3
    told = (
        PLAN.replace("number = 0x5a1e", "number = 0x5a1e\nntp = []") + '[[subnet.group]]\nname = "voip"\nmtu = 1400\n'
    )
    found = {(one.part, one.name): one for one in differences(document, from_toml(told))}
    assert found["group", "voip"].fields == {"ntp": [None, []]}
    assert found["subnet", "office"].fields == {"group": [None, [{"name": "voip", "mtu": 1400}]]}
    everything = differences(PlanState().document(), document)
    assert [(one.part, one.change) for one in everything][:1] == [("site", "new")]


def test_who_has_an_address_kept_stays_with_it_in_another_group_and_is_named(clerk: Clerk) -> None:
    address = clerk.allocate(1).address
    for number in (1, 2):
        clerk.ask(HoldAddress(client=client(number), iaid=1, family=6))
        clerk.ask(HoldAddress(client=client(number), iaid=1, family=4))  # whose ranges say no group
    found = foreseen(clerk, PLAN, {client(1): VOIP, client(3): VOIP})
    assert (found.moved, found.kept, found.kept_first) == (0, 1, (format_address(address),))
    assert foreseen(clerk, PLAN, {client(3): VOIP}).kept == 0
    assert clerk.ask(AllocateAddress(client=client(1), iaid=1, family=6, group=VOIP)) == ()
