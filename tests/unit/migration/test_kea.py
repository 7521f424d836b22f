"""Kea's configuration as a plan, and its files of leases."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.migration import kea, kea_leases
from dnms.migration.model import MigrationError
from tests.unit.migration.read import every_cut_is_read_or_refused, no_file, plan_of, told

FOUR = """// Kea
{ "Dhcp4": { # of two kinds
  "interfaces-config": {"interfaces": ["eth0/192.0.2.1"]},
  "valid-lifetime": 4000, "renew-timer": 1000, "rebind-timer": 1600,
  "option-data": [
    {"name": "domain-name-servers", "data": "192.0.2.53, 192.0.2.54"},
    {"code": 15, "data": "example.org"},
    {"name": "tftp-server-name", "data": "x"} ],
  "client-classes": [ {"name": "voip", "test": "member('x')"} ], /* a third
     one */
  "subnet4": [
    { "id": 1, "subnet": "192.0.2.0/24",
      "pools": [ {"pool": "192.0.2.10 - 192.0.2.200"}, ],
      "option-data": [ {"name": "routers", "data": "192.0.2.1"} ],
      "reservations": [
        {"hw-address": "1a:1b:1c:1d:1e:1f", "ip-address": "192.0.2.201", "hostname": "printer"},
        {"client-id": "01:11:22:33:44:55:66", "ip-address": "192.0.2.20", "option-data": [{"name": "routers"}]},
        {"circuit-id": "'x'", "ip-address": "192.0.2.21"} ],
      "next-server": "192.0.2.9" },
    { "id": 2, "subnet": "198.51.100.0/24", "pools": [ {"pool": "198.51.100.0/25"} ] } ]
}}
"""
SIX = """{ "Dhcp6": {
  "interfaces-config": {"interfaces": ["eth0"]},
  "preferred-lifetime": 3000, "valid-lifetime": 4000, "renew-timer": 1000,
  "option-data": [ {"name": "dns-servers", "data": "2001:db8:1::53"} ],
  "subnet6": [ { "id": 1, "subnet": "2001:db8:1::/64", "interface": "eth0",
    "pools": [ {"pool": "2001:db8:1::100-2001:db8:1::1ff"} ],
    "pd-pools": [ {"prefix": "2001:db8:8::", "prefix-len": 48, "delegated-len": 56} ],
    "reservations": [
      {"duid": "00:03:00:01:1a:1b:1c:1d:1e:1f", "ip-addresses": ["2001:db8:1::cafe"], "prefixes": ["2001:db8:9::/56"]}
    ] } ] }}
