"""What the views answer as of a commit is what views answer whose fold stopped there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from dnms.projections.addresses import queries as addresses
from dnms.projections.events import queries as events
from dnms.projections.events.audit import Page, Wanted, audit, of_addresses
from dnms.projections.example import SITE, Happened
from dnms.projections.history import queries as history
from dnms.projections.link import queries as link
from dnms.projections.nodes import queries as nodes
from dnms.projections.pools import queries as pools
from dnms.projections.pools.usage import usage
from dnms.projections.runner import rebuild
from dnms.projections.text import microseconds
from dnms.projections.views import NoSuchMoment, Reading, Views
from tests.contracts.projections.logs import folder, logs, memory_log, write
from tests.contracts.projections.test_folds import EXAMPLES


async def answers(reading: Reading) -> dict[str, Any]:
    """All that can be asked, of all that there is."""
    db = reading.db
    listed = await nodes.nodes(db, joined=True)
    clients = [bytes.fromhex(node.client) for node in listed]
    now = microseconds(reading.position.time)
    found = await pools.pools(db, at=now)
    return {
        "position": (reading.position.sequence, reading.position.time, reading.position.commits),
        "nodes": listed,
        "of their own": await nodes.nodes(db),
        "found": [await nodes.find(db, node.name or node.client) for node in listed],
        "identities": await nodes.identities(db),
        "sessions": [await nodes.sessions(db, client) for client in clients],
        "snapshots": [await nodes.snapshot(db, client) for client in clients],
        "joined": [await nodes.joined_into(db, client) for client in clients],
        "unready": await nodes.unready(db),
        "addresses": await addresses.addresses(db),
        "of nodes": [await addresses.of_node(db, client) for client in clients],
        "sightings": await link.sighted(db),
        "alarms": [await link.alarms(db, cleared=cleared) for cleared in (False, True)],
        "pools": found,
        "usage": [await usage(reading, pool.pool) for pool in found],
        "site": await pools.site(db),
        "subnets": await pools.subnets(db),
        "events": await events.events(db),
        "holdings": [await history.holdings(db, bytes(16), b"\xff" * 16, limit=1_000)],
        "of clients": [await history.of_clients(db, [client]) for client in clients],
        "audit": await audit(db, SITE, Wanted(), Page(newest=False)),
        "happened": await of_addresses(db, bytes(16), b"\xff" * 16, Page(newest=False)),
        "texts": [await audit(db, SITE, Wanted(texts=(text,)), Page()) for text in ("a", "lan", "bye")],
    }


async def views_of(log: list[Happened], path: Path) -> Views:
    memory = memory_log()
    await write(memory, *log)
    await rebuild(memory, path, site=SITE)
    return Views(path)


async def differing(log: list[Happened], directory: Path) -> list[tuple[int, str]]:
    """At which commits they differ, and in which answers."""
    whole = await views_of(log, directory / "whole.db")
    wrong: list[tuple[int, str]] = []
    try:
        for sequence in range(1, len(log) + 1):
            part = await views_of(log[:sequence], directory / f"{sequence}.db")
            async with part.read() as stopped, whole.read(at=sequence) as past:
                expected, found = await answers(stopped), await answers(past)
            await part.close()
            wrong += [(sequence, what) for what in expected if found[what] != expected[what]]
    finally:
        await whole.close()
    return wrong


@given(log=logs())
@settings(max_examples=15)
async def test_as_of_any_commit_of_a_generated_log(log: list[Happened]) -> None:
    with folder() as directory:
        assert await differing(log, directory) == []


@pytest.mark.parametrize("part", sorted(EXAMPLES))
async def test_as_of_any_commit_of_the_examples(part: str, tmp_path: Path) -> None:
    for number, example in enumerate(EXAMPLES[part]):
        assert await differing(list(example.log), tmp_path / str(number)) == []


async def test_an_instant_is_the_last_commit_that_names_no_later_time(tmp_path: Path) -> None:
    views = await views_of(list(EXAMPLES["nodes"][0].log), tmp_path / "views.db")
    try:
        async with views.read(at=1) as first, views.read() as newest:
            begin, end = first.position, newest.position
        for at, sequence in ((begin.time, 1), (end.time, end.sequence), (end.time + timedelta(days=1), end.sequence)):
            async with views.read(at=at) as reading:
                assert reading.position.sequence == sequence
        for nowhere in (begin.time - timedelta(microseconds=1), 0, end.sequence + 1):
            with pytest.raises(NoSuchMoment):
                async with views.read(at=nowhere):
                    pass
    finally:
        await views.close()
