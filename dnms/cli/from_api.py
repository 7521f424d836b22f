"""Answers from the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from dnms.cli import http, rendering
from dnms.cli.answers import AddressAnswer, NodeAnswer, Wanted
from dnms.cli.exits import Failure
from dnms.cli.freshness import Doubt, Teller, doubt
from dnms.cli.histories_from_api import ApiHistories
from dnms.cli.http import Page
from dnms.cli.prefixes_from_api import ApiPrefixes
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.effects.queries import DeadRow, SubscriberRow
from dnms.projections.effects.standing import StandingRow
from dnms.projections.events.queries import EventRow
from dnms.projections.link.queries import AlarmRow, SightedRow
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.pools.queries import PoolRow
from dnms.projections.pools.usage import PoolUsage
from dnms.projections.rollouts.queries import RolloutRow
from dnms.projections.views import Moment, Status

PATIENCE = (
    1.0  # seconds for the views to have what was in the log when they were asked; a busy log is always ahead a bit
)
LOOK = 0.1  # seconds between two looks for that
WATCH = 5.0  # seconds between two looks whether what a stream shows is still the log

T = TypeVar("T")


class _Address(AddressAnswer, frozen=True, kw_only=True):
    watermark: int


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the views are, and where the log ends; None if it cannot be reached."""

    views: Status
    log_end: int | None


