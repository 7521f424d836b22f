from __future__ import annotations

import pytest

from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events.plan import PlanAdopted
from dnms.events.requests import ApplyPlan
from tests.unit.domain.clerk import Clerk
from tests.unit.domain.delegations import CUT

PLAN = """
[site]
name = "example"

[[group]]
name = "voip"
number = 0x5a1e

[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
gateways = ["fe80::1", "192.0.2.1"]
dns = ["2001:db8::53"]

[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"

[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/28"
valid = 600
preferred = 300
"""


@pytest.fixture
def document() -> ApplyPlan:
    return from_toml(PLAN)


@pytest.fixture
def plan(document: ApplyPlan) -> PlanState:
    state = PlanState()
    for event in state.decide(document, at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    return state


@pytest.fixture
def ledger(plan: PlanState) -> Ledger:
    ledger = Ledger(b"s" * 32)
    ledger.evolve(PlanAdopted(plan=plan.for_subnet("office")), at=0, position=2)
    return ledger


@pytest.fixture
def clerk(ledger: Ledger) -> Clerk:
    return Clerk(ledger)


@pytest.fixture
def cut() -> Clerk:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(CUT)
    return clerk
