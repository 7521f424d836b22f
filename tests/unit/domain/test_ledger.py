from __future__ import annotations

from typing import cast

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.ledger import MAX_DECLINES, Ledger
from dnms.domain.plan import PlanState
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressRenewed,
    AddressWithdrawn,
    HashMoved,
)
from dnms.events.ip import format_address, parse_address
from dnms.events.plan import Family, PlanAdopted
from dnms.events.recorded import Event, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    ApplyPlan,
    DeclineAddress,
    ExpireAddresses,
    ReleaseAddress,
    RenewAddress,
)

SECOND = 1_000_000


def client(number: int) -> bytes:
    return number.to_bytes(16)


class Clerk:
    """Decides and evolves, as a log with one writer would."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.position = 10

    def ask(self, request: Request, *, at: int = 0) -> tuple[Event, ...]:
        events = self.ledger.decide(request, at=at * SECOND, entropy=b"")
        self.position += 1
        for event in events:
            self.ledger.evolve(event, at=at * SECOND, position=self.position)
        return events

    def allocate(self, number: int, family: int = 6, *, at: int = 0, group: int = 0) -> AddressAllocated:
        request = AllocateAddress(client=client(number), iaid=1, family=cast(Family, family), group=group)
        event = self.ask(request, at=at)[-1]
        assert isinstance(event, AddressAllocated)
        return event

    def refused(self, request: Request, *, at: int = 0) -> str:
        with pytest.raises(Refused) as refusal:
            self.ask(request, at=at)
        return refusal.value.why


@pytest.fixture
def clerk(ledger: Ledger) -> Clerk:
    return Clerk(ledger)


def test_an_active_binding_keeps_its_address_without_an_event(clerk: Clerk) -> None:
    clerk.allocate(1)
    assert clerk.ask(AllocateAddress(client=client(1), iaid=1, family=6), at=60) == ()


def test_two_ledgers_with_the_same_secret_choose_alike(clerk: Clerk, plan: PlanState) -> None:
    other = Ledger(b"s" * 32)
    other.evolve(PlanAdopted(plan=plan.for_subnet("office")), at=0, position=2)
    assert clerk.allocate(7).address == Clerk(other).allocate(7).address


def test_the_secret_keys_the_hash(clerk: Clerk, plan: PlanState) -> None:
    other = Ledger(b"t" * 32)
    other.evolve(PlanAdopted(plan=plan.for_subnet("office")), at=0, position=2)
    assert clerk.allocate(7).address != Clerk(other).allocate(7).address


def test_the_group_is_a_field_of_the_identifier(clerk: Clerk) -> None:
    assert clerk.allocate(1, group=0x5A1E).address[8:10] == b"\x5a\x1e"
    assert clerk.allocate(2).address[8:10] == b"\x00\x00"


def test_a_group_that_the_plan_does_not_have_is_refused(clerk: Clerk) -> None:
    assert clerk.refused(AllocateAddress(client=client(1), iaid=1, family=6, group=99)) == "unknown-group"


def test_every_address_of_a_small_pool_is_given_once_and_then_it_is_exhausted(clerk: Clerk) -> None:
    given = {clerk.allocate(number, 4).address for number in range(13)}
    # a /28 has 16 addresses: network, broadcast and gateway are never given
    assert {format_address(address) for address in given} == {f"192.0.2.{host}" for host in range(2, 15)}
    assert clerk.refused(AllocateAddress(client=client(99), iaid=1, family=4)) == "exhausted"


def test_the_longest_free_ipv4_address_is_reused_first(clerk: Clerk) -> None:
    given = {number: clerk.allocate(number, 4).address for number in range(13)}
    for number in (5, 3, 8):
        clerk.ask(ReleaseAddress(client=client(number), iaid=1, address=given[number]))
    # The hash of a newcomer may hit any of the three; whom it misses 64 times, the free list serves in its order.
    blocked = clerk.ledger.quarantine
    for number in (3, 8):
        blocked[given[number]] = 10**18
    assert clerk.allocate(50, 4).address == given[5]


def test_a_released_ipv6_address_is_not_given_to_another_client(clerk: Clerk) -> None:
    address = clerk.allocate(1).address
    clerk.ask(ReleaseAddress(client=client(1), iaid=1, address=address))
    assert clerk.allocate(1).address == address  # its own it may have again
    clerk.ask(ReleaseAddress(client=client(1), iaid=1, address=address))
    subnet = clerk.ledger.plan.subnet
    assert subnet
    assert not clerk.ledger._is_free(address, client(2), subnet, 0)
    assert clerk.ledger._is_free(address, client(1), subnet, 0)


def test_a_decline_moves_the_client_to_another_address_and_keeps_the_first_in_quarantine(clerk: Clerk) -> None:
    first = clerk.allocate(1)
    declined, moved = clerk.ask(DeclineAddress(client=client(1), iaid=1, address=first.address))
    assert isinstance(declined, AddressDeclined)
    assert isinstance(moved, HashMoved)
    assert moved.counter == 1
    second = clerk.allocate(1)
    assert second.address != first.address
    assert second.counter == 1
    assert clerk.ledger.quarantine == {first.address: 86_400 * SECOND}


def test_a_client_that_declines_all_the_time_is_refused(clerk: Clerk) -> None:
    for _ in range(MAX_DECLINES):
        clerk.ask(DeclineAddress(client=client(1), iaid=1, address=clerk.allocate(1).address))
    last = clerk.allocate(1)
    assert clerk.refused(DeclineAddress(client=client(1), iaid=1, address=last.address)) == "too-many-declines"
    clerk.ask(DeclineAddress(client=client(1), iaid=1, address=last.address), at=86_401)


def test_a_renewal_before_the_horizon_needs_no_event_and_one_past_it_does(clerk: Clerk) -> None:
    lease = clerk.allocate(1)  # valid for 3 600 s, promised for four times that
    assert lease.horizon == 4 * 3600 * SECOND
    renew = RenewAddress(client=client(1), iaid=1, address=lease.address)
    assert clerk.ask(renew, at=3 * 3600) == ()
    (renewed,) = clerk.ask(renew, at=3 * 3600 + 1)
    assert isinstance(renewed, AddressRenewed)
    assert renewed.horizon == (7 * 3600 + 1) * SECOND


def test_an_ipv4_lease_is_promised_for_one_lifetime(clerk: Clerk) -> None:
    lease = clerk.allocate(1, 4)
    assert lease.horizon == lease.valid_until == 600 * SECOND
    assert clerk.ask(RenewAddress(client=client(1), iaid=1, address=lease.address), at=1)


def test_nobody_renews_or_releases_what_another_holds(clerk: Clerk) -> None:
    address = clerk.allocate(1).address
    for kind in (RenewAddress, ReleaseAddress, DeclineAddress):
        assert clerk.refused(kind(client=client(2), iaid=1, address=address)) == "no-binding"
        assert clerk.refused(kind(client=client(1), iaid=2, address=address)) == "no-binding"


def test_a_lease_expires_at_its_horizon_and_not_before(clerk: Clerk) -> None:
    lease = clerk.allocate(1, 4)
    request = ExpireAddresses(addresses=(lease.address, lease.address, parse_address("192.0.2.14")))
    assert clerk.ledger.due(599 * SECOND, 10) == ()
    assert clerk.ask(request, at=599) == ()
    assert clerk.ledger.due(600 * SECOND, 10) == (lease.address,)
    assert clerk.ledger.due(600 * SECOND, 10) == (lease.address,)  # until the log has it
    assert clerk.ask(request, at=600) == (AddressExpired(address=lease.address, client=client(1), iaid=1),)
    assert clerk.ledger.due(600 * SECOND, 10) == ()


def test_a_renewed_lease_is_due_at_its_new_horizon_only(clerk: Clerk) -> None:
    lease = clerk.allocate(1, 4)
    clerk.ask(RenewAddress(client=client(1), iaid=1, address=lease.address), at=300)
    assert clerk.ledger.due(899 * SECOND, 10) == ()
    assert clerk.ledger.due(900 * SECOND, 10) == (lease.address,)


def test_a_plan_without_the_pool_ends_its_leases(clerk: Clerk, plan: PlanState, document: ApplyPlan) -> None:
    kept, ended = clerk.allocate(1, 6), clerk.allocate(1, 4)
    smaller = ApplyPlan(
        site=document.site,
        level=1,
        realms=document.realms,
        groups=document.groups,
        subnets=document.subnets,
        pools=document.pools[:1],
    )
    for event in plan.decide(smaller, at=0, entropy=bytes(32)):
        plan.evolve(event, at=0, position=50)
    adopt = AdoptPlan(plan=plan.for_subnet("office"))
    assert clerk.ask(adopt) == (
        PlanAdopted(plan=plan.for_subnet("office")),
        AddressWithdrawn(address=ended.address, client=client(1), iaid=1),
    )
    assert clerk.ask(adopt) == ()
    assert set(clerk.ledger.leases) == {kept.address}
    assert clerk.refused(AllocateAddress(client=client(1), iaid=1, family=4)) == "no-pool"


def test_an_older_plan_is_not_adopted(clerk: Clerk, plan: PlanState) -> None:
    old = plan.for_subnet("office")
    plan.position = 60
    clerk.ask(AdoptPlan(plan=plan.for_subnet("office")))
    assert clerk.ask(AdoptPlan(plan=old)) == ()
    assert clerk.ledger.plan_position == 60


def test_a_ledger_without_a_plan_gives_nothing() -> None:
    assert Clerk(Ledger(b"s" * 32)).refused(AllocateAddress(client=client(1), iaid=1, family=6)) == "no-subnet"
