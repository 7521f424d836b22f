"""What a ledger delegates of what the plan has, and what becomes of it."""

from __future__ import annotations

import msgspec
import pytest

from dnms.domain.delegating import MAX_ASSOCIATIONS, prefixes_of
from dnms.domain.ledger import Ledger
from dnms.events.ip import parse_prefix
from dnms.events.plan import PlanAdopted
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.requests import ExpirePrefixes, ReleasePrefix
from tests.unit.domain.clerk import SECOND, Clerk, client
from tests.unit.domain.delegations import CUT, HOP, OTHER_HOP, above, given_to, kinds, wants

STATIC = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:0:ff00::/64"]
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:0:ff00::/56"
length = 60
shortest = 58
valid = 100
preferred = 60
drain = 40
"""


@pytest.fixture
def static() -> Clerk:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(STATIC)
    return clerk


def test_every_client_has_a_block_of_its_own_until_none_is_left(static: Clerk) -> None:
    blocks = [given_to(static.ask(wants(number))) for number in range(15)]
    assert all(block.length == 60 and parse_prefix("2001:db8:0:ff00::/56").covers(block) for block in blocks)
    assert len(set(blocks)) == 15
    assert parse_prefix("2001:db8:0:ff00::/60") not in blocks  # the link's own /64 is in it
    assert static.refused(wants(15)) == "exhausted"
    static.ask(ReleasePrefix(client=client(3), iaid=1, prefix=blocks[3]))
    assert given_to(static.ask(wants(15))) == blocks[3]


def test_who_asks_again_keeps_its_prefix_and_an_event_is_written_when_it_matters(static: Clerk) -> None:
    block = given_to(static.ask(wants(1), at=0))
    assert static.ask(wants(1), at=50) == ()  # the log has promised 400 s
    [renewed] = static.ask(wants(1), at=350)
    assert isinstance(renewed, PrefixRenewed) and renewed.prefix == block
    assert (renewed.valid_until, renewed.horizon) == (450 * SECOND, 750 * SECOND)
    [moved] = static.ask(wants(1, hop=OTHER_HOP), at=351)
    assert isinstance(moved, PrefixRenewed) and moved.next_hop == OTHER_HOP


def test_agents_agree_and_a_former_client_gets_its_block_again(static: Clerk) -> None:
    block = given_to(static.ask(wants(1)))
    static.ask(ReleasePrefix(client=client(1), iaid=1, prefix=block))
    assert block not in {given_to(static.ask(wants(number))) for number in range(2, 12)}
    assert given_to(static.ask(wants(1))) == block
    other = Clerk(Ledger(b"k" * 32))
    other.adopt(STATIC)
    assert given_to(other.ask(wants(1))) == block


@pytest.mark.parametrize("prefix", ["2001:db8:1::/62", "2001:db8:1::/64", "2001:db8:1::/72"])
def test_what_came_from_above_may_be_smaller_than_any_block(prefix: str) -> None:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(CUT.replace("length = 60", "length = 60\nlongest = 60"))
    clerk.ask(above((parse_prefix(prefix), 1_000, 2_000)))
    assert clerk.refused(wants(1)) == "exhausted"
    clerk.ask(above((parse_prefix("2001:db8:2::/59"), 1_000, 2_000)))
    assert given_to(clerk.ask(wants(1))) == parse_prefix("2001:db8:2:10::/60")


def test_the_lowest_free_one_where_the_plan_wants_that() -> None:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(STATIC.replace("length = 60", 'length = 60\nstrategy = "sequential"'))
    blocks = [given_to(clerk.ask(wants(number))) for number in range(3)]
    assert [str(block) for block in blocks] == [f"2001:db8:0:ff{n}0::/60" for n in (1, 2, 3)]


@pytest.mark.parametrize(("hint", "length"), [(0, 60), (62, 62), (64, 64), (58, 58), (56, 58), (48, 58)])
def test_a_hint_for_the_length_is_honoured_as_far_as_the_plan_has_it(static: Clerk, hint: int, length: int) -> None:
    assert given_to(static.ask(wants(1, length=hint))).length == length


def test_the_link_of_the_delegating_router_is_excluded_for_who_understands_that() -> None:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(STATIC.replace("length = 60\nshortest = 58", "length = 56\nexclude = true"))
    assert clerk.refused(wants(1)) == "exhausted"
    [event] = clerk.ask(wants(1, excludes=True))
    assert isinstance(event, PrefixDelegated)
    assert (str(event.prefix), str(event.exclude)) == ("2001:db8:0:ff00::/56", "2001:db8:0:ff00::/64")
    assert clerk.ask(wants(1, excludes=True), at=1) == ()


def test_what_is_over_ends_and_says_where_it_was(static: Clerk) -> None:
    block = given_to(static.ask(wants(1)))
    assert static.ledger.delegations.due(399 * SECOND, 10) == ()
    assert static.ledger.delegations.due(400 * SECOND, 10) == (block,)
    assert static.ask(ExpirePrefixes(prefixes=(block,)), at=399) == ()
    [event] = static.ask(ExpirePrefixes(prefixes=(block,)), at=400)
    assert isinstance(event, PrefixExpired) and (event.prefix, event.next_hop) == (block, HOP)
    assert static.ask(ExpirePrefixes(prefixes=(block,)), at=401) == ()
    assert static.refused(ReleasePrefix(client=client(1), iaid=1, prefix=block)) == "no-binding"


def test_a_release_says_the_prefix_and_where_it_was(static: Clerk) -> None:
    block = given_to(static.ask(wants(1)))
    assert static.refused(ReleasePrefix(client=client(2), iaid=1, prefix=block)) == "no-binding"
    [event] = static.ask(ReleasePrefix(client=client(1), iaid=1, prefix=block))
    assert isinstance(event, PrefixReleased) and (event.prefix, event.next_hop) == (block, HOP)


def test_another_prefix_in_the_plan_drains_what_was_delegated(static: Clerk) -> None:
    block = given_to(static.ask(wants(1)))
    events = static.adopt(STATIC.replace(':ff00::/56"', ':ee00::/56"').replace(':ff00::/64"', ':ee00::/64"'))
    [deprecated] = [event for event in events if isinstance(event, PrefixDeprecated)]
    assert (deprecated.prefix, deprecated.valid_until) == (block, 40 * SECOND)
    other = given_to(static.ask(wants(1), at=1))
    assert [each.prefix for each in static.ledger.delegations.of(client(1), 1)] == [other, block]
    told = prefixes_of(static.ledger, client(1), 1, 1 * SECOND)
    assert [(each.prefix, each.preferred, each.valid) for each in told] == [(other, 60, 100), (block, 0, 39)]
    assert static.ledger.delegations.due(40 * SECOND, 10) == (block,)
    assert kinds(static.ask(ExpirePrefixes(prefixes=(block,)), at=40)) == [PrefixWithdrawn]


def test_a_plan_without_delegations_ends_them(static: Clerk) -> None:
    static.ask(wants(1))
    events = static.adopt(STATIC.partition("[[delegation]]")[0])
    assert kinds(events) == [PlanAdopted, PrefixWithdrawn]
    assert static.refused(wants(1)) == "no-delegation"


def test_a_client_has_prefixes_for_so_many_associations_and_no_more(static: Clerk) -> None:
    for iaid in range(MAX_ASSOCIATIONS):
        static.ask(msgspec.structs.replace(wants(1), iaid=iaid))
    ninth = msgspec.structs.replace(wants(1), iaid=MAX_ASSOCIATIONS)
    assert static.refused(ninth) == "too-many-associations"
    static.ask(msgspec.structs.replace(wants(1), iaid=0))  # what it has it keeps
    static.ask(wants(2))
    [first] = static.ledger.delegations.of(client(1), 0)
    static.ask(ReleasePrefix(client=client(1), iaid=0, prefix=first.prefix))
    static.ask(ninth)
