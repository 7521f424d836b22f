"""A ledger that was written and read again goes on as if it had been folded, in all that it remembers."""

from __future__ import annotations

import msgspec
import pytest

from dnms.domain import ledger_dump
from dnms.domain.ledger import Ledger
from dnms.domain.ledger_dump import LedgerDump
from dnms.events.requests import DeclineAddress, HoldAddress, MoveAddress, ReleaseAddress
from tests.unit.domain.clerk import Clerk, client
from tests.unit.domain.conftest import PLAN

SEQUENTIAL = PLAN.replace('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::/64"\nstrategy = "sequential"')


def again(clerk: Clerk) -> Clerk:
    """The same ledger, read from what was written of it."""
    rest, buffers = ledger_dump.dump(clerk.ledger)
    ledger = Ledger(clerk.ledger.secret)
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=LedgerDump)
    ledger_dump.load(ledger, read, memoryview(b"".join(buffers)))
    other = Clerk(ledger)
    other.position = clerk.position
    return other


def test_who_counts_goes_on_behind_what_was_given(clerk: Clerk) -> None:
    clerk.adopt(SEQUENTIAL)
    given = [clerk.allocate(number) for number in (1, 2)]
    clerk.ask(ReleaseAddress(client=client(2), iaid=1, address=given[1].address))
    other = again(clerk)
    assert other.allocate(2).address == clerk.allocate(2).address != given[1].address


def test_what_ends_is_found(clerk: Clerk) -> None:
    leases = {clerk.allocate(number, kind).address for number in range(3) for kind in (4, 6)}
    assert not again(clerk).ledger.due(0, 10)
    later = 10**18
    clerk.ledger.due(later, 1)  # some of it is sorted already
    assert set(again(clerk).ledger.due(later, 10)) == leases


def test_what_rests_is_kept_or_was_moved_is_remembered(clerk: Clerk) -> None:
    lease = clerk.allocate(1)
    clerk.ask(DeclineAddress(client=client(1), iaid=1, address=lease.address))
    clerk.ask(HoldAddress(client=client(2), iaid=1, family=6))
    first = clerk.allocate(3)
    clerk.ask(MoveAddress(client=client(3), iaid=1, address=first.address))
    other = again(clerk)
    assert other.ledger.quarantine == clerk.ledger.quarantine != {}
    assert other.ledger.holds == clerk.ledger.holds != {}
    assert other.ledger.leases_of(client(3), 1, 6) == clerk.ledger.leases_of(client(3), 1, 6)
    assert len(other.ledger.leases_of(client(3), 1, 6)) == 2
    assert [other.allocate(number).address for number in (1, 2)] == [
        clerk.allocate(number).address for number in (1, 2)
    ]


def test_buffers_of_another_size_are_no_ledger(clerk: Clerk) -> None:
    clerk.allocate(1)
    rest, buffers = ledger_dump.dump(clerk.ledger)
    with pytest.raises(ValueError, match=r"other sizes|another size"):
        ledger_dump.load(Ledger(b"s" * 32), rest, memoryview(b"".join(buffers)[:-1]))
