"""What a ledger makes of what agents see on its link: once each, bounded, and given to nobody else."""

from __future__ import annotations

import pytest

from dnms.domain import sightings
from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.domain.ledger_dump import dump, load
from dnms.domain.sightings import COUNTS, UNSEEN
from dnms.events.address import AddressAllocated, AddressHeld
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced, AlarmCleared, AlarmRaised
from dnms.events.recorded import Event
from dnms.events.requests import (
    AllocateAddress,
    AnnounceAgent,
    ClearAlarm,
    HoldAddress,
    LoseAddresses,
    RaiseAlarm,
    SightAddress,
    Unseen,
)
from tests.unit.domain.clerk import SECOND, Clerk, client

PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
[[pool]]
name = "four"
subnet = "office"
range = "192.0.2.2-192.0.2.5"
strategy = "sequential"
valid = 600
preferred = 300
"""
SLAAC, FOUR = parse_address("2001:db8:1:1::5e"), parse_address("192.0.2.2")
DAY = 86_400


@pytest.fixture
def link() -> Clerk:
    clerk = Clerk(Ledger(b"k" * 32))
    clerk.adopt(PLAN)
    return clerk


def sight(clerk: Clerk, number: int, address: bytes = SLAAC, *, at: int = 0) -> tuple[Event, ...]:
    return clerk.ask(SightAddress(address=address, client=client(number), form="random", lasting="temporary"), at=at)


def lose(clerk: Clerk, address: bytes = SLAAC, *, last_seen: int = 0, at: int) -> tuple[Event, ...]:
    return clerk.ask(LoseAddresses(unseen=(Unseen(address=address, last_seen=last_seen * SECOND),)), at=at)


def allocate(clerk: Clerk, number: int, *, at: int = 0) -> bytes:
    *_, event = clerk.ask(AllocateAddress(client=client(number), iaid=1, family=4), at=at)
    assert isinstance(event, AddressAllocated)
    return event.address


def test_what_is_seen_again_is_nothing_new_until_half_of_its_time_is_over(link: Clerk) -> None:
    [seen] = sight(link, 1)
    assert isinstance(seen, AddressSighted)
    assert (seen.since, seen.until, seen.lasting) == (0, COUNTS * SECOND, "temporary")
    assert sight(link, 1, at=COUNTS // 2) == ()
    [again] = sight(link, 1, at=COUNTS // 2 + 1)
    assert isinstance(again, AddressSighted)
    assert (again.since, again.until) == (0, (COUNTS // 2 + 1 + COUNTS) * SECOND)


def test_what_looks_like_chance_and_is_there_for_over_a_week_is_stable(link: Clerk) -> None:
    sight(link, 1)
    sight(link, 1, at=COUNTS // 2 + 1)
    [again] = sight(link, 1, at=COUNTS + 2)
    assert isinstance(again, AddressSighted)
    assert (again.lasting, again.sure) == ("stable", "likely")


def test_an_address_that_goes_to_another_machine_vanishes_from_the_first(link: Clerk) -> None:
    sight(link, 1)
    gone, seen = sight(link, 2, at=5)
    assert gone == AddressVanished(address=SLAAC, client=client(1), last_seen=0)
    assert isinstance(seen, AddressSighted)
    assert (seen.client, seen.since) == (client(2), 5 * SECOND)
    assert link.ledger.sightings.number == 1


def test_an_address_vanishes_when_nobody_has_seen_it_for_a_day(link: Clerk) -> None:
    sight(link, 1)
    assert lose(link, at=UNSEEN - 1) == ()
    assert lose(link, last_seen=100, at=UNSEEN) == ()
    assert lose(link, last_seen=100, at=UNSEEN + 100) == (
        AddressVanished(address=SLAAC, client=client(1), last_seen=100 * SECOND),
    )
    assert lose(link, at=2 * UNSEEN) == ()
    assert not link.ledger.sightings.all


def test_an_address_that_somebody_uses_is_given_to_nobody_else(link: Clerk) -> None:
    sight(link, 9, FOUR)
    given = [allocate(link, number) for number in (1, 2, 3)]
    assert FOUR not in given
    with pytest.raises(Refused, match="every address"):
        allocate(link, 4)
    assert lose(link, FOUR, at=UNSEEN)
    assert allocate(link, 4, at=UNSEEN) == FOUR


def test_who_uses_an_address_is_given_that_if_it_asks(link: Clerk) -> None:
    for host in range(2, 6):
        sight(link, host, parse_address(f"192.0.2.{host}"))
    assert allocate(link, 4) == parse_address("192.0.2.4")


def test_an_address_is_kept_and_still_not_given_while_another_uses_it(link: Clerk) -> None:
    sight(link, 9, FOUR)
    held = link.ask(HoldAddress(client=client(1), iaid=1, family=4, address=FOUR))
    assert isinstance(held[0], AddressHeld)
    assert allocate(link, 1) != FOUR


def test_where_nobody_watches_any_more_it_counts_for_a_week(link: Clerk) -> None:
    sight(link, 9, FOUR)
    assert FOUR not in [allocate(link, number, at=COUNTS - 1) for number in (1, 2, 3)]
    assert allocate(link, 4, at=COUNTS) == FOUR
    assert lose(link, FOUR, at=COUNTS)


def test_what_the_ledger_gave_is_nothing_that_is_seen(link: Clerk) -> None:
    assert sight(link, 1, allocate(link, 1)) == ()
    assert sight(link, 7, allocate(link, 2)) == ()


def test_so_many_addresses_are_recorded_and_no_more(link: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "MAX_SIGHTED", 3)
    for number in range(3):
        sight(link, 1, parse_address(f"fe80::{number + 1}"))
    with pytest.raises(Refused, match="3 addresses") as refused:
        sight(link, 1, parse_address("fe80::9"))
    assert refused.value.why == "too-many-sightings"
    assert sight(link, 2, parse_address("fe80::1"))
    lose(link, parse_address("fe80::2"), at=DAY)
    assert sight(link, 1, parse_address("fe80::9"), at=DAY)


def duplicate(number: int) -> RaiseAlarm:
    return RaiseAlarm(alarm="duplicate", address=parse_address(f"fe80::{number}"), client=client(1), other=client(2))


def test_an_alarm_is_raised_once_and_cleared_once(link: Clerk) -> None:
    asked = duplicate(1)
    assert link.ask(asked) == (
        AlarmRaised(alarm="duplicate", address=asked.address, client=client(1), other=client(2)),
    )
    assert link.ask(asked) == ()
    assert link.ask(RaiseAlarm(alarm="duplicate", address=asked.address, client=client(3))) == ()
    clear = ClearAlarm(alarm="duplicate", address=asked.address, client=client(3))
    assert link.ask(clear) == (AlarmCleared(alarm="duplicate", address=asked.address, client=client(1), why="over"),)
    assert link.ask(clear) == ()
    assert link.ask(asked)


def test_servers_of_which_no_address_is_known_are_told_apart(link: Clerk) -> None:
    for number in (1, 2):
        assert link.ask(RaiseAlarm(alarm="dhcp-server", address=bytes(16), client=client(number)))
    assert link.ask(ClearAlarm(alarm="dhcp-server", address=bytes(16), client=client(1)))
    assert list(link.ledger.sightings.alarms) == [("dhcp-server", client(2))]


def test_a_server_of_dhcpv6_is_one_by_whatever_it_is_known_first(link: Clerk) -> None:
    named, heard = bytes(16), parse_address("fe80::7")
    for first, then in ((named, heard), (heard, named)):
        assert link.ask(RaiseAlarm(alarm="dhcp-server", address=first, client=client(1)))
        assert link.ask(RaiseAlarm(alarm="dhcp-server", address=then, client=client(1))) == ()
        assert link.ask(RaiseAlarm(alarm="dhcp-server", address=FOUR, client=client(1)))  # what it does by DHCPv4
        for address in (first, FOUR):
            assert link.ask(ClearAlarm(alarm="dhcp-server", address=address, client=client(1)))
        assert not link.ledger.sightings.alarms


def test_so_many_alarms_are_open_and_no_more(link: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "MAX_ALARMS", 2)
    link.ask(duplicate(1))
    link.ask(duplicate(2))
    with pytest.raises(Refused) as refused:
        link.ask(duplicate(3))
    assert refused.value.why == "too-many-alarms"
    assert link.ask(duplicate(1)) == ()


def test_an_agent_announces_itself_when_it_is_known_by_something_else(
    link: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "MAX_AGENTS", 1)
    asked = AnnounceAgent(agent="a1", addresses=(SLAAC,), servers=(client(5),))
    assert link.ask(asked) == (AgentAnnounced(agent="a1", addresses=(SLAAC,), servers=(client(5),)),)
    assert link.ask(asked) == ()
    assert link.ask(AnnounceAgent(agent="a1", addresses=(FOUR,)))
    seen = link.ledger.sightings
    assert (seen.is_ours(FOUR), seen.is_ours(SLAAC), seen.is_server(client(5))) == (True, False, False)
    with pytest.raises(Refused) as refused:
        link.ask(AnnounceAgent(agent="a2", addresses=(SLAAC,)))
    assert refused.value.why == "too-many-agents"


def test_a_draft_leaves_it_as_it_is(link: Clerk) -> None:
    sight(link, 1)
    link.ask(duplicate(1))
    before = link.ledger.sightings.dump()
    draft = link.ledger.draft()
    for event in (
        AddressVanished(address=SLAAC, client=client(1), last_seen=0),
        AddressSighted(address=FOUR, client=client(1), form="ipv4", since=0, until=9),
        AlarmCleared(alarm="duplicate", address=parse_address("fe80::1"), client=client(1), why="over"),
        AgentAnnounced(agent="a", addresses=()),
    ):
        draft.evolve(event, at=0, position=0)
    assert (draft.sightings.number, len(draft.sightings.all)) == (1, 1)
    assert link.ledger.sightings.dump() == before


def test_what_is_dumped_and_what_is_folded_is_the_same(link: Clerk) -> None:
    sight(link, 1)
    sight(link, 9, FOUR)
    prefix = parse_prefix("192.0.2.0/28")
    link.ask(RaiseAlarm(alarm="scan", address=prefix.network, client=client(3), prefix=prefix))
    link.ask(AnnounceAgent(agent="a1", addresses=(SLAAC,), servers=(client(5),)))
    rest, buffers = dump(link.ledger)
    loaded, folded = Ledger(b"k" * 32), Ledger(b"k" * 32)
    load(loaded, rest, memoryview(b"".join(buffers)))
    for event in link.ledger.sightings.folded():
        folded.evolve(event, at=0, position=1)
    for other in (loaded, folded):
        assert other.sightings.dump() == link.ledger.sightings.dump()
        assert other.sightings.number == 2
