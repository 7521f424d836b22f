"""What an agent gives by itself while the log is away."""

from __future__ import annotations

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.outage import LIFETIME, OUTAGE, grant
from dnms.events.address import AddressAllocated, OutageGranted
from dnms.events.ip import parse_address
from dnms.events.plan import Family
from dnms.events.requests import AllocateAddress, DeclineAddress, HoldAddress, MergeOutage
from tests.unit.domain.clerk import SECOND, Clerk, client

SUBNET = """
[site]
name = "example"
[[group]]
name = "voip"
number = 0x5a1e
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "2001:db8:1:2::/64", "192.0.2.0/24"]
"""
BIG = """
[[pool]]
name = "big"
subnet = "office"
range = "2001:db8:1:2::/64"
"""
FOUR = """
[[pool]]
name = "four"
subnet = "office"
range = "192.0.2.0/24"
"""
SMALL = """
[[pool]]
name = "small"
subnet = "office"
range = "2001:db8:1:1::-2001:db8:1:1:0:ff:ffff:fffe"
"""


def clerk_of(clerk: Clerk, plan: str) -> Clerk:
    clerk.adopt(plan)
    return clerk


def asking(number: int, family: Family = 6, *, group: int = 0) -> AllocateAddress:
    return AllocateAddress(client=client(number), iaid=1, family=family, group=group)


def refused(clerk: Clerk, request: AllocateAddress, *, at: int = 0) -> str:
    with pytest.raises(Refused) as refusal:
        grant(clerk.ledger, request, at=at)
    return refusal.value.why


def take(clerk: Clerk, granted: MergeOutage) -> None:
    """As an agent does with what is in its journal."""
    fields = {name: getattr(granted, name) for name in granted.__struct_fields__}
    clerk.ledger.evolve(OutageGranted(**fields), at=granted.happened, position=0)


@pytest.mark.parametrize("group", [0, 0x5A1E])
def test_it_is_what_the_log_would_have_given_for_ten_minutes_at_most(clerk: Clerk, group: int) -> None:
    clerk_of(clerk, SUBNET + BIG + FOUR)
    granted = grant(clerk.ledger, asking(1, group=group), at=7 * SECOND)
    assert (granted.happened, granted.valid_until) == (7 * SECOND, (7 + LIFETIME) * SECOND)
    assert granted.horizon == granted.valid_until
    allocated = clerk.ask(asking(1, group=group))[-1]
    assert isinstance(allocated, AddressAllocated)
    assert allocated.address == granted.address


def test_the_first_pool_is_taken_that_gives_anything(clerk: Clerk) -> None:
    granted = grant(clerk_of(clerk, SUBNET + SMALL + BIG).ledger, asking(1), at=0)
    assert granted.pool == "big"


@pytest.mark.parametrize(
    "text",
    [
        SUBNET + FOUR,
        SUBNET + SMALL,
        SUBNET + BIG + "outage = false\n",
        SUBNET + BIG + 'strategy = "random"\n',
        SUBNET + BIG + 'strategy = "sequential"\n',
        SUBNET + BIG + 'strategy = "reserved"\n',
        SUBNET + BIG + "prefix_per_host = true\n",
        SUBNET + "strict = true\n" + BIG,
        '[site]\nname = "example"\n',
    ],
)
def test_nothing_else_is_given(clerk: Clerk, text: str) -> None:
    clerk_of(clerk, text)
    assert refused(clerk, asking(1)) == OUTAGE
    assert refused(clerk, asking(1, 4)) == OUTAGE


def test_a_group_that_the_ledger_does_not_know_yet_gets_nothing(clerk: Clerk) -> None:
    assert refused(clerk_of(clerk, SUBNET + BIG), asking(1, group=0x1234)) == OUTAGE


def test_what_another_has_by_the_log_or_the_journal_is_passed_over(clerk: Clerk) -> None:
    clerk_of(clerk, SUBNET + BIG)
    first = grant(clerk.ledger, asking(1), at=0)
    clerk.ask(HoldAddress(client=client(2), iaid=1, family=6, address=first.address))
    second = grant(clerk.ledger, asking(1), at=0)
    assert (second.address != first.address, second.counter) == (True, 1)
    take(
        clerk, MergeOutage(**{name: getattr(second, name) for name in second.__struct_fields__} | {"client": client(3)})
    )
    third = grant(clerk.ledger, asking(1), at=0)
    assert (third.address in (first.address, second.address), third.counter) == (False, 2)


def test_who_has_an_address_is_given_it_again(clerk: Clerk) -> None:
    clerk_of(clerk, SUBNET + BIG + FOUR)
    granted = grant(clerk.ledger, asking(1), at=0)
    take(clerk, granted)
    again = grant(clerk.ledger, asking(1, group=0x5A1E), at=60 * SECOND, since=granted.happened)
    assert (again.address, again.group) == (granted.address, 0), "nobody moves while the log is away"
    assert again.valid_until == (60 + LIFETIME) * SECOND
    clerk.allocate(1, 4)
    assert refused(clerk, asking(1, 4)) == OUTAGE, "of IPv4 nothing, not what it had: it may be another's by now"


def test_who_has_one_kept_for_it_is_given_that(clerk: Clerk) -> None:
    clerk_of(clerk, SUBNET + BIG + SMALL)
    for number, text in ((1, "2001:db8:1:2::77"), (2, "2001:db8:1:1::77")):
        clerk.ask(HoldAddress(client=client(number), iaid=1, family=6, address=parse_address(text)))
    assert grant(clerk.ledger, asking(1), at=0).address == parse_address("2001:db8:1:2::77")
    assert refused(clerk, asking(2)) == OUTAGE


def test_what_is_kept_for_it_and_rests_is_not_given(clerk: Clerk) -> None:
    """It has declined that, and would again: another one has it on the link."""
    clerk_of(clerk, SUBNET + BIG)
    kept = parse_address("2001:db8:1:2::77")
    clerk.ask(HoldAddress(client=client(1), iaid=1, family=6, address=kept))
    assert clerk.allocate(1).address == kept
    clerk.ask(DeclineAddress(client=client(1), iaid=1, address=kept))
    assert grant(clerk.ledger, asking(1), at=SECOND).address not in (kept, clerk.allocate(2).address)
