"""Prefixes, what is cut from what, and why, over a real socket."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.contracts.projections.logs import write
from tests.contracts.projections.test_prefixes import LOG, VM
from tests.system.api.conftest import PATIENCE, Served
from tests.system.api.test_api import get


@pytest.fixture
async def asked(api: httpx.AsyncClient, served: Served) -> httpx.AsyncClient:
    """The API once its views have delegations over two subnets."""
    await write(served.log, *LOG)
    assert await served.views.reached(len(served.log.records), within=PATIENCE)
    return api


def prefixes(page: Any) -> list[str]:
    return [row["prefix"] for row in page["items"]]


async def test_delegated_prefixes_by_filter_order_and_page(asked: httpx.AsyncClient) -> None:
    everything = await get(asked, "/prefixes")
    assert prefixes(everything) == ["2001:db8:1:10::/60", "2001:db8:1:11::/64"]
    first = await get(asked, "/prefixes", limit=1)
    assert (await get(asked, "/prefixes", cursor=first["next"], limit=1))["items"] == everything["items"][1:]
    assert (await get(asked, "/prefixes", order="-prefix"))["items"] == everything["items"][::-1]
    for filters, found in (
        ({"subnet": "vms"}, everything["items"][1:]),
        ({"pool": "to-laptops"}, everything["items"][:1]),
        ({"node": "laptop"}, everything["items"][:1]),
        ({"state": "expired"}, []),
        ({"within": "2001:db8:1:1f::/64"}, everything["items"][:1]),
        ({"at_sequence": 1}, []),
    ):
        assert (await get(asked, "/prefixes", **filters))["items"] == found
    assert everything["items"][1]["client"] == VM.hex()
    refused = await asked.get("/prefixes", params={"cursor": first["next"], "subnet": "vms"})
    assert refused.status_code == 400


async def test_one_prefix_the_tree_and_what_comes_from_above(asked: httpx.AsyncClient) -> None:
    about = await get(asked, "/prefixes/about", prefix="2001:db8:1:10::/60")
    assert [row["node"] for row in about["delegations"]] == ["laptop"]
    assert [row["subnet"] for row in about["uplinks"]] == ["vms"]
    assert about["links"] == []
    tree = await get(asked, "/prefixes/tree")
    assert about["tree"] == [row for row in tree["items"] if row["prefix"] != "2001:db8:1::/64"]
    assert (await get(asked, "/prefixes/tree", within="2001:db8:2::/64"))["items"] == []
    above = await get(asked, "/uplinks")
    assert [(row["prefix"], row["source"]) for row in above["items"]] == [
        ("2001:db8:1::/56", "dhcpv6 00:03:00:01:02"),
        ("2001:db8:1:10::/60", "dnms example/home"),
    ]
    assert len((await get(asked, "/uplinks", subnet="home", lost=True))["items"]) == 1


async def test_why(asked: httpx.AsyncClient) -> None:
    found = await get(asked, "/why", of="2001:db8:1:11::/64 via fe80::b dev br0")
    assert [row["event"] for row in found["items"]][:3] == [None, "prefix.delegated", "delegation.defined"]
    assert found["items"][-1]["what"] == "dhcpv6 00:03:00:01:02 delegated it; no log says why"


@pytest.mark.parametrize(
    ("path", "parameters", "status", "said"),
    [
        ("/prefixes/about", {"prefix": "2001:db8:9::/64"}, 404, "was never delegated"),
        ("/prefixes/about", {"prefix": "2001:db8::1/64"}, 400, "has host bits set"),
        ("/prefixes", {"within": "x"}, 400, "within"),
        ("/prefixes", {"state": "gone"}, 400, "state"),
        ("/why", {"of": "192.0.2.1"}, 404, "knows nothing of"),
        ("/why", {"of": "default"}, 400, "a default route"),
    ],
)
async def test_what_is_wrong_is_said(
    asked: httpx.AsyncClient, path: str, parameters: dict[str, str], status: int, said: str
) -> None:
    answer = await asked.get(path, params=parameters)
    assert answer.status_code == status
    assert said in answer.text
