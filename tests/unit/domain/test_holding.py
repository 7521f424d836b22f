"""Addresses that are kept, moved, blocked, and given while the log was away."""

from __future__ import annotations

import pytest

from dnms.domain.allocating import MAX_OTHERS
from dnms.domain.holding import MAX_HOLDS
from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeprecated,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
    HashMoved,
    OutageGranted,
)
from dnms.events.ip import format_address, parse_address
from dnms.events.requests import (
    AllocateAddress,
    BlockAddress,
    HoldAddress,
    JoinAddresses,
    MergeOutage,
    MoveAddress,
    ReleaseAddress,
    RenewAddress,
    UnholdAddress,
)
from tests.unit.domain.clerk import SECOND, Clerk, client, hold

RESERVED = """
[site]
name = "example"
[[subnet]]
name = "office"
prefixes = ["192.0.2.0/24"]
gateways = ["192.0.2.1"]
[[pool]]
name = "servers"
subnet = "office"
range = "192.0.2.0-192.0.2.15"
strategy = "reserved"
[[pool]]
name = "clients"
subnet = "office"
range = "192.0.2.16-192.0.2.31"
"""


def test_who_has_an_address_kept_is_given_it_and_nobody_else_is(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    assert isinstance(clerk.ask(hold(1, "192.0.2.20"))[0], AddressHeld)
    others = {format_address(clerk.allocate(number, 4).address) for number in range(10, 25)}
    assert "192.0.2.20" not in others
    assert len(others) == 15
    assert format_address(clerk.allocate(1, 4).address) == "192.0.2.20"
    assert clerk.ask(hold(1, "192.0.2.20")) == ()


def test_a_pool_of_reservations_gives_nothing_else(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    clerk.ask(hold(1, "192.0.2.5"))
    assert format_address(clerk.allocate(1, 4).address) == "192.0.2.5"
    assert {clerk.allocate(number, 4).pool for number in range(10, 26)} == {"clients"}
    assert clerk.refused(AllocateAddress(client=client(99), iaid=1, family=4)) == "exhausted"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1", "not-in-plan"),  # the gateway
        ("192.0.2.0", "not-in-plan"),  # the network
        ("192.0.2.40", "not-in-plan"),
        ("192.0.2.21", "held"),
        ("192.0.2.22", "in-use"),
    ],
)
def test_what_cannot_be_kept_is_refused(clerk: Clerk, address: str, why: str) -> None:
    clerk.adopt(RESERVED)
    clerk.ask(hold(2, "192.0.2.21"))
    clerk.ask(hold(3, "192.0.2.22"))
    clerk.allocate(3, 4)
    clerk.ask(UnholdAddress(client=client(3), iaid=1, address=parse_address("192.0.2.22")))
    assert clerk.refused(hold(1, address)) == why


