"""A subnet gets other prefixes and pools: make before break."""

from __future__ import annotations

import msgspec

from dnms.domain import ledger_dump
from dnms.domain.assignment import assign
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressDeprecated, AddressRenewed, AddressWithdrawn
from dnms.events.ip import family, parse_address, parse_prefix
from dnms.events.plan import PlanAdopted
from dnms.events.requests import AllocateAddress, ExpireAddresses, HoldAddress, RenewAddress
from tests.unit.domain.clerk import SECOND, Clerk, client
from tests.unit.domain.conftest import PLAN
from tests.unit.domain.test_forecast import foreseen

RENUMBERED = PLAN.replace("2001:db8:1:1:", "2001:db8:2:2:").replace("192.0.2.", "198.51.100.")
OLD6, OLD4 = parse_prefix("2001:db8:1:1::/64"), parse_prefix("192.0.2.0/28")
NEW6, NEW4 = parse_prefix("2001:db8:2:2::/64"), parse_prefix("198.51.100.0/28")
DRAIN = 3_600  # of the pools


def told(clerk: Clerk, number: int, *, at: int) -> dict[bytes, tuple[int, int, int]]:
    """Of each address of a client: prefix length, and for how long it is preferred and valid."""
    leases = [lease for kind in (6, 4) for lease in clerk.ledger.leases_of(client(number), 1, kind)]
    terms = assign(clerk.ledger, leases, client=client(number), group=0, at=at * SECOND, epoch=0, position=1)
    return {each.address: (each.prefix_length, each.preferred, each.valid) for each in terms.assignment.addresses}


def test_the_old_addresses_are_deprecated_the_new_ones_stand_beside_them_and_then_the_old_ones_go(clerk: Clerk) -> None:
    old = [clerk.allocate(1, kind, at=0).address for kind in (6, 4)]
    adopted, *deprecated = clerk.ask(clerk.adopting(RENUMBERED), at=100)
    assert isinstance(adopted, PlanAdopted)
    assert sorted(event.address for event in deprecated if isinstance(event, AddressDeprecated)) == sorted(old)
    assert len(deprecated) == 2
    new = [clerk.allocate(1, kind, at=100).address for kind in (6, 4)]
    assert new[0] in NEW6
    assert new[1] in NEW4
    has = told(clerk, 1, at=100)
    assert has[old[0]] == (64, 0, DRAIN)
    assert has[old[1]] == (124, 0, 500)  # of IPv4 no more than a lifetime was promised, 100 s ago
    assert has[new[0]] == (64, 2_700, 3_600)
    assert has[new[1]] == (124, 300, 600)
    assert told(clerk, 1, at=100 + DRAIN - 10)[old[0]] == (64, 0, 10)
    # A renewal of all of it is not refused, and brings no more of the old ones.
    for address in (*old, *new):
        clerk.ask(RenewAddress(client=client(1), iaid=1, address=address), at=1_900)
    assert told(clerk, 1, at=1_900)[old[0]] == (64, 0, DRAIN + 100 - 1_900)
    over = (100 + DRAIN) * SECOND
    assert clerk.ledger.drained(over - 1, 10) == ()
    assert clerk.ledger.drained(over, 10) == (old[0],)
    ended = clerk.ask(ExpireAddresses(addresses=(old[0],)), at=100 + DRAIN)
    assert ended == (AddressWithdrawn(address=old[0], client=client(1), iaid=1),)
    assert old[0] not in told(clerk, 1, at=100 + DRAIN)


def test_the_agents_that_adopt_once_more_find_nothing_to_do(clerk: Clerk) -> None:
    clerk.allocate(1)
    adopting = clerk.adopting(RENUMBERED)
    assert clerk.ask(adopting)
    assert clerk.ask(adopting) == ()


def test_who_asks_for_nothing_new_keeps_the_old_address_until_it_is_drained(clerk: Clerk) -> None:
    old = clerk.allocate(1).address
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    assert clerk.ask(RenewAddress(client=client(1), iaid=1, address=old), at=20) == ()
    assert told(clerk, 1, at=20) == {old: (64, 0, DRAIN - 10)}
    assert clerk.ledger.adopted.is_on_link(old)


