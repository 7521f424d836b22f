"""What a plan may say of uplinks and delegations, and what it says is wrong with it."""

from __future__ import annotations

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins
from dnms.domain.plan import PlanState
from dnms.events.requests import ApplyPlan

PLAN = """
[site]
name = "s"
[[uplink]]
name = "wan"
length = 56
[[subnet]]
name = "home"
uplink = "wan"
routers = ["border"]
advertise = { lifetime = 600 }
[[subnet]]
name = "guests"
prefixes = ["2001:db8:9::/64"]
uplink = "wan"
nth = 1
[[pool]]
name = "hosts"
subnet = "home"
range = "::/64"
[[delegation]]
name = "to-laptops"
subnet = "home"
length = 60
keep = 2
[[delegation]]
name = "own"
subnet = "guests"
prefix = "2001:db8:a::/48"
length = 56
"""


def applied(text: str) -> PlanState:
    state = PlanState()
    for event in state.decide(from_toml(text), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    return state


def test_it_is_written_as_it_was_read() -> None:
    plan = from_toml(PLAN)
    assert from_builtins(to_builtins(plan)) == plan


def test_a_plan_that_has_it_already_changes_nothing_and_an_empty_one_withdraws_it() -> None:
    state = applied(PLAN)
    assert state.decide(state.document(), at=0, entropy=bytes(32)) == ()
    gone = state.decide(ApplyPlan(site="s", level=1, realms=state.document().realms), at=0, entropy=bytes(32))
    for event in gone:
        state.evolve(event, at=0, position=2)
    assert not (state.uplinks or state.delegations or state.subnets)


def test_a_subnet_adopts_its_uplink_and_its_delegations() -> None:
    adopted = applied(PLAN).for_subnet("home")
    assert adopted.uplink is not None and adopted.uplink.length == 56
    assert [each.name for each in adopted.delegations] == ["to-laptops"]
    assert adopted.subnet is not None and adopted.subnet.downlink.routers == ("border",)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('uplink = "wan"\nrouters', 'uplink = "lan"\nrouters', "$.subnet[0].uplink: there is no uplink 'lan'"),
        ("nth = 1", "nth = 0", "$.subnet[1].nth: subnet 'home' has /64 number 0 of uplink 'wan'; take another"),
        ("length = 56\n", 'length = 56\nprotocol = "dhcpv6"\n', "$.subnet[1].uplink: subnet 'home' has uplink 'wan'"),
        ("keep = 2", "keep = 1", "$.delegation[0].keep: the /64 of subnet 'guests' would be delegated"),
        ("length = 60", "length = 60\nshortest = 62", "$.delegation[0].length: expected shortest <= length"),
        ("length = 60", 'length = 60\nstrategy = "random"', "$.delegation[0].strategy: there is no strategy"),
        ("length = 60", "length = 60\nvalid = 60", "$.delegation[0].preferred: 2700 s is longer"),
        ('name = "to-laptops"\nsubnet = "home"', 'name = "to-laptops"\nsubnet = "x"', "there is no subnet 'x'"),
        ('prefix = "2001:db8:a::/48"\n', "", "$.delegation[0]: delegation 'own' is cut from uplink 'wan' already"),
        ("2001:db8:a::/48", "192.0.2.0/24", "192.0.2.0/24 is of IPv4; prefixes are delegated of IPv6"),
        ("2001:db8:a::/48", "2001:db8:a::/60", "a block of /56 does not fit into 2001:db8:a::/60"),
        ('range = "::/64"', 'range = "2001:db8::/64"', "$.pool[0].range: 2001:db8::-2001:db8::ffff"),
        (
            'uplink = "wan"\nrouters',
            'prefixes = ["2001:db8:a:1::/64"]\nrouters',
            "$.delegation[1].prefix: 2001:db8:a::/48 overlaps 2001:db8:a:1::/64 of subnet 'home'",
        ),
        ('uplink = "wan"\nrouters', "routers", "$.subnet[0].prefixes: expected at least one prefix, or an uplink"),
        ('uplink = "wan"\nrouters', "routers", "$.pool[0].range: a range in ::/64 is of a /64 from an uplink"),
        ('uplink = "wan"\nrouters', "routers", "$.delegation[0].prefix: subnet 'home' has no uplink to cut from"),
    ],
)
def test_what_is_wrong_says_where_and_what_would_be_right(before: str, after: str, said: str) -> None:
    assert before in PLAN
    with pytest.raises(Refused) as refusal:
        applied(PLAN.replace(before, after, 1))
    assert refusal.value.why == "invalid-plan" and said in refusal.value.text


ADVERTISED = PLAN.replace(
    "advertise = { lifetime = 600 }",
    'advertise = { preference = "low", delegated = true, nat64 = ["64:ff9b::/96"], '
    'routes = [{ destination = "2001:db8:f::/48" }, { destination = "::/0", preference = "high", lifetime = 60 }] }',
)


def test_what_is_advertised_beside_prefixes_is_written_as_it_was_read() -> None:
    plan = from_toml(ADVERTISED)
    assert from_builtins(to_builtins(plan)) == plan
    advertise = plan.subnets[0].downlink.advertise
    assert advertise is not None
    assert (advertise.preference, advertise.delegated, [each.preference for each in advertise.routes]) == (
        -1,
        True,
        [0, 1],
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"low"', '"best"', "expected one of high, low, medium - at `$.subnet[0].advertise.preference`"),
        ('"high"', '"best"', "expected one of high, low, medium - at `$.subnet[0].advertise.routes[1].preference`"),
        ("64:ff9b::/96", "64:ff9b::/97", "expected an IPv6 prefix of /32, /40, /48, /56, /64, /96 (RFC 8781)"),
        ("64:ff9b::/96", "192.0.2.0/24", "$.subnet[0].advertise.nat64[0]: 192.0.2.0/24: expected an IPv6 prefix of"),
        ("2001:db8:f::/48", "10.0.0.0/8", "routes[0].destination: 10.0.0.0/8: expected an IPv6 prefix that can be"),
        ("2001:db8:f::/48", "fe80::/64", "expected an IPv6 prefix that can be routed"),
        ("2001:db8:f::/48", "ff00::/8", "expected an IPv6 prefix that can be routed"),
        ("2001:db8:f::/48", "::/0", "routes[1].destination: ::/0 stands here twice"),
        ("lifetime = 60", "lifetime = 0", "$.subnet[0].advertise.routes[1].lifetime"),
        ("lifetime = 60", "metric = 60", "known are destination, preference, lifetime"),
    ],
)
def test_what_cannot_be_advertised_says_where(before: str, after: str, said: str) -> None:
    with pytest.raises((DocumentError, Refused)) as error:
        applied(ADVERTISED.replace(before, after))
    assert said in str(error.value)
