"""What rules of the plan become, where no packet shows it."""

from __future__ import annotations

import pytest

from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events.commit import Commit, Stored
from dnms.subscribers.firewall.items import AddressSet, Chain, Item, Rule, rule_of, set_of
from dnms.subscribers.firewall.membership import Membership

PLAN = """
[site]
name = "home"
[[group]]
name = "sales"
[[group]]
name = "voip"
[[subnet]]
name = "lan"
prefixes = ["2001:db8:1:1::/64"]
[[pool]]
name = "lan"
subnet = "lan"
range = "2001:db8:1:1::/64"
"""


def wanted(rule: str, more: str = "") -> frozenset[Item]:
    """What a plan with this rule means."""
    text = f'{PLAN}{more}[[rule]]\nname = "r"\n{rule}\n'
    events = PlanState().decide(from_toml(text), at=0, entropy=bytes(32))
    commit = Commit(id=bytes(16), time=0, predecessor=0, actor="a", events=events)
    folding = Membership("home")
    folding.take(Stored(subject="dnms.home.plan", sequence=1, stored_at=0, commit=commit, size=1))
    found = folding.wanted()
    assert found is not None
    return found


def texts(items: frozenset[Item], about: str) -> list[str]:
    return sorted(item.text for item in items if isinstance(item, Rule) and item.about == about)


IN = 'direction = "ingress"\nto = "group:sales"\n'
FIELD = "& ffff:ffff:ffff:ffff:ffff::"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (IN, "counter accept"),
        (IN + 'action = "drop"\nprotocol = "icmp"', "meta l4proto { icmp, ipv6-icmp } counter drop"),
        (IN + 'protocol = "tcp"', "meta l4proto tcp counter accept"),
        (
            IN + 'protocol = "udp"\nports = ["9-12", 5, "10-20", 21, 4]',  # nft refuses what overlaps
            "udp dport { 4-5, 9-21 } counter accept",
        ),
        (IN + 'from = "2001:db8::/32"', "ip6 saddr 2001:db8::/32 counter accept"),
        (IN + 'from = "192.0.2.1/32"', "ip saddr 192.0.2.1 counter accept"),
        (IN + 'from = "::/0"', "meta protocol ip6 counter accept"),
        (IN + 'from = "0.0.0.0/0"', "meta protocol ip counter accept"),
        (IN + 'from = "group:voip"', f"ip6 saddr {FIELD} == @voip-6/80 counter accept"),
        (
            'direction = "egress"\nfrom = "group:sales"\nto = "group:voip"',
            f"ip6 daddr {FIELD} == @voip-6/80 counter goto dnms_ingress",
        ),
    ],
)
def test_a_rule_is_one_line_of_nft(rule: str, text: str) -> None:
    assert texts(wanted(rule), "r") == [text]


OLD = """
[[subnet]]
name = "old"
prefixes = ["192.0.2.0/24"]
[[pool]]
name = "old"
subnet = "old"
range = "192.0.2.8/29"
"""
PART = """
[[subnet]]
name = "part"
prefixes = ["2001:db8:1:2::/64"]
[[pool]]
name = "part"
subnet = "part"
range = "2001:db8:1:2::/80"
"""
BLOCKS = """
[[delegation]]
name = "b"
subnet = "lan"
prefix = "2001:db8:2::/56"
length = 60
"""


@pytest.mark.parametrize(
    ("more", "ways"),
    [
        (OLD, ["ip saddr @voip-4", f"ip6 saddr {FIELD} == @voip-6/80"]),
        (OLD + PART, ["ip saddr @voip-4", "ip6 saddr @voip-6"]),
        (BLOCKS, [f"ip6 saddr {FIELD} == @voip-6/80"]),  # there may be prefixes: it does not move when they come
    ],
)
def test_several_ways_to_the_other_end_lead_to_one_rule(more: str, ways: list[str]) -> None:
    items = wanted(IN + 'from = "group:voip"', more)
    assert texts(items, "r") == ["counter accept"]
    assert texts(items, "group:voip") == [f"{way} jump dnms_rule_r" for way in ways]


def test_a_plan_without_rules_has_no_chains() -> None:
    state = PlanState()
    commit = Commit(
        id=bytes(16), time=0, predecessor=0, actor="a", events=state.decide(from_toml(PLAN), at=0, entropy=bytes(32))
    )
    folding = Membership("home")
    folding.take(Stored(subject="dnms.home.plan", sequence=1, stored_at=0, commit=commit, size=1))
    assert not [item for item in folding.wanted() or () if isinstance(item, Chain | Rule)]


@pytest.mark.parametrize(
    ("name", "family", "comment", "hardware", "ours"),
    [
        ("sales-6", 6, "dnms", False, True),
        ("sales-6", 6, "", False, False),
        ("sales-6", 4, "dnms", False, False),
        ("sales-6", 6, "dnms", True, False),
        ("sales-6/60", 6, "dnms", False, True),
        ("sales-4/33", 4, "dnms", False, False),
        ("_7-guests-4", 4, "dnms", False, True),
        ("_guests-4", 4, "dnms", False, False),
        ("7-guests-4", 4, "dnms", False, False),
        ("mac_lan-6", 6, "dnms", True, True),
        ("held_lan-6", 6, "dnms", False, True),
        ("blocked", 6, "dnms", False, False),
    ],
)
def test_which_sets_are_ours(name: str, family: int, comment: str, hardware: bool, ours: bool) -> None:
    found = set_of(name, family, comment, hardware=hardware, table="inet")
    assert (found is not None) == ours
    assert found is None or (isinstance(found, AddressSet) and found.name == name)


def test_which_rules_are_ours() -> None:
    [rule] = [item for item in wanted(IN) if isinstance(item, Rule) and item.about == "r"]
    assert rule_of(rule.chain, rule.comment, "inet") == rule
    assert rule_of("forward", rule.comment, "inet") is None
    assert rule_of(rule.chain, "r", "inet") is None
