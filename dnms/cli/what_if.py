"""`dnms what-if`: a changed plan over real history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from dnms.cli.exits import OK, USAGE, Failure
from dnms.cli.located import Bus, opened_log
from dnms.cli.options import SITE, SiteDirectory
from dnms.cli.plan import WholePlan, read, refused
from dnms.cli.rendering import Output, answer, facts, table
from dnms.cli.replay import Place
from dnms.disk.extensions import load_strategies
from dnms.disk.site import Site
from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, client_in_hex, from_builtins
from dnms.domain.what_if import Imagined, Move, PoolHistory, Refusal
from dnms.events.requests import ApplyPlan
from dnms.kit import logging
from dnms.projections.replay.imagined import imagine
from dnms.projections.text import instant, instant_or_none


class MoveThen(msgspec.Struct, frozen=True):
    """A client that would have moved."""

    node: str
    client: str
    subnet: str
    had: str
    would_have: str
    at: datetime


class RefusedThen(msgspec.Struct, frozen=True):
    """A client that would have been refused."""

    node: str
    client: str
    subnet: str
    request: str
    why: str
    at: datetime


class PoolThen(msgspec.Struct, frozen=True):
    """A pool of the plan."""

    pool: str
    subnet: str
    size: int
    held_first: int
    held_most: int
    held_last: int
    exhausted_at: datetime | None
    runs_out_at: datetime | None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan would have done, for programs."""

    since: datetime
    until: datetime
    first: int  # the sequence of the first commit that was decided anew; 0: none
    last: int
    decisions: int
    otherwise: int
    withdrawn: int
    moved: int
    refused: int
    granted: int
    pools: list[PoolThen]
    moves: list[MoveThen]
    refusals: list[RefusedThen]


def what_if(
    file: WholePlan,
    /,
    *,
    since: Annotated[
        Place, Parameter(help="From where on the plan is in force: a time in ISO 8601, or a position such as 12.")
    ],
    site: SiteDirectory = SITE,
    bus: Bus = None,
    output: Output = "table",
) -> int:
    """Run a changed plan over real history: when pools would run out, who would move, who would be refused."""
    logging.configure()
    document = read(file)

    def plan_of(named: Callable[[str], bytes]) -> ApplyPlan:
        def client_of(who: str) -> bytes:
            with suppress(ValueError):
                return client_in_hex(who)
            return named(who)

        return from_builtins(document, client_of=client_of)

    async def imagined() -> Imagined:
        opened = Site.load(site)
        load_strategies()
        async with opened_log(opened, bus) as log:
            return await imagine(log, opened.name, opened.secret, since=since, plan_of=plan_of)

    try:
        found = _answer(asyncio.run(imagined()))
    except DocumentError as error:
        expected, _, place = str(error).partition(" - at `")
        raise refused(file, document, [(place.removesuffix("`"), expected)]) from error
    except Refused as refusal:
        raise Failure(USAGE, f"{file}: {refusal}\nthe plan could not have been applied then") from refusal
    answer(found, lambda: _tables(found), output)
    return OK


def _answer(found: Imagined) -> Answer:
    return Answer(
        since=instant(found.since),
        until=instant(found.until),
        first=found.sequence,
        last=found.last,
        decisions=found.decisions,
        otherwise=found.otherwise,
        withdrawn=found.withdrawn,
        moved=found.moved,
        refused=found.refused,
        granted=found.granted,
        pools=list(map(_pool, found.pools)),
        moves=list(map(_move, found.moves)),
        refusals=list(map(_refusal, found.refusals)),
    )


def _pool(pool: PoolHistory) -> PoolThen:
    ends = instant_or_none(pool.exhausted_at), instant_or_none(pool.runs_out_at)
    return PoolThen(pool.pool, pool.subnet, pool.size, pool.held_first, pool.held_most, pool.held_last, *ends)


def _move(move: Move) -> MoveThen:
    return MoveThen(move.node, move.client, move.subnet, move.had, move.would_have, instant(move.at))


def _refusal(each: Refusal) -> RefusedThen:
    return RefusedThen(each.node, each.client, each.subnet, each.request, each.why, instant(each.at))


def _tables(found: Answer) -> Iterator[RenderableType]:
    yield facts(
        [
            ("since", found.since),
            ("until", found.until),
            ("requests", found.decisions),
            ("decided otherwise", found.otherwise),
            ("leases that end at once", found.withdrawn),
            ("clients that move", found.moved),
            ("clients refused", found.refused),
            ("clients granted, and refused then", found.granted),
        ]
    )
    columns = ("Pool", "Subnet", "Size", "Held first", "Most", "Last", "Exhausted", "Would run out")
    yield table(columns, [msgspec.structs.astuple(pool) for pool in found.pools])
    if found.moves:
        rows = [(each.node or each.client, each.subnet, each.had, each.would_have, each.at) for each in found.moves]
        yield table(("Node", "Subnet", "Had", "Would have", "At"), rows, title=_of(len(rows), found.moved, "moves"))
    if found.refusals:
        told = [(each.node or each.client, each.subnet, each.request, each.why, each.at) for each in found.refusals]
        title = _of(len(told), found.refused, "refusals")
        yield table(("Node", "Subnet", "Asked", "Why", "At"), told, title=title)


def _of(shown: int, all_of_them: int, what: str) -> str:
    return f"The first {shown} of {all_of_them} {what}" if shown < all_of_them else what.capitalize()