"""


def test_both_families_of_a_link_are_one_subnet() -> None:
    made, left = plan_of(kea.configuration, FOUR, SIX)
    near, far = made["subnet"]
    assert near == {
        "name": "eth0",
        "prefixes": ["192.0.2.0/24", "2001:db8:1::/64"],
        "gateways": ["192.0.2.1"],
        "dns": ["192.0.2.53", "192.0.2.54", "2001:db8:1::53"],
        "search": ["example.org"],
        "dhcp": {"boot": [{"server": "192.0.2.9"}]},
    }
    assert (far["name"], far["prefixes"]) == ("subnet-2", ["198.51.100.0/24"])  # for a relay
    assert {pool["name"]: (pool["range"], pool["preferred"], pool["valid"]) for pool in made["pool"]} == {
        "eth0-v4": ("192.0.2.10-192.0.2.200", 2000, 4000),
        "eth0-v6": ("2001:db8:1::100-2001:db8:1::1ff", 3000, 4000),
        "eth0-reserved-1": ("192.0.2.201-192.0.2.255", 2000, 4000),
        "eth0-reserved-2": ("2001:db8:1::200-2001:db8:1:0:ffff:ffff:ffff:ffff", 3000, 4000),
        "subnet-2-v4": ("198.51.100.0-198.51.100.127", 2000, 4000),
    }
    assert made["reservation"] == [
        {"address": "192.0.2.201", "subnet": "eth0", "hardware": "1a:1b:1c:1d:1e:1f"},
        {"address": "192.0.2.20", "subnet": "eth0", "duid": "00:02:00:00:7e:d9:01:11:22:33:44:55:66"},
        {"address": "2001:db8:1::cafe", "subnet": "eth0", "duid": "00:03:00:01:1a:1b:1c:1d:1e:1f"},
    ]
    assert [(each["prefix"], each["length"]) for each in made["delegation"]] == [("2001:db8:8::/48", 56)]
    assert left == [
        (8, "option tftp-server-name"),
        (9, "client class voip"),
        (16, "name printer"),
        (17, "option routers (reservation)"),
        (18, "reservation"),
        (3, "renew-timer 1000"),  # of the other file
        (9, "reservation of 2001:db8:9::/56"),
    ]


def test_subnets_of_a_shared_network_are_one_link() -> None:
    made, left = plan_of(
        kea.configuration,
        """{"Dhcp4": {"shared-networks": [{"name": "Floor 1", "option-data": [{"name": "routers", "data": "192.0.2.1"}],
        "subnet4": [{"id": 1, "subnet": "192.0.2.0/25", "pools": [{"pool": "192.0.2.2-192.0.2.99"}]},
        {"id": 2, "subnet": "192.0.2.128/25", "valid-lifetime": 60,
         "option-data": [{"name": "routers", "data": "192.0.2.129"}]}]}]}}""",
    )
    (subnet,) = made["subnet"]
    assert (subnet["name"], subnet["prefixes"]) == ("floor-1", ["192.0.2.0/25", "192.0.2.128/25"])
    assert subnet["gateways"] == ["192.0.2.1", "192.0.2.129"]
    assert left == [(3, "gateways")]


def test_options_that_a_plan_has_as_they_are() -> None:
    made, left = plan_of(
        kea.configuration,
        """{"Dhcp4": {"next-server": "192.0.2.9", "boot-file-name": "a", "subnet4": [{"id": 1, "subnet": "192.0.2.0/24",
        "boot-file-name": "b", "option-data": [
          {"name": "log-servers", "data": "192.0.2.7, 192.0.2.8"},
          {"name": "v4-captive-portal", "data": "https://portal.example"},
          {"code": 43, "csv-format": false, "data": "01:02:ff"},
          {"code": 43, "space": "vendor-1", "data": "x"},
          {"name": "tftp-server-name", "csv-format": false, "data": "78"},
          {"code": 66, "csv-format": false, "data": "78"},
          {"code": 2, "data": "3600"}]}]}}""",
    )
    assert made["subnet"][0]["dhcp"] == {
        "boot": [{"server": "192.0.2.9", "file": "b"}],
        "option": [
            {"family": 4, "code": 7, "addresses": ["192.0.2.7", "192.0.2.8"]},
            {"family": 4, "code": 114, "text": "https://portal.example"},
            {"family": 4, "code": 43, "hex": "0102ff"},
        ],
    }
    assert [what for _, what in left] == [
        "option 43 of space vendor-1",
        "option tftp-server-name",
        "option 66",
        "option 2",
    ]


def test_a_file_that_is_included_has_lines_of_its_own() -> None:
    inner = '\n[{"id": 1, "subnet": "192.0.2.0/24", "server-hostname": "x"}]'
    found = kea.configuration(
        [("a.conf", '{"Dhcp4": {"subnet4": <?include "b.conf"?> }}')], {"b.conf": inner}.__getitem__
    )
    assert [str(each.place) for each in found.left] == ["b.conf:2"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[1", "0.conf:1"),
        ("{}", "0.conf:1"),
        ('{"Dhcp4":\n{"a": 1, "a": 2}}', "0.conf:2"),
        ('{"Dhcp4":\n<?include "nowhere"?>}', "0.conf:2"),
        ('{"Dhcp4": {"subnet4":\n[{"subnet": "192.0.2.1/24"}]}}', "0.conf:2"),
        ('{"Dhcp4": {"subnet4":\n[{"subnet": "2001:db8::/64"}]}}', "0.conf:2"),
        ('{"Dhcp4": {"subnet4": {}}}', "0.conf:1"),
        ("{" * 100, "0.conf:1"),
        ("[" * 100, "0.conf:1"),
        ('{"Dhcp4": {"subnet4": [{"subnet": "192.0.2.0/24"},\n {"subnet": "192.0.2.0/25"}]}}', "makes no plan"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(MigrationError, match=where):
        plan_of(kea.configuration, text)


@pytest.mark.parametrize("text", [FOUR, SIX])
def test_every_cut(text: str) -> None:
    every_cut_is_read_or_refused(kea.configuration, text)


@given(st.text(alphabet='{}[],:"#/*\\ \nDhcp46subnet012<?include>', max_size=60))
def test_hostile_texts(text: str) -> None:
    for whole in (text, f'{{"Dhcp4": {text}}}'):
        with suppress(MigrationError):
            kea.configuration([("x", whole)], no_file)


LEASES4 = """address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context
192.0.2.10,02:00:00:00:00:01,01:02:00:00:00:00:01,4000,1100,1,0,0,old,0,
192.0.2.10,02:00:00:00:00:01,01:02:00:00:00:00:01,4000,4000,1,0,0,pc-1&#x2cx.,0,
192.0.2.11,02:00:00:00:00:02,ff:00:00:00:02:00:03:00:01:02:00:00:00:00:02,4000,4000,1,0,0,,0,
192.0.2.12,02:00:00:00:00:03,,4000,999,1,0,0,over,0,
192.0.2.13,02:00:00:00:00:04,,4000,4000,1,0,0,declined,1,
192.0.2.14,02:00:00:00:00:05,,4000,4000,1,0,0,reclaimed,2,
192.0.2.15,02:00:00:00:00:06,,4000,4000,1,0,0,given-back,0,
192.0.2.15,02:00:00:00:00:06,,0,4000,1,0,0,given-back,0,
192.0.2.16,,,4000,4000,1,0,0,nobody,0,
192.0.2.17,02:00:00:00:00:07,,4294967295,1000,1,0,0,for-ever,0,
192.0.2.18,02:00:00
"""
LEASES6 = (
    "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,"
    """hwaddr,state,user_context,hwtype,hwaddr_source
