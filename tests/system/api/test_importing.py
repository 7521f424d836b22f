"""Leases of another server, taken over: said before, written once, refused one by one."""

from __future__ import annotations

import time
from typing import Any

import httpx

from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressHeld
from dnms.events.prefix import PrefixDelegated
from dnms.projections.example import SITE
from tests.system.api.conftest import Served
from tests.system.api.test_api import get, problem

HARDWARE = "02:00:5e:10:00:01"
PLAN: dict[str, Any] = {
    "site": {"name": SITE},
    "subnet": [{"name": "office", "prefixes": ["2001:db8:77::/64", "198.51.100.0/24"]}],
    "pool": [
        {"name": "six", "subnet": "office", "range": "2001:db8:77::/64"},
        {"name": "four", "subnet": "office", "range": "198.51.100.0/25", "strategy": "sequential"},
        {"name": "kept", "subnet": "office", "range": "198.51.100.128/25", "strategy": "reserved"},
    ],
    "reservation": [{"address": "198.51.100.200", "hardware": HARDWARE}],
    "delegation": [{"name": "blocks", "subnet": "office", "prefix": "2001:db8:8::/48", "length": 56}],
}


def lease(address: str, number: int, **said: Any) -> dict[str, Any]:
    return {
        "address": address,
        "duid": f"0003000102000000{number:04x}",
        "iaid": 1,
        "valid_until": int(time.time()) + 1_000,
        "name": f"pc-{number}",
        **said,
    }


def body(*leases: dict[str, Any], dry: bool = False) -> dict[str, Any]:
    return {"origin": "kea", "dry": dry, "leases": list(leases)}


def outcomes(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["why"] or one["outcome"] for one in answer.json()["leases"]]


async def planned(api: httpx.AsyncClient) -> None:
    answer = await api.post("/plan", json=PLAN)
    assert answer.status_code == 200, answer.text


def events(served: Served, kind: type[Any]) -> list[Any]:
    return [e for record in served.log.records for e in codec.decode(record.data).events if isinstance(e, kind)]


async def test_what_is_dry_says_what_is_written_then_and_once(api: httpx.AsyncClient, served: Served) -> None:
    await planned(api)
    wanted = [
        lease("198.51.100.7", 1, hardware="02:00:00:00:00:01"),
        lease("2001:db8:77::7", 1, iaid=2),
        lease("2001:db8:8:300::/56", 1, iaid=3),
        lease("198.51.100.7", 2),  # somebody has it, by what comes before
        lease("203.0.113.7", 3),
        lease("2001:db8:9:300::/56", 3),
        lease("198.51.100.8", 4, valid_until=1),
    ]
    said = ["written", "written", "written", "in-use", "not-in-plan", "not-in-plan", "over"]
    before = len(served.log.records)
    given = len(events(served, AddressAllocated))
    assert outcomes(await api.post("/import", json=body(*wanted, dry=True))) == said
    assert len(served.log.records) == before
    answer = await api.post("/import", json=body(*wanted))
    assert outcomes(answer) == said
    assert {each.origin for each in events(served, AddressAllocated)[given:]} == {"kea"}
    assert [each.origin for each in events(served, PrefixDelegated)] == ["kea"]
    found = await get(api, "/addresses", min_seq=answer.json()["position"], subnet="office")
    assert {(each["address"], each["node"]) for each in found["items"] if each["state"] == "held"} == {
        ("198.51.100.7", "pc-1"),
        ("2001:db8:77::7", "pc-1"),
    }
    before = len(served.log.records)
    assert outcomes(await api.post("/import", json=body(*wanted))) == ["known"] * 3 + said[3:]
    assert len(served.log.records) == before


async def test_what_the_plan_reserves_for_its_hardware_is_its_own(api: httpx.AsyncClient, served: Served) -> None:
    await planned(api)
    other = lease("198.51.100.200", 1, hardware="02:00:00:00:00:09")
    assert outcomes(await api.post("/import", json=body(other))) == ["in-use"]
    mine = lease("198.51.100.200", 2, hardware=HARDWARE)
    assert outcomes(await api.post("/import", json=body(mine, dry=True))) == ["written"]
    assert outcomes(await api.post("/import", json=body(mine))) == ["written"]
    assert events(served, AddressHeld)[-1].client == events(served, AddressAllocated)[-1].client


async def test_what_is_no_lease_is_refused_as_a_whole(api: httpx.AsyncClient, served: Served) -> None:
    await planned(api)
    before = len(served.log.records)
    good = lease("198.51.100.7", 1)
    for wrong in ({"address": "x"}, {"duid": "00"}, {"duid": "xx"}, {"iaid": -1}, {"hardware": "x"}, {"other": 1}):
        problem(await api.post("/import", json=body(good, {**good, **wrong})), 400, "invalid-parameter")
    problem(await api.post("/import", json=body()), 400, "invalid-parameter")
    problem(await api.post("/import", json={**body(good), "origin": "A server"}), 400, "invalid-parameter")
    assert len(served.log.records) == before
