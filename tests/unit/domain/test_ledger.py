from __future__ import annotations

import msgspec
import pytest

from dnms.domain.aggregate import Question, Refused, settle
from dnms.domain.allocating import MAX_OTHERS, Search
from dnms.domain.declining import MAX_DECLINES
from dnms.domain.document import LEVEL
from dnms.domain.horizons import SLACK
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressDeprecated,
    AddressExpired,
    AddressRenewed,
    AddressWithdrawn,
    HashMoved,
)
from dnms.events.ip import family, format_address, parse_address
from dnms.events.plan import PlanAdopted
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    ApplyPlan,
    DeclineAddress,
    ExpireAddresses,
    HoldAddress,
    MoveAddress,
    ReleaseAddress,
    RenewAddress,
)
from tests.unit.domain.clerk import SECOND, Clerk, client
from tests.unit.domain.conftest import PLAN

FEW = """
[site]
name = "example"
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
[[pool]]
name = "few"
subnet = "office"
range = "2001:db8:1:1::10-2001:db8:1:1::17"
"""

COUNTED = """
[site]
name = "example"
[[subnet]]
name = "office"
prefixes = ["198.18.0.0/23"]
[[pool]]
name = "counted"
subnet = "office"
range = "198.18.0.1-198.18.1.254"
strategy = "sequential"
"""


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


@pytest.mark.parametrize("released", [False, True], ids=["never given", "released"])
def test_in_a_full_range_the_last_request_of_a_commit_looks_no_longer_than_the_first(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch, released: bool
) -> None:
    """What those before it were given is passed over, and not tried once more by each."""
    clerk.adopt(COUNTED)
    last = parse_address("198.18.1.254")
    clerk.ask(HoldAddress(client=client(0), iaid=1, family=4, address=last))
    assert clerk.allocate(0, 4).address == last  # so that no one comes after the highest that was given
    if released:
        given = [clerk.allocate(number, 4).address for number in range(1, 510)]
        for number in range(0, 400, 2):
            clerk.ask(ReleaseAddress(client=client(number + 1), iaid=1, address=given[number]))
    looks, is_free = [0], Search.is_free

    def counted(self: Search, address: bytes) -> bool:
        looks[0] += 1
        return is_free(self, address)

    monkeypatch.setattr(Search, "is_free", counted)
    questions = [Question(AllocateAddress(client=client(1_000 + each), iaid=1, family=4)) for each in range(200)]
    _, answers = settle(clerk.ledger, questions, commit_id=bytes(16), at=0, predecessor=clerk.position, actor="agent/a")
    granted = [answer[-1] for answer in answers if not isinstance(answer, Refused)]
    assert len({event.address for event in granted if isinstance(event, AddressAllocated)}) == 200
    assert looks[0] <= 3 * 200


def test_a_released_ipv6_address_is_given_to_another_client_when_nothing_else_is_free(clerk: Clerk) -> None:
    clerk.adopt(FEW)  # eight addresses
    given = {number: clerk.allocate(number).address for number in range(4)}
    clerk.ask(ReleaseAddress(client=client(0), iaid=1, address=given[0]))
    clerk.ask(ReleaseAddress(client=client(1), iaid=1, address=given[1]))
    others = {clerk.allocate(number).address for number in range(10, 14)}
    assert not others & set(given.values())
    assert clerk.allocate(1).address == given[1]  # its own it has again
    assert clerk.allocate(20).address == given[0]  # the last one
    assert clerk.refused(AllocateAddress(client=client(21), iaid=1, family=6)) == "exhausted"


def test_every_address_of_a_small_ipv6_pool_is_given(clerk: Clerk) -> None:
    clerk.adopt(FEW)
    given = {clerk.allocate(number).address for number in range(8)}
    assert {format_address(address) for address in given} == {f"2001:db8:1:1::1{host}" for host in range(8)}


def test_a_client_that_is_in_another_group_now_moves_and_may_use_both_until_the_first_is_drained(clerk: Clerk) -> None:
    plain = clerk.allocate(1)
    moved = AllocateAddress(client=client(1), iaid=1, family=6, group=0x5A1E)
    left, allocated = clerk.ask(moved, at=60)
    until = (60 + 3_600) * SECOND
    assert left == AddressDeprecated(address=plain.address, client=client(1), iaid=1, valid_until=until)
    assert isinstance(allocated, AddressAllocated)
    assert allocated.address[8:10] == b"\x5a\x1e"
    first, second = clerk.ledger.leases_of(client(1), 1, 6)
    assert (first.address, first.drained_at) == (allocated.address, 0)
    assert (second.address, second.drained_at) == (plain.address, until)
    assert clerk.ask(moved, at=60) == ()
    # It is not given more of it, and others do not get it before its horizon.
    assert clerk.ask(RenewAddress(client=client(1), iaid=1, address=plain.address), at=3_000) == ()
    assert clerk.ledger.drained(until - 1, 10) == ()
    assert clerk.ask(ExpireAddresses(addresses=(plain.address,)), at=3_659) == ()
    assert clerk.ledger.drained(until, 10) == clerk.ledger.drained(until, 10) == (plain.address,)
    over = clerk.ask(ExpireAddresses(addresses=(plain.address,)), at=3_660)
    assert over == (AddressWithdrawn(address=plain.address, client=client(1), iaid=1),)
    assert clerk.ledger.leases_of(client(1), 1, 6) == (first,)
    assert clerk.ledger.drained(until, 10) == ()
    take = MoveAddress(client=client(2), iaid=1, address=clerk.allocate(2).address, to=plain.address)
    assert clerk.refused(take, at=14_399) == "in-use"
    assert [type(event) for event in clerk.ask(take, at=14_400)] == [AddressDeprecated, AddressAllocated]