2001:db8::1,00:03:00:01:02:00:00:00:00:01,4000,4000,1,3000,0,7,128,0,0,pc-1,02:00:00:00:00:01,0,,1,2
2001:db8:8:100::,00:03:00:01:02:00:00:00:00:01,4000,4000,1,3000,2,8,56,0,0,,,0,,,
2001:db8::2,00:03:00:01:02:00:00:00:00:01,4000,4000,1,3000,1,7,128,0,0,,,0,,,
2001:db8::3,00:03:00:01:02:00:00:00:00:01,4000,4000,1,3000,0,9,128,0,0,,,2,,,
"""
)


def test_the_last_line_of_an_address_wins() -> None:
    found, left = kea_leases.leases([("a", LEASES4)], now=1000)
    assert [told(each) for each in found] == [
        ("192.0.2.10", "00:03:00:01:02:00:00:00:00:01", 1, "02:00:00:00:00:01", "pc-1,x"),
        ("192.0.2.11", "00:03:00:01:02:00:00:00:00:02", 2, "02:00:00:00:00:02", ""),
        ("192.0.2.17", "00:03:00:01:02:00:00:00:00:07", 7, "02:00:00:00:00:07", "for-ever"),
    ]
    assert [each.valid_until for each in found[:2]] == [4000, 4000]
    assert [(each.place.line, each.what) for each in sorted(left)] == [
        (6, "lease of 192.0.2.13"),
        (10, "lease of 192.0.2.16"),
        (11, "lease of 192.0.2.17"),
        (12, "a line"),
    ]


def test_leases_of_dhcpv6() -> None:
    found, left = kea_leases.leases([("a", LEASES6)], now=1000)
    assert [told(each) for each in found] == [
        ("2001:db8::1", "00:03:00:01:02:00:00:00:00:01", 7, "02:00:00:00:00:01", "pc-1"),
        ("2001:db8:8:100::/56", "00:03:00:01:02:00:00:00:00:01", 8, "", ""),
    ]
    assert [each.place.line for each in left] == [4]


def test_files_that_a_cleanup_has_left_come_first() -> None:
    assert kea_leases.parts("x", ["x", "x.1", "x.2", "x.pid"]) == ["x.2", "x.1", "x"]
    assert kea_leases.parts("x", ["x", "x.1", "x.completed"]) == ["x.completed", "x"]
    head, first, second = LEASES4.splitlines()[:3]
    found, _ = kea_leases.leases([("x.2", f"{head}\n{second}"), ("x", f"{head}\n{first}")], now=1000)
    assert [each.valid_until for each in found] == [1100]


@pytest.mark.parametrize("text", [LEASES4, LEASES6])
def test_every_cut_of_leases(text: str) -> None:
    for end in range(len(text)):
        try:
            kea_leases.leases([("a", text[:end])], now=1000)
        except MigrationError:
            assert end < len(text.splitlines()[0])


@given(st.text(alphabet="0123456789abcdef:.,-\n ", max_size=200))
def test_hostile_leases(text: str) -> None:
    for head in (LEASES4.splitlines()[0], LEASES6.splitlines()[0]):
        with suppress(MigrationError):
            kea_leases.leases([("a", f"{head}\n{text}")], now=1000)