def test_a_client_has_a_bounded_number_of_addresses_kept(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    for host in range(2, 2 + MAX_HOLDS):
        clerk.ask(hold(1, f"192.0.2.{host}"))
    assert clerk.refused(hold(1, "192.0.2.14")) == "too-many-holds"


def test_several_kept_addresses_are_all_given_and_the_first_is_the_first(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    before = clerk.allocate(1, 4)
    clerk.ask(hold(1, "192.0.2.5"))
    clerk.ask(hold(1, "192.0.2.6"))
    events = clerk.ask(AllocateAddress(client=client(1), iaid=1, family=4))
    assert [type(event) for event in events] == [AddressAllocated, AddressAllocated, AddressDeprecated]
    leases = clerk.ledger.leases_of(client(1), 1, 4)
    assert [format_address(lease.address) for lease in leases if not lease.drained_at] == ["192.0.2.5", "192.0.2.6"]
    assert [lease.address for lease in leases if lease.drained_at] == [before.address]
    clerk.ask(ReleaseAddress(client=client(1), iaid=1, address=parse_address("192.0.2.5")))
    assert clerk.ledger.leases_of(client(1), 1, 4)[0].address == parse_address("192.0.2.6")


def test_what_is_kept_no_longer_stays_a_lease(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    clerk.ask(hold(1, "192.0.2.20"))
    clerk.allocate(1, 4)
    unhold = UnholdAddress(client=client(1), iaid=1, address=parse_address("192.0.2.20"))
    assert isinstance(clerk.ask(unhold)[0], AddressUnheld)
    assert clerk.refused(unhold) == "not-held"
    assert clerk.ask(AllocateAddress(client=client(1), iaid=1, family=4)) == ()


def test_what_a_node_will_be_given_is_known_and_kept_before_it_comes(clerk: Clerk) -> None:
    [held] = clerk.ask(HoldAddress(client=client(1), iaid=1, family=6))
    assert isinstance(held, AddressHeld)
    assert clerk.allocate(1).address == held.address
    assert clerk.ask(HoldAddress(client=client(1), iaid=1, family=6)) == ()


def test_what_is_kept_where_the_plan_has_no_place_any_more_is_replaced_when_it_is_asked_for_again(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    [before] = clerk.ask(HoldAddress(client=client(1), iaid=1, family=4))
    assert isinstance(before, AddressHeld)
    clerk.adopt(RESERVED.replace("192.0.2.", "198.51.100."))
    unheld, *_, held = clerk.ask(HoldAddress(client=client(1), iaid=1, family=4))
    assert isinstance(unheld, AddressUnheld)
    assert isinstance(held, AddressHeld)
    assert unheld.address == before.address
    assert clerk.ledger.holds[client(1), 1, 4] == (held.address,)
    assert clerk.allocate(1, 4).address == held.address
    assert clerk.ask(HoldAddress(client=client(1), iaid=1, family=4)) == ()


def test_who_has_as_many_kept_as_one_may_have_needs_no_other(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    for number in range(2, 2 + MAX_HOLDS):
        clerk.ask(hold(1, f"192.0.2.{number}"))
    assert clerk.ask(HoldAddress(client=client(1), iaid=1, family=4)) == ()


def test_a_hash_that_collides_is_moved_when_it_is_entered_and_said_so(clerk: Clerk) -> None:
    """RFC 7943: the collisions are what has to be written down."""
    clerk.adopt(RESERVED)
    seen: dict[bytes, int] = {}
    moved = 0
    for number in range(16):
        events = clerk.ask(HoldAddress(client=client(number), iaid=1, family=4))
        held = events[-1]
        assert isinstance(held, AddressHeld)
        assert held.address not in seen
        seen[held.address] = number
        moved += isinstance(events[0], HashMoved)
    assert 0 < moved < 16
    assert {clerk.allocate(number, 4).address: number for number in range(16)} == seen


def test_an_operator_moves_a_client(clerk: Clerk) -> None:
    before = clerk.allocate(1)
    events = clerk.ask(MoveAddress(client=client(1), iaid=1, address=before.address))
    assert [type(event) for event in events] == [AddressDeprecated, HashMoved, AddressAllocated]
    assert clerk.ask(AllocateAddress(client=client(1), iaid=1, family=6)) == ()
    [first, second] = clerk.ledger.leases_of(client(1), 1, 6)
    assert second.address == before.address
    clerk.ask(HoldAddress(client=client(1), iaid=1, family=6))
    assert clerk.refused(MoveAddress(client=client(1), iaid=1, address=first.address)) == "held"


def test_an_address_that_is_drained_already_is_moved_no_further(clerk: Clerk) -> None:
    before = clerk.allocate(1)
    move = MoveAddress(client=client(1), iaid=1, address=before.address)
    clerk.ask(move)
    assert clerk.ask(move) == ()
    assert [lease.drained_at > 0 for lease in clerk.ledger.leases_of(client(1), 1, 6)] == [False, True]


def test_a_client_that_is_moved_often_keeps_a_bounded_number(clerk: Clerk) -> None:
    for _ in range(3 * MAX_OTHERS):
        address = clerk.ledger.bindings.get((client(1), 1, 6)) or clerk.allocate(1).address
        clerk.ask(MoveAddress(client=client(1), iaid=1, address=address))
    assert len(clerk.ledger.leases_of(client(1), 1, 6)) == 1 + MAX_OTHERS


# -- what somebody uses without having been given it


def block(number: int, address: bytes, *, holder: int | None = None) -> BlockAddress:
    named = None if holder is None else client(holder)
    return BlockAddress(client=client(number), address=address, cause=17, holder=named)


def test_an_address_that_is_seen_in_use_is_given_to_nobody(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    [blocked] = clerk.ask(block(1, parse_address("192.0.2.20")))
    assert isinstance(blocked, AddressBlocked)
    assert (blocked.cause, blocked.blocked_until) == (17, 86_400 * SECOND)
    assert clerk.ask(block(1, parse_address("192.0.2.20")), at=60) == ()  # it is known
    given = {format_address(clerk.allocate(number, 4).address) for number in range(10, 25)}
    assert "192.0.2.20" not in given
    assert clerk.refused(AllocateAddress(client=client(50), iaid=1, family=4)) == "exhausted"
    assert format_address(clerk.allocate(50, 4, at=86_400).address) == "192.0.2.20"


def test_who_was_given_what_another_uses_is_moved(clerk: Clerk) -> None:
    given = clerk.allocate(1)
    events = clerk.ask(block(2, given.address, holder=1))
    assert [type(event) for event in events] == [AddressWithdrawn, HashMoved, AddressBlocked]
    assert clerk.allocate(1).address != given.address


def test_nobody_loses_what_it_was_given_by_a_claim_in_which_it_is_not_named(clerk: Clerk) -> None:
    """It may have been given to another one while the link was asked."""
    given = clerk.allocate(1)
    for holder in (None, 2, 3):
        assert clerk.refused(block(2, given.address, holder=holder)) == "in-use"
    assert clerk.ledger.leases[given.address].client == client(1)


def test_what_is_kept_for_a_client_is_not_blocked_by_a_claim_in_which_it_is_not_named(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    address = parse_address("192.0.2.20")
    clerk.ask(HoldAddress(client=client(1), iaid=1, family=4, address=address))
    assert clerk.refused(block(2, address)) == "in-use"
    [blocked] = clerk.ask(block(2, address, holder=1))
    assert isinstance(blocked, AddressBlocked)
    assert clerk.allocate(1, 4).address != address


def test_what_is_a_clients_own_is_not_blocked(clerk: Clerk) -> None:
    given = clerk.allocate(1)
    assert clerk.ask(block(1, given.address)) == ()
    assert clerk.refused(block(1, parse_address("2001:db8:9::1"))) == "not-in-plan"


def test_one_client_cannot_block_a_whole_pool(clerk: Clerk) -> None:
    clerk.adopt(RESERVED)
    for host in range(16, 24):
        clerk.ask(block(1, parse_address(f"192.0.2.{host}")))
    assert clerk.refused(block(1, parse_address("192.0.2.24"))) == "too-many-declines"


# -- given while the log was away


def grant(number: int, address: bytes) -> MergeOutage:
    until = 100 * SECOND
    return MergeOutage(
        client=client(number),
        iaid=1,
        address=address,
        pool="office-v6",
        counter=0,
        valid_until=until,
        horizon=until,
        happened=SECOND,
    )


FREE = parse_address("2001:db8:1:1::77")


def test_what_was_given_in_an_outage_is_a_lease_afterwards(clerk: Clerk) -> None:
    [granted] = clerk.ask(grant(1, FREE))
    assert isinstance(granted, OutageGranted)
    assert clerk.ledger.lease(client(1), 1, 6) == clerk.ledger.leases[FREE]
    [renewed] = clerk.ask(RenewAddress(client=client(1), iaid=1, address=FREE))
    assert isinstance(renewed, AddressRenewed)


def test_two_agents_that_gave_one_client_the_same_address_change_nothing(clerk: Clerk) -> None:
    clerk.ask(grant(1, FREE))
    before = clerk.ledger.leases[FREE]
    assert [type(event) for event in clerk.ask(grant(1, FREE))] == [OutageGranted]
    assert clerk.ledger.leases[FREE] == before


def test_of_two_clients_with_one_address_the_one_in_the_log_keeps_it_and_the_other_is_moved(clerk: Clerk) -> None:
    clerk.ask(grant(1, FREE))
    events = clerk.ask(grant(2, FREE))
    assert [type(event) for event in events] == [OutageGranted, HashMoved, AddressAllocated]
    assert clerk.ledger.leases[FREE].client == client(1)
    moved = clerk.ledger.lease(client(2), 1, 6)
    assert moved is not None
    assert moved.address != FREE


def test_who_has_another_address_by_now_drains_the_one_of_the_outage(clerk: Clerk) -> None:
    held = clerk.allocate(1)
    assert [type(event) for event in clerk.ask(grant(1, FREE))] == [OutageGranted]
    first, second = clerk.ledger.leases_of(client(1), 1, 6)
    assert first.address == held.address
    assert (second.address, second.drained_at) == (FREE, 100 * SECOND)


def test_what_was_given_until_a_time_that_is_over_moves_nobody(clerk: Clerk) -> None:
    clerk.ask(grant(1, FREE))
    [granted] = clerk.ask(grant(2, FREE), at=100)
    assert isinstance(granted, OutageGranted)
    assert granted.contested
    assert clerk.ledger.lease(client(2), 1, 6) is None


def test_what_was_given_is_recorded_though_there_is_nothing_else_to_give(clerk: Clerk) -> None:
    clerk.ask(grant(1, FREE))
    four = '[[pool]]\nname = "four"\nsubnet = "office"\nrange = "192.0.2.8-192.0.2.9"\n'
    clerk.adopt(
        '[site]\nname = "example"\n[[subnet]]\nname = "office"\nprefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]\n'
        + four
    )
    events = clerk.ask(grant(2, FREE))
    assert [type(event) for event in events] == [OutageGranted, AddressWithdrawn]
    clerk.adopt('[site]\nname = "example"\n')
    assert [type(event) for event in clerk.ask(grant(2, FREE))] == [OutageGranted, AddressWithdrawn]


def test_what_the_plan_has_no_place_for_any_more_is_replaced(clerk: Clerk) -> None:
    elsewhere = parse_address("2001:db8:9::1")
    events = clerk.ask(grant(1, elsewhere))
    assert [type(event) for event in events] == [OutageGranted, AddressWithdrawn, HashMoved, AddressAllocated]
    assert elsewhere not in clerk.ledger.leases


def test_who_comes_into_another_group_has_an_address_of_it_kept_and_not_the_one_that_it_has(clerk: Clerk) -> None:
    before = clerk.allocate(1).address
    [held] = clerk.ask(HoldAddress(client=client(1), iaid=1, family=6, group=0x5A1E))
    assert isinstance(held, AddressHeld)
    assert (before[8:10], held.address[8:10]) == (b"\x00\x00", b"\x5a\x1e")


def test_what_is_kept_for_a_client_is_kept_for_the_one_that_it_is_joined_into(clerk: Clerk) -> None:
    kept = []
    for kind in (6, 4):
        held = clerk.ask(HoldAddress(client=client(1), iaid=1, family=kind))[-1]
        assert isinstance(held, AddressHeld)
        kept.append(held.address)
    lease = clerk.allocate(1)
    other = clerk.ask(AllocateAddress(client=client(1), iaid=9, family=6))[-1]
    join = JoinAddresses(client=client(1), iaid=1, into=client(2), into_iaid=7)
    events = clerk.ask(join)
    assert [type(event) for event in events] == [
        AddressReleased,
        AddressUnheld,
        AddressHeld,
        AddressUnheld,
        AddressHeld,
    ]
    assert [clerk.ledger.held[address] for address in kept] == [(client(2), 7)] * 2
    given = clerk.ask(AllocateAddress(client=client(2), iaid=7, family=6))[-1]
    assert isinstance(given, AddressAllocated)
    assert given.address == lease.address
    assert isinstance(other, AddressAllocated)
    assert other.address in clerk.ledger.leases  # what was not kept goes on until it is over
    assert clerk.ask(join) == ()
    assert clerk.ask(JoinAddresses(client=client(2), iaid=7, into=client(2), into_iaid=7)) == ()


def test_no_client_is_joined_into_more_than_one_may_have(clerk: Clerk) -> None:
    for number in (1, 2):
        for last in range(5):
            address = parse_address(f"2001:db8:1:1::{number}{last}")
            clerk.ask(HoldAddress(client=client(number), iaid=1, family=6, address=address))
    clerk.ask(JoinAddresses(client=client(1), iaid=1, into=client(2), into_iaid=1))
    held = list(clerk.ledger.held.values())
    assert (held.count((client(2), 1)), held.count((client(1), 1))) == (MAX_HOLDS, 10 - MAX_HOLDS)