def test_who_comes_back_to_a_group_has_its_address_again(clerk: Clerk) -> None:
    plain = clerk.allocate(1)
    moved = clerk.allocate(1, group=0x5A1E)
    back = clerk.ask(AllocateAddress(client=client(1), iaid=1, family=6), at=60)
    assert [type(event) for event in back] == [AddressDeprecated, AddressRenewed]
    assert [event.address for event in back if isinstance(event, AddressDeprecated)] == [moved.address]
    first, second = clerk.ledger.leases_of(client(1), 1, 6)
    assert (first.address, first.drained_at, second.address) == (plain.address, 0, moved.address)


def test_a_client_has_a_bounded_number_of_addresses_to_drain(clerk: Clerk) -> None:
    groups = "".join(f'[[group]]\nname = "g{number}"\nnumber = {number}\n' for number in range(1, 31))
    clerk.adopt(PLAN + groups)
    for number in range(1, 31):
        clerk.allocate(1, group=number)
    assert len(clerk.ledger.leases_of(client(1), 1, 6)) == 1 + MAX_OTHERS
    assert [lease.group for lease in clerk.ledger.leases_of(client(1), 1, 6)] == [30, *range(22, 30)]


def test_an_address_that_says_no_group_stays_and_is_of_the_new_group(clerk: Clerk) -> None:
    four = clerk.allocate(1, 4)
    again = clerk.allocate(1, 4, group=0x5A1E)
    assert (again.address, again.group) == (four.address, 0x5A1E)
    [lease] = clerk.ledger.leases_of(client(1), 1, 4)
    assert lease.group == 0x5A1E
    assert clerk.ask(AllocateAddress(client=client(1), iaid=1, family=4, group=0x5A1E)) == ()


def test_what_a_plan_withdrew_is_kept_for_its_client_while_the_promise_lasts(clerk: Clerk) -> None:
    held = clerk.allocate(1, 4)
    clerk.adopt(FEW)  # without the IPv4 pool
    assert not any(family(address) == 4 for address in clerk.ledger.leases)
    clerk.adopt(PLAN)
    others = [clerk.allocate(number, 4, at=599).address for number in range(10, 22)]
    assert held.address not in others
    assert clerk.refused(AllocateAddress(client=client(30), iaid=1, family=4), at=599) == "exhausted"
    assert clerk.allocate(1, 4, at=599).address == held.address


def test_what_a_plan_withdrew_is_anybodys_after_the_promise(clerk: Clerk) -> None:
    held = clerk.allocate(1, 4)
    clerk.adopt(FEW)
    clerk.adopt(PLAN)
    given = [clerk.allocate(number, 4, at=600).address for number in range(10, 23)]
    assert held.address in given


def test_a_new_gateway_takes_its_address_from_whom_it_was_given_to(clerk: Clerk) -> None:
    held = clerk.allocate(1, 4)
    events = clerk.adopt(PLAN.replace('"192.0.2.1"', f'"{format_address(held.address)}"'))
    assert AddressWithdrawn(address=held.address, client=client(1), iaid=1) in events
    assert clerk.allocate(1, 4).address != held.address


def test_a_gateway_of_a_group_is_given_to_nobody(clerk: Clerk) -> None:
    held = clerk.allocate(1, 4)
    gateway = format_address(held.address)
    events = clerk.adopt(PLAN + f'[[subnet.group]]\nname = "voip"\ngateways = ["{gateway}"]\n')
    assert AddressWithdrawn(address=held.address, client=client(1), iaid=1) in events
    given = [clerk.allocate(number, 4).address for number in range(1, 13)]
    assert held.address not in given
    assert clerk.refused(AllocateAddress(client=client(14), iaid=1, family=4)) == "exhausted"
    reserve = HoldAddress(client=client(15), iaid=1, family=4, address=held.address)
    assert clerk.refused(reserve) == "not-in-plan"


def test_a_ledger_of_a_higher_level_is_not_decided_on(clerk: Clerk, plan: PlanState) -> None:
    held = clerk.allocate(1)
    newer = msgspec.structs.replace(plan.for_subnet("office"), position=50, level=LEVEL + 1)
    assert clerk.refused(AdoptPlan(plan=newer)) == "level"
    clerk.ledger.evolve(PlanAdopted(plan=newer), at=0, position=50)
    assert clerk.refused(RenewAddress(client=client(1), iaid=1, address=held.address)) == "level"
    assert clerk.refused(AdoptPlan(plan=newer)) == "level"


def test_a_client_that_renews_all_the_time_costs_no_memory(clerk: Clerk) -> None:
    lease = clerk.allocate(1, 4)
    for second in range(2 * SLACK):
        clerk.ask(RenewAddress(client=client(1), iaid=1, address=lease.address), at=second)
    assert len(clerk.ledger.horizons) <= SLACK + 2
    assert clerk.ledger.due(10**18, 10) == (lease.address,)


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


def test_what_ends_at_once_is_found_in_parts(clerk: Clerk) -> None:
    """However many horizons lie in one minute, who asks for a few is told a few, and in the end of all."""
    given = {clerk.allocate(number).address for number in range(100)}
    found: set[bytes] = set()
    while due := clerk.ledger.due(10**18, 1):
        clerk.ask(ExpireAddresses(addresses=due), at=10**18)
        found |= set(due)
    assert found == given
