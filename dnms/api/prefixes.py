"""Questions about prefixes: who holds them, what comes from above, what is cut from what; and why something is so."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar import Response, get
from litestar.params import FromQuery, QueryParameter

from dnms.api import answers
from dnms.api.answers import Page
from dnms.api.cursors import cursor_of, key_of
from dnms.api.problems import Invalid, NotThere
from dnms.api.questions import At, AtSequence, Limit, TheViews, as_of, moment, one_node
from dnms.events.ip import Prefix, parse_prefix
from dnms.projections.prefixes import queries
from dnms.projections.prefixes.queries import DelegationRow, LinkRow, UplinkRow
from dnms.projections.prefixes.tree import TreeRow
from dnms.projections.prefixes.tree import tree as tree_
from dnms.projections.why import steps
from dnms.projections.why.asked import asked
from dnms.projections.why.steps import Step

InState = Annotated[
    Literal["delegated", "deprecated", "released", "expired", "withdrawn"] | None, QueryParameter(name="state")
]


class PrefixAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one prefix: its last delegation in each subnet, and where it is from above or a link's own."""

    watermark: int
    prefix: str
    delegations: list[DelegationRow]
    uplinks: list[UplinkRow]
    links: list[LinkRow]
    tree: list[TreeRow]  # what it is cut from, and what is cut from it


@get("/prefixes")
async def prefixes(
    views: TheViews,
    *,
    subnet: FromQuery[str | None] = None,
    pool: FromQuery[str | None] = None,
    node: FromQuery[str | None] = None,
    in_state: InState = None,
    within: FromQuery[str | None] = None,
    order: FromQuery[Literal["prefix", "-prefix"]] = "prefix",
    cursor: FromQuery[str | None] = None,
    limit: Limit = 1_000,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[DelegationRow]]:
    """Delegated prefixes: of a subnet, a pool, a node (name or client id), or that have some address of a prefix.

    Without a state those that are not over. In their order, or with `-` the other way round. `cursor` is the `next` of
    the page before.
    """
    question = {
        "of": "prefixes",
        "subnet": subnet,
        "pool": pool,
        "node": node,
        "state": in_state,
        "within": within,
        "order": order,
        **as_of(at, at_sequence),
    }
    after = None if cursor is None else key_of(cursor, question, tuple[bytes, int, str])
    async with views.read(moment(at, at_sequence)) as reading:
        rows = await queries.delegations(
            reading.db,
            subnet=subnet,
            pool=pool,
            client=None if node is None else await one_node(reading, node),
            state=in_state,
            within=None if within is None else _prefix(within, "within"),
            after=after,
            descending=order.startswith("-"),
            limit=limit,
        )
        more = len(rows) == limit
        return answers.page(reading, rows, cursor_of(question, queries.key_of(rows[-1])) if more else None)


@get("/prefixes/about")
async def prefix(
    views: TheViews, *, prefix: FromQuery[str], at: At = None, at_sequence: AtSequence = None
) -> Response[PrefixAnswer]:
    """One prefix: to whom it is or was delegated, from where it came, what it is cut from, and what is cut from it."""
    wanted = _prefix(prefix, "prefix")
    async with views.read(moment(at, at_sequence)) as reading:
        db, sequence = reading.db, reading.position.sequence
        found = PrefixAnswer(
            watermark=sequence,
            prefix=str(wanted),
            delegations=await queries.of_prefix(db, wanted),
            uplinks=[row for row in await queries.uplinks(db, within=wanted, lost=True) if row.prefix == str(wanted)],
            links=[row for row in await queries.links(db, within=wanted) if row.prefix == str(wanted)],
            tree=await tree_(db, reading.position.log_id, within=wanted),
        )
    if not (found.delegations or found.uplinks or found.links):
        raise NotThere(f"{found.prefix} was never delegated, and came from nowhere; `prefix list` has what is there")
    return answers.answer(found, sequence)


@get("/prefixes/tree")
async def tree(
    views: TheViews, *, within: FromQuery[str | None] = None, at: At = None, at_sequence: AtSequence = None
) -> Response[Page[TreeRow]]:
    """What is cut from what: prefixes from above, and below each what is delegated and what links have of it."""
    wanted = None if within is None else _prefix(within, "within")
    async with views.read(moment(at, at_sequence)) as reading:
        return answers.page(reading, await tree_(reading.db, reading.position.log_id, within=wanted))


@get("/uplinks")
async def uplinks(
    views: TheViews,
    *,
    subnet: FromQuery[str | None] = None,
    lost: FromQuery[bool] = False,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[UplinkRow]]:
    """Prefixes that routers have from above, with who delegated them; `lost`: also those that they have no more."""
    async with views.read(moment(at, at_sequence)) as reading:
        return answers.page(reading, await queries.uplinks(reading.db, subnet=subnet, lost=lost))


@get("/why")
async def why(
    views: TheViews, *, of: FromQuery[str], at: At = None, at_sequence: AtSequence = None
) -> Response[Page[Step]]:
    """Why an address, a prefix, a route (as `ip route` prints it) or an element of a set (`2001:db8::5 in sales-6`) is.

    Each step is followed by its causes, one deeper, back to the plan and to what came from above.
    """
    try:
        about = asked(of)
    except ValueError as error:
        raise Invalid("of", str(error)) from None
    async with views.read(moment(at, at_sequence)) as reading:
        found = await steps.why(reading.db, reading.position.log_id, about)
        if not found:
            raise NotThere(steps.unknown(of))
        return answers.page(reading, found)


def _prefix(text: str, path: str) -> Prefix:
    try:
        return parse_prefix(text)
    except ValueError as error:
        raise Invalid(path, str(error)) from None


HANDLERS = (prefixes, prefix, tree, uplinks, why)
