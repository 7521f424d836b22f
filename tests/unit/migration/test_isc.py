"""ISC dhcpd's configuration as a plan, and its files of leases."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.migration import isc, isc_leases
from dnms.migration.isc_text import unescaped
from dnms.migration.model import MigrationError
from tests.unit.migration.read import every_cut_is_read_or_refused, no_file, plan_of, told

FOUR = """# dhcpd.conf
option domain-name "example.org";
option domain-name-servers 192.0.2.53, 192.0.2.54;
default-lease-time 600; max-lease-time 7200;
authoritative; ddns-update-style none;
subnet 198.51.100.0 netmask 255.255.255.0 { }
shared-network "floor" {
  option domain-search "a.example", "b.example";
  filename "pxelinux.0"; option time-servers 192.0.2.7; option time-offset 3600;
  subnet 192.0.2.0 netmask 255.255.255.128 {
    range 192.0.2.10 192.0.2.20;
    option routers 192.0.2.1;
    pool { allow members of "x"; range 192.0.2.30 192.0.2.40; }
  }
  subnet 192.0.2.128 netmask 255.255.255.128 { default-lease-time 60; range dynamic-bootp 192.0.2.130; }
}
class "x" { match if substring (option vendor-class-identifier, 0, 1) = "y"; }
group {
  next-server 192.0.2.9;
  host printer { hardware ethernet 2:0:5e:10:0:1; fixed-address 192.0.2.50, name.example; option host-name "p"; }
  host known { option dhcp-client-identifier "\\001abc"; fixed-address 192.0.2.51; }
}
"""
SIX = """
default-lease-time 4000; preferred-lifetime 3000;
option dhcp6.name-servers 2001:db8:1::53;
subnet6 2001:db8:1::/64 {
  interface eth0;
  range6 2001:db8:1::100 2001:db8:1::1ff;
  range6 2001:db8:1::/80 temporary;
  prefix6 2001:db8:8:: 2001:db8:8:ff00:: /56;
}
host six { host-identifier option dhcp6.client-id 00:03:00:01:02:00:5e:10:00:01; fixed-address6 2001:db8:1::7; }
"""


def test_a_configuration_of_dhcpv4() -> None:
    made, left = plan_of(isc.configuration, FOUR)
    other, floor = made["subnet"]
    assert (other["name"], other["prefixes"]) == ("net-198-51-100-0", ["198.51.100.0/24"])
    assert floor == {
        "name": "floor",
        "prefixes": ["192.0.2.0/25", "192.0.2.128/25"],
        "gateways": ["192.0.2.1"],
        "dns": ["192.0.2.53", "192.0.2.54"],
        "search": ["example.org", "a.example", "b.example"],
        "dhcp": {
            "boot": [{"file": "pxelinux.0"}],
            "option": [{"family": 4, "code": 4, "addresses": ["192.0.2.7"]}],
        },
    }
    assert [(pool["range"], pool["valid"], pool["strategy"]) for pool in made["pool"]] == [
        ("192.0.2.10-192.0.2.20", 600, "sequential"),
        ("192.0.2.30-192.0.2.40", 600, "sequential"),
        ("192.0.2.130-192.0.2.130", 60, "sequential"),
        ("192.0.2.41-192.0.2.127", 600, "reserved"),
    ]
    assert made["reservation"] == [
        {"address": "192.0.2.50", "subnet": "floor", "hardware": "02:00:5e:10:00:01"},
        {"address": "192.0.2.51", "subnet": "floor", "duid": "00:02:00:00:7e:d9:01:61:62:63"},
    ]
    assert left == [
        (4, "max-lease-time 7200"),
        (9, "option time-offset"),
        (13, "allow members of"),
        (17, "class x"),
        (19, "next-server 192.0.2.9 of a group"),
        (20, "host printer"),
        (20, "option host-name of host printer"),
    ]


def test_a_configuration_of_dhcpv6() -> None:
    made, left = plan_of(isc.configuration, SIX)
    (subnet,) = made["subnet"]
    assert (subnet["name"], subnet["prefixes"], subnet["dns"]) == ("eth0", ["2001:db8:1::/64"], ["2001:db8:1::53"])
    assert [(pool["range"], pool["preferred"], pool["valid"]) for pool in made["pool"]] == [
        ("2001:db8:1::100-2001:db8:1::1ff", 3000, 4000),
        ("2001:db8:1::-2001:db8:1::ff", 3000, 4000),
    ]
    assert [(each["prefix"], each["length"]) for each in made["delegation"]] == [("2001:db8:8::/48", 56)]
    assert made["reservation"] == [
        {"address": "2001:db8:1::7", "subnet": "eth0", "duid": "00:03:00:01:02:00:5e:10:00:01"}
    ]
    assert left == [(7, "range6 2001:db8:1::/80 temporary")]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("subnet 192.0.2.0 netmask 255.255.255.0 {", "0.conf:1"),
        ("}\n", "0.conf:1"),
        ("\noption x", "0.conf:2"),
        ('\noption x "', "0.conf:2"),
        ('include "nowhere";', "0.conf:1"),
        ("subnet 192.0.2.1 netmask 255.255.255.0 { }", "0.conf:1"),
        ("subnet 192.0.2.0 netmask 255.255.255.0 { range x; }", "0.conf:1"),
        ("a {" * 100, "0.conf:1"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(MigrationError, match=where):
        plan_of(isc.configuration, text)


@pytest.mark.parametrize("text", [FOUR, SIX])
def test_every_cut(text: str) -> None:
    every_cut_is_read_or_refused(isc.configuration, text)


WORDS = [
    "{",
    "}",
    ";",
    ",",
    "subnet",
    "host",
    "range",
    "option",
    "pool",
    "hardware",
    "ethernet",
    "fixed-address",
    "192.0.2.0",
    "netmask",
    "255.255.255.0",
    '"',
    "\\",
]


@given(st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join))
def test_hostile_texts(text: str) -> None:
    with suppress(MigrationError):
        isc.configuration([("x", text)], no_file)


LEASES = """
authoring-byte-order little-endian;
lease 192.0.2.10 { starts 4 1970/01/01 00:00:01; ends 4 1970/01/01 00:10:00; binding state active;
  hardware ethernet 02:00:00:00:00:01; uid "\\001\\002\\000\\000\\000\\000\\001"; client-hostname "old"; }
