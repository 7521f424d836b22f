"""Answers from the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from dnms.cli import http, rendering
from dnms.cli.answers import AddressAnswer, NodeAnswer, Wanted
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.events.queries import EventRow
from dnms.projections.history.queries import Holding
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.pools.queries import PoolRow

PAGE = 1_000  # rows in one answer
AGAIN = 1.0  # seconds until a stream that broke off is asked for again

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A list, or a part of it; `next` is the `after` of the part behind it."""

    position: int
    items: list[T]
    next: str | None = None


class ApiAnswers:
    """Implements `answers.Answers` over the API."""

    def __init__(self, api: http.Api) -> None:
        self._api = api

    async def nodes(self, *, subnet: str | None) -> list[NodeRow]:
        """Every node."""
        return await self._all("/nodes", Page[NodeRow], {"subnet": subnet})

    async def node(self, name_or_client: str) -> list[NodeAnswer]:
        """All about the nodes of this name, or the one with this client id."""
        return (await self._api.get(f"/nodes/{quote(name_or_client, safe='')}", Page[NodeAnswer])).items

    async def addresses(self, *, subnet: str | None) -> list[AddressRow]:
        """Every address that is leased, or rests after a decline."""
        return await self._all("/addresses", Page[AddressRow], {"subnet": subnet})

    async def address(self, address: str) -> AddressAnswer:
        """One address."""
        return await self._api.get(f"/addresses/{address}", AddressAnswer)

    async def pools(self, *, subnet: str | None) -> list[PoolRow]:
        """Every pool."""
        return (await self._api.get("/pools", Page[PoolRow], {"subnet": subnet})).items

    async def who_had(self, address: str, at: datetime | None) -> list[Holding]:
        """Who had the address."""
        instant = None if at is None else at.isoformat()
        return (await self._api.get(f"/who-had/{address}", Page[Holding], {"at": instant})).items

    async def events(self, wanted: Wanted, *, limit: int) -> list[EventRow]:
        """The newest events that are wanted, in the log's order."""
        return (await self._newest(wanted, limit)).items

    async def tail(self, wanted: Wanted) -> AsyncGenerator[EventRow, None]:
        """The events that are wanted from now on. A stream that breaks off is taken up where it ended."""
        after = str((await self._newest(wanted, 1)).position)
        told = False
        while True:
            try:
                parameters = {**msgspec.to_builtins(wanted), "after": after}
                async with self._api.lines("/events/stream", parameters) as lines:
                    told = False
                    async for line in lines:
                        field, _, value = line.partition(":")
                        if field == "data":
                            event = msgspec.json.decode(value, type=EventRow)
                            yield event
                            after = event.position
            except httpx.TransportError as error:
                if not told:
                    rendering.say(f"the API does not answer ({str(error) or type(error).__name__}); waiting for it")
                    told = True
            await asyncio.sleep(AGAIN)

    async def _newest(self, wanted: Wanted, limit: int) -> Page[EventRow]:
        parameters = {**msgspec.to_builtins(wanted), "limit": limit, "newest": True}
        return await self._api.get("/events", Page[EventRow], parameters)

    async def _all(self, path: str, kind: type[Page[T]], parameters: Mapping[str, Any]) -> list[T]:
        found: list[T] = []
        after: str | None = None
        while True:
            page = await self._api.get(path, kind, {**parameters, "limit": PAGE, "after": after})
            found += page.items
            after = page.next
            if after is None:
                return found


@asynccontextmanager
async def opened(url: str, site: Path) -> AsyncGenerator[ApiAnswers, None]:
    """Answers from the API at `url`. Failure."""
    async with http.opened(url, site) as api:
        yield ApiAnswers(api)