def test_the_plan_comes_back_and_so_do_the_addresses(clerk: Clerk) -> None:
    old = clerk.allocate(1).address
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    new = clerk.allocate(1, at=10).address
    [_, deprecated] = clerk.ask(clerk.adopting(PLAN), at=20)
    assert isinstance(deprecated, AddressDeprecated)
    assert deprecated.address == new
    [renewed] = clerk.ask(AllocateAddress(client=client(1), iaid=1, family=6), at=20)
    assert isinstance(renewed, AddressRenewed)
    assert renewed.address == old
    assert {address: each[1] for address, each in told(clerk, 1, at=20).items()} == {old: 2_700, new: 0}


def test_several_renumberings_one_after_the_other_leave_all_that_is_drained(clerk: Clerk) -> None:
    first = clerk.allocate(1).address
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    second = clerk.allocate(1, at=10).address
    clerk.ask(clerk.adopting(RENUMBERED.replace("2001:db8:2:2:", "2001:db8:3:3:")), at=20)
    third = clerk.allocate(1, at=20).address
    has = told(clerk, 1, at=20)
    assert {address: each[:2] for address, each in has.items()} == {third: (64, 2_700), second: (64, 0), first: (64, 0)}
    clerk.ask(ExpireAddresses(addresses=(first, second)), at=20 + DRAIN)
    clerk.ask(clerk.adopting(RENUMBERED), at=21 + DRAIN)
    assert [place.pool.first for place in clerk.ledger.adopted.leaving] == [parse_address("2001:db8:3:3::")]


def test_what_nothing_takes_the_place_of_ends_at_once(clerk: Clerk) -> None:
    for kind in (6, 4):
        clerk.allocate(1, kind)
    four = clerk.ledger.leases_of(client(1), 1, 4)[0].address
    without = PLAN[: PLAN.index('[[pool]]\nname = "office-v4"')]
    assert AddressWithdrawn(address=four, client=client(1), iaid=1) in clerk.ask(clerk.adopting(without))


def test_an_address_that_is_kept_for_its_node_is_drained_too(clerk: Clerk) -> None:
    old = clerk.allocate(1).address
    clerk.ask(HoldAddress(client=client(1), iaid=1, family=6, address=old))
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    new = clerk.allocate(1, at=10).address
    assert {address: each[1] for address, each in told(clerk, 1, at=10).items()} == {old: 0, new: 2_700}


def test_a_snapshot_remembers_where_the_old_addresses_lie(clerk: Clerk) -> None:
    old = clerk.allocate(1).address
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    rest, buffers = ledger_dump.dump(clerk.ledger)
    again = Ledger(clerk.ledger.secret)
    dumped = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=ledger_dump.LedgerDump)
    ledger_dump.load(again, dumped, memoryview(b"".join(buffers)))
    assert told(Clerk(again), 1, at=10) == told(clerk, 1, at=10) == {old: (64, 0, DRAIN)}
    assert again.drained((10 + DRAIN) * SECOND, 10) == (old,)


def test_all_nodes_of_a_subnet_move_in_as_many_commits_as_it_takes(clerk: Clerk) -> None:
    olds = {clerk.allocate(number).address for number in range(1, 200)}
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    news = {clerk.allocate(number, at=10).address for number in range(1, 200)}
    assert all(address in NEW6 for address in news)
    assert all(lease.drained_at == (10 + DRAIN) * SECOND for lease in map(clerk.ledger.leases.__getitem__, olds))
    assert all(family(each.address) == 6 for each in clerk.ledger.leases.values())


def test_what_begins_anew_may_not_be_on_the_link(clerk: Clerk) -> None:
    clerk.ask(clerk.adopting(RENUMBERED), at=10)
    assert not clerk.ledger.adopted.is_on_link(parse_address("2001:db8:1:1::5")), "nobody had an address there"


def test_who_renumbers_is_told_who_moves(clerk: Clerk) -> None:
    for number in (1, 2, 3):
        clerk.allocate(number)
    found = foreseen(clerk, RENUMBERED)
    assert (found.leases, found.withdrawn, found.moved, found.without) == (3, 0, 3, 0)
