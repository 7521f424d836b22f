"""What clients have from another server is theirs here too, for as long as they were told."""

from __future__ import annotations

import pytest

from dnms.domain.ledger import Ledger
from dnms.domain.routes import LinkRoutes
from dnms.events.address import AddressAllocated, AddressRenewed
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.prefix import PrefixDelegated, PrefixRenewed
from dnms.events.requests import (
    AllocateAddress,
    DeclineAddress,
    DelegatePrefix,
    ExpireAddresses,
    ImportAddress,
    ImportPrefix,
    SightAddress,
)
from tests.unit.domain.clerk import SECOND, Clerk, client, hold
from tests.unit.domain.delegations import HOP

PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]
gateways = ["192.0.2.1"]
[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"
valid = 100
preferred = 60
[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/25"
strategy = "sequential"
valid = 100
preferred = 60
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:8::/48"
length = 56
valid = 100
preferred = 60
"""
SIX, FOUR, BLOCK = "2001:db8:1:1::7", "192.0.2.7", parse_prefix("2001:db8:8:300::/56")


@pytest.fixture
def office() -> Clerk:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(PLAN)
    return clerk


def lease(number: int, address: str, until: int = 50, *, iaid: int = 1) -> ImportAddress:
    return ImportAddress(
        client=client(number),
        iaid=iaid,
        address=parse_address(address),
        valid_until=until * SECOND,
        origin="kea",
    )


def block(number: int, until: int = 50, prefix: str = str(BLOCK)) -> ImportPrefix:
    return ImportPrefix(
        client=client(number), iaid=1, prefix=parse_prefix(prefix), valid_until=until * SECOND, origin="kea"
    )


@pytest.mark.parametrize("address", [SIX, FOUR])
def test_a_lease_is_promised_as_it_was_and_renewed_here(office: Clerk, address: str) -> None:
    (given,) = office.ask(lease(1, address))
    assert isinstance(given, AddressAllocated)
    assert (given.address, given.origin) == (parse_address(address), "kea")
    assert (given.valid_until, given.horizon) == (50 * SECOND, 50 * SECOND)
    assert office.ask(lease(1, address), at=1) == ()  # the same again
    kind = 6 if address == SIX else 4
    renewing = AllocateAddress(client=client(1), iaid=1, family=6 if kind == 6 else 4)
    (renewed,) = office.ask(renewing, at=10)
    assert isinstance(renewed, AddressRenewed)
    assert (renewed.address, renewed.valid_until) == (parse_address(address), 110 * SECOND)
    assert office.ask(lease(1, address, 60), at=11) == ()  # of which less is known there than here


def test_what_was_renewed_there_meanwhile_is_renewed_here_too(office: Clerk) -> None:
    office.ask(lease(1, FOUR))
    (renewed,) = office.ask(lease(1, FOUR, 80), at=20)
    assert isinstance(renewed, AddressRenewed)
    assert renewed.horizon == 80 * SECOND
    office.ask(ExpireAddresses(addresses=(parse_address(FOUR),)), at=79)
    assert parse_address(FOUR) in office.ledger.leases
    office.ask(ExpireAddresses(addresses=(parse_address(FOUR),)), at=80)
    assert parse_address(FOUR) not in office.ledger.leases


def test_nobody_else_is_given_what_was_imported(office: Clerk) -> None:
    office.ask(lease(1, "192.0.2.2"))  # which would be the second
    assert [office.allocate(number, 4).address[-1] for number in (2, 3)] == [3, 4]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (lease(1, FOUR, 5), "over"),
        (lease(2, FOUR), "in-use"),
        (lease(9, "192.0.2.9"), "in-use"),  # kept for another
        (lease(1, "192.0.2.8"), "has-another"),
        (lease(3, "192.0.2.1"), "not-in-plan"),  # the gateway
        (lease(3, "192.0.2.200"), "not-in-plan"),
        (block(1, 5), "over"),
        (block(2), "in-use"),
        (block(2, prefix="2001:db8:8:300::/64"), "in-use"),
        (block(2, prefix="2001:db8:8::/52"), "not-in-plan"),
        (block(2, prefix="2001:db8:9::/56"), "not-in-plan"),
        (block(1, prefix="2001:db8:8:400::/56"), "has-another"),
    ],
)
def test_what_cannot_be_is_refused(office: Clerk, request_: ImportAddress | ImportPrefix, why: str) -> None:
    office.ask(lease(1, FOUR), at=1)
    office.ask(hold(8, "192.0.2.9"))
    office.ask(block(1), at=1)
    assert office.refused(request_, at=10) == why


def test_what_rests_here_is_not_taken_from_there(office: Clerk) -> None:
    office.ask(lease(1, FOUR))
    office.ask(DeclineAddress(client=client(1), iaid=1, address=parse_address(FOUR)))
    assert office.refused(lease(2, FOUR)) == "in-use"


def test_that_it_was_seen_with_it_by_another_name_is_no_hindrance(office: Clerk) -> None:
    office.ask(SightAddress(address=parse_address(FOUR), client=client(77), form="ipv4"))
    assert office.ask(lease(1, FOUR))


def test_a_prefix_is_renewed_and_routed_when_its_client_is_heard(office: Clerk) -> None:
    routes = LinkRoutes("e")
    (given,) = office.ask(block(1))
    assert isinstance(given, PrefixDelegated)
    assert (given.delegation, given.horizon, given.origin) == ("blocks", 50 * SECOND, "kea")
    routes.evolve(given, 11)
    assert routes.routes() == frozenset()  # nobody knows by which way
    assert office.ask(block(1), at=1) == ()
    (later,) = office.ask(block(1, 60), at=2)
    assert isinstance(later, PrefixRenewed)
    routes.evolve(later, 12)
    (renewed,) = office.ask(DelegatePrefix(client=client(1), iaid=1, next_hop=HOP, interface="e"), at=10)
    assert isinstance(renewed, PrefixRenewed)
    assert (renewed.prefix, renewed.next_hop) == (BLOCK, HOP)
    routes.evolve(renewed, 13)
    assert {(each.destination, each.next_hop) for each in routes.routes()} == {(BLOCK, HOP)}


def test_a_pool_that_counts_gives_what_lies_before_an_imported_address(office: Clerk) -> None:
    office.ask(lease(1, "192.0.2.126"))
    assert [office.allocate(number, 4).address[-1] for number in (2, 3, 4)] == [127, 2, 3]
