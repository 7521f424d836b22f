"""Lists over the API: their filters, their order, their pages, and answers that have what was written before."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from dnms.api import freshness
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.seen import SessionClosed, SessionOpened
from dnms.projections.example import ALICE, happened
from tests.contracts.projections.logs import write
from tests.system.api.conftest import PATIENCE, Served
from tests.system.api.test_api import get, problem

NAMES = ["phone-2", "printer", "phone-1", "phone-2", "phone-3"]
CLIENTS = [bytes([0x10 + number]) * 16 for number in range(len(NAMES))]


@pytest.fixture
async def nodes(served: Served) -> Served:
    """Five more nodes: one has a session, one had one."""
    commits: list[Any] = []
    for number, (name, client) in enumerate(zip(NAMES, CLIENTS, strict=True)):
        known = NodeIdentified(client=client, duid=Personal(client), name=Personal(name), kernel="6.1")
        there = NodeArrived(client=client, subnet="lab" if number < 2 else "hall")
        commits.append(happened(f"node.{client[0]:02x}", 1_000 - number, known, there))
    opened = [SessionOpened(client=client, peer=bytes(16)) for client in CLIENTS[:2]]
    commits.append(happened("seen.lab.west", 2_000, *opened))
    commits.append(happened("seen.lab.west", 2_001, SessionClosed(client=CLIENTS[1], why="closed")))
    await write(served.log, *commits)
    assert await served.views.reached(len(served.log.records), within=PATIENCE)
    return served


async def paged(api: httpx.AsyncClient, path: str, **parameters: Any) -> list[Any]:
    """All of a list, two rows at a time."""
    found: list[Any] = []
    page = await get(api, path, limit=2, **parameters)
    while True:
        found += page["items"]
        if page["next"] is None:
            return found
        page = await get(api, path, limit=2, cursor=page["next"], **parameters)


@pytest.mark.parametrize("order", ["client", "name", "last_seen"])
async def test_nodes_are_paged_in_each_order(api: httpx.AsyncClient, nodes: Served, order: str) -> None:
    whole = (await get(api, "/nodes", order=order))["items"]
    assert len(whole) == len(NAMES) + 2
    keys = [(one[order] or "", one["client"]) for one in whole]
    assert keys == sorted(keys)
    assert await paged(api, "/nodes", order=order) == whole
    assert await paged(api, "/nodes", order=f"-{order}") == whole[::-1]


async def test_nodes_are_filtered(api: httpx.AsyncClient, nodes: Served) -> None:
    async def named(**parameters: str) -> list[str]:
        return [one["name"] for one in await paged(api, "/nodes", order="name", **parameters)]

    assert await named(name="phone-*") == ["phone-1", "phone-2", "phone-2", "phone-3"]
    assert await named(name="phone-*", subnet="hall") == ["phone-1", "phone-2", "phone-3"]
    assert await named(session="open", agent="west") == ["phone-2"]
    assert await named(session="closed", agent="west") == ["printer"]
    assert await named(session="none", name="p*") == ["phone-1", "phone-2", "phone-3"]
    assert await named(agent="nobody") == []


async def test_addresses_are_filtered_and_paged_both_ways(api: httpx.AsyncClient) -> None:
    whole = (await get(api, "/addresses"))["items"]
    down: list[Any] = []
    page = await get(api, "/addresses", order="-address", limit=1)
    while page["items"]:
        down += page["items"]
        page = await get(api, "/addresses", order="-address", limit=1, cursor=page["next"])
    assert down == whole[::-1]
    assert [one["address"] for one in (await get(api, "/addresses", state="declined"))["items"]] == ["2001:db8::2"]
    [declined] = (await get(api, "/addresses", node="new"))["items"]
    assert declined["client"] == ALICE.hex()
    problem(await api.get("/addresses", params={"node": "nobody"}), 404, "not-found")


async def test_a_cursor_goes_on_with_its_own_question_only(api: httpx.AsyncClient, nodes: Served) -> None:
    cursor = (await get(api, "/nodes", limit=2, subnet="hall"))["next"]
    assert len((await get(api, "/nodes", limit=9, subnet="hall", cursor=cursor))["items"]) == 1
    others: list[tuple[str, dict[str, Any]]] = [
        ("/nodes", {}),
        ("/nodes", {"subnet": "lab"}),
        ("/nodes", {"subnet": "hall", "order": "name"}),
        ("/nodes", {"subnet": "hall", "at_sequence": 9}),
        ("/nodes", {"subnet": "hall", "at": "2100-01-01T00:00:00Z"}),
        ("/addresses", {"subnet": "hall"}),
    ]
    for path, parameters in others:
        found = problem(await api.get(path, params={**parameters, "cursor": cursor}), 400, "invalid-parameter")
        assert "of another question" in found["detail"]


async def test_pages_of_one_moment_do_not_move(api: httpx.AsyncClient, nodes: Served) -> None:
    then = (await get(api, "/site"))["watermark"]
    whole = (await get(api, "/nodes", at_sequence=then))["items"]
    page = await get(api, "/nodes", at_sequence=then, limit=2)
    known = NodeIdentified(client=b"\xee" * 16, duid=Personal(b"E"), name=Personal("late"), kernel="6.1")
    await write(nodes.log, happened("node.ee", 3_000, known))
    found = page["items"]
    while page["next"] is not None:
        page = await get(api, "/nodes", at_sequence=then, limit=2, cursor=page["next"], min_seq=then + 1)
        assert page["watermark"] == then
        found += page["items"]
    assert found == whole
    assert len((await get(api, "/nodes"))["items"]) == len(whole) + 1


@pytest.mark.parametrize("cursor", ["", "x", "!", "WzEsIiIsMV0", "W1tbW1tbW1s", "a" * 10_000, "WzIsImEiLFtdXQ", "é"])
async def test_what_is_no_cursor_is_refused(api: httpx.AsyncClient, cursor: str) -> None:
    for path in ("/nodes", "/addresses"):
        found = problem(await api.get(path, params={"cursor": cursor}), 400, "invalid-parameter")
        assert [one["path"] for one in found["errors"]] == ["cursor"]


async def test_an_answer_has_what_is_at_min_seq(api: httpx.AsyncClient, served: Served) -> None:
    """The question is asked before the commit is there, and answered with it."""
    sequence = len(served.log.records) + 1
    asked = asyncio.create_task(get(api, "/nodes", name="late", min_seq=sequence))
    await write(
        served.log,
        happened(
            "node.44", 3_000, NodeIdentified(client=b"D" * 16, duid=Personal(b"D"), name=Personal("late"), kernel="6.1")
        ),
    )
    found = await asked
    assert [one["name"] for one in found["items"]] == ["late"]
    assert found["watermark"] >= sequence


async def test_what_is_not_folded_in_time_is_said(
    api: httpx.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "PATIENCE", 0.0)
    end = len(served.log.records)
    found = problem(await api.get("/pools", params={"min_seq": end + 1}), 409, "not-folded")
    assert f"the commit at {end}, not yet {end + 1}" in found["detail"]
    assert (await get(api, "/pools", min_seq=end))["watermark"] == end


async def test_a_change_is_read_by_its_position(api: httpx.AsyncClient) -> None:
    plan = {
        "site": {"name": "example"},
        "subnet": [{"name": "lan", "prefixes": ["2001:db8::/64"]}],
        "pool": [{"name": "six", "subnet": "lan", "range": "2001:db8::/64"}],
    }
    applied = (await api.post("/plan", json=plan)).json()
    assert [one["pool"] for one in (await get(api, "/pools", min_seq=applied["position"]))["items"]] == ["six"]
