"""Questions about what is and what was, but for events. Each is one query of one projection, at one moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation

from dnms.api import answers
from dnms.api.answers import AddressAnswer, NodeAnswer, Page, SiteAnswer, StatusAnswer
from dnms.api.cursors import cursor_of, key_of
from dnms.api.problems import Invalid, NotThere
from dnms.bus.port import Log, LogError
from dnms.events.ip import format_address, parse_address
from dnms.kit.clock import SystemClock
from dnms.projections.addresses import queries as addresses_
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.link.queries import sighted
from dnms.projections.nodes import queries as nodes_
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.pools import queries as pools_
from dnms.projections.pools.queries import PoolRow
from dnms.projections.pools.usage import PoolUsage, usage
from dnms.projections.text import microseconds
from dnms.projections.views import Moment, Reading, Views

LOG_PATIENCE = 2.0  # seconds for the log to say where it ends

TheViews = NamedDependency[SkipValidation[Views]]
At = Annotated[datetime | None, QueryParameter(description="As it was at this instant; in UTC if it names no zone.")]
AtSequence = Annotated[
    int | None, QueryParameter(ge=1, description="As it was when the commit at this sequence had been folded.")
]
TheLog = NamedDependency[SkipValidation[Log]]
Limit = Annotated[int, QueryParameter(ge=1, le=10_000)]
NodeOrder = Literal["client", "-client", "name", "-name", "last_seen", "-last_seen"]

# Litestar keeps the name `state` of an argument to itself.
InState = Annotated[Literal["held", "declined", "blocked", "reserved"] | None, QueryParameter(name="state")]

_NODE_KEYS: dict[str, Any] = {"client": tuple[bytes], "name": tuple[str, bytes], "last_seen": tuple[int, bytes]}


@get("/site")
async def site(views: TheViews) -> Response[SiteAnswer]:
    """The site, and how much is in its log."""
    async with views.read() as reading:
        position = reading.position
        found = SiteAnswer(
            watermark=position.sequence,
            name=position.site,
            log_id=position.log_id,
            commits=position.commits,
            events=position.events,
            plan=await pools_.site(reading.db),
        )
    return answers.answer(found, position.sequence)


@get("/status")
async def status(views: TheViews, log: TheLog) -> StatusAnswer:
    """How the views are. Here and for metrics alone the log is asked: where it ends."""
    return await looked_at(views, log)


async def looked_at(views: Views, log: Log) -> StatusAnswer:
    """How the views are, and how far the log is ahead of them, if it says so within LOG_PATIENCE."""
    found = await views.status()
    end: int | None = None
    try:
        async with asyncio.timeout(LOG_PATIENCE):
            end = await log.end()
    except (LogError, TimeoutError):
        pass  # that it cannot be reached is the answer
    known = None if found.position is None else found.position.sequence
    behind = None if end is None or known is None else max(0, end - known)
    return StatusAnswer(views=found, log_end=end, behind=behind)


@get("/nodes")
async def nodes(
    views: TheViews,
    *,
    subnet: FromQuery[str | None] = None,
    agent: FromQuery[str | None] = None,
    session: FromQuery[Literal["open", "closed", "none"] | None] = None,
    name: FromQuery[str | None] = None,
    order: FromQuery[NodeOrder] = "client",
    cursor: FromQuery[str | None] = None,
    limit: Limit = 1_000,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[NodeRow]]:
    """Nodes, those of a subnet, with a session to an agent or in a state, or whose name is like `phone-*`.

    In the order of their client ids, of their names, or of when they were seen last; with `-` before it, the other
    way round. `cursor` is the `next` of the page before.
    """
    by, descending = order.removeprefix("-"), order.startswith("-")
    question = {
        "of": "nodes",
        "subnet": subnet,
        "agent": agent,
        "session": session,
        "name": name,
        "order": order,
        **as_of(at, at_sequence),
    }
    after: tuple[Any, ...] = () if cursor is None else key_of(cursor, question, _NODE_KEYS[by])
    async with views.read(moment(at, at_sequence)) as reading:
        rows = await nodes_.nodes(
            reading.db,
            subnet=subnet,
            agent=agent,
            session=session,
            name=name,
            order=by,
            descending=descending,
            after=after,
            limit=limit,
        )
        more = len(rows) == limit
        return answers.page(reading, rows, cursor_of(question, nodes_.key_of(rows[-1], by)) if more else None)


@get("/nodes/{node:str}")
async def node(
    views: TheViews, node: FromPath[str], at: At = None, at_sequence: AtSequence = None
) -> Response[Page[NodeAnswer]]:
    """The nodes of a name, which can be several, or the one with a client id: all about each."""
    async with views.read(moment(at, at_sequence)) as reading:
        found = []
        for row in await nodes_.find(reading.db, node):
            client = bytes.fromhex(row.client)
            found.append(
                NodeAnswer(
                    node=row,
                    addresses=await addresses_.of_node(reading.db, client),
                    sessions=await nodes_.sessions(reading.db, client),
                    configuration=await nodes_.snapshot(reading.db, client),
                    drifts=await nodes_.drifts(reading.db, client),
                )
            )
        if not found:
            raise NotThere(f"there is no node with the name or client id {node!r}")
        return answers.page(reading, found)


@get("/addresses")
async def addresses(
    views: TheViews,
    *,
    subnet: FromQuery[str | None] = None,
    pool: FromQuery[str | None] = None,
    node: FromQuery[str | None] = None,
    in_state: InState = None,
    order: FromQuery[Literal["address", "-address"]] = "address",
    cursor: FromQuery[str | None] = None,
    limit: Limit = 1_000,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[AddressRow]]:
    """Leased, declined and reserved addresses, those of a subnet, a pool, a node (name or client id) or in a state.

    In their order, or with `-` the other way round. `cursor` is the `next` of the page before.
    """
    question = {
        "of": "addresses",
        "subnet": subnet,
        "pool": pool,
        "node": node,
        "state": in_state,
        "order": order,
        **as_of(at, at_sequence),
    }
    after = (b"", "") if cursor is None else key_of(cursor, question, tuple[bytes, str])
    async with views.read(moment(at, at_sequence)) as reading:
        rows = await addresses_.addresses(
            reading.db,
            subnet=subnet,
            pool=pool,
            client=None if node is None else await one_node(reading, node),
            state=in_state,
            after=after,
            descending=order.startswith("-"),
            limit=limit,
        )
        more = len(rows) == limit
        behind = (parse_address(rows[-1].address), rows[-1].subnet) if more else None
        return answers.page(reading, rows, cursor_of(question, behind) if more else None)


@get("/addresses/{address:str}")
async def address(
    views: TheViews, address: FromPath[str], at: At = None, at_sequence: AtSequence = None
) -> Response[AddressAnswer]:
    """One address: its leases, the nodes that registered it, and who is seen with it."""
    packed = _address(address, "address")
    async with views.read(moment(at, at_sequence)) as reading:
        sequence = reading.position.sequence
        found = AddressAnswer(
            watermark=sequence,
            address=format_address(packed),
            leases=await addresses_.leases_of(reading.db, packed),
            registered=await addresses_.registered(reading.db, packed),
            seen=await sighted(reading.db, address=packed),
        )
    if not (found.leases or found.registered or found.seen):
        then = "has {} now" if at is None and at_sequence is None else "had {} then"
        raise NotThere(f"nobody {then.format(found.address)}; `who-had` knows of other times")
    return answers.answer(found, sequence)


@get("/pools")
async def pools(
    views: TheViews, subnet: FromQuery[str | None] = None, at: At = None, at_sequence: AtSequence = None
) -> Response[Page[PoolRow]]:
    """Every pool of the plan, and withdrawn ones that still have leases."""
    async with views.read(moment(at, at_sequence)) as reading:
        is_past = at is not None or at_sequence is not None
        now = microseconds(reading.position.time) if is_past else SystemClock().now()
        return answers.page(reading, await pools_.pools(reading.db, at=now, subnet=subnet))


@get("/pools/{pool:str}")
async def pool(
    views: TheViews, pool: FromPath[str], at: At = None, at_sequence: AtSequence = None
) -> Response[Page[PoolUsage]]:
    """All about the pool of a name: use, rate, and how likely hashes meet in it. Several where it was moved."""
    async with views.read(moment(at, at_sequence)) as reading:
        found = await usage(reading, pool)
        if not found:
            raise NotThere(f"there is no pool {pool!r}")
        return answers.page(reading, found)


def moment(at: datetime | None, at_sequence: int | None) -> Moment | None:
    """As of when is asked; Invalid if it is both."""
    if at is not None and at_sequence is not None:
        raise Invalid("at_sequence", "give one of `at` and `at_sequence`")
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return at if at is not None else at_sequence


def as_of(at: datetime | None, at_sequence: int | None) -> dict[str, str | None]:
    """What a cursor of a page as of a moment is bound to."""
    return {"at": at.isoformat() if at is not None else None if at_sequence is None else f"#{at_sequence}"}


async def one_node(reading: Reading, node: str) -> bytes:
    """The client of the one node of this name or client id. NotThere, Invalid if there are several."""
    found = await nodes_.find(reading.db, node)
    if not found:
        raise NotThere(f"there is no node with the name or client id {node!r}")
    if len(found) > 1:
        raise Invalid("node", nodes_.ambiguous(node, found))
    return bytes.fromhex(found[0].client)


def _address(text: str, path: str) -> bytes:
    try:
        return parse_address(text)
    except ValueError as error:
        raise Invalid(path, str(error)) from None


HANDLERS = (site, status, nodes, node, addresses, address, pools, pool)
