"""Security rules in a plan: how they are written, what is refused, and what becomes of them in the log."""

from __future__ import annotations

import re

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins
from dnms.domain.plan import PlanState
from dnms.domain.plan_difference import differences
from dnms.events.ip import parse_prefix
from dnms.events.recorded import Event
from dnms.events.requests import ApplyPlan
from dnms.events.rule import Peer, Ports, Rule, RuleDefined, RuleWithdrawn

BASE = """
[site]
name = "a"
[[group]]
name = "sales"
number = 7
[[group]]
name = "voip"
number = 8
[[subnet]]
name = "lan"
prefixes = ["2001:db8::/64"]
"""
RULE = """
[[rule]]
name = "voip-to-sales"
direction = "ingress"
from = "group:voip"
to = "group:sales"
protocol = "udp"
ports = ["5060", "10000-20000"]
"""
INGRESS = 'direction = "ingress"\nto = "group:sales"\n'
EGRESS = 'direction = "egress"\nfrom = ["group:sales"]\n'
VOIP = Rule(
    name="voip-to-sales",
    direction="ingress",
    group="sales",
    peers=(Peer(group="voip"),),
    protocol="udp",
    ports=(Ports(first=5060, last=5060), Ports(first=10_000, last=20_000)),
)


def decided(state: PlanState, text: str, position: int = 1) -> tuple[Event, ...]:
    events = state.decide(from_toml(text), at=0, entropy=bytes(32))
    for event in events:
        state.evolve(event, at=0, position=position)
    return events


def test_a_rule_is_one_table_and_one_event() -> None:
    state = PlanState()
    events = decided(state, BASE + RULE)
    assert [event for event in events if isinstance(event, RuleDefined)] == [RuleDefined(rule=VOIP)]
    assert state.rules == {"voip-to-sales": VOIP}
    assert decided(state, BASE + RULE) == ()
    assert decided(state, BASE, 2) == (RuleWithdrawn(name="voip-to-sales"),)
    assert state.rules == {}


def test_rules_are_in_a_plan_that_is_loaded_and_in_one_that_is_drafted() -> None:
    state, other = PlanState(), PlanState()
    decided(state, BASE + RULE)
    other.load(state.document(), 1)
    assert dict(other.rules) == dict(state.rules) == dict(state.draft().rules)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            EGRESS + 'to = ["2001:db8:f::/48", "192.0.2.0/24", "subnet:lan"]\nprotocol = "tcp"\nports = [443]\n',
            Rule(
                name="r",
                direction="egress",
                group="sales",
                peers=(
                    Peer(prefix=parse_prefix("2001:db8:f::/48")),
                    Peer(prefix=parse_prefix("192.0.2.0/24")),
                    Peer(subnet="lan"),
                ),
                protocol="tcp",
                ports=(Ports(first=443, last=443),),
            ),
        ),
        ('direction = "egress"\nfrom = "group:sales"\n', Rule(name="r", direction="egress", group="sales")),
        (
            'direction = "ingress"\nto = "group:sales"\nfrom = ["any"]\nprotocol = "icmp"\naction = "drop"\n',
            Rule(name="r", direction="ingress", group="sales", protocol="icmp", action="drop"),
        ),
    ],
)
def test_a_rule_is_read_and_written(text: str, rule: Rule) -> None:
    plan = from_toml(BASE + '[[rule]]\nname = "r"\n' + text)
    assert plan.rules == (rule,)
    assert from_builtins(to_builtins(plan)) == plan


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('direction = "in"\nto = "group:sales"', "$.rule[0].direction"),
        ('direction = "ingress"', 'expected one group, such as "group:sales" - at `$.rule[0].to`'),
        ('direction = "ingress"\nto = ["group:sales", "group:voip"]', "expected one group"),
        ('direction = "egress"\nto = "group:sales"', "at `$.rule[0].from`"),
        ('direction = "egress"\nfrom = "subnet:lan"', "at `$.rule[0].from`"),
        (INGRESS + 'from = ["any", "group:voip"]', '"any" stands alone - at `$.rule[0].from[0]`'),
        (INGRESS + "from = []", "a prefix - at `$.rule[0].from`"),
        (INGRESS + 'from = "2001:db8::1/64"', "has host bits set - at `$.rule[0].from[0]`"),
        (INGRESS + 'protocol = "udp"\nports = ["5060", "9-3"]', "at `$.rule[0].ports[1]`"),
        (INGRESS + 'protocol = "udp"\nports = [70000]', "and not 70000 - at `$.rule[0].ports[0]`"),
        (INGRESS + "port = 1", "known are name, direction, from, to, protocol, ports, action"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(said)):
        from_toml(BASE + '[[rule]]\nname = "r"\n' + text)


def test_what_does_not_fit_to_the_rest_of_the_plan_is_refused_with_its_place() -> None:
    text = """
[[rule]]
name = "a"
direction = "ingress"
from = ["group:phones", "subnet:lab", "group:voip"]
to = "group:staff"
[[rule]]
name = "b"
direction = "egress"
from = "group:sales"
ports = [53]
[[rule]]
name = "b"
direction = "egress"
from = "group:sales"
"""
    with pytest.raises(Refused) as refused:
        decided(PlanState(), BASE + text)
    assert str(refused.value).splitlines() == [
        "$.rule[2].name: 'b' stands here twice; names are unique",
        "$.rule[0].to: there is no group 'staff'; expected one of ['sales', 'voip']",
        "$.rule[0].from[0]: there is no group 'phones'; expected one of ['sales', 'voip']",
        "$.rule[0].from[1]: there is no subnet 'lab'; expected one of ['lan']",
        "$.rule[1].ports: any has no ports; expected protocol tcp or udp, or leave them out",
    ]


def test_what_no_document_could_say_is_refused_too() -> None:
    """A request can come from another program."""
    rule = Rule(
        name="r", direction="ingress", group="sales", peers=(Peer(),), protocol="tcp", ports=(Ports(first=2, last=1),)
    )
    plan = from_toml(BASE)
    request = ApplyPlan(site="a", level=1, realms=plan.realms, groups=plan.groups, subnets=plan.subnets, rules=(rule,))
    with pytest.raises(Refused) as refused:
        PlanState().decide(request, at=0, entropy=bytes(32))
    assert "$.rule[0].from[0]: expected a group, a subnet or a prefix" in str(refused.value)
    assert "$.rule[0].ports[0]: 2-1 ends before it begins" in str(refused.value)


def test_a_difference_is_told_in_the_words_of_the_document() -> None:
    old, new = from_toml(BASE + RULE), from_toml(BASE + RULE.replace('"5060", ', ""))
    [change] = differences(old, new)
    assert (change.part, change.name, change.change) == ("rule", "voip-to-sales", "changed")
    assert change.fields == {"ports": [["5060", "10000-20000"], ["10000-20000"]]}
