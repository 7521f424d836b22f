"""What is made of what a link says, in virtual time: who has what, duplicates, moves, scans; bounded whatever comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.agents.subnet import seeing_table
from dnms.agents.subnet.seeing_table import AGAIN, MAX_A_MACHINE, SCAN, SCANNED, SETTLE, Table, Verdict
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.wire.nd import PrefixInformation, RouterAdvertisement
from dnms.wire.seen import Claim, DhcpServer, Fact, Probe, Router, Wanted

A, B, C = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3))
ONE, TWO = parse_address("2001:db8::1"), parse_address("192.0.2.1")
OFFICE = parse_prefix("192.0.2.0/24")


def host(number: int) -> bytes:
    return (int.from_bytes(TWO) + number).to_bytes(16)


def test_an_address_is_due_when_it_is_heard_of_and_again_after_a_while() -> None:
    table = Table()
    table.hear(Claim(ONE, A), 0)
    assert table.due(0, 9) == [ONE]
    table.hear(Claim(ONE, A), 1)
    assert table.due(1, 9) == []
    table.hear(Claim(ONE, A), AGAIN)
    assert table.due(AGAIN, 9) == [ONE]
    assert table.heard[ONE].last == AGAIN


def test_what_could_not_be_dealt_with_is_due_later() -> None:
    table = Table()
    table.hear(Claim(ONE, A), 0)
    [found] = table.due(0, 9)
    table.look_again(found, 60)
    assert table.due(59, 9) == []
    assert table.due(60, 9) == [ONE]


def test_an_address_that_is_probed_for_counts_when_nobody_objects() -> None:
    table = Table()
    table.hear(Probe(ONE, A), 0)
    assert table.due(SETTLE - 0.1, 9) == []
    assert table.due(SETTLE, 9) == [ONE]
    assert table.contested(99) == []


def test_who_probes_for_an_address_of_another_is_told_of_and_does_not_get_it() -> None:
    table = Table()
    table.hear(Claim(ONE, A), 0)
    table.hear(Probe(ONE, B), 100)
    table.hear(Claim(ONE, A), 100.1)
    assert table.contested(100 + SETTLE) == [ONE]
    assert table.settle({ONE: ()}, 100 + SETTLE) == [Verdict(ONE, B, A, duplicate=True)]
    assert table.heard[ONE].hardware == A


def test_who_objects_to_a_probe_of_somebody_who_was_heard_first_has_the_address() -> None:
    table = Table()
    table.hear(Probe(ONE, B), 0)
    table.hear(Claim(ONE, A), 0.1)
    assert table.due(SETTLE, 9) == []
    assert table.settle({ONE: (A,)}, SETTLE + 0.1) == [Verdict(ONE, B, A, duplicate=True)]
    assert table.heard[ONE].hardware == A


def test_two_that_probe_for_one_address_are_told_of() -> None:
    table = Table()
    table.hear(Probe(ONE, A), 0)
    table.hear(Probe(ONE, B), 0.2)
    assert table.settle({ONE: ()}, SETTLE + 0.2) == [Verdict(ONE, A, B, duplicate=True)]


@pytest.mark.parametrize("how", ["it speaks", "it answers"])
def test_two_that_are_there_have_one_address(how: str) -> None:
    table = Table()
    table.hear(Claim(ONE, A), 0)
    table.hear(Claim(ONE, B), 50)
    if how == "it speaks":
        table.hear(Claim(ONE, A), 51)
    answers = {ONE: (A, B) if how == "it answers" else ()}
    assert table.settle(answers, 50 + SETTLE) == [Verdict(ONE, B, A, duplicate=True)]
    assert table.contested(99) == []


def test_an_address_whose_first_machine_is_gone_has_moved() -> None:
    table = Table()
    table.hear(Claim(ONE, A), 0)
    table.due(0, 9)
    table.hear(Claim(ONE, B), 50)
    table.hear(Claim(ONE, B), 51)
    assert table.settle({ONE: (B,)}, 50 + SETTLE) == [Verdict(ONE, B, A, duplicate=False)]
    assert (table.heard[ONE].hardware, table.of(A), table.of(B)) == (B, [], [ONE])
    assert table.due(50 + SETTLE, 9) == [ONE]


def test_an_address_of_this_machine_is_nobody_elses() -> None:
    table = Table()
    table.own = {ONE: C}
    table.hear(Claim(ONE, A), 0)
    assert table.settle({ONE: (A,)}, SETTLE) == [Verdict(ONE, A, C, duplicate=True)]
    assert not table.heard


def test_who_asks_for_many_that_nobody_has_is_scanning_and_who_asks_for_one_is_not() -> None:
    table = Table(lambda asked: OFFICE if asked.address in OFFICE else None)
    for number in range(4 * SCANNED):
        table.hear(Wanted(host(200), A, ONE), number)
        table.hear(Wanted(parse_address("198.51.100.1"), A, ONE), number)
    assert not table.scans
    for number in range(SCANNED):
        table.hear(Wanted(host(number), B if number else A, ONE), 1_000 + number / 100)
    assert table.scans[OFFICE].hardware == B
    table.age(1_000 + 6 * SCAN)
    assert not table.scans


def test_who_asks_slowly_is_not_scanning() -> None:
    table = Table(lambda _: OFFICE)
    for number in range(4 * SCANNED):
        table.hear(Wanted(host(number), A, ONE), number * 2 * SCAN / SCANNED)
    assert not table.scans


def test_what_is_heard_of_is_not_dark() -> None:
    table = Table(lambda _: OFFICE)
    for number in range(SCANNED):
        table.hear(Claim(host(number), bytes([2, 1, 0, 0, 0, number])), 0)
    for number in range(SCANNED):
        table.hear(Wanted(host(number), A, ONE), 1)
    assert not table.scans


def advertised(lifetime: int, *, valid: int = 0) -> Router:
    prefix = Prefix(parse_address("2001:db8::"), 64)
    said = PrefixInformation(prefix=prefix, on_link=True, autonomous=True, valid=valid, preferred=0)
    return Router(ONE, A, RouterAdvertisement(lifetime=lifetime, prefixes=(said,) if valid else ()))


def test_a_router_is_there_as_long_as_it_said_and_no_longer_when_it_takes_leave() -> None:
    table = Table()
    table.hear(advertised(600), 0)
    table.age(599)
    assert table.routers
    table.hear(advertised(0, valid=86_400), 599)
    table.age(599)
    assert not table.routers


def test_who_only_tells_prefixes_is_a_router_too() -> None:
    table = Table()
    table.hear(advertised(0, valid=86_400), 0)
    table.age(seeing_table.ROUTER_STAYS - 1)
    assert table.routers
    table.age(seeing_table.ROUTER_STAYS)
    assert not table.routers


def test_a_server_that_speaks_itself_tells_more_than_its_clients() -> None:
    table = Table()
    table.hear(DhcpServer(4, TWO), 0)
    table.hear(DhcpServer(4, TWO, A), 1)
    table.hear(DhcpServer(4, TWO), 2)
    [server] = table.servers.values()
    assert (server.said.hardware, server.last) == (A, 2)


HARDWARE = st.integers(0, 300).map(lambda n: bytes([2, 0, 0, 0]) + n.to_bytes(2))
ADDRESSES = st.integers(0, 400).map(host)
FACTS: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Claim, ADDRESSES, HARDWARE),
    st.builds(Probe, ADDRESSES, HARDWARE),
    st.builds(Wanted, ADDRESSES, HARDWARE, ADDRESSES),
    st.builds(
        lambda address, hardware: Router(address, hardware, RouterAdvertisement(lifetime=9)), ADDRESSES, HARDWARE
    ),
    st.builds(DhcpServer, st.sampled_from([4, 6]), ADDRESSES, HARDWARE),
)


@given(st.lists(st.tuples(FACTS, st.floats(0, 20)), max_size=300), st.integers(0, 3))
def test_whatever_comes_the_tables_are_bounded_and_agree(said: list[tuple[Fact, float]], answering: int) -> None:
    table, now = Table(lambda _: OFFICE), 0.0
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MAX_ADDRESSES", 40), ("MAX_A_MACHINE", 4), ("MAX_CONTESTS", 5), ("MAX_ROUTERS", 3)):
            patch.setattr(seeing_table, name, value)
        patch.setattr(seeing_table, "MAX_DUE", 30)
        for fact, pause in said:
            now += pause
            table.hear(fact, now)
            before = {address: known.hardware for address, known in table.heard.items()}
            due = table.due(now, 3)
            assert set(due) <= before.keys()
            contested = table.contested(now)
            for verdict in table.settle({each: (before.get(each, A),) * answering for each in contested}, now):
                assert verdict.hardware != verdict.other
                assert before[verdict.address] in (verdict.hardware, verdict.other)
            assert len(table.heard) <= 40
            assert len(table.contests) <= 5
            assert max(len(table.routers), len(table.servers)) <= 3
            assert len(table._due) <= 30
            table.age(now)
            machines = {known.hardware for known in table.heard.values()}
            assert sorted(each for one in machines for each in table.of(one)) == sorted(table.heard)
            assert all(len(table.of(one)) <= 4 for one in machines)
            assert table._machines.keys() == machines
            assert table.contests.keys() <= table.heard.keys()


def flood(table: Table, fact: Callable[[int], Fact]) -> None:
    for number in range(20_000):
        table.hear(fact(number), number / 1_000)


def test_a_flood_of_forged_addresses_takes_no_more_room_than_the_cap() -> None:
    table = Table()
    flood(table, lambda n: Claim(host(n), bytes([2, 0]) + n.to_bytes(4)))
    assert len(table.heard) == seeing_table.MAX_ADDRESSES
    assert len(table._due) <= seeing_table.MAX_DUE
    assert table.dropped["forgotten"] == 20_000 - seeing_table.MAX_ADDRESSES


def test_a_machine_that_says_that_it_has_all_addresses_has_a_few() -> None:
    table = Table()
    flood(table, lambda n: Claim(host(n), A))
    assert len(table.heard) == MAX_A_MACHINE
