"""Who had which addresses when, over prefixes and times, against a list of intervals that is looked through."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.events.address import AddressAllocated, AddressBlocked, AddressReleased, OutageGranted
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.ip import format_address, parse_address, parse_prefix
from dnms.events.node import NodeIdentified, NodeJoined
from dnms.events.recorded import Event, Personal
from dnms.events.seen import ConfigurationRegistered, SessionClosed, SessionOpened
from dnms.projections import naive
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, SITE, Happened, happened, stored
from dnms.projections.history import queries
from dnms.projections.history.holding import CONFIRMED, CONTRADICTED, SINGLE, Holding
from dnms.projections.naive import Interval, Naive
from dnms.projections.runner import rebuild
from dnms.projections.text import microseconds
from dnms.projections.views import Views
from tests.contracts.projections.logs import ADDRESSES, CLIENTS, folder, logs, memory_log, write

Answer = tuple[Interval, str]
"""An interval, and how sure it is."""


async def folded(path: Path, *commits: Happened) -> None:
    log = memory_log()
    await write(log, *commits)
    await rebuild(log, path, site=SITE)


def lasts(interval: Interval, first: int, last: int) -> bool:
    """Whether an interval has a moment in common with a time, of which both ends are a part."""
    _, _, source, since, until, _ = interval
    if since > last:
        return False
    return until is None or until > first or (source == "seen" and since == until and since >= first)


def overlap(one: Interval, other: Interval) -> bool:
    """Whether two intervals have a moment in common."""
    early, late = sorted([one, other], key=lambda interval: interval[3])
    return early[4] is None or late[3] < early[4] or early[3] == early[4] == late[3]


def expected(log: Naive, addresses: list[str], times: tuple[int, int]) -> Counter[Answer]:
    """What the answer has to be."""
    found = [one for one in log.intervals if one[0] in addresses and lasts(one, *times)]
    answers: Counter[Answer] = Counter()
    for place, one in enumerate(found):
        sure = SINGLE
        for other in [*found[:place], *found[place + 1 :]]:
            if other[0] != one[0] or not overlap(one, other):
                continue
            if log.joins.get(one[1], one[1]) != log.joins.get(other[1], other[1]):
                sure = CONTRADICTED if one[5] == other[5] else sure
            elif one[2] != other[2] and sure == SINGLE:
                sure = CONFIRMED
        answers[one, sure] += 1
    return answers


def said(holdings: list[Holding]) -> Counter[Answer]:
    """What the answer is."""
    return Counter(
        (
            (
                one.address,
                one.client,
                one.source,
                microseconds(one.since),
                None if one.until is None else microseconds(one.until),
                one.subnet,
            ),
            one.sure,
        )
        for one in holdings
    )


@settings(max_examples=60)
@given(
    log=logs(),
    bounds=st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES)).map(sorted),
    times=st.one_of(
        st.just(queries.EVER),
        st.integers(0, 80).map(lambda at: (at, at)),
        st.tuples(st.integers(0, 80), st.integers(0, 80)).map(lambda both: (min(both), max(both))),
    ),
    limit=st.integers(1, 4),
)
async def test_who_had_is_what_a_list_of_intervals_says(
    log: list[Happened], bounds: list[bytes], times: tuple[int, int], limit: int
) -> None:
    told = naive.fold(stored(tuple(log)))
    inside = [address for address in ADDRESSES if bounds[0] <= address <= bounds[1]]
    with folder() as directory:
        path = directory / "views.db"
        await folded(path, *log)
        views = Views(path)
        async with views.read() as reading:
            found: list[Holding] = []
            after: bytes | None = b""
            while after is not None:
                page, after = await queries.holdings(reading.db, bounds[0], bounds[1], times, after=after, limit=limit)
                found += page
            around = {one[0] for one in told.prefix_intervals if _overlaps(one[0], bounds[0], bounds[1])}
            found = checked_delegations(found, told, around, times)
            assert said(found) == expected(told, [format_address(one) for one in inside], times)
            assert [one.address for one in found] == sorted([one.address for one in found], key=parse_address)
            for address in inside:
                at = None if times == queries.EVER else times[0]
                then = queries.EVER if at is None else (at, at)
                around = {one[0] for one in told.prefix_intervals if address in parse_prefix(one[0])}
                one = checked_delegations(await queries.who_had(reading.db, address, at), told, around, then)
                assert said(one) == expected(told, [format_address(address)], then)
            for client in CLIENTS:
                own = await queries.of_clients(reading.db, [client], times)
                around = {one[0] for one in told.prefix_intervals}
                own = checked_delegations(own, told, around, times, client=client.hex())
                every = expected(told, [format_address(one) for one in ADDRESSES], times)
                assert said(own) == Counter({one: n for one, n in every.items() if one[0][1] == client.hex()})
        await views.close()


def checked_delegations(
    found: list[Holding], told: Naive, prefixes: set[str], times: tuple[int, int], *, client: str | None = None
) -> list[Holding]:
    """What is left of an answer without the delegations in it, which have to be those of these prefixes."""
    wanted = [
        one for one in told.prefix_intervals if one[0] in prefixes and lasts(one, *times) and client in (None, one[1])
    ]
    assert Counter(interval for interval, _ in said([one for one in found if one.source == queries.DELEGATED])) == (
        Counter(wanted)
    )
    return [one for one in found if one.source != queries.DELEGATED]


def _overlaps(prefix: str, first: bytes, last: bytes) -> bool:
    parsed = parse_prefix(prefix)
    return parsed.first <= int.from_bytes(last) and parsed.last >= int.from_bytes(first)


def _allocated(client: bytes) -> AddressAllocated:
    return AddressAllocated(address=FIRST, client=client, iaid=1, pool="six", valid_until=100, horizon=400)


def _registered(client: bytes, *addresses: bytes) -> Event:
    snapshot = Snapshot(
        links=(Link(index=2, name="eth0"),),
        addresses=tuple(
            InterfaceAddress(interface=2, address=address, prefix_length=64, origin="slaac") for address in addresses
        ),
    )
    return ConfigurationRegistered(client=client, digest=bytes(32), snapshot=snapshot)


async def test_how_sure_a_lease_is(path: Path, views: Views) -> None:
    """Nobody else says so; the node says so too; another one has it at the same time."""
    await folded(
        path,
        happened("ledger.lan", 10, _allocated(ALICE)),
        happened("ledger.lan", 20, AddressReleased(address=FIRST, client=ALICE, iaid=1), _allocated(BOB)),
        happened("seen.lan.east", 25, _registered(BOB, FIRST)),
        happened("seen.lan.east", 30, _registered(BOB)),
        happened("seen.lab.west", 30, _registered(ALICE, FIRST)),  # elsewhere: another link, another matter
        happened("seen.lan.east", 40, _registered(ALICE, FIRST)),
    )
    async with views.read() as reading:
        ever = await queries.who_had(reading.db, FIRST)
        asked = {at: await queries.who_had(reading.db, FIRST, at) for at in (15, 22, 27, 35)}
    assert [(one.client, one.source, one.sure) for one in ever] == [
        (BOB.hex(), "lease", CONFIRMED),
        (ALICE.hex(), "lease", SINGLE),
        (ALICE.hex(), "registered", SINGLE),
        (BOB.hex(), "registered", CONFIRMED),
    ]
    assert {at: [one.sure for one in found] for at, found in asked.items()} == {
        15: [SINGLE],
        22: [SINGLE],
        27: [CONFIRMED, CONFIRMED],
        35: [SINGLE, SINGLE],
    }
    await folded(
        path,
        happened("ledger.lan", 10, _allocated(BOB)),
        happened("seen.lan.east", 20, _registered(ALICE, FIRST)),
    )
    async with views.read() as reading:
        assert {one.sure for one in await queries.who_had(reading.db, FIRST)} == {CONTRADICTED}


async def test_two_identities_of_one_machine_do_not_contradict_each_other(path: Path, views: Views) -> None:
    await folded(
        path,
        happened("node.00", 1, NodeIdentified(client=ALICE, duid=Personal(b"\0\4"), name=Personal("host"))),
        happened("node.10", 2, NodeJoined(client=BOB, into=ALICE)),
        happened("ledger.lan", 10, _allocated(BOB)),
        happened("seen.lan.east", 20, _registered(ALICE, FIRST)),
    )
    async with views.read() as reading:
        found = await queries.of_clients(reading.db, [ALICE, BOB])
    assert [(one.node, one.sure) for one in found] == [("host", CONFIRMED), ("host", CONFIRMED)]


async def test_what_was_seen_names_how_and_by_whom(path: Path, views: Views) -> None:
    granted = OutageGranted(
        address=FIRST, client=ALICE, iaid=1, pool="six", valid_until=90, horizon=95, happened=30, contested=True
    )
    await folded(
        path,
        happened("seen.lan.east", 10, SessionOpened(client=ALICE, peer=SECOND)),
        happened("seen.lan.east", 20, SessionClosed(client=ALICE, why="bye")),
        happened("ledger.lan", 50, granted),
        happened("ledger.lan", 60, AddressBlocked(address=FIRST, client=BOB, blocked_until=900, cause=1)),
    )
    async with views.read() as reading:
        [session] = await queries.who_had(reading.db, SECOND)
        blocked, outage = await queries.who_had(reading.db, FIRST)
        assert await queries.who_had(reading.db, SECOND, 20) == []
        assert [one.how for one in await queries.who_had(reading.db, FIRST, 60)] == ["blocked"]
        assert await queries.who_had(reading.db, FIRST, 61) == []
    assert (session.how, session.agent, session.opened, session.closed) == ("session", "east", "1.0", "2.0")
    assert (session.opened_by, session.closed_by) == ("session.opened", "session.closed")
    assert (outage.how, microseconds(outage.since), outage.until and microseconds(outage.until)) == ("outage", 30, 50)
    assert (outage.client, outage.opened, outage.closed, outage.agent) == (ALICE.hex(), "3.0", "3.0", None)
    assert (blocked.client, blocked.since, blocked.opened_by) == (BOB.hex(), blocked.until, "address.blocked")


async def test_an_address_of_every_machine_is_not_lost_among_the_others(
    path: Path, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first one of a bridge of containers is."""
    commits = [happened("seen.lan.east", at, _registered(at.to_bytes(16), FIRST)) for at in range(1, 30)]
    await folded(path, *commits)
    monkeypatch.setattr(queries, "MAX_ROWS", 5)
    async with views.read() as reading:
        assert len(await queries.who_had(reading.db, FIRST)) == 5
        [own] = await queries.of_clients(reading.db, [(2).to_bytes(16)])
    assert own.client == (2).to_bytes(16).hex()
