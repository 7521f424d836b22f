"""Many nodes entered together, or none of them."""

from __future__ import annotations

from typing import Any

import httpx

from dnms.events import codec, subjects
from dnms.events.node import NodeEntered
from dnms.projections.example import SITE
from tests.system.api.conftest import Served, client_id
from tests.system.api.test_api import PLAN, get, problem


def nodes(count: int) -> list[dict[str, Any]]:
    return [{"name": f"s-{number}", "duid": f"{number:06x}"} for number in range(1, count + 1)]


def commits_that_enter(served: Served) -> list[int]:
    """How many nodes each commit enters."""
    found = []
    for stored in served.log.records:
        events = [event for event in codec.decode(stored.data).events if isinstance(event, NodeEntered)]
        found += [len(events)] if events else []
    return found


async def test_many_are_entered_with_a_commit_a_shard(api: httpx.AsyncClient, served: Served) -> None:
    assert (await api.post("/plan", json=PLAN)).status_code == 200
    wanted = nodes(300)
    answer = await api.post("/bulk/nodes", json={"nodes": wanted})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [one["name"] for one in found["nodes"]] == [one["name"] for one in wanted]
    assert all(one["ready"] and len(one["addresses"]) == 1 for one in found["nodes"])
    shards = {subjects.node(SITE, client_id(bytes.fromhex(one["duid"]))) for one in wanted}
    assert len(commits_that_enter(served)) == len(shards) < 300
    listed = (await get(api, "/nodes", name="s-*", min_seq=found["position"]))["items"]
    assert {one["client"] for one in listed} == {one["client"] for one in found["nodes"]}
    before = len(served.log.records)
    assert (await api.post("/bulk/nodes", json={"nodes": wanted})).json()["nodes"] == found["nodes"]
    assert len(served.log.records) == before


async def test_a_mistake_in_one_enters_nobody(api: httpx.AsyncClient, served: Served) -> None:
    assert (await api.post("/plan", json=PLAN)).status_code == 200
    before = len(served.log.records)
    wrong = [*nodes(3), {"name": "s-4", "duid": "xyz"}, {"name": "s-5", "duid": "000001"}, {"name": "s-6"}]
    found = problem(await api.post("/bulk/nodes", json={"nodes": wrong}), 400, "invalid-parameter")
    assert [one["path"] for one in found["errors"]] == ["$.nodes[3].duid", "$.nodes[4]", "$.nodes[5].duid"]
    grouped = [{**one, "group": "nobody's"} for one in nodes(2)]
    problem(await api.post("/bulk/nodes", json={"nodes": grouped}), 400, "invalid-parameter")
    for count in (0, 1_001):
        problem(await api.post("/bulk/nodes", json={"nodes": nodes(count)}), 400, "invalid-parameter")
    assert len(served.log.records) == before


async def test_what_one_of_them_is_refused_enters_nobody(api: httpx.AsyncClient, served: Served) -> None:
    assert (await api.post("/plan", json=PLAN)).status_code == 200
    assert (await api.post("/nodes", json={"name": "other", "duid": "000002"})).status_code == 200
    before = len(served.log.records)
    found = problem(await api.post("/bulk/nodes", json={"nodes": nodes(3)}), 409, "entered-otherwise")
    assert [one["path"] for one in found["errors"]] == ["$.nodes[1]"]
    assert len(served.log.records) == before


async def test_who_has_no_address_is_entered_and_says_so(api: httpx.AsyncClient) -> None:
    small = {
        **PLAN,
        "pool": [{"name": "four", "subnet": "lan", "range": "192.0.2.10-192.0.2.11", "strategy": "sequential"}],
    }
    answer = await api.post("/plan", json=small)
    assert answer.status_code == 200, answer.text
    found = (await api.post("/bulk/nodes", json={"nodes": nodes(3)})).json()
    assert sorted(one["ready"] for one in found["nodes"]) == [False, True, True]
    [late] = [one for one in found["nodes"] if not one["ready"]]
    assert "it has no address: IPv4 in subnet lan" in late["detail"]
