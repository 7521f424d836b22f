"""The views, the log folded again, and a naive fold agree; and where they do not, it is said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings

from dnms.bus.port import LogForked
from dnms.projections import naive
from dnms.projections.comparison import compare, differences
from dnms.projections.example import SITE, Example, Happened, stored
from dnms.projections.runner import rebuild
from dnms.projections.verify import verify
from dnms.projections.versions import STANDS
from dnms.projections.views import Views
from tests.contracts.projections.logs import folder, logs, memory_log, write
from tests.contracts.projections.test_folds import EXAMPLES, every_example


async def disagreements(log_of: list[Happened] | tuple[Happened, ...], directory: Path) -> list[str]:
    log = memory_log()
    await write(log, *log_of)
    path = directory / "views.db"
    await rebuild(log, path, site=SITE)
    views = Views(path)
    try:
        async with views.read() as reading:
            found = await compare(naive.fold(stored(tuple(log_of))), reading)
        return found + await differences(log, views) + (await verify(log, path)).differences
    finally:
        await views.close()


@given(log=logs())
@settings(max_examples=30)
async def test_views_of_generated_logs_agree_with_the_naive_fold(log: list[Happened]) -> None:
    with folder() as directory:
        assert await disagreements(log, directory) == []


@every_example
async def test_views_of_the_examples_agree_with_the_naive_fold(example: Example, tmp_path: Path) -> None:
    assert await disagreements(example.log, tmp_path) == []


WRONG = [
    f"UPDATE address_lease_row SET client = x'00000000000000000000000000000000' WHERE until_sequence = {STANDS}",
    "DELETE FROM address_seen_row",
    "UPDATE address_count SET held = held + 1",
    f"UPDATE node_row SET name = 'mallory' WHERE until_sequence = {STANDS}",
    f"UPDATE node_row SET subnet = 'elsewhere' WHERE until_sequence = {STANDS}",
    "UPDATE history_lease SET since = since - 1",
    "DELETE FROM history_use WHERE used = 1",
    "UPDATE history_seen SET since = since - 1",
    "UPDATE history_prefix SET since = since - 1",
    f"UPDATE prefix_delegation_row SET state = 'expired' WHERE until_sequence = {STANDS}",
    f"UPDATE prefix_uplink_row SET state = 'received' WHERE until_sequence = {STANDS}",
    "DELETE FROM prefix_link_row",
    "UPDATE activity SET hour = hour + 1",
    "UPDATE activity_series SET name = 'node.ready' WHERE name = 'session.opened'",
    "UPDATE view_position SET events = events + 1",
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_row_is_found_both_ways(wrong: str, tmp_path: Path) -> None:
    log = memory_log()
    logs_ = (*EXAMPLES["pools"][:1], *EXAMPLES["nodes"][:1], *EXAMPLES["addresses"], EXAMPLES["history"][3])
    logs_ = (*logs_, *EXAMPLES["prefixes"][1:4])
    for example in logs_:
        await write(log, *example.log)
    path = tmp_path / "views.db"
    await rebuild(log, path, site=SITE)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(wrong).rowcount
    verification = await verify(log, path)
    assert not verification.equal
    assert verification.differences
    views = Views(path)
    assert await differences(log, views)
    await views.close()


async def test_an_address_that_two_clients_hold_is_found(tmp_path: Path) -> None:
    given_twice = EXAMPLES["history"][0].log[0]
    [event] = given_twice.events
    twice = Happened("ledger.lan", 11, (type(event)(**{**_fields(event), "client": bytes(16)}),))
    found = await disagreements((given_twice, twice), tmp_path)
    assert found
    assert all("given to two clients" in one for one in found)


def _fields(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in type(event).__struct_fields__}  # type: ignore[attr-defined]


def leftovers(directory: Path) -> list[Path]:
    return list(directory.glob("verify-*"))


async def test_verify_refuses_another_log(tmp_path: Path) -> None:
    log = memory_log()
    await write(log, *EXAMPLES["addresses"][0].log)
    path = tmp_path / "views.db"
    await rebuild(log, path, site=SITE)
    with pytest.raises(LogForked):
        await verify(memory_log("two"), path)
    assert leftovers(tmp_path) == []
