"""The client of the API, against the API."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest

from dnms.api.answers import AddressAnswer
from dnms.client import ApiError, Refused, connect, connection
from dnms.events.seen import SessionOpened
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.events.queries import EventRow
from dnms.projections.example import ALICE, happened
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.pools.queries import PoolRow
from tests.contracts.projections.logs import write
from tests.system.api.conftest import PATIENCE, TOKEN, Served, free_port
from tests.system.api.test_api import PLAN


def root(served: Served) -> str:
    return served.url.removesuffix("/api/v1")


async def test_lists_come_whole_and_typed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAGE", 1)
    async with connect(root(served), TOKEN) as api:
        nodes = [row async for row in api.rows("/nodes", NodeRow)]
        assert [row.name for row in nodes] == ["new", None]
        addresses = [row.address async for row in api.rows("/addresses", AddressRow, {"order": "-address"})]
        assert addresses == ["2001:db8::2", "2001:db8::1"]
        assert [row async for row in api.rows("/nodes", NodeRow, {"name": "nobody", "subnet": None})] == []


async def test_what_is_refused_and_what_is_not_understood(served: Served) -> None:
    async with connect(root(served), TOKEN) as api:
        with pytest.raises(Refused, match="nobody has 2001:db8::99") as refused:
            await api.get("/addresses/2001:db8::99", AddressAnswer)
        assert (refused.value.status, refused.value.problem.why) == (404, "not-found")
        with pytest.raises(Refused) as refused:
            await api.post("/plan", PLAN, dict, if_match=7)
        assert (refused.value.status, refused.value.problem.why) == (412, "plan-changed")
        with pytest.raises(ApiError, match="does not understand"):
            await api.get("/site", PoolRow)
    async with connect(root(served), "wrong") as api:
        with pytest.raises(Refused) as refused:
            await api.delete("/nodes/new", dict)
        assert refused.value.status == 401
    async with connect(f"http://127.0.0.1:{free_port()}", TOKEN) as api:
        with pytest.raises(httpx.TransportError):
            await api.get("/site", dict)


async def test_events_are_followed(served: Served) -> None:
    async with asyncio.timeout(PATIENCE), connect(root(served), TOKEN) as api:
        async with aclosing(api.follow(EventRow, {"kind": "node"}, after="0")) as events:
            first = await anext(events)
            assert first.name.startswith("node.")
        end = len(served.log.records)
        async with aclosing(api.follow(EventRow, after=str(end))) as events:
            await write(served.log, happened("seen.lab.west", 1, SessionOpened(client=ALICE, peer=bytes(16))))
            opened = await anext(events)
            assert (opened.position, opened.name) == (f"{end + 1}.0", "session.opened")
