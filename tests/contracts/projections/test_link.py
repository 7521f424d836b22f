"""What the views say of what is seen on links: now and then, and with whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.events.ip import format_address, parse_address, parse_prefix
from dnms.events.link import AddressSighted, AddressVanished, AlarmCleared, AlarmRaised
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Personal
from dnms.projections.addresses import queries as addresses
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, SITE, Happened, happened
from dnms.projections.history import queries as history
from dnms.projections.link import queries
from dnms.projections.nodes import queries as nodes
from dnms.projections.runner import rebuild
from dnms.projections.views import Views
from tests.contracts.projections.logs import memory_log, write

HARDWARE = bytes.fromhex("0200000000aa")
PREFIX = parse_prefix("192.0.2.0/24")


def sighted(address: bytes, client: bytes, since: int) -> AddressSighted:
    return AddressSighted(address=address, client=client, form="random", lasting="temporary", since=since, until=99)


def known(client: bytes, name: str, hardware: bytes) -> Happened:
    event = NodeIdentified(
        client=client, duid=Personal(client), name=Personal(name), hardware=(Personal(hardware),), kernel=""
    )
    return happened(f"node.{client[0]:02x}", 1, event)


LOG = (
    known(ALICE, "", HARDWARE),
    known(BOB, "printer", bytes.fromhex("0200000000bb")),
    happened("ledger.lan", 10, sighted(FIRST, ALICE, 10), sighted(SECOND, ALICE, 10)),
    happened("ledger.lan", 20, AlarmRaised(alarm="duplicate", address=FIRST, client=BOB, other=ALICE)),
    happened("ledger.lan", 21, AlarmRaised(alarm="dhcp-server", address=bytes(16), client=BOB)),
    happened("ledger.lab", 22, AlarmRaised(alarm="scan", address=PREFIX.network, client=bytes(16), prefix=PREFIX)),
    happened("ledger.lan", 30, AlarmCleared(alarm="duplicate", address=FIRST, client=BOB, why="over")),
    happened("ledger.lan", 40, AddressVanished(address=SECOND, client=ALICE, last_seen=35)),
)


@pytest.fixture
async def seen(path: Path, views: Views) -> Views:
    log = memory_log()
    await write(log, *LOG)
    await rebuild(log, path, site=SITE)
    return views


async def test_who_is_seen_is_called_by_name_or_else_by_hardware(seen: Views) -> None:
    async with seen.read() as reading:
        [row] = await queries.sighted(reading.db)
    assert (row.address, row.node, row.lasting, row.sure) == (
        format_address(FIRST),
        "02:00:00:00:00:aa",
        "temporary",
        "guess",
    )


async def test_what_was_seen_then_is_found_and_paged(seen: Views) -> None:
    async with seen.read(3) as reading:
        first, second = await queries.sighted(reading.db, subnet="lan")
        assert await queries.sighted(reading.db, after=(FIRST, "lan"), limit=1) == [second]
        assert await queries.sighted(reading.db, address=FIRST) == [first]
        assert await queries.sighted(reading.db, subnet="lab") == []


async def test_alarms_are_there_until_they_are_cleared(seen: Views) -> None:
    async with seen.read() as reading:
        scan, server = await queries.alarms(reading.db)
        assert (scan.alarm, scan.subnet, scan.client, scan.prefix) == ("scan", "lab", None, "192.0.2.0/24")
        assert (server.alarm, server.address, server.node) == ("dhcp-server", None, "printer")
        assert await queries.alarms(reading.db, subnet="lan") == [server]
        over = (await queries.alarms(reading.db, cleared=True))[2]
        assert (over.alarm, over.ended, over.other_node) == ("duplicate", "over", "02:00:00:00:00:aa")
        assert over.cleared is not None
    async with seen.read(4) as reading:
        [then] = await queries.alarms(reading.db)
        assert (then.alarm, then.cleared, then.ended) == ("duplicate", None, "")


async def test_all_addresses_of_a_node_have_those_that_are_seen(seen: Views) -> None:
    async with seen.read() as reading:
        [found] = await nodes.find(reading.db, "02:00:00:00:00:AA")
        assert found.client == ALICE.hex()
        [one] = await addresses.of_node(reading.db, ALICE)
        assert (one.address, one.origin, one.seen, one.leased) == (format_address(FIRST), "seen", True, False)


async def test_who_had_an_address_says_who_was_seen_with_it(seen: Views) -> None:
    async with seen.read() as reading:
        [holding] = await history.who_had(reading.db, SECOND)
    assert (holding.source, holding.how, holding.opened, holding.closed) == ("seen", "link", "3.1", "8.0")
    assert parse_address(holding.address) == SECOND
