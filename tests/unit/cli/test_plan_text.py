from __future__ import annotations

import tomllib

from dnms.cli.plan_text import to_toml
from dnms.domain.document import from_toml, to_builtins

PLAN = """
[site]
name = "example"

[[realm]]
name = "default"

[[realm]]
name = "guests"

[[group]]
name = "voip"
number = 0x5a1e
nodes = ["phone-*", "\\u00e4\\"quoted\\""]
ntp = []

[[group]]
name = "guests"
number = 7

[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
gateways = ["fe80::1", "192.0.2.1"]
routes = [{ destination = "2001:db8:8::/48", gateway = "fe80::9", metric = 7 }]
dns = ["2001:db8::53"]
search = ["example.net"]
mtu = 1400

[[subnet.group]]
name = "voip"
gateways = []
dns = ["2001:db8::5a"]

[[subnet]]
name = "lounge"
realm = "guests"
prefixes = ["192.0.2.0/28"]

[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.4-192.0.2.9"
valid = 600
preferred = 300
"""


def test_a_plan_that_was_written_is_read_back() -> None:
    plan = from_toml(PLAN)
    assert from_toml(to_toml(to_builtins(plan))) == plan


def test_it_is_written_as_people_write_it() -> None:
    text = to_toml(to_builtins(from_toml(PLAN)))
    assert "number = 0x5a1e\n" in text
    assert 'prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]\n' in text
    assert "gateways" not in tomllib.loads(text)["subnet"][1]  # nothing is said of what there is not
    assert tomllib.loads(text)["group"][1] == {"name": "guests", "number": 7}
    assert tomllib.loads(text)["subnet"][0]["group"][0]["gateways"] == []  # a group has none of what others have


def test_rules_are_written_and_read() -> None:
    written = """
[site]
name = "home"
[[group]]
name = "sales"
number = 7
[[rule]]
name = "web"
direction = "egress"
from = "group:sales"
to = ["2001:db8::/32"]
"""
    plan = from_toml(written)
    assert from_toml(to_toml(to_builtins(plan))) == plan


def test_what_clients_of_dhcp_are_told_is_written_and_read() -> None:
    """That members of a group boot nothing too, where others boot something."""
    plan = from_toml(
        """
        [site]
        name = "a"
        [[group]]
        name = "desks"
        number = 7
        dhcp = { ipv6_only = 0, boot = [], option = [] }
        [[subnet]]
        name = "lan"
        prefixes = ["2001:db8:1:1::/64"]
        [subnet.advertise]
        preference = "high"
        nat64 = ["64:ff9b::/96"]
        routes = [{ destination = "2001:db8:f::/48" }]
        [subnet.dhcp]
        ipv6_only = 1800
        boot = [{ architectures = [7], file = "x64.efi" }, { file = "pxelinux.0" }]
        option = [{ family = 4, code = 43, text = "x" }, { family = 4, code = 116, hex = "" }]
        [[subnet.group]]
        name = "desks"
        dhcp = { option = [] }
        """
    )
    assert from_toml(to_toml(to_builtins(plan))) == plan