lease 192.0.2.11 { ends never; binding state active; hardware ethernet 02:00:00:00:00:02;
  uid ff:00:00:00:02:00:03:00:01:02:00:00:00:00:02; }
lease 192.0.2.12 { ends epoch 5000; # a comment
  binding state free; hardware ethernet 02:00:00:00:00:03; }
lease 192.0.2.10 { ends 4 1970/01/01 01:00:00; binding state active;
  hardware ethernet 02:00:00:00:00:01; uid "\\001\\002\\000\\000\\000\\000\\001"; client-hostname "pc-1"; }
lease 192.0.2.13 { ends epoch 5000; binding state active; hardware ethernet 02:00:00:00:00:04; }
lease 192.0.2.13 { ends epoch 5000; binding state released; hardware ethernet 02:00:00:00:00:04; }
lease 192.0.2.14 { ends epoch 5000; binding state active; }
ia-na "\\007\\000\\000\\000\\000\\003\\000\\001\\002\\000\\000\\000\\000\\001" { cltt 4 1970/01/01 00:00:01;
  iaaddr 2001:db8::1 { binding state active; preferred-life 3000; max-life 4000; ends epoch 5000; }
  iaaddr 2001:db8::2 { binding state expired; ends epoch 5000; } }
ia-pd "\\010\\000\\000\\000\\000\\003\\000\\001\\002\\000\\000\\000\\000\\001" {
  iaprefix 2001:db8:8:100::/56 { binding state active; ends epoch 5000; } }
ia-ta "\\010\\000\\000\\000\\000\\003\\000\\001\\002\\000\\000\\000\\000\\001" {
  iaaddr 2001:db8::3 { binding state active; ends epoch 5000; } }
"""


def test_the_last_entry_of_an_address_wins() -> None:
    found, left = isc_leases.leases([("a", LEASES)], now=1000)
    assert sorted(map(told, found)) == [
        ("192.0.2.10", "00:03:00:01:02:00:00:00:00:01", 1, "02:00:00:00:00:01", "pc-1"),
        ("192.0.2.11", "00:03:00:01:02:00:00:00:00:02", 2, "02:00:00:00:00:02", ""),
        ("2001:db8:8:100::/56", "00:03:00:01:02:00:00:00:00:01", 8, "", ""),
        ("2001:db8::1", "00:03:00:01:02:00:00:00:00:01", 7, "", ""),
    ]
    assert {each.valid_until for each in found} == {3600, 5000, 1000 + 365 * 86_400}
    assert [(each.place.line, each.what) for each in left] == [
        (5, "a lease"),
        (13, "lease of 192.0.2.14"),
        (20, "lease of 2001:db8::3"),
    ]


def test_who_wrote_the_numbers_of_associations_says_in_which_order() -> None:
    found, _ = isc_leases.leases([("a", LEASES.replace("little", "big"))], now=1000)
    assert {each.iaid for each in found} == {1, 2, 7 << 24, 8 << 24}


def test_escapes() -> None:
    assert unescaped(r"\000\377\"\\a\n\x1f") == b'\0\xff"\\a\n\x1f'


def test_every_cut_of_leases() -> None:
    for end in range(len(LEASES)):
        with suppress(MigrationError):
            isc_leases.leases([("a", LEASES[:end])], now=1000)


PARTS = """lease ia-na { } ; ends never epoch x uid "\\001" hardware ethernet iaaddr 2001:db8::1 192.0.2.1 binding state
active"""


@given(st.lists(st.sampled_from(PARTS.split()), max_size=20).map(" ".join))
def test_hostile_leases(text: str) -> None:
    with suppress(MigrationError):
        isc_leases.leases([("a", text)], now=1000)
