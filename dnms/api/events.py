"""Events, as a list and as they come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter, SkipValidation
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from dnms.api import answers
from dnms.api.answers import Page
from dnms.api.problems import Invalid, Problem
from dnms.api.questions import TheViews, one_node
from dnms.events.ip import parse_address
from dnms.projections.events import queries
from dnms.projections.events.queries import MAX_EVENTS, EventRow
from dnms.projections.views import Reading, Views

KEEPALIVE = 15.0  # seconds; proxies close what is silent for a minute
MAX_STREAMS = 100  # each looks for news ten times a second
AGAIN = 1_000  # milliseconds until a client whose stream broke off comes again
BATCH = 200  # rows that a stream holds while its reader is slow; it reads no more before they are sent
PATIENCE = 0.5  # seconds until a stream looks whether the server stops

_POSITION = re.compile(r"(?:([^:]{1,64}):)?(\d{1,15})(?:\.(\d{1,4}))?")
"""With the log before it, where a stream gave it."""


class Streams(msgspec.Struct):
    """The streams of one server."""

    stopping: asyncio.Event
    open: int = 0


class Cursor(msgspec.Struct, frozen=True):
    """How far a stream is in a log."""

    log_id: str
    behind: int  # as `queries.after_event` makes it

    @property
    def text(self) -> str:
        """As a client is told it."""
        return f"{self.log_id}:{queries.position_of(self.behind)}"


class Filter(msgspec.Struct, frozen=True):
    """Which events are asked for."""

    kind: str | None
    node: str | None
    address: bytes | None


def wanted(
    kind: FromQuery[str | None] = None, node: FromQuery[str | None] = None, address: FromQuery[str | None] = None
) -> Filter:
    """The events of a kind (`address.allocated`, `address`), of a node (name or client id) or of an address."""
    try:
        kind = None if kind is None else queries.kind_of(kind)
    except ValueError as error:
        raise Invalid("kind", str(error)) from None
    try:
        return Filter(kind, node, None if address is None else parse_address(address))
    except ValueError as error:
        raise Invalid("address", str(error)) from None


Wanted = NamedDependency[SkipValidation[Filter]]


@get("/events")
async def events(
    views: TheViews,
    wanted: Wanted,
    after: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_EVENTS)] = 100,
    newest: FromQuery[bool] = False,
) -> Response[Page[EventRow]]:
    """Events behind the position `after` (`12`: behind that commit; `12.3`: behind that event), or the newest ones."""
    cursor = -1 if after is None else _cursor(after, "after")
    async with views.read() as reading:
        _same_log(after, reading)
        rows = await _matching(reading, wanted, cursor, limit=limit, newest=newest)
        return answers.page(reading, rows, rows[-1].position if len(rows) == limit and not newest else None)


@get("/events/stream", media_type="text/event-stream")
async def stream(
    request: Request[Any, Any, Any],
    views: TheViews,
    streams: NamedDependency[SkipValidation[Streams]],
    wanted: Wanted,
    after: FromQuery[str | None] = None,
) -> ServerSentEvent:
    """Events behind a position, then those to come, as server-sent events; without a position, those to come.

    The id of each is the log with its position there, and a client that comes back goes on behind the last one that it
    names; 409 if that was in another log, of which nobody can say what was missed. The first message, and each that
    keeps a silent stream open, is an id alone: so who has heard nothing yet misses nothing.
    """
    if streams.open >= MAX_STREAMS:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-streams", f"{MAX_STREAMS} streams are open; try later")
    if (last := request.headers.get("last-event-id")) is not None:
        after = last
    async with views.read() as reading:
        cursor = queries.after_commit(reading.position.sequence) if after is None else _cursor(after, "after")
        _same_log(after, reading)
        log_id = reading.position.log_id
        await _matching(reading, wanted, cursor, limit=1)  # who asks for an unknown node hears it at once
    return ServerSentEvent(_live(views, wanted, Cursor(log_id, cursor), streams))


async def _live(
    views: Views, wanted: Filter, cursor: Cursor, streams: Streams
) -> AsyncGenerator[ServerSentEventMessage, None]:
    streams.open += 1
    try:
        async for message in _messages(views, wanted, cursor, streams.stopping):
            yield message
    finally:
        streams.open -= 1


async def _messages(
    views: Views, wanted: Filter, cursor: Cursor, stopping: asyncio.Event
) -> AsyncGenerator[ServerSentEventMessage, None]:
    loop = asyncio.get_running_loop()
    spoken = loop.time()
    yield _here(cursor)
    while not stopping.is_set():
        async with views.read() as reading:
            if reading.position.log_id != cursor.log_id:
                return  # and who comes back with its cursor hears why
            rows = await _matching(reading, wanted, cursor.behind, limit=BATCH)
            folded = reading.position.sequence
        for row in rows:
            cursor = Cursor(cursor.log_id, queries.after_event(row.sequence, row.index))
            yield ServerSentEventMessage(data=msgspec.json.encode(row).decode(), id=cursor.text)
            spoken = loop.time()
        if len(rows) < BATCH:
            cursor = Cursor(cursor.log_id, max(cursor.behind, queries.after_commit(folded)))
            await views.reached(folded + 1, within=PATIENCE)
        if loop.time() - spoken > KEEPALIVE:
            yield _here(cursor)
            spoken = loop.time()


def _here(cursor: Cursor) -> ServerSentEventMessage:
    """How far the stream is. Without data it is no event to a client, which keeps the id (HTML, 9.2.6)."""
    return ServerSentEventMessage(data=None, id=cursor.text, retry=AGAIN)


def _same_log(after: str | None, reading: Reading) -> None:
    log_id, colon, position = (after or "").rpartition(":")
    if colon and log_id != reading.position.log_id:
        raise Problem(
            HTTPStatus.CONFLICT,
            "another-log",
            f"{position} was in the log {log_id}, and this is {reading.position.log_id}; begin again without it",
        )


async def _matching(
    reading: Reading, wanted: Filter, cursor: int, *, limit: int, newest: bool = False
) -> list[EventRow]:
    client = None if wanted.node is None else await one_node(reading, wanted.node)
    return await queries.events(
        reading.db, after=cursor, limit=limit, kind=wanted.kind, client=client, address=wanted.address, newest=newest
    )


def _cursor(text: str, path: str) -> int:
    match = _POSITION.fullmatch(text)
    if match is None:
        raise Invalid(path, "expected a position: 12 or 12.3")
    sequence, index = int(match[2]), match[3]
    return queries.after_commit(sequence) if index is None else queries.after_event(sequence, int(index))


HANDLERS = (events, stream)
