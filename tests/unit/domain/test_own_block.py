"""Hosts that have a /64 of their own, and all of their addresses in it (RFC 8273)."""

from __future__ import annotations

import pytest

from dnms.events.address import AddressAllocated, AddressHeld
from dnms.events.ip import parse_address
from dnms.events.requests import (
    AllocateAddress,
    HoldAddress,
    MoveAddress,
    ReleaseAddress,
    UnholdAddress,
    WithdrawAddress,
)
from tests.unit.domain.clerk import SECOND, Clerk, client, hold

PER_HOST = """
[site]
name = "example"
[[group]]
name = "voip"
number = 0x5a1e
[[subnet]]
name = "office"
prefixes = ["2001:db8:{bits}"]
[[pool]]
name = "instances"
subnet = "office"
range = "2001:db8:{bits}"
prefix_per_host = true
strategy = "{strategy}"
"""


@pytest.mark.parametrize("strategy", ["hash", "random", "sequential"])
def test_every_host_has_a_64_of_its_own_and_all_of_its_addresses_in_it(clerk: Clerk, strategy: str) -> None:
    clerk.adopt(PER_HOST.format(bits=":/48", strategy=strategy))
    blocks: dict[bytes, int] = {}
    for number in range(50):
        one = clerk.allocate(number, entropy=bytes([number]) * 16)
        other = clerk.ask(AllocateAddress(client=client(number), iaid=2, family=6), entropy=b"o" * 16)[-1]
        assert isinstance(other, AddressAllocated)
        assert one.address[:8] == other.address[:8]
        assert one.address != other.address
        assert blocks.setdefault(one.address[:8], number) == number
    assert len(blocks) == 50
    moved = clerk.allocate(1, group=0x5A1E)
    assert blocks[moved.address[:8]] == 1
    assert moved.address[8:10] == b"\x5a\x1e"


def test_the_64_in_which_an_address_is_kept_is_nobody_elses_before_its_client_comes(clerk: Clerk) -> None:
    clerk.adopt(PER_HOST.format(bits=":/61", strategy="hash"))
    kept = {}
    for number in range(7):
        held = clerk.ask(HoldAddress(client=client(number), iaid=1, family=6))[-1]
        assert isinstance(held, AddressHeld)
        kept[number] = held.address
    stranger = clerk.allocate(9).address
    assert len({address[:8] for address in (stranger, *kept.values())}) == 8
    assert clerk.refused(AllocateAddress(client=client(10), iaid=1, family=6)) == "exhausted"
    second = clerk.ask(AllocateAddress(client=client(3), iaid=2, family=6))[-1]  # before its first one has come
    assert isinstance(second, AddressAllocated)
    assert second.address[:8] == kept[3][:8]
    assert {number: clerk.allocate(number).address for number in kept} == kept
    clerk.adopt(PER_HOST.format(bits=":/61", strategy="random"))
    assert clerk.refused(HoldAddress(client=client(10), iaid=1, family=6)) == "exhausted"
    clerk.ask(UnholdAddress(client=client(3), iaid=1, address=kept[3]))
    for iaid, address in ((1, kept[3]), (2, second.address)):
        clerk.ask(ReleaseAddress(client=client(3), iaid=iaid, address=address))
    assert clerk.allocate(10).address[:8] == kept[3][:8]


def test_all_that_is_kept_for_a_host_is_in_one_64(clerk: Clerk) -> None:
    clerk.adopt(PER_HOST.format(bits=":/48", strategy="hash"))
    clerk.ask(hold(1, "2001:db8:0:7::1"))
    assert clerk.refused(hold(1, "2001:db8:0:8::1")) == "other-block"
    assert clerk.refused(hold(1, "2001:db8:0:8::1", iaid=2)) == "other-block"
    assert clerk.ask(hold(1, "2001:db8:0:7::2"))


