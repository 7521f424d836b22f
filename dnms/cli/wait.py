"""`dnms wait`: until what was decided has arrived."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import LATE, OK, USAGE, Failure
from dnms.cli.listing import Listing, listed
from dnms.cli.rendering import say, table
from dnms.projections.effects.standing import CONFIGURED, StandingRow

LOOK = 0.2  # seconds between two looks
COLUMNS = ("What", "Who", "Event", "Applied", "Done", "Why")


def command(
    entity: Annotated[str, Parameter(help="An address, a prefix, or a node by its name or client id.")],
    /,
    *,
    until: Annotated[
        str,
        Parameter(
            name="--for",
            help="What to wait for, with commas between: configured (the node), or subscribers: routes, firewall, …",
        ),
    ] = CONFIGURED,
    instance: Annotated[
        list[str] | None,
        Parameter(negative=(), help="Of subscribers these instances alone, and not all that there are; several times."),
    ] = None,
    timeout: Annotated[float, Parameter(help="Seconds; then the exit code is 6.")] = 60.0,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """Wait until everybody has applied the newest event of a node, an address or a prefix, and has said so in the log.

    `configured` is the node's own word that what it was told is usable and proven. `routes` are the instances that the
    plan names as the subnet's routers, and of other subscribers those that ever ran.
    """
    whats = [word for word in until.split(",") if word]
    if not whats or not timeout >= 0:
        raise Failure(USAGE, "expected --for configured,routes,firewall or one of these, and a --timeout of 0 or more")
    rows = asyncio.run(_wait(asking, entity, whats, instance or [], timeout))
    listed(rows, StandingRow, lambda: [table(COLUMNS, map(_row, rows))], output)
    missing = [row for row in rows if not row.done]
    for row in missing:
        name = f"{row.what}/{row.who}" if row.who else row.what
        if not row.has and row.what != CONFIGURED:
            say(f"{name} never ran for this site, or never got so far; `dnms subscriber list` has those that did")
            continue
        why = f": {row.why}" if row.why else ""
        say(f"{name} has applied the log up to {row.has}, and not {row.position} yet{why}")
    return LATE if missing else OK


async def _wait(
    asking: Asking, entity: str, whats: list[str], instances: list[str], timeout: float
) -> list[StandingRow]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    async with asking.opened() as answers:
        rows = await answers.standing(entity, whats, instances)
        while not all(row.done for row in rows) and loop.time() < deadline:
            await asyncio.sleep(min(LOOK, max(0.0, deadline - loop.time())))
            rows = await answers.standing(entity, whats, instances)
        return rows


def _row(row: StandingRow) -> tuple[object, ...]:
    return (row.what, row.who, row.position, row.has, "yes" if row.done else "no", row.why)
