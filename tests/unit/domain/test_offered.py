"""A client is given the address that it was offered, where that is possible, whatever the strategy would pick now."""

from __future__ import annotations

import pytest

from dnms.events.address import AddressAllocated
from dnms.events.ip import parse_address
from dnms.events.requests import AllocateAddress, DeclineAddress
from tests.unit.domain.clerk import Clerk, client, hold

OFFERED = parse_address("192.0.2.7")


def allocate(clerk: Clerk, number: int = 1, offered: bytes = OFFERED) -> bytes:
    request = AllocateAddress(client=client(number), iaid=1, family=4, offered=offered)
    given = [event for event in clerk.ask(request) if isinstance(event, AddressAllocated)]
    return given[-1].address if given else b""


@pytest.mark.parametrize("strategy", ["hash", "sequential", "random"])
def test_what_was_offered_is_given(clerk: Clerk, strategy: str) -> None:
    clerk.adopt(plan(strategy))
    assert allocate(clerk) == OFFERED
    assert allocate(clerk) == b""  # it has it
    assert allocate(clerk, 2) != OFFERED


def test_another_where_that_cannot_be(clerk: Clerk) -> None:
    clerk.adopt(plan("sequential"))
    clerk.ask(hold(9, "192.0.2.9"))
    others = ("192.0.2.9", "192.0.2.1", "192.0.2.0", "198.51.100.7", "2001:db8:1:1::7")
    for number, address in enumerate(others, 1):
        first = allocate(clerk, number, parse_address(address))
        assert first not in (b"", parse_address(address))
        clerk.ask(DeclineAddress(client=client(number), iaid=1, address=first))
        assert allocate(clerk, number, first) not in (b"", first)  # it rests


def test_of_a_pool_for_reservations_nothing_is_given(clerk: Clerk) -> None:
    clerk.adopt(plan("reserved"))
    assert clerk.refused(AllocateAddress(client=client(1), iaid=1, family=4, offered=OFFERED)) == "exhausted"


def plan(strategy: str) -> str:
    return f"""
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["192.0.2.0/24"]
gateways = ["192.0.2.1"]
[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/24"
strategy = "{strategy}"
"""
