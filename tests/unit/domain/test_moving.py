"""What operators do to leases: move them to an address that they name, and end them."""

from __future__ import annotations

import msgspec
import pytest

from dnms.domain import ledger_dump
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressAllocated, AddressDeprecated, AddressWithdrawn
from dnms.events.ip import parse_address
from dnms.events.requests import AllocateAddress, HoldAddress, MergeOutage, MoveAddress, ReleaseAddress, WithdrawAddress
from tests.unit.domain.clerk import SECOND, Clerk, client

FIXED = parse_address("2001:db8:1:1::77")


def move(number: int, address: bytes, to: bytes | None) -> MoveAddress:
    return MoveAddress(client=client(number), iaid=1, address=address, to=to)


def load_again(clerk: Clerk) -> Clerk:
    """Another one, with the same ledger from a snapshot."""
    rest, buffers = ledger_dump.dump(clerk.ledger)
    ledger = Ledger(clerk.ledger.secret)
    rest = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=ledger_dump.LedgerDump)
    ledger_dump.load(ledger, rest, memoryview(b"".join(buffers)))
    return Clerk(ledger)


def test_a_client_moves_to_the_address_that_is_named_and_stays_there(clerk: Clerk) -> None:
    before = clerk.allocate(1).address
    old, new = clerk.ask(move(1, before, FIXED))
    assert isinstance(old, AddressDeprecated)
    assert isinstance(new, AddressAllocated)
    assert (old.address, new.address, new.pool) == (before, FIXED, "office-v6")
    lease = clerk.ledger.lease(client(1), 1, 6)
    assert lease is not None
    assert lease.address == FIXED
    clerk.allocate(2)
    assert clerk.ask(move(1, FIXED, FIXED)) == ()


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("2001:db8:9::1", "not-in-plan"),
        ("192.0.2.7", "not-in-plan"),
        ("2001:db8:1:1::", "reserved-address"),
        ("2001:db8:1:1:5a1e::1", "not-in-group"),
        ("2001:db8:1:1::78", "in-use"),
        ("2001:db8:1:1::79", "in-use"),
    ],
)
def test_where_a_client_cannot_be_it_does_not_move(clerk: Clerk, to: str, why: str) -> None:
    before, other = clerk.allocate(1).address, clerk.allocate(2).address
    clerk.ask(move(2, other, parse_address("2001:db8:1:1::78")))
    clerk.ask(HoldAddress(client=client(3), iaid=1, family=6, address=parse_address("2001:db8:1:1::79")))
    assert clerk.refused(move(1, before, parse_address(to))) == why


def test_a_lease_that_an_operator_ends_is_kept_from_others_until_its_horizon(clerk: Clerk) -> None:
    """The client may not have heard of it."""
    for number in range(1, 14):
        clerk.allocate(number, 4)
    given = clerk.ledger.lease(client(1), 1, 4)
    assert given is not None
    withdraw = WithdrawAddress(client=client(1), iaid=1, address=given.address)
    assert clerk.ask(withdraw) == (AddressWithdrawn(address=given.address, client=client(1), iaid=1),)
    assert clerk.refused(withdraw) == "no-binding"
    with pytest.raises(Exception, match="in use"):
        clerk.allocate(20, 4)
    assert clerk.allocate(20, 4, at=601).address == given.address


def test_what_is_drained_and_was_prolonged_in_an_outage_is_the_first_again_if_its_successor_is_no_more(
    clerk: Clerk,
) -> None:
    """The agent that prolonged it did not know that the client had moved."""
    before = clerk.allocate(1).address
    clerk.ask(move(1, before, FIXED))
    clerk.ask(ReleaseAddress(client=client(1), iaid=1, address=FIXED))
    assert clerk.ledger.lease(client(1), 1, 6) is None
    times = {"valid_until": 600 * SECOND, "horizon": 600 * SECOND, "happened": 0}
    clerk.ask(MergeOutage(client=client(1), iaid=1, address=before, pool="office-v6", **times), at=1)
    (lease,) = clerk.ledger.leases_of(client(1), 1, 6)
    assert lease.address == before
    assert not lease.drained_at
    clerk.ask(ReleaseAddress(client=client(1), iaid=1, address=before))
    assert clerk.ledger.leases_of(client(1), 1, 6) == ()


def test_who_lost_an_address_to_an_operator_has_it_again_where_no_other_is_left(clerk: Clerk) -> None:
    """It alone may: so a full pool is not full for it."""
    ended = [clerk.allocate(number, 4).address for number in range(1, 14)][:2]
    for number, address in enumerate(ended, 1):
        clerk.ask(WithdrawAddress(client=client(number), iaid=1, address=address))
    again = load_again(clerk)
    for each in (clerk, again):
        assert each.allocate(2, 4).address == ended[1]
        assert each.refused(AllocateAddress(client=client(20), iaid=1, family=4)) == "exhausted"
        assert each.allocate(1, 4).address == ended[0]
        assert not each.ledger.remembered.promised_to(client(1))
