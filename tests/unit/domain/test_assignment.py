from __future__ import annotations

import pytest

from dnms.domain.assignment import assign
from dnms.events.configuration import Assignment
from dnms.events.ip import format_address
from tests.unit.domain.clerk import Clerk, client

PLAN = """
[site]
name = "example"

[[group]]
name = "voip"
number = 0x5a1e
dns = ["2001:db8::5a"]
ntp = ["2001:db8::123"]
mtu = 1280

[[group]]
name = "guests"
number = 0x6e57

[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64"]
gateways = ["fe80::1"]
routes = [{ destination = "2001:db8:8::/48", gateway = "fe80::9", metric = 7 }]
dns = ["2001:db8::53"]
search = ["example.net"]
mtu = 1400

[[subnet.group]]
name = "voip"
gateways = ["fe80::5", "fe80::1"]
mtu = 1300

[[subnet.group]]
name = "guests"
gateways = []
routes = []
search = []

[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"
"""
NOBODYS, VOIP, GUESTS, WITHDRAWN = 0, 0x5A1E, 0x6E57, 0x7777


def told(clerk: Clerk, group: int) -> Assignment:
    return assign(clerk.ledger, (), client=client(1), group=group, at=0, epoch=0, position=1).assignment


def texts(addresses: tuple[bytes, ...]) -> list[str]:
    return list(map(format_address, addresses))


@pytest.fixture
def office(clerk: Clerk) -> Clerk:
    clerk.adopt(PLAN)
    return clerk


def test_who_is_in_no_group_is_told_what_the_subnet_says(office: Clerk) -> None:
    for group in (NOBODYS, WITHDRAWN):
        assignment = told(office, group)
        assert texts(assignment.gateways) == ["fe80::1"]
        assert texts(assignment.resolver.servers) == ["2001:db8::53"]
        assert (assignment.resolver.search, assignment.ntp, assignment.mtu) == (("example.net",), (), 1400)
        assert len(assignment.routes) == 1


def test_the_narrowest_wins_item_by_item(office: Clerk) -> None:
    assignment = told(office, VOIP)
    assert texts(assignment.gateways) == ["fe80::5", "fe80::1"]  # as the subnet says for the group
    assert assignment.mtu == 1300  # the same, though the group says another
    assert texts(assignment.resolver.servers) == ["2001:db8::5a"]  # as the group says for every subnet
    assert texts(assignment.ntp) == ["2001:db8::123"]
    assert assignment.resolver.search == ("example.net",)  # as the subnet says for everybody
    assert len(assignment.routes) == 1


def test_a_group_can_have_none_of_what_others_have(office: Clerk) -> None:
    assignment = told(office, GUESTS)
    assert (assignment.gateways, assignment.routes, assignment.resolver.search) == ((), (), ())
    assert texts(assignment.resolver.servers) == ["2001:db8::53"]
