from __future__ import annotations

import re

import pytest

from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins

SITE = '[site]\nname = "a"\n'
GROUP = SITE + '[[group]]\nname = "g"\n'
SUBNET = SITE + '[[subnet]]\nname = "lan"\nprefixes = ["2001:db8::/64"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'Expected a [site] table with the name of the site, such as name = "home" - at `$`'),
        (
            "colour = 1",
            "unknown field `colour`; known are site, realm, group, subnet, pool, reservation, uplink, delegation, rule"
            " - at `$`",
        ),
        (SITE + "colour = 1", "unknown field `colour`; known are name, level, strict - at `$.site`"),
        (
            SUBNET + "[[subnet.routes]]\nvia = 1",
            "unknown field `via`; known are destination, gateway, metric - at `$.subnet[0].routes[0]`",
        ),
        (
            GROUP + "gateways = []",
            "unknown field `gateways`; known are name, number, nodes, ranges, dns, search, ntp, mtu, policy, dhcp"
            " - at `$.group[0]`",
        ),
        (
            SUBNET + '[[subnet.group]]\nname = "g"\nnumber = 7',
            "known are name, gateways, routes, dns, search, ntp, mtu, policy, dhcp - at `$.subnet[0].group[0]`",
        ),
        (
            SUBNET + '[[subnet.group]]\nname = "g"\n[[subnet.group]]\nname = "g"',
            "'g' stands here twice; names are unique - at `$.subnet[0].group[1].name`",
        ),
        (SUBNET + '[[subnet.group]]\nname = "g"\nmtu = 70', "1280 - at `$.subnet[0].group[0].mtu`"),
        (
            '[site]\nname = "LAN x"',
            "Expected a name: at most 63 lower-case letters, digits and hyphens, with no hyphen",
        ),
        (SUBNET + 'search = ["a b"]', "Expected a domain such as home.example - at `$.subnet[0].search[0]`"),
        (
            SITE + '[[uplink]]\nname = "isp"\nprotocol = "dhcp6"',
            "'dhcp6'; expected one of dhcpv6, dnms - at `$.uplink[0].protocol`",
        ),
        (
            SITE + '[[group]]\nname = "g"\npolicy = { mode = "watch" }',
            "; expected one of manage, manage-ra-gateway, observe",
        ),
        ("x = " + "[" * 100_000, "Nested too deeply for a plan - at `$`"),
    ],
)
def test_what_is_wrong_says_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(DocumentError) as error:
        from_toml(text)
    assert said in str(error.value)


def test_what_is_nested_too_deeply_is_no_plan() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DocumentError):
        from_builtins({"site": {"name": "a"}, "pool": deep})


def test_what_a_group_has_none_of_is_another_thing_than_what_nothing_is_said_of() -> None:
    of_subnet = '[[subnet]]\nname = "lan"\nprefixes = ["2001:db8::/64"]\n'
    of_group = '[[subnet.group]]\nname = "g"\ngateways = []\n'
    plan = from_toml(GROUP + "number = 7\ndns = []\n" + of_subnet + of_group)
    assert (plan.groups[0].stateless.dns, plan.groups[0].stateless.ntp) == ((), None)
    told = plan.subnets[0].groups["g"]
    assert (told.gateways, told.routes) == ((), None)
    assert from_builtins(to_builtins(plan)) == plan


POLICIES = """
[site]
name = "home"
[[group]]
name = "sales"
number = 7
policy = { drift = "report", confirm = 60 }
[[subnet]]
name = "lab"
prefixes = ["2001:db8::/64"]
policy = { mode = "manage-ra-gateway", keep = ["fd00::/8"], probe = "2001:db8:ffff::1", confirm = 0 }
[[subnet.group]]
name = "sales"
policy = { mode = "observe" }
"""


def test_a_policy_is_read_and_written() -> None:
    plan = from_toml(POLICIES)
    assert plan.subnets[0].policy.mode == "manage-ra-gateway"
    assert plan.subnets[0].policy.confirm == 0
    assert plan.subnets[0].policy.drift is None
    assert from_builtins(to_builtins(plan)) == plan


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ('mode = "mange"', "$.subnet[0].policy.mode"),
        ("confirm = 3601", "$.subnet[0].policy.confirm"),
        ('probes = "::1"', "known are mode, keep, drain, confirm, probe, drift, optimistic, rivals"),
        ('rivals = "end"', "$.subnet[0].policy.rivals"),
        ('keep = ["fd00::1/8/8"]', "a prefix such as 2001:db8::/64"),
    ],
)
def test_a_mistake_in_a_policy_is_named(policy: str, says: str) -> None:
    text = f'[site]\nname = "home"\n[[subnet]]\nname = "lab"\nprefixes = ["2001:db8::/64"]\npolicy = {{ {policy} }}\n'
    with pytest.raises(DocumentError, match=re.escape(says)):
        from_toml(text)
