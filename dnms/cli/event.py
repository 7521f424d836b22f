"""`dnms event`: what happened, and what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import App, Parameter, validators

from dnms.cli.answers import Wanted
from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import OK
from dnms.cli.options import AddressText
from dnms.cli.rendering import Output, answer, json_line, line, table
from dnms.projections.events.queries import MAX_EVENTS, EventRow

app = App(name="event", help="What happened, and what happens.")

COLUMNS = ("Position", "Time", "Where", "Event", "Node", "What")

SHOWN_ELSEWHERE = {"client"}  # of an event's fields

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
    output: Output = "table",
) -> int:
    """The newest events, in the order of the log."""
    wanted = Wanted(kind=kind, node=node, address=address)
    events = asking.ask(lambda answers: answers.events(wanted, limit=limit))
    answer(events, lambda: [table(COLUMNS, map(_row, events))], output)
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
    return (event.position, event.time, where, event.name, event.node or event.client, _what(event.fields))


def _what(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in fields.items() if name not in SHOWN_ELSEWHERE)


def _short(value: Any) -> str:
    """A field for people: what has parts of its own is only counted, `-o json` has it."""
    match value:
        case {"name": name}:
            return str(name)
        case dict():
            return f"({len(value)} fields)"
        case list() if any(isinstance(one, dict | list) for one in value):
            return f"({len(value)} items)"
        case list():
            return " ".join(map(str, value))
    return str(value)