class ApiAnswers:
    """Implements `answers.Answers` over the API."""

    def __init__(self, api: http.Api, at: Moment | None = None) -> None:
        """`at`: lists, and what is shown, are as of then."""
        self._api = api
        self._then = as_of(at)
        self._teller = Teller()
        self.histories = ApiHistories(api)
        self.prefixes = ApiPrefixes(api, self._then, self._say_when)

    async def look(self) -> None:
        """Tell people if the answers may be older than the log. Failure, httpx.TransportError."""
        self._teller.tell(await doubtful(self._api))

    async def nodes(self, *, subnet: str | None) -> list[NodeRow]:
        """Every node."""
        return await self._all("/nodes", NodeRow, {"subnet": subnet, **self._then})

    async def node(self, name_or_client: str) -> list[NodeAnswer]:
        """All about the nodes of this name, or the one with this client id."""
        return (await self._page(f"/nodes/{quote(name_or_client, safe='')}", Page[NodeAnswer], self._then)).items

    async def addresses(self, *, subnet: str | None) -> list[AddressRow]:
        """Every address that is leased or reserved, or rests after a decline."""
        return await self._all("/addresses", AddressRow, {"subnet": subnet, **self._then})

    async def address(self, address: str) -> AddressAnswer:
        """One address."""
        found = await self._api.get(f"/addresses/{address}", _Address, self._then)
        self._say_when(found.watermark)
        return AddressAnswer(address=found.address, leases=found.leases, registered=found.registered, seen=found.seen)

    async def pools(self, *, subnet: str | None) -> list[PoolRow]:
        """Every pool."""
        return (await self._page("/pools", Page[PoolRow], {"subnet": subnet, **self._then})).items

    async def subscribers(self) -> list[SubscriberRow]:
        """Every instance of a subscriber that ever wrote to the log."""
        return (await self._page("/subscribers", Page[SubscriberRow], self._then)).items

    async def dead_letters(self, *, subscriber: str | None) -> list[DeadRow]:
        """The events for which a subscriber calls no more."""
        asked = {"subscriber": subscriber, **self._then}
        return (await self._page("/subscribers/dead", Page[DeadRow], asked)).items

    async def standing(self, entity: str, whats: Sequence[str], instances: Sequence[str]) -> list[StandingRow]:
        """Who has to apply the newest event of a node, an address or a prefix, and whether each did."""
        asked = {"entity": entity, "what": ",".join(whats), "instance": ",".join(instances) or None}
        return (await self._page("/standing", Page[StandingRow], asked)).items

    async def rollouts(self, *, subnet: str | None) -> list[RolloutRow]:
        """The newest rollout of each subnet that had one."""
        found = await self._page("/rollouts", Page[RolloutRow], self._then)
        return [row for row in found.items if subnet in (None, row.subnet)]

    async def alarms(self, *, subnet: str | None, cleared: bool) -> list[AlarmRow]:
        """What is wrong on the links."""
        asked = {"subnet": subnet, "cleared": cleared, **self._then}
        return (await self._page("/alarms", Page[AlarmRow], asked)).items

    async def sightings(self, *, subnet: str | None) -> list[SightedRow]:
        """Every address that is seen on a link and was given to nobody."""
        asked = {"subnet": subnet, **self._then}
        pages = [page async for page in self._api.pages("/sightings", SightedRow, asked)]
        self._say_when(pages[0].watermark)
        return [row for page in pages for row in page.items]

    async def pool(self, name: str) -> list[PoolUsage]:
        """All about the pool of this name."""
        return (await self._page(f"/pools/{quote(name, safe='')}", Page[PoolUsage], self._then)).items

    async def events(self, wanted: Wanted, *, limit: int) -> list[EventRow]:
        """The newest events that are wanted, in the log's order."""
        return (await self._newest(wanted, limit)).items

    async def tail(self, wanted: Wanted) -> AsyncGenerator[EventRow, None]:
        """The events that are wanted from now on. A stream that breaks off is taken up where it ended."""
        after = str((await self._newest(wanted, 1)).watermark)
        watching = asyncio.create_task(self._watch())
        try:
            async with aclosing(self._stream(wanted, after)) as events:
                async for event in events:
                    yield event
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """A stream that is silent may have views behind it that have stopped."""
        while True:
            await asyncio.sleep(WATCH)
            with suppress(httpx.TransportError, Failure):  # the stream itself says so
                await self.look()

    async def _stream(self, wanted: Wanted, after: str) -> AsyncGenerator[EventRow, None]:
        def broken(error: httpx.TransportError) -> None:
            rendering.say(f"the API does not answer ({str(error) or type(error).__name__}); waiting for it")

        stream = self._api.follow(EventRow, msgspec.to_builtins(wanted), after=after, broken=broken)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def _newest(self, wanted: Wanted, limit: int) -> Page[EventRow]:
        parameters = {**msgspec.to_builtins(wanted), "limit": limit, "newest": True}
        return await self._api.get("/events", Page[EventRow], parameters)

    async def _page(self, path: str, kind: type[Page[T]], parameters: Mapping[str, Any]) -> Page[T]:
        page = await self._api.get(path, kind, parameters)
        self._say_when(page.watermark)
        return page

    def _say_when(self, position: int) -> None:
        if self._then:
            rendering.say(f"as of commit {position}")

    async def _all(self, path: str, kind: type[T], parameters: Mapping[str, Any]) -> list[T]:
        pages = [page async for page in self._api.pages(path, kind, parameters)]
        self._say_when(pages[0].watermark)
        return [row for page in pages for row in page.items]


def as_of(at: Moment | None) -> dict[str, Any]:
    """The parameters that ask as of a moment."""
    if at is None:
        return {}
    return {"at_sequence": at} if isinstance(at, int) else {"at": at.isoformat()}


async def doubtful(api: http.Api) -> Doubt | None:
    """What speaks against answers that are asked for now. Failure, httpx.TransportError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    found = await api.get("/status", StatusAnswer)
    end = found.log_end
    while (said := doubt(found.views, unread=_unread(found.views, end))) is not None and said.word == "behind":
        if loop.time() >= deadline:
            break
        await asyncio.sleep(LOOK)
        found = await api.get("/status", StatusAnswer)
    return said


def _unread(views: Status, end: int | None) -> int | None:
    return None if end is None or views.position is None else max(0, end - views.position.sequence)


@asynccontextmanager
async def opened(url: str, site: Path, at: Moment | None = None) -> AsyncGenerator[ApiAnswers, None]:
    """Answers from the API at `url`, of lists as of `at`; people are told if they may be older than the log.

    Failure.
    """
    async with http.opened(url, site) as api:
        answers = ApiAnswers(api, at)
        await answers.look()
        yield answers
