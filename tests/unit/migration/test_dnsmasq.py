"""What dnsmasq is told of DHCP as a plan, and its file of leases."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.migration import dnsmasq, dnsmasq_leases
from dnms.migration.model import MigrationError
from tests.unit.migration.read import every_cut_is_read_or_refused, no_file, plan_of, told

TEXT = """# dnsmasq.conf
server=192.0.2.53
address=/x.example/192.0.2.9
domain=lan.example
dhcp-authoritative
dhcp-range=192.0.2.50,192.0.2.150,255.255.255.0,12h   # a comment
dhcp-range=2001:db8:1::100, 2001:db8:1::1ff, 64, 2h
dhcp-range=set:guests,198.51.100.10,198.51.100.20,24h
dhcp-range=::100,::1ff,constructor:eth0
enable-ra
dhcp-option=option:router,192.0.2.1
dhcp-option=6,192.0.2.2,192.0.2.3
dhcp-option=option6:dns-server,[2001:db8:1::2]
dhcp-option=tag:guests,3,198.51.100.1
dhcp-option=66,boot
dhcp-option=150,192.0.2.9
dhcp-option=42,0.0.0.0
dhcp-boot=pxelinux.0
dhcp-host=02:00:5e:10:00:01,printer,192.0.2.200,infinite
dhcp-host=id:00:03:00:01:02:00:5e:10:00:01,[2001:db8:1::7]
dhcp-host=02:00:5e:10:00:02,ignore
dhcp-host=02:00:5e:10:00:03,203.0.113.1
"""


def test_a_configuration() -> None:
    made, left = plan_of(dnsmasq.configuration, TEXT)
    lan, guests = made["subnet"]
    assert lan == {
        "name": "lan",
        "prefixes": ["192.0.2.0/24", "2001:db8:1::/64"],
        "gateways": ["192.0.2.1"],
        "dns": ["192.0.2.2", "192.0.2.3", "2001:db8:1::2"],
        "search": ["lan.example"],
        "dhcp": {
            "boot": [{"file": "pxelinux.0"}],
            "option": [{"family": 4, "code": 150, "addresses": ["192.0.2.9"]}],
        },
        "advertise": {"autonomous": False, "managed": True, "other": True},
    }
    assert (guests["name"], guests["gateways"]) == ("guests", ["198.51.100.1"])
    assert [(pool["name"], pool["range"], pool["valid"]) for pool in made["pool"]] == [
        ("lan-v4", "192.0.2.50-192.0.2.150", 43_200),
        ("lan-v6", "2001:db8:1::100-2001:db8:1::1ff", 7_200),
        ("lan-reserved-1", "192.0.2.151-192.0.2.255", 43_200),
        ("lan-reserved-2", "2001:db8:1::-2001:db8:1::ff", 7_200),
        ("guests-v4", "198.51.100.10-198.51.100.20", 86_400),
    ]
    assert made["reservation"] == [
        {"address": "192.0.2.200", "subnet": "lan", "hardware": "02:00:5e:10:00:01"},
        {"address": "2001:db8:1::7", "subnet": "lan", "duid": "00:03:00:01:02:00:5e:10:00:01"},
    ]
    assert left == [
        (2, "2 settings that are not of DHCP"),
        (8, "mask of dhcp-range=set:guests,198.51.100.10,198.51.100.20,24h"),
        (9, "dhcp-range=::100,::1ff,constructor:eth0"),
        (15, "dhcp-option=66,boot"),
        (17, "dhcp-option=42,0.0.0.0"),
        (21, "ignore of dhcp-host=02:00:5e:10:00:02,ignore"),
        (22, "dhcp-host=02:00:5e:10:00:03,203.0.113.1"),
    ]


def test_what_it_includes_is_read() -> None:
    inner = "\ndhcp-match=x"
    found = dnsmasq.configuration([("a", "conf-file=b")], {"b": inner}.__getitem__)
    assert [str(each.place) for each in found.left] == ["b:2"]
    with pytest.raises(MigrationError, match="a:1"):
        dnsmasq.configuration([("a", "conf-file=b")], no_file)


def test_every_cut() -> None:
    every_cut_is_read_or_refused(dnsmasq.configuration, TEXT)


KEYS = st.sampled_from(["dhcp-range", "dhcp-host", "dhcp-option", "domain", "enable-ra", "conf-dir"])
VALUES = st.text(alphabet="0123456789.:,[]settagoption6 dhm/", max_size=40)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=4))
def test_hostile_texts(lines: list[tuple[str, str]]) -> None:
    with suppress(MigrationError):
        dnsmasq.configuration([("x", "\n".join(f"{key}={value}" for key, value in lines))], no_file)


LEASES = """4000 02:00:00:00:00:01 192.0.2.50 pc-1 01:02:00:00:00:00:01
4000 02:00:00:00:00:02 192.0.2.51 * ff:00:00:00:02:00:03:00:01:02:00:00:00:00:02
999 02:00:00:00:00:03 192.0.2.52 over *
0 06-02:00:00:00:00:04 192.0.2.53 for-ever *
duid 00:01:00:01:2f:00:00:00:02:00:00:00:00:09
4000 7 2001:db8:1::100 pc-1 00:03:00:01:02:00:00:00:00:01
4000 T7 2001:db8:1::101 pc-1 00:03:00:01:02:00:00:00:00:01
"""


def test_leases() -> None:
    found, left = dnsmasq_leases.leases([("a", LEASES)], now=1000)
    assert [told(each) for each in found] == [
        ("192.0.2.50", "00:03:00:01:02:00:00:00:00:01", 1, "02:00:00:00:00:01", "pc-1"),
        ("192.0.2.51", "00:03:00:01:02:00:00:00:00:02", 2, "02:00:00:00:00:02", ""),
        ("192.0.2.53", "00:03:00:01:02:00:00:00:00:04", 4, "02:00:00:00:00:04", "for-ever"),
        ("2001:db8:1::100", "00:03:00:01:02:00:00:00:00:01", 7, "", "pc-1"),
    ]
    assert [each.place.line for each in left] == [4, 7]


def test_what_is_no_lease_is_refused_with_its_place() -> None:
    with pytest.raises(MigrationError, match="a:2"):
        dnsmasq_leases.leases([("a", "\nlease 192.0.2.1 {")], now=0)


@given(st.text(alphabet="0123456789abcdef:.*T-\n ", max_size=200))
def test_hostile_leases(text: str) -> None:
    with suppress(MigrationError):
        dnsmasq_leases.leases([("a", text)], now=1000)
