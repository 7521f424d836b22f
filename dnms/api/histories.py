"""Questions about what was and what happened: who had addresses, histories of single things, the audit, activity."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation

from dnms.api import answers
from dnms.api.answers import Page
from dnms.api.problems import Invalid, NotThere
from dnms.api.questions import AtSequence, TheViews
from dnms.events.ip import Prefix, format_address, parse_address, parse_prefix
from dnms.projections.activity import queries as activity_
from dnms.projections.activity.queries import ActivityRow
from dnms.projections.events import audit as audit_
from dnms.projections.events.audit import MAX_FOUND, Unknown, Wanted
from dnms.projections.events.queries import after_event
from dnms.projections.events.searching import AuditRow
from dnms.projections.history import queries as history
from dnms.projections.history.queries import Holding
from dnms.projections.nodes.queries import ambiguous, find, joined_into
from dnms.projections.text import microseconds
from dnms.projections.views import Reading, Views

_POSITION = re.compile(r"(\d{1,15})\.(\d{1,4})")

_Order = Literal["newest", "oldest"]


class Times(msgspec.Struct, frozen=True):
    """From and to in microseconds, both included; None: without a bound."""

    since: int | None
    until: int | None

    @property
    def both(self) -> tuple[int, int]:
        """For intervals."""
        first, last = history.EVER
        return (first if self.since is None else self.since, last if self.until is None else self.until)


def times(
    at: FromQuery[datetime | None] = None,
    since: FromQuery[datetime | None] = None,
    until: FromQuery[datetime | None] = None,
) -> Times:
    """An instant (RFC 3339; UTC without a zone), or from when to when, both included; without any: ever."""
    if at is not None and (since is not None or until is not None):
        raise Invalid("at", "give an instant, or since and until")
    first, last = ((None if one is None else microseconds(one)) for one in (at or since, at or until))
    if first is not None and last is not None and first > last:
        raise Invalid("since", "it is behind until")
    return Times(first, last)


def page(
    beyond: FromQuery[str | None] = None,
    order: FromQuery[_Order] = "newest",
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_FOUND)] = 100,
) -> audit_.Page:
    """The newest events first, or the oldest; those beyond the position of an event, which is the `next` of a page."""
    place = None
    if beyond is not None:
        match = _POSITION.fullmatch(beyond)
        if match is None:
            raise Invalid("beyond", "expected the position of an event: 12.3")
        place = after_event(int(match[1]), int(match[2]))
    return audit_.Page(newest=order == "newest", beyond=place, limit=limit)


@asynccontextmanager
async def _asked(views: Views, times: Times, at_sequence: int | None) -> AsyncGenerator[tuple[Reading, Times], None]:
    """The views with the times that are asked of them: after a commit, those at that commit's own time."""
    if at_sequence is not None and times != Times(None, None):
        raise Invalid("at_sequence", "give that, or times")
    async with views.read(at_sequence) as reading:
        if at_sequence is not None:
            then = microseconds(reading.position.time)
            times = Times(then, then)
        yield reading, times


TheTimes = NamedDependency[SkipValidation[Times]]
ThePage = NamedDependency[SkipValidation[audit_.Page]]


@get("/who-had")
async def who_had_any(
    views: TheViews,
    times: TheTimes,
    *,
    prefix: FromQuery[str],
    after: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=history.MAX_ADDRESSES)] = 100,
    at_sequence: AtSequence = None,
) -> Response[Page[Holding]]:
    """Who had the addresses of a prefix, in their order: of `limit` that anybody ever had, behind the address `after`.

    A page can be empty and have a `next`.
    """
    asked = _prefix(prefix)
    behind = b"" if after is None else _address(after, "after")
    async with _asked(views, times, at_sequence) as (reading, when):
        first, last = asked.network, asked.last.to_bytes(16)
        found, more = await history.holdings(reading.db, first, last, when.both, after=behind, limit=limit)
        return answers.page(reading, found, None if more is None else format_address(more))


@get("/who-had/{address:str}")
async def who_had(
    views: TheViews, times: TheTimes, address: FromPath[str], at_sequence: AtSequence = None
) -> Response[Page[Holding]]:
    """Who had the address at an instant or in a time, or everybody who ever had it; the newest first.

    By leases, by what nodes registered, and by what Subnet Agents saw; each with how sure that is beside the others.
    """
    packed = _address(address, "address")
    async with _asked(views, times, at_sequence) as (reading, when):
        if when.since is not None and when.since == when.until:
            return answers.page(reading, await history.who_had(reading.db, packed, when.since))
        found, _ = await history.holdings(reading.db, packed, packed, when.both)
        return answers.page(reading, found)


