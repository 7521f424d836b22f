"""What a ledger delegates of what comes from above, and what becomes of that when it changes above."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.domain import uplinks
from dnms.domain.adopting import MAX_CONSEQUENCES
from dnms.domain.delegating import prefixes_of
from dnms.domain.ledger import Ledger
from dnms.domain.ledger_dump import dump, load
from dnms.events.address import AddressAllocated, AddressDeprecated, AddressWithdrawn
from dnms.events.ip import Prefix, parse_prefix
from dnms.events.plan import PlanAdopted
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.requests import AdoptPlan, DelegatePrefix, ExpirePrefixes, ReleasePrefix
from dnms.events.uplink import UplinkDeprecated, UplinkLost, UplinkReceived
from tests.unit.domain.clerk import SECOND, Clerk, client
from tests.unit.domain.delegations import CUT, NEW, OLD, above, given_to, kinds, wants


def test_nothing_is_given_before_something_came_from_above(cut: Clerk) -> None:
    assert cut.refused(wants(1)) == "no-prefix"
    assert kinds(cut.ask(above((OLD, 1_000, 2_000)))) == [UplinkReceived, PlanAdopted]
    subnet = cut.ledger.plan.subnet
    assert subnet is not None and [str(each) for each in subnet.prefixes] == ["2001:db8:1:100::/64"]
    assert cut.allocate(1).address in subnet.prefixes[0]
    block = given_to(cut.ask(wants(1)))
    assert OLD.covers(block) and not block.overlaps(subnet.prefixes[0])


def test_the_same_plan_again_is_no_news_where_something_came_from_above(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    cut.allocate(1)
    request = cut.adopting(CUT)
    assert kinds(cut.ask(request)) == [PlanAdopted]  # at a newer position
    assert cut.ask(request) == ()


def test_a_prefix_that_the_plan_has_too_stays_when_it_comes_from_above_no_longer() -> None:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(CUT.replace('uplink = "wan"', 'uplink = "wan"\nprefixes = ["2001:db8:1:100::/64"]'))
    clerk.ask(above((OLD, 1_000, 2_000)))
    clerk.ask(above(why="released"), at=1)
    subnet = clerk.ledger.plan.subnet
    assert subnet is not None and [str(each) for each in subnet.prefixes] == ["2001:db8:1:100::/64"]


def test_no_lifetime_below_exceeds_the_one_above(cut: Clerk) -> None:
    cut.ask(above((OLD, 40, 50)))
    event, address = cut.ask(wants(1))[0], cut.allocate(1)
    assert isinstance(event, PrefixDelegated)
    assert (event.valid_until, event.horizon) == (50 * SECOND, 50 * SECOND)
    assert (address.valid_until, address.horizon) == (50 * SECOND, 50 * SECOND)
    [told] = prefixes_of(cut.ledger, client(1), 1, 10 * SECOND)
    assert (told.preferred, told.valid) == (30, 40)
    assert kinds(cut.ask(above((OLD, 500, 600)), at=10)) == [UplinkReceived]
    assert kinds(cut.ask(wants(1), at=11)) == [PrefixRenewed]


def test_another_prefix_above_renumbers_what_is_below_make_before_break(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    address, block = cut.allocate(1).address, given_to(cut.ask(wants(1)))
    events = cut.ask(above((OLD, 0, 30), (NEW, 1_000, 2_000)), at=10)
    assert kinds(events) == [
        UplinkDeprecated,
        UplinkReceived,
        PlanAdopted,
        PrefixDeprecated,
        AddressDeprecated,
    ]
    assert [event.valid_until for event in events if isinstance(event, PrefixDeprecated | AddressDeprecated)] == [
        30 * SECOND,
        30 * SECOND,
    ]
    other, second = given_to(cut.ask(wants(1), at=11)), cut.allocate(1, at=11).address
    assert NEW.covers(other) and second in NEW
    assert {each.address for each in cut.ledger.leases_of(client(1), 1, 6)} == {address, second}
    events = cut.ask(above((NEW, 1_000, 2_000)), at=31)
    assert kinds(events) == [UplinkLost, PlanAdopted, PrefixWithdrawn, AddressWithdrawn]
    assert [each.prefix for each in cut.ledger.delegations.of(client(1), 1)] == [other]
    assert block != other


def test_what_is_cut_above_is_deprecated_for_as_long_as_it_takes_to_have_another(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    cut.allocate(1)
    cut.ask(wants(1))
    events = cut.ask(above((NEW, 1_000, 2_000)), at=10)
    assert kinds(events) == [UplinkReceived, UplinkDeprecated, PlanAdopted, PrefixDeprecated, AddressDeprecated]
    assert {event.valid_until for event in events if isinstance(event, UplinkDeprecated)} == {70 * SECOND}
    assert NEW.covers(given_to(cut.ask(wants(1), at=10)))
    assert cut.ask(above((NEW, 1_000, 2_000)), at=20) == ()
    events = cut.ask(above((NEW, 1_000, 2_000)), at=70)
    assert kinds(events) == [UplinkLost, PlanAdopted, PrefixWithdrawn, AddressWithdrawn]


def test_what_another_router_of_the_link_has_is_left_to_it(cut: Clerk) -> None:
    one, other = (
        msgspec.structs.replace(above((prefix, 1_000, 2_000)), agent=agent)
        for prefix, agent in ((OLD, "a1"), (NEW, "a2"))
    )
    assert kinds(cut.ask(one)) == [UplinkReceived, PlanAdopted]
    assert kinds(cut.ask(other, at=1)) == [UplinkReceived, PlanAdopted]
    assert cut.ask(one, at=2) == () and cut.ask(other, at=3) == ()
    gone = msgspec.structs.replace(above(why="released"), agent="a1")
    [lost] = [event for event in cut.ask(gone, at=4) if isinstance(event, UplinkLost)]
    assert lost.prefix == OLD
    [expired] = [event for event in cut.ask(gone, at=2_001) if isinstance(event, UplinkLost)]
    assert (expired.prefix, expired.why) == (NEW, "expired")


def test_what_was_given_back_ends_at_once(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    cut.allocate(1)
    cut.ask(wants(1))
    events = cut.ask(above(why="released"), at=10)
    assert kinds(events) == [UplinkLost, PlanAdopted, PrefixWithdrawn, AddressWithdrawn]
    assert cut.refused(wants(1), at=10) == "no-prefix"


def test_a_deprecated_prefix_is_given_of_while_there_is_no_other(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    block = given_to(cut.ask(wants(1)))
    assert kinds(cut.ask(above((OLD, 0, 90)), at=10)) == [UplinkDeprecated]
    [told] = prefixes_of(cut.ledger, client(1), 1, 20 * SECOND)
    assert (told.prefix, told.preferred, told.valid) == (block, 0, 70)
    assert kinds(cut.ask(above((OLD, 1_000, 2_000)), at=30)) == [UplinkReceived]


def test_what_belongs_to_the_link_above_is_not_given(cut: Clerk) -> None:
    exclude = parse_prefix("2001:db8:1:1f7::/64")
    cut.ask(above((OLD, 1_000, 2_000), exclude=exclude))
    blocks = [given_to(cut.ask(wants(number))) for number in range(14)]
    assert not any(block.overlaps(exclude) for block in blocks)
    assert cut.refused(wants(14)) == "exhausted"


def test_an_uplink_that_the_plan_has_no_more_is_lost_with_all_that_was_cut(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    cut.allocate(1)
    cut.ask(wants(1))
    events = cut.adopt(CUT.replace('"wan"', '"other"'))
    assert kinds(events) == [UplinkLost, PlanAdopted, PrefixWithdrawn, AddressWithdrawn]
    assert cut.refused(above((OLD, 1_000, 2_000))) == "not-planned"


def test_lifetimes_that_came_in_seconds_are_no_news_each_time(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    assert cut.ask(above((OLD, 1_001, 2_001))) == ()


def test_it_goes_on_from_a_snapshot_as_it_would_have(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    for number in range(5):
        cut.ask(wants(number))
    cut.ask(above((OLD, 0, 1_500), (NEW, 1_000, 2_000)), at=10)
    cut.ask(wants(2), at=11)
    rest, buffers = dump(cut.ledger)
    loaded = Clerk(Ledger(b"k" * 32))
    loaded.position = cut.position
    load(loaded.ledger, rest, memoryview(b"".join(map(bytes, buffers))))
    for request in (wants(1), wants(2), wants(7), above((NEW, 1_000, 2_000))):
        assert loaded.ask(request, at=12) == cut.ask(request, at=12)
    assert loaded.ledger.delegations.due(10_000 * SECOND, 100) == cut.ledger.delegations.due(10_000 * SECOND, 100)


Step = tuple[str, int, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["delegate", "release", "expire", "new", "deprecate", "cut"]),
            st.integers(0, 20),
            st.sampled_from([0, 58, 60, 62, 64]),
        ),
        max_size=40,
    )
)
@settings(max_examples=150, deadline=None)
def test_no_two_blocks_overlap_and_none_outlives_what_it_is_cut_from(steps: list[Step]) -> None:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(CUT.replace("length = 60", "length = 60\nshortest = 58"))
    have: dict[Prefix, tuple[int, int]] = {}
    now = 0
    for what, number, length in steps:
        now += 7
        ledger = clerk.ledger
        held = ledger.delegations.of(client(number), 1)
        if what in ("new", "deprecate", "cut"):
            prefix = parse_prefix(f"2001:db8:{number % 3 + 1}::/56")
            if what == "cut":
                have.pop(prefix, None)
            else:
                have[prefix] = (0 if what == "deprecate" else now + 50, now + 90)
            have = {each: ends for each, ends in have.items() if ends[1] > now}
            clerk.ask(above(*((each, *ends) for each, ends in have.items())), at=now)
        elif what == "delegate" and any(ends[1] > now for ends in have.values()):
            if clerk.ledger.uplinks and max(each.valid_until for each in ledger.uplinks.values()) > now * SECOND:
                _try(clerk, wants(number, length=length), now)
        elif what == "release" and held:
            clerk.ask(ReleasePrefix(client=client(number), iaid=1, prefix=held[0].prefix), at=now)
        elif what == "expire":
            clerk.ask(ExpirePrefixes(prefixes=ledger.delegations.due(now * SECOND, 100)), at=now)
        _check(ledger, now)


def _try(clerk: Clerk, request: DelegatePrefix, now: int) -> None:
    from dnms.domain.aggregate import Refused  # noqa: PLC0415

    try:
        clerk.ask(request, at=now)
    except Refused as refusal:
        assert refusal.why in ("exhausted", "no-prefix")


def _check(ledger: Ledger, now: int) -> None:
    several = sorted(ledger.delegations.all.values(), key=lambda each: each.prefix)
    for one, other in pairwise(several):
        assert not one.prefix.overlaps(other.prefix)
    for each in several:
        [source] = [known for known in ledger.uplinks.values() if known.prefix.covers(each.prefix)]
        for told in prefixes_of(ledger, each.client, 1, now * SECOND):
            if told.prefix == each.prefix:
                assert now + told.valid <= source.valid_until // SECOND
    subnet = ledger.plan.subnet
    assert subnet is not None
    for link in subnet.prefixes:
        assert not any(each.prefix.overlaps(link) for each in several)


def test_addresses_are_of_the_new_prefix_first(cut: Clerk) -> None:
    cut.ask(above((OLD, 1_000, 2_000)))
    cut.ask(above((OLD, 1_000, 2_000), (NEW, 1_000, 2_000)), at=1)
    subnet = cut.ledger.plan.subnet
    assert subnet is not None and [str(each) for each in subnet.prefixes] == [
        "2001:db8:2:200::/64",
        "2001:db8:1:100::/64",
    ]
    event = cut.allocate(1)
    assert isinstance(event, AddressAllocated) and event.address in NEW
    assert not isinstance(event, AddressWithdrawn)


def test_what_is_cut_from_a_lost_prefix_ends_however_much_it_is() -> None:
    clerk, many = Clerk(Ledger(b"k" * 32)), MAX_CONSEQUENCES + 100
    clerk.adopt(CUT.replace("length = 60", "length = 64"))
    clerk.ask(above((parse_prefix("2001:db8::/48"), 1000, 1000)))
    for number in range(many):
        clerk.ask(wants(number))
    ended = kinds(clerk.ask(above(why="withdrawn"), at=10)).count(PrefixWithdrawn)
    assert ended == MAX_CONSEQUENCES
    rest, buffers = dump(clerk.ledger)
    load(after := Ledger(b"k" * 32), rest, memoryview(b"".join(map(bytes, buffers))))
    clerk.ledger = after  # as after a restart
    again = AdoptPlan(plan=uplinks.planned(clerk.ledger.plan))
    while events := clerk.ask(again, at=10):
        assert set(kinds(events)) == {PrefixWithdrawn}
        ended += len(events)
    assert ended == many
    assert not clerk.ledger.delegations.all


def test_a_prefix_in_which_the_former_lies_takes_its_place_and_the_links_own_is_nobody_elses(cut: Clerk) -> None:
    small, large = parse_prefix("2001:db8:0:10::/60"), parse_prefix("2001:db8::/56")
    cut.ask(above((small, 1000, 1000)))
    cut.ask(above((large, 1000, 1000), (small, 0, 500)))
    assert cut.ledger.plan.subnet is not None
    own = cut.ledger.plan.subnet.prefixes
    assert own == (parse_prefix("2001:db8::/64"), parse_prefix("2001:db8:0:10::/64"))
    given = [given_to(cut.ask(wants(number))) for number in range(14)]
    assert not any(block.overlaps(link) for block in given for link in own)
    assert cut.refused(wants(14)) == "exhausted"


def test_what_lies_in_two_prefixes_lasts_as_long_as_the_longer(cut: Clerk) -> None:
    small, large = parse_prefix("2001:db8:0:10::/60"), parse_prefix("2001:db8::/56")
    static = CUT.replace("length = 60", "length = 64")
    cut.adopt(static)
    cut.ask(above((small, 0, 50)))
    block = given_to(cut.ask(wants(1)))
    assert small.covers(block)
    cut.ask(above((large, 1000, 1000), (small, 0, 50)), at=10)
    cut.ask(wants(1), at=10)
    [told] = prefixes_of(cut.ledger, client(1), 1, 10 * SECOND)
    assert (told.prefix, told.preferred, told.valid) == (block, 60, 100)
    assert PrefixWithdrawn not in kinds(cut.ask(above((large, 1000, 1000)), at=60))
    assert [each.prefix for each in prefixes_of(cut.ledger, client(1), 1, 60 * SECOND)] == [block]


def test_a_server_that_is_asked_every_second_does_not_fill_the_log(cut: Clerk) -> None:
    cut.ask(above((OLD, 3_600, 7_200)))
    recorded = [cut.ask(above((OLD, now + 3_600, now + 7_200)), at=now) for now in range(1, 3_600)]
    assert sum(map(len, recorded)) <= 10
    known = cut.ledger.uplinks[OLD]
    assert 3_240 <= known.preferred_until // SECOND - 3_599 <= 3_600
    assert kinds(cut.ask(above((OLD, 5_000, 6_000)), at=3_601)) == [UplinkReceived]  # what ends sooner is told at once
