"""The queries: what they answer beside what the API's tests ask, and that they seek and do not search."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dnms.events.address import AddressBlocked, AddressHeld
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.ip import format_address
from dnms.events.node import NodeEntered, NodeIdentified, NodeJoined
from dnms.events.plan import Pool, PoolDefined
from dnms.events.recorded import Personal
from dnms.events.seen import ConfigurationRegistered
from dnms.projections import PROJECTIONS
from dnms.projections.addresses import queries as addresses
from dnms.projections.addresses.examples import EXAMPLES as ADDRESSES
from dnms.projections.events import queries as events
from dnms.projections.example import ALICE, BOB, FIRST, OLD, SECOND, SITE, happened
from dnms.projections.history import queries as history
from dnms.projections.history.examples import EXAMPLES as HISTORY
from dnms.projections.nodes import queries as nodes
from dnms.projections.nodes.examples import EXAMPLES as NODES
from dnms.projections.pools import queries as pools
from dnms.projections.runner import rebuild
from dnms.projections.store import Store
from dnms.projections.text import microseconds
from dnms.projections.views import Views
from tests.contracts.projections.logs import memory_log, write


async def folded(path: Path, *commits: object) -> None:
    log = memory_log()
    await write(log, *commits)  # type: ignore[arg-type]
    await rebuild(log, path, site=SITE)


async def test_all_addresses_of_a_node_are_one_complete_answer(path: Path, views: Views) -> None:
    snapshot = Snapshot(
        links=(Link(index=2, name="eth0"),),
        addresses=(
            InterfaceAddress(interface=2, address=FIRST, prefix_length=64, origin="managed"),
            InterfaceAddress(interface=2, address=OLD, prefix_length=120, origin="other", valid=60),
        ),
    )
    registered = ConfigurationRegistered(client=ALICE, digest=bytes(32), snapshot=snapshot)
    [lease, _] = ADDRESSES[1].log[0].events
    [_, unregistered] = ADDRESSES[1].log[0].events
    await folded(path, happened("ledger.lan", 10, lease, unregistered), happened("seen.lan.east", 20, registered))
    async with views.read() as reading:
        found = await addresses.of_node(reading.db, ALICE)
        assert await addresses.of_node(reading.db, BOB) == []
    assert [(one.address, one.origin, one.leased, one.registered, one.prefix_length) for one in found] == [
        ("192.0.2.7", "other", False, True, 24),
        (format_address(FIRST), "managed", True, True, 64),
        (format_address(SECOND), "leased", True, False, None),
    ]
    assert [one.valid_until and microseconds(one.valid_until) for one in found] == [60_000_020, 100, 100]


async def test_a_reserved_address_is_listed_once_where_two_pools_have_it(path: Path, views: Views) -> None:
    pools_of_it = [PoolDefined(pool=Pool(name=name, subnet="lan", first=FIRST, last=FIRST)) for name in ("b", "a")]
    kept = AddressHeld(address=FIRST, client=BOB, iaid=1)
    await folded(path, happened("plan", 1, *pools_of_it), happened("ledger.lan", 2, kept))
    async with views.read() as reading:
        [listed] = await addresses.addresses(reading.db)
        [of_node] = await addresses.of_node(reading.db, BOB)
        [in_pool] = await addresses.addresses(reading.db, pool="a")
    assert (listed.state, listed.pool, of_node.pool, in_pool) == ("reserved", "a", "a", listed)


async def test_what_was_joined_into_a_node_is_that_node(path: Path, views: Views) -> None:
    """Listed once, found by both names and ids, and all that either has is its own."""
    entered = NodeEntered(client=BOB, duid=Personal(b"\0\3"), name=Personal("label"), iaid=1)
    named = NodeIdentified(client=ALICE, duid=Personal(b"\0\4"), name=Personal("host"))
    kept = AddressHeld(address=FIRST, client=BOB, iaid=1)
    joined = NodeJoined(client=BOB, into=ALICE)
    before = (happened("node.10", 1, entered, joined), happened("ledger.lan", 2, kept))
    await folded(path, *before)
    async with views.read() as reading:  # two subjects have no order: the other one is not known yet
        assert [node.client for node in await nodes.nodes(reading.db)] == [BOB.hex()]
    await folded(path, *before, happened("node.00", 3, named))
    async with views.read() as reading:
        [node] = await nodes.nodes(reading.db)
        assert (node.client, node.identities) == (ALICE.hex(), [BOB.hex()])
        for asked in ("label", "host", ALICE.hex(), BOB.hex()[:8]):
            assert [found.client for found in await nodes.find(reading.db, asked)] == [ALICE.hex()]
        assert len(await nodes.nodes(reading.db, joined=True)) == 2
        assert await nodes.joined_into(reading.db, ALICE) == [BOB]
        [one] = await addresses.of_node(reading.db, ALICE)
        assert (one.address, one.origin) == (format_address(FIRST), "reserved")
        happened_to_it = [event.name for event in await events.events(reading.db, client=ALICE)]
        assert happened_to_it == ["node.entered", "node.joined", "address.held", "node.identified"]
        [listed] = await addresses.addresses(reading.db)
        assert (listed.node, listed.client) == ("host", BOB.hex())


async def test_what_rests_in_a_pool_is_what_nobody_gets_yet(path: Path, views: Views) -> None:
    """Declined, or seen with somebody else before anybody had it; until the quarantine is over."""
    pool = PoolDefined(pool=Pool(name="six", subnet="lan", first=FIRST, last=SECOND))
    others = AddressBlocked(address=FIRST, client=BOB, cause=4, blocked_until=500)
    elsewhere = AddressBlocked(address=OLD, client=BOB, cause=4, blocked_until=5_000)
    await folded(path, happened("plan", 1, pool), *ADDRESSES[2].log[:2], happened("ledger.lan", 30, others, elsewhere))
    async with views.read() as reading:
        found = {at: [row.resting for row in await pools.pools(reading.db, at=at)] for at in (40, 500, 900)}
    assert found == {40: [2], 500: [1], 900: [0]}


async def test_a_pool_in_the_list_has_what_is_reserved_and_nobody_has(path: Path, views: Views) -> None:
    """Else a pool of which all is kept for entered nodes looks empty, and gives nothing."""
    pool = PoolDefined(pool=Pool(name="six", subnet="lan", first=FIRST, last=SECOND))
    kept = [AddressHeld(address=address, client=ALICE, iaid=1) for address in (FIRST, SECOND, OLD)]
    await folded(path, happened("plan", 1, pool), happened("ledger.lan", 20, *kept))
    async with views.read() as reading:
        [row] = await pools.pools(reading.db, at=40)
    assert (row.held, row.reserved) == (0, 2)


async def test_the_session_of_a_node_is_its_newest_open_one(path: Path, views: Views) -> None:
    await folded(path, *NODES[2].log)
    async with views.read() as reading:
        [node] = await nodes.nodes(reading.db)
        both = await nodes.sessions(reading.db, ALICE)
    assert (node.session, node.agent) == ("open", "west")
    assert [(one.agent, one.open, one.why) for one in both] == [("east", False, "bye"), ("west", True, "")]
    await folded(path, *NODES[2].log, happened("seen.lan.west", 40, *NODES[2].log[2].events))
    async with views.read() as reading:
        [node] = await nodes.nodes(reading.db)
    assert (node.session, node.agent, node.session_closed) == ("closed", "west", "bye")


async def test_what_a_node_applied_last_is_shown(path: Path, views: Views) -> None:
    await folded(path, happened("node.00", 5, NODES[0].log[0].events[1]), *NODES[4].log)
    async with views.read() as reading:
        [node] = await nodes.nodes(reading.db)
    assert node.generation == [0, 3, (1 << 63) - 1]
    assert node.outcomes == {"2001:db8::1": "usable"}


@pytest.mark.parametrize(
    ("at", "holder"), [(9, None), (10, ALICE), (29, ALICE), (30, BOB), (39, BOB), (40, None), (10**15, None)]
)
async def test_who_had_an_address_at_an_instant(path: Path, views: Views, at: int, holder: bytes | None) -> None:
    await folded(path, *HISTORY[0].log)
    async with views.read() as reading:
        found = await history.who_had(reading.db, FIRST, at)
    assert [one.client for one in found] == ([] if holder is None else [holder.hex()])


async def test_the_history_of_an_address_names_the_events(path: Path, views: Views) -> None:
    await folded(path, *HISTORY[0].log)
    async with views.read() as reading:
        bob, alice = await history.who_had(reading.db, FIRST)
    assert (alice.opened, alice.opened_by, alice.closed, alice.closed_by) == (
        "1.0",
        "address.allocated",
        "3.0",
        "address.released",
    )
    assert (bob.opened, bob.opened_by, bob.closed, bob.closed_by) == (
        "3.1",
        "address.allocated",
        "4.0",
        "address.declined",
    )


async def test_events_and_commits_are_counted(path: Path, views: Views) -> None:
    await folded(path, *HISTORY[0].log)
    async with views.read() as reading:
        assert await events.counts(reading.db) == events.Counts(4, 5)


SEEKS = [
    "SELECT since FROM history_lease WHERE address = ? AND subnet = ? AND since <= ? "
    "ORDER BY since DESC, sequence DESC, event_index DESC LIMIT 1",
    "SELECT since FROM history_use WHERE address = ? AND client = ? AND since > ? "
    "ORDER BY since ASC, sequence ASC, event_index ASC LIMIT 1",
    "SELECT * FROM address_lease WHERE client = ?",
    "SELECT * FROM address_seen WHERE client = ?",
    "SELECT * FROM address_seen WHERE address = ?",
    "SELECT * FROM address_lease l WHERE (l.address, l.subnet) > (?, ?) ORDER BY l.address, l.subnet LIMIT 9",
    "SELECT * FROM event WHERE position > ? AND name = ? ORDER BY position LIMIT 9",
    "SELECT * FROM event WHERE position > ? AND client = ? ORDER BY position DESC LIMIT 9",
    "SELECT * FROM node WHERE name = ?",
    "SELECT * FROM node WHERE client BETWEEN ? AND ?",
]


@pytest.mark.parametrize("select", SEEKS)
def test_it_is_found_by_a_key(select: str, tmp_path: Path) -> None:
    with closing(Store.create(tmp_path / "views", PROJECTIONS, site=SITE, log_id="one")) as store:
        store.fold([], caught_up=True)  # by then it has its indexes
    with closing(sqlite3.connect(tmp_path / "views")) as db:
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {select}", [1] * select.count("?"))]
    assert len(steps) == 1
    assert steps[0].startswith("SEARCH")