@get("/nodes/{node:str}/history")
async def of_node(
    views: TheViews, times: TheTimes, node: FromPath[str], at_sequence: AtSequence = None
) -> Response[Page[Holding]]:
    """Which addresses a node had at an instant, in a time, or ever."""
    async with _asked(views, times, at_sequence) as (reading, when):
        clients = await _clients(reading, node)
        return answers.page(reading, await history.of_clients(reading.db, clients, when.both))


@get("/addresses/{address:str}/history")
async def of_address(
    views: TheViews, times: TheTimes, page: ThePage, address: FromPath[str]
) -> Response[Page[AuditRow]]:
    """All that happened to an address."""
    packed = _address(address, "address")
    async with views.read() as reading:
        rows = await audit_.of_addresses(reading.db, packed, packed, page, since=times.since, until=times.until)
        return _rows(reading, rows, page)


@get("/prefixes/history")
async def of_prefix(
    views: TheViews, times: TheTimes, page: ThePage, prefix: FromQuery[str]
) -> Response[Page[AuditRow]]:
    """All that happened to the addresses of a prefix, and to the subnets, pools and groups that hold some of them."""
    asked = _prefix(prefix)
    async with views.read() as reading:
        rows = await audit_.of_addresses(
            reading.db, asked.network, asked.last.to_bytes(16), page, since=times.since, until=times.until
        )
        return _rows(reading, rows, page)


@get("/subnets/{subnet:str}/changes")
async def of_subnet(views: TheViews, times: TheTimes, page: ThePage, subnet: FromPath[str]) -> Response[Page[AuditRow]]:
    """What changed in a subnet: its part of the plan, its leases but for renewals, which nodes came and left."""
    async with views.read() as reading:
        try:
            rows = await audit_.changes(
                reading.db, reading.position.site, subnet, page, since=times.since, until=times.until
            )
        except Unknown as error:
            raise NotThere(str(error)) from None
        return _rows(reading, rows, page)


@get("/audit")
async def audit(
    views: TheViews,
    times: TheTimes,
    page: ThePage,
    *,
    kind: FromQuery[str | None] = None,
    actor: FromQuery[str | None] = None,
    entity: FromQuery[str | None] = None,
    cause: FromQuery[str | None] = None,
    grep: FromQuery[list[str] | None] = None,
) -> Response[Page[AuditRow]]:
    """Events that are all of this: of a kind, by a writer, about an address, a prefix, a node or a name of the plan,
    caused by a commit or by a kind of request, and with each of the texts `grep` in one of their own.
    """
    wanted = Wanted(
        kind=kind,
        actor=actor,
        entity=entity,
        cause=cause,
        texts=tuple(grep or ()),
        since=times.since,
        until=times.until,
    )
    async with views.read() as reading:
        try:
            rows = await audit_.audit(reading.db, reading.position.site, wanted, page)
        except Unknown as error:
            raise NotThere(str(error)) from None
        except ValueError as error:
            raise Invalid("audit", str(error)) from None
        return _rows(reading, rows, page)


@get("/activity")
async def activity(
    views: TheViews,
    times: TheTimes,
    *,
    by: FromQuery[list[activity_.By] | None] = None,
    each: FromQuery[activity_.Each] = "hour",
    kind: FromQuery[str | None] = None,
    subnet: FromQuery[str | None] = None,
) -> Response[Page[ActivityRow]]:
    """How many events there were in each hour or day, by kind, family and subnet as asked for; only hours with some."""
    async with views.read() as reading:
        try:
            rows = await activity_.activity(
                reading.db, since=times.since, until=times.until, by=by or (), each=each, kind=kind, subnet=subnet
            )
        except ValueError as error:
            raise Invalid("kind", str(error)) from None
        return answers.page(reading, rows)


async def _clients(reading: Reading, node: str) -> list[bytes]:
    found = await find(reading.db, node)
    if not found:
        raise NotThere(f"there is no node with the name or client id {node!r}")
    if len(found) > 1:
        raise Invalid("node", ambiguous(node, found))
    client = bytes.fromhex(found[0].client)
    return [client, *await joined_into(reading.db, client)]


def _rows(reading: Reading, rows: list[AuditRow], page: audit_.Page) -> Response[Page[AuditRow]]:
    return answers.page(reading, rows, rows[-1].position if len(rows) == page.limit else None)


def _address(text: str, path: str) -> bytes:
    try:
        return parse_address(text)
    except ValueError as error:
        raise Invalid(path, str(error)) from None


def _prefix(text: str) -> Prefix:
    try:
        return parse_prefix(text)
    except ValueError as error:
        raise Invalid("prefix", str(error)) from None


HANDLERS = (who_had_any, who_had, of_node, of_address, of_prefix, of_subnet, audit, activity)
