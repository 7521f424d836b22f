"""Which gateways nodes are told, as routers of the link come and go."""

from __future__ import annotations

import pytest

from dnms.domain import gateways
from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.domain.ledger_dump import dump, load
from dnms.events.gateway import GatewayAppeared, GatewayVanished
from dnms.events.ip import parse_address
from dnms.events.recorded import Event
from dnms.events.requests import ReportGateway
from tests.unit.domain.clerk import Clerk

ONE, TWO, OTHER, THIRD = (parse_address(text) for text in ("fe80::1", "fe80::2", "fe80::3", "192.0.2.1"))

PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
gateways = ["fe80::1", "fe80::2", "192.0.2.1"]
"""
LEARNING = PLAN.replace("prefixes", "learn_gateways = true\nprefixes")


class Router:
    """The ledger of a link, as its routers make it."""

    def __init__(self, plan: str) -> None:
        self.clerk = Clerk(Ledger(b"k" * 32))
        self.clerk.adopt(plan)

    def __call__(self, address: bytes, seen: str, preference: int = 0) -> tuple[Event, ...]:
        return self.clerk.ask(ReportGateway(address=address, seen=seen, preference=preference))  # type: ignore[arg-type]

    @property
    def told(self) -> list[bytes]:
        subnet = self.clerk.ledger.plan.subnet
        assert subnet is not None
        return list(gateways.told(self.clerk.ledger.gateways, subnet.gateways))


@pytest.fixture
def report() -> Router:
    return Router(PLAN)


@pytest.fixture
def learn() -> Router:
    return Router(LEARNING)


def test_a_silent_gateway_comes_last_until_it_answers(report: Router) -> None:
    assert report.told == [ONE, TWO, THIRD]
    assert report(ONE, "silent") == (GatewayVanished(address=ONE, why="silent"),)
    assert report.told == [TWO, THIRD, ONE]
    assert report(ONE, "silent") == ()
    assert report(ONE, "answers") == (GatewayAppeared(address=ONE),)
    assert report.told == [ONE, TWO, THIRD]
    assert report(ONE, "answers") == ()


def test_where_all_are_silent_all_are_told_as_the_plan_has_them(report: Router) -> None:
    for each in (TWO, ONE, THIRD):
        report(each, "silent")
    assert report.told == [ONE, TWO, THIRD]


@pytest.mark.parametrize("seen", ["advertised", "answers", "silent", "farewell", "expired"])
def test_who_is_no_gateway_does_not_become_one(report: Router, seen: str) -> None:
    assert report(OTHER, seen) == ()
    assert report.told == [ONE, TWO, THIRD]


def test_learned_ones_come_behind_by_their_preference_and_go_when_they_say_so(learn: Router) -> None:
    routers = [parse_address(f"fe80::1{number}") for number in range(4)]
    for router, preference in zip(routers, (-1, 0, 1, 0), strict=True):
        assert learn(router, "advertised", preference) == (
            GatewayAppeared(address=router, learned=True, preference=preference),
        )
        assert learn(router, "advertised", preference) == ()
    assert learn.told == [ONE, TWO, THIRD, routers[2], routers[1], routers[3], routers[0]]
    learn(routers[2], "silent")
    assert learn.told[-1] == routers[2]
    assert learn(routers[2], "advertised", -1) == ()  # it has to answer too
    learn(routers[0], "advertised", 1)
    assert learn.told == [ONE, TWO, THIRD, routers[0], routers[1], routers[3], routers[2]]
    assert learn(routers[1], "farewell") == (GatewayVanished(address=routers[1], why="farewell"),)
    assert learn(routers[3], "expired") == (GatewayVanished(address=routers[3], why="expired"),)
    assert learn.told == [ONE, TWO, THIRD, routers[0], routers[2]]


def test_what_the_plan_has_is_not_learned_and_does_not_go(learn: Router) -> None:
    assert learn(ONE, "advertised", 1) == ()
    assert learn(ONE, "farewell") == ()
    assert learn.told == [ONE, TWO, THIRD]


def test_nobody_can_have_more_learned_than_a_few(learn: Router) -> None:
    for number in range(gateways.MAX_LEARNED):
        learn(parse_address(f"fe80::1{number}"), "advertised")
    with pytest.raises(Refused, match="are known already") as refused:
        learn(OTHER, "advertised")
    assert refused.value.why == "too-many-gateways"
    learn(parse_address("fe80::10"), "expired")
    assert learn(OTHER, "advertised")


def test_another_plan_forgets_what_it_has_no_use_for(learn: Router) -> None:
    learn(OTHER, "advertised")
    learn(ONE, "silent")
    learn(TWO, "silent")
    learn.clerk.adopt(PLAN.replace('"fe80::2", ', ""))
    assert set(learn.clerk.ledger.gateways) == {ONE}
    assert learn.told == [THIRD, ONE]


def test_a_draft_keeps_its_own(report: Router) -> None:
    draft = report.clerk.ledger.draft()
    draft.evolve(GatewayVanished(address=ONE, why="silent"), at=0, position=0)
    assert report.told == [ONE, TWO, THIRD]
    assert ONE in draft.gateways


def test_a_snapshot_has_them(learn: Router) -> None:
    learn(OTHER, "advertised", 1)
    learn(ONE, "silent")
    rest, buffers = dump(learn.clerk.ledger)
    again = Ledger(b"k" * 32)
    load(again, rest, memoryview(b"".join(buffers)))
    assert list(again.gateways.items()) == list(learn.clerk.ledger.gateways.items())


def test_the_subnet_of_a_group_has_gateways_too() -> None:
    report = Router(PLAN + '[[subnet.group]]\nname = "sales"\ngateways = ["fe80::3"]\n[[group]]\nname = "sales"\n')
    assert report(OTHER, "silent") == (GatewayVanished(address=OTHER, why="silent"),)
    assert gateways.told(report.clerk.ledger.gateways, (OTHER, TWO)) == (TWO, OTHER)
