"""`dnms event`: what happened, and what happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Set
from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import App, Parameter, validators

from dnms.cli.answers import Wanted
from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.options import AddressText
from dnms.cli.rendering import Output, cell, json_line, line, moment, table
from dnms.projections.events.queries import MAX_EVENTS, EventRow
from dnms.projections.nodes.configured import summary
from dnms.projections.text import INSTANTS, instant

app = App(name="event", help="What happened, and what happens.")

COLUMNS = ("Position", "Time", "Where", "Node", "What")

NOT_SHOWN = {"client", "digest", "iaid"}  # of an event's fields: shown as the node, or told nobody by looking at it

Kind = Annotated[str | None, Parameter(help="Only this kind: a name such as address.allocated, or its first word.")]
Node = Annotated[str | None, Parameter(help="Only those of this node: its name or client id.")]
About = Annotated[AddressText | None, Parameter(help="Only those about this address.")]


@app.command(name="list")
def list_(
    *,
    kind: Kind = None,
    node: Node = None,
    address: About = None,
    limit: Annotated[int, Parameter(help="How many.", validator=validators.Number(gte=1, lte=MAX_EVENTS))] = 100,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """The newest events, in the order of the log."""
    wanted = Wanted(kind=kind, node=node, address=address)
    events = asking.ask(lambda answers: answers.events(wanted, limit=limit))
    listed(events, EventRow, lambda: [table(COLUMNS, map(_row, events))], output)
    return OK


@app.command
def tail(
    *,
    kind: Kind = None,
    node: Node = None,
    address: About = None,
    asking: Asking = NOWHERE_ELSE,
    output: Output = "table",
) -> int:
    """Events as they come, until Ctrl-C; with `-o json` one object a line."""

    async def follow() -> None:
        async with (
            asking.opened() as answers,
            aclosing(answers.tail(Wanted(kind=kind, node=node, address=address))) as events,
        ):
            async for event in events:
                if output == "json":
                    json_line(event)
                else:
                    line(*_row(event))

    asyncio.run(follow())
    return OK


def _row(event: EventRow) -> tuple[object, ...]:
    where = event.subject.split(".", 2)[-1]  # without what all subjects of a site begin with
    return (event.position, event.time, where, event.node or event.client, f"{event.name} {what(event.fields)}".strip())


def what(fields: Mapping[str, Any], *, but: Set[str] = NOT_SHOWN) -> str:
    """An event's fields for people, but for some: what has many parts of its own is summed up, `-o json` has it."""
    return ", ".join(f"{name} {_short(name, value)}" for name, value in fields.items() if name not in but)


def _short(name: str, value: Any) -> str:
    match value:
        case int() if name in INSTANTS:
            text = moment(instant(value))
        case {"addresses": list() as addresses} if name == "snapshot":
            origins = Counter(str(one.get("origin")) for one in addresses)
            text = "of " + " ".join(f"{count} {origin}" for origin, count in sorted(origins.items()))
        case dict() if name == "change":
            text = summary(value)
        case {"name": str() as own}:
            text = own
        case dict() if any(isinstance(one, dict | list) for one in value.values()):
            text = f"of position {value['position']}" if "position" in value else f"({len(value)} fields)"
        case dict():
            text = " ".join(f"{key} {_short(key, one)}" for key, one in value.items())
        case list() if all(isinstance(one, dict) for one in value):
            text = " ".join("(" + " ".join(map(str, one.values())) + ")" for one in value)
        case list():
            text = " ".join(map(str, value))
        case _:
            return cell(value).plain
    return cell(text).plain
