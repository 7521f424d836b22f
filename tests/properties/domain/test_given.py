"""An index of what is free, kept up from the beginning, says what one says that is made now, in the same order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.domain.aggregate import Refused
from dnms.domain.given import Given
from dnms.domain.ledger import Ledger
from dnms.domain.ranges import Ranges
from dnms.events.ip import MAPPED
from dnms.events.recorded import Request
from dnms.events.requests import (
    AllocateAddress,
    BlockAddress,
    DeclineAddress,
    ExpireAddresses,
    HoldAddress,
    ReleaseAddress,
    UnholdAddress,
    WithdrawAddress,
)
from tests.unit.domain.clerk import Clerk, client

PLAN = """
[site]
name = "example"

[[subnet]]
name = "office"
prefixes = ["192.0.2.0/28", "2001:db8::/56"]

[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/28"
strategy = "sequential"
valid = 600
preferred = 300
quarantine = 60

[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8::/60"
prefix_per_host = true
valid = 600
preferred = 300
quarantine = 60
"""
FIRST = int.from_bytes(MAPPED + bytes([192, 0, 2, 0]))
FOURS = Ranges([(FIRST, FIRST + 15)])
NETWORK = int.from_bytes(bytes.fromhex("20010db800000000"))
BLOCKS = Ranges([(NETWORK, NETWORK + 15)])

STEP = st.tuples(st.sampled_from("aahhurdwbe"), st.integers(1, 9), st.integers(0, 15), st.sampled_from((4, 6)))


def _request(ledger: Ledger, what: str, number: int, which: int, kind: int) -> Request:
    who = client(number)
    address = (FIRST + which).to_bytes(16) if kind == 4 else (NETWORK + which << 64 | 7).to_bytes(16)
    lease = ledger.leases.get(address)
    owner = who if lease is None else lease.client
    match what:
        case "a":
            return AllocateAddress(client=who, iaid=1, family=kind)  # type: ignore[arg-type]
        case "h":
            return HoldAddress(client=owner, iaid=1, family=kind, address=address)  # type: ignore[arg-type]
        case "u":
            keeper, iaid = ledger.held.get(address, (who, 1))
            return UnholdAddress(client=keeper, iaid=iaid, address=address)
        case "b":
            return BlockAddress(client=who, address=address, cause=1)
        case "e":
            return ExpireAddresses(addresses=tuple(ledger.leases))
    kinds = {"r": ReleaseAddress, "d": DeclineAddress, "w": WithdrawAddress}
    return kinds[what](client=owner, iaid=1, address=address)


def _says(given: Given, at: int) -> list[list[bytes]]:
    return [
        list(given.reusable(FOURS, 0, client=bytes(16), start=0, at=at)),
        list(given.reusable(BLOCKS, 64, client=bytes(16), start=0, at=at)),
    ]


@settings(max_examples=300)
@given(st.lists(STEP, max_size=60), st.integers(1, 400))
def test_an_index_is_kept_up(steps: list[tuple[str, int, int, int]], pace: int) -> None:
    clerk = Clerk(Ledger(bytes(32)))
    clerk.adopt(PLAN)
    ledger = clerk.ledger
    _says(ledger.given, 0)
    for number, step in enumerate(steps):
        at = number * pace
        try:
            clerk.ask(_request(ledger, *step), at=at)
        except Refused:
            continue
        ledger._forget(at * 1_000_000)
        assert _says(ledger.given, at * 1_000_000) == _says(Given(ledger), at * 1_000_000)


def test_of_what_was_kept_the_one_that_is_free_for_longest_comes_first() -> None:
    clerk = Clerk(Ledger(bytes(32)))
    clerk.adopt(PLAN)
    first, second, *_ = (clerk.allocate(number, 4).address for number in range(1, 15))
    clerk.ask(HoldAddress(client=client(1), iaid=1, family=4, address=first))
    for number, address in ((1, first), (2, second)):
        clerk.ask(ReleaseAddress(client=client(number), iaid=1, address=address))
    clerk.ask(UnholdAddress(client=client(1), iaid=1, address=first))
    assert [clerk.allocate(number, 4).address for number in (20, 21)] == [second, first]