def test_a_host_moves_to_another_64_with_all_that_it_has_or_not_at_all(clerk: Clerk) -> None:
    clerk.adopt(PER_HOST.format(bits=":/48", strategy="hash"))
    lease, there = clerk.allocate(1), parse_address("2001:db8:0:8::1")
    clerk.ask(AllocateAddress(client=client(1), iaid=2, family=6))
    assert clerk.refused(hold(1, "2001:db8:0:8::1")) == "other-block"
    move = MoveAddress(client=client(1), iaid=1, address=lease.address, to=there)
    assert clerk.refused(move) == "other-block"
    clerk.ask(ReleaseAddress(client=client(1), iaid=2, address=clerk.ledger.bindings[client(1), 2, 6]))
    clerk.ask(move)
    assert clerk.ledger.bindings[client(1), 1, 6] == there


def test_as_many_hosts_as_blocks_and_a_block_is_free_again_with_its_last_address(clerk: Clerk) -> None:
    clerk.adopt(PER_HOST.format(bits=":/61", strategy="hash"))
    given = [clerk.allocate(number).address for number in range(8)]
    assert len({address[:8] for address in given}) == 8
    request = AllocateAddress(client=client(9), iaid=1, family=6)
    assert clerk.refused(request) == "exhausted"
    second = clerk.ask(AllocateAddress(client=client(3), iaid=2, family=6))[0]
    assert isinstance(second, AddressAllocated)
    clerk.ask(ReleaseAddress(client=client(3), iaid=1, address=given[3]))
    assert clerk.refused(request) == "exhausted"
    clerk.ask(ReleaseAddress(client=client(3), iaid=2, address=second.address))
    assert clerk.allocate(9).address[:8] == given[3][:8]


@pytest.mark.parametrize("ends", [WithdrawAddress, ReleaseAddress])
def test_a_hosts_own_block_is_nobody_elses_while_an_address_of_it_is_promised(
    clerk: Clerk, ends: type[WithdrawAddress | ReleaseAddress]
) -> None:
    """Neither what is kept there for another one is given, nor is another one moved there."""
    clerk.adopt(PER_HOST.format(bits=":/61", strategy="hash"))
    given = [clerk.allocate(number).address for number in range(8)]
    second = clerk.ask(AllocateAddress(client=client(3), iaid=2, family=6))[0]
    assert isinstance(second, AddressAllocated)
    promised = clerk.ledger.leases[given[3]].horizon
    clerk.ask(WithdrawAddress(client=client(3), iaid=1, address=given[3]))
    clerk.ask(ends(client=client(3), iaid=2, address=second.address), at=1)
    kept = given[3][:8] + bytes(7) + b"\x77"
    clerk.ask(HoldAddress(client=client(9), iaid=1, family=6, address=kept), at=2)
    assert clerk.refused(AllocateAddress(client=client(9), iaid=1, family=6), at=3) == "exhausted"
    aside = given[3][:8] + bytes(7) + b"\x78"
    assert clerk.refused(MoveAddress(client=client(1), iaid=1, address=given[1], to=aside), at=3) == "in-use"
    assert clerk.allocate(9, at=promised // SECOND).address == kept


def test_a_hosts_own_block_is_its_own_again_where_it_was_withdrawn(clerk: Clerk) -> None:
    clerk.adopt(PER_HOST.format(bits=":/61", strategy="hash"))
    given = [clerk.allocate(number).address for number in range(8)]
    clerk.ask(WithdrawAddress(client=client(3), iaid=1, address=given[3]))
    assert clerk.refused(AllocateAddress(client=client(9), iaid=1, family=6), at=1) == "exhausted"
    assert clerk.allocate(3, at=1).address[:8] == given[3][:8]


def test_a_plan_that_gives_every_host_its_own_takes_out_who_shares(clerk: Clerk) -> None:
    clerk.adopt(PER_HOST.format(bits=":/48", strategy="hash").replace("prefix_per_host = true", "").replace(
        'range = "2001:db8::/48"', 'range = "2001:db8::/64"'
    ))  # fmt: skip
    shared = [clerk.allocate(number).address for number in range(3)]
    clerk.adopt(PER_HOST.format(bits=":/48", strategy="hash"))
    assert list(clerk.ledger.leases) == [min(shared)]
    assert len({clerk.allocate(number).address[:8] for number in range(3) if number != shared.index(min(shared))}) == 2
