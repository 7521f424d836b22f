"""The API over a real socket: its answers, its errors, who may ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from dnms.api import PortInUse, create_app, serve_api
from dnms.projections.example import ALICE, BOB, SITE
from dnms.projections.nodes.examples import EXAMPLES as NODES
from tests.contracts.projections.logs import write
from tests.system.api.conftest import PATIENCE, Served

PLAN: dict[str, Any] = {
    "site": {"name": SITE},
    "group": [{"name": "sales", "number": 23_070, "nodes": ["s-*"]}],
    "subnet": [{"name": "lan", "prefixes": ["2001:db8::/64", "192.0.2.0/24"], "gateways": ["2001:db8::1"]}],
    "pool": [{"name": "six", "subnet": "lan", "range": "2001:db8::/64"}],
}


async def get(api: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await api.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if (at := found.get("watermark", found.get("position"))) is not None:
        assert answer.headers["dnms-position"] == str(at)
    return found


async def test_site_and_status(api: httpx.AsyncClient, served: Served) -> None:
    end = len(served.log.records)
    site = await get(api, "/site")
    assert (site["watermark"], site["name"], site["commits"], site["plan"]) == (end, SITE, end, None)
    status = await get(api, "/status")
    assert (status["log_end"], status["behind"]) == (end, 0)
    assert (status["views"]["state"], status["views"]["running"]) == ("following", True)


async def test_nodes(api: httpx.AsyncClient) -> None:
    everyone = await get(api, "/nodes")
    assert [(one["client"], one["name"]) for one in everyone["items"]] == [(ALICE.hex(), "new"), (BOB.hex(), None)]
    first = await get(api, "/nodes", limit=1)
    assert (await get(api, "/nodes", cursor=first["next"]))["items"] == everyone["items"][1:]
    assert [one["name"] for one in (await get(api, "/nodes", subnet="lab"))["items"]] == ["new"]
    [by_name] = (await get(api, "/nodes/new"))["items"]
    assert by_name["configuration"]["links"] == [{"index": 2, "name": "eth0"}]
    assert {one["address"] for one in by_name["addresses"]} == {"192.0.2.7", "2001:db8::1"}
    assert (await get(api, f"/nodes/{ALICE.hex()}"))["items"] == [by_name]


async def test_addresses(api: httpx.AsyncClient) -> None:
    everything = await get(api, "/addresses")
    assert [(one["address"], one["state"]) for one in everything["items"]] == [
        ("2001:db8::1", "held"),
        ("2001:db8::2", "declined"),
    ]
    first = await get(api, "/addresses", limit=1)
    assert (await get(api, "/addresses", cursor=first["next"]))["items"] == everything["items"][1:]
    assert (await get(api, "/addresses", pool="other"))["items"] == []
    one = await get(api, "/addresses/2001:DB8:0::1")
    assert [lease["client"] for lease in one["leases"]] == [BOB.hex()]
    assert {(row["client"], row["origin"]) for row in one["registered"]} == {
        (ALICE.hex(), "slaac"),
        (BOB.hex(), "slaac"),
    }
    assert (await get(api, "/addresses/192.0.2.7"))["registered"][0][
        "prefix_length"
    ] == 0  # the example says 64, of 128


async def test_a_moment_is_an_instant_or_a_commit(api: httpx.AsyncClient) -> None:
    newest = await get(api, "/addresses")
    assert await get(api, "/addresses", at_sequence=newest["watermark"]) == newest
    assert await get(api, "/addresses", at="2100-01-01T00:00:00") == newest
    assert (await get(api, "/nodes", at_sequence=1))["watermark"] == 1
    both = await api.get("/addresses", params={"at": "2100-01-01T00:00:00Z", "at_sequence": 1})
    assert (both.status_code, both.json()["why"]) == (400, "invalid-parameter")
    never = await api.get("/pools", params={"at": "1960-01-01T00:00:00Z"})
    assert (never.status_code, never.json()["why"]) == (404, "no-such-moment")


async def test_who_had(api: httpx.AsyncClient) -> None:
    ever = (await get(api, "/who-had/2001:db8::1"))["items"]
    assert [(one["client"], one["source"]) for one in ever if one["source"] == "lease"] == [
        (BOB.hex(), "lease"),
        (ALICE.hex(), "lease"),
    ]
    then = (await get(api, "/who-had/2001:db8::1", at="1970-01-01T00:00:00.000015Z"))["items"]
    [lease] = [one for one in then if one["source"] == "lease"]
    assert (lease["client"], lease["node"], lease["opened"], lease["closed"]) == (ALICE.hex(), "new", "1.0", "2.0")
    assert lease["until"] == "1970-01-01T00:00:00.000020Z"
    assert (await get(api, "/who-had/2001:db8::99"))["items"] == []


async def test_who_had_a_prefix_comes_in_pages_of_addresses(api: httpx.AsyncClient) -> None:
    whole = await get(api, "/who-had", prefix="2001:db8::/64")
    assert whole["next"] is None
    found, after = [], None
    while True:
        page = await get(api, "/who-had", prefix="2001:db8::/64", limit=1, **({"after": after} if after else {}))
        found += page["items"]
        after = page["next"]
        if after is None:
            break
    assert found == whole["items"]
    assert len({one["address"] for one in found}) > 1


async def test_histories_come_in_pages_from_both_ends(api: httpx.AsyncClient) -> None:
    for path, asked in (
        ("/audit", {}),
        ("/addresses/2001:db8::1/history", {}),
        ("/prefixes/history", {"prefix": "2001:db8::/32"}),
        ("/subnets/lan/changes", {}),
    ):
        oldest = (await get(api, path, order="oldest", limit=1000, **asked))["items"]
        newest = (await get(api, path, limit=1000, **asked))["items"]
        assert newest == oldest[::-1]
        assert len(newest) > 2
        first = await get(api, path, limit=2, **asked)
        assert first["next"] == newest[1]["position"]
        behind = await get(api, path, limit=1000, beyond=first["next"], **asked)
        assert (behind["items"], behind["next"]) == (newest[2:], None)


async def test_activity_adds_up_to_all_events(api: httpx.AsyncClient) -> None:
    rows = (await get(api, "/activity", by=["kind", "subnet"]))["items"]
    assert sum(row["events"] for row in rows) == (await get(api, "/site"))["events"]
    assert {row["subnet"] for row in rows} >= {"", "lan"}


@pytest.mark.parametrize(
    ("path", "asked", "status", "place"),
    [
        ("/who-had", {"prefix": "2001:db8::1/64"}, 400, "prefix"),
        ("/who-had", {}, 400, None),
        ("/who-had/nowhere", {}, 400, "address"),
        ("/who-had/2001:db8::1", {"at": "1970-01-01T00:00:00Z", "until": "1970-01-01T00:00:00Z"}, 400, "at"),
        ("/who-had/2001:db8::1", {"since": "1970-01-02T00:00:00Z", "until": "1970-01-01T00:00:00Z"}, 400, "since"),
        ("/who-had/2001:db8::1", {"at": "yesterday"}, 400, "at"),
        ("/nodes/nobody/history", {}, 404, None),
        ("/subnets/nowhere/changes", {}, 404, None),
        ("/audit", {"entity": "nowhere"}, 404, None),
        ("/audit", {"kind": "adress"}, 400, "audit"),
        ("/audit", {"beyond": "12"}, 400, "beyond"),
        ("/audit", {"order": "random"}, 400, "order"),
        ("/audit", {"limit": 1001}, 400, "limit"),
        ("/activity", {"by": "address"}, 400, "by"),
        ("/activity", {"kind": "adress"}, 400, "kind"),
    ],
)
async def test_a_history_that_cannot_be_had_says_why(
    api: httpx.AsyncClient, path: str, asked: dict[str, Any], status: int, place: str | None
) -> None:
    answer = await api.get(path, params=asked)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["path"] for error in answer.json().get("errors", [])] == ([] if place is None else [place])


async def test_events(api: httpx.AsyncClient, served: Served) -> None:
    everything = (await get(api, "/events"))["items"]
    assert [(one["sequence"], one["index"]) for one in everything[:4]] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    first = await get(api, "/events", limit=3)
    assert first["next"] == "2.0"
    assert (await get(api, "/events", after=first["next"]))["items"] == everything[3:]
    assert (await get(api, "/events", after="2"))["items"] == everything[4:]
    newest = await get(api, "/events", limit=2, newest=True)
    assert newest["items"] == everything[-2:]
    declined = (await get(api, "/events", kind="address.declined"))["items"]
    assert [one["name"] for one in declined] == ["address.declined"] * 2
    assert {one["name"] for one in (await get(api, "/events", kind="node"))["items"]} == {
        "node.identified",
        "node.arrived",
    }
    assert {one["client"] for one in (await get(api, "/events", node="new"))["items"]} == {ALICE.hex()}
    assert len((await get(api, "/events", address="2001:db8::2"))["items"]) == 2


async def messages(answer: httpx.Response) -> AsyncGenerator[tuple[str, Any], None]:
    """Of each event its position and the event; the log before a position is the same for all."""
    position = ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            position = value.rpartition(":")[2]
        if name == "data":
            yield position, json.loads(value)


async def test_live_events(api: httpx.AsyncClient, served: Served) -> None:
    end = len(served.log.records)
    async with asyncio.timeout(PATIENCE), api.stream("GET", "/events/stream", params={"kind": "node"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        live = messages(answer)
        await write(served.log, NODES[2].log[0], NODES[0].log[2])
        position, event = await anext(live)
        assert (position, event["name"]) == (f"{end + 2}.0", "node.arrived")
    again = {"Last-Event-ID": f"{end}.0"}
    async with asyncio.timeout(PATIENCE), api.stream("GET", "/events/stream", headers=again) as answer:
        live = messages(answer)
        assert [(await anext(live))[0] for _ in range(2)] == [f"{end + 1}.0", f"{end + 2}.0"]


async def test_there_is_a_limit_to_streams(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnms.api.events.MAX_STREAMS", 1)
    first = {"after": "0"}
    async with asyncio.timeout(PATIENCE):
        async with api.stream("GET", "/events/stream", params=first) as answer:
            heard = messages(answer)  # one that nobody holds is collected, and closes the stream
            assert (await anext(heard))[0] == "1.0"
            problem(await api.get("/events/stream", params=first), 503, "too-many-streams")
            await heard.aclose()
        while True:  # a closed one makes room
            async with api.stream("GET", "/events/stream", params=first) as answer:
                if answer.status_code == 200:
                    return


async def test_a_plan_is_applied_and_shown(api: httpx.AsyncClient, served: Served) -> None:
    assert (await api.get("/plan")).status_code == 404
    answer = await api.post("/plan", json=PLAN)
    assert answer.status_code == 200, answer.text
    applied = answer.json()
    assert applied["folded"]
    assert [event["name"] for event in applied["events"]] == [
        "site.defined",
        "realm.defined",
        "group.defined",
        "subnet.defined",
        "pool.defined",
    ]
    shown = await get(api, "/plan")
    assert shown["position"] == applied["position"]
    assert shown["plan"]["pool"][0]["range"] == "2001:db8::/64"
    [pool] = (await get(api, "/pools"))["items"]
    assert (pool["pool"], pool["size"], pool["held"], pool["declined"]) == ("six", (1 << 64) - 1, 1, 1)
    assert (await get(api, "/site"))["plan"]["groups"] == {"sales": 23_070}
    same = (await api.post("/plan", json=shown["plan"])).json()
    assert (same["position"], same["events"]) == (applied["position"], [])


async def test_a_plan_of_the_past_is_shown(api: httpx.AsyncClient, served: Served) -> None:
    first = (await api.post("/plan", json=PLAN)).json()["position"]
    wider = without(PLAN, pool=[{**PLAN["pool"][0], "valid": 7_200}])
    second = (await api.post("/plan", json=wider)).json()["position"]
    await get(api, "/pools", min_seq=second)
    valid = {at: (await get(api, "/plan", at_sequence=at))["plan"]["pool"][0].get("valid") for at in (first, second)}
    assert valid == {first: (await get(api, "/plan", at_sequence=first))["plan"]["pool"][0].get("valid"), second: 7_200}
    assert valid[first] != valid[second]
    then = await api.get("/plan", params={"at_sequence": first})
    assert (then.json()["position"], "etag" in then.headers) == (first, False)
    now = (await get(api, "/plan", at="2100-01-01T00:00:00Z"))["position"]
    assert now == second
    problem(await api.get("/plan", params={"at_sequence": first - 1}), 404, "not-found")
    problem(await api.get("/plan", params={"at_sequence": second + 1_000}), 404, "no-such-moment")


def problem(answer: httpx.Response, status: int, why: str) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["why"] == why
    assert found["type"] == f"urn:dnms:problem:{why}"
    assert found["title"]
    assert found["detail"]
    return found


def without(plan: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**plan, **changes}


@pytest.mark.parametrize(
    ("document", "path", "detail"),
    [
        ([], "$", "object"),
        (without(PLAN, colour="red"), "$", "colour"),
        (without(PLAN, pool=[{**PLAN["pool"][0], "range": 7}]), "$.pool[0].range", "prefix"),
        (without(PLAN, pool=[{**PLAN["pool"][0], "range": "2001:db8::/64x"}]), "$.pool[0].range", "prefix"),
        (without(PLAN, pool=[{**PLAN["pool"][0], "range": "2001:db8:9::/64"}]), "$.pool[0]", "lan"),
        (without(PLAN, subnet=[*PLAN["subnet"], {"name": "b", "prefixes": ["192.0.2.0/25"]}]), "$.subnet", "192.0.2"),
    ],
)
async def test_a_wrong_plan_says_where(api: httpx.AsyncClient, document: Any, path: str, detail: str) -> None:
    found = problem(await api.post("/plan", json=document), 422, "invalid-plan")
    assert any(one["path"].startswith(path) and detail in one["detail"] for one in found["errors"]), found
    problem(await api.get("/plan"), 404, "not-found")


async def test_a_body_that_is_not_json(api: httpx.AsyncClient) -> None:
    problem(await api.post("/plan", content=b"{"), 400, "not-json")
    problem(await api.post("/plan", content=b"[" * 100_000), 400, "not-json")


async def test_a_body_that_is_too_large(api: httpx.AsyncClient) -> None:
    found = problem(await api.post("/plan", content=bytes((4 << 20) + 1)), 413, "request-entity-too-large")
    assert "more than 4 MiB" in found["detail"]


async def test_the_position_of_a_plan_is_that_of_its_newest_change(api: httpx.AsyncClient) -> None:
    applied = (await api.post("/plan", json=PLAN)).json()
    problem(await api.post("/plan", json=without(PLAN, site={"name": "other"})), 422, "invalid-plan")
    again = (await api.post("/plan", json=PLAN)).json()
    assert (again["events"], again["position"]) == ([], applied["position"])
    assert (await get(api, "/plan"))["position"] == applied["position"]


@pytest.mark.parametrize(
    ("path", "parameters", "where"),
    [
        ("/addresses/999.1.1.1", {}, "address"),
        ("/who-had/fe80::1%25eth0", {}, "address"),
        ("/who-had/2001:db8::1", {"at": "yesterday"}, "at"),
        ("/nodes", {"limit": "0"}, "limit"),
        ("/nodes", {"limit": "many"}, "limit"),
        ("/nodes", {"cursor": "xyz"}, "cursor"),
        ("/addresses", {"state": "lost"}, "state"),
        ("/nodes", {"order": "size"}, "order"),
        ("/nodes", {"min_seq": "-1"}, "min_seq"),
        ("/nodes", {"subnet": "null"}, "subnet"),
        ("/nodes", {"subnets": "office"}, "subnets"),
        ("/plan", {"subnet": "office"}, "subnet"),
        ("/events", {"after": "1.2.3"}, "after"),
        ("/events", {"address": "x"}, "address"),
    ],
)
async def test_a_wrong_parameter_is_named(
    api: httpx.AsyncClient, path: str, parameters: dict[str, str], where: str
) -> None:
    found = problem(await api.get(path, params=parameters), 400, "invalid-parameter")
    assert [one["path"] for one in found["errors"]] == [where]


async def test_what_is_not_there(api: httpx.AsyncClient) -> None:
    problem(await api.get("/nodes/nobody"), 404, "not-found")
    problem(await api.get("/events", params={"node": "nobody"}), 404, "not-found")
    problem(await api.get("/addresses/2001:db8::99"), 404, "not-found")
    problem(await api.get("/nowhere"), 404, "not-found")
    problem(await api.delete("/plan"), 405, "method-not-allowed")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic a-token-of-the-api", "Bearer \xff"])
async def test_without_the_token_nothing_is_said(served: Served, header: str | None) -> None:
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE, trust_env=False) as client:
        for path in ("/site", "/nodes", "/plan", "/events/stream"):
            answer = await client.get(path, headers=headers)
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        problem(await client.post("/plan", json=PLAN, headers=headers), 401, "unauthorized")


async def test_views_that_are_gone_are_an_error_of_the_server(api: httpx.AsyncClient, served: Served) -> None:
    served.path.unlink()
    answer = await api.get("/nodes")
    problem(answer, 503, "views-missing")
    assert answer.headers["retry-after"] == "1"
    assert (await get(api, "/status"))["views"]["state"] == "rebuilding"


async def test_the_description_of_the_api(api: httpx.AsyncClient) -> None:
    description = await get(api, "/schema/openapi.json")
    assert "/api/v1/who-had/{address}" in description["paths"]


async def test_a_port_in_use_is_one_clear_line(served: Served) -> None:
    port = httpx.URL(served.url).port
    assert port
    app = create_app(
        site=SITE,
        views=served.views,
        log=served.log,
        plan_committer=None,  # type: ignore[arg-type]  # nothing is asked
        ledgers=None,  # type: ignore[arg-type]
        token="",
    )
    with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use"):
        await serve_api(app, "127.0.0.1", port, asyncio.Event())


async def test_an_address_that_is_not_ours_cannot_be_served(served: Served) -> None:
    app = create_app(
        site=SITE,
        views=served.views,
        log=served.log,
        plan_committer=None,  # type: ignore[arg-type]  # nothing is asked
        ledgers=None,  # type: ignore[arg-type]
        token="",
    )
    with pytest.raises(PortInUse, match=r"cannot listen on 192\.0\.2\.1"):
        await serve_api(app, "192.0.2.1", 8080, asyncio.Event())


async def test_a_stream_ends_when_the_server_stops(api: httpx.AsyncClient, served: Served) -> None:
    async with asyncio.timeout(PATIENCE), api.stream("GET", "/events/stream", params={"after": "0"}) as answer:
        live = messages(answer)
        assert (await anext(live))[0] == "1.0"
        served.stop.set()
        async for _ in live:
            pass
