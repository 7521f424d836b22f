"""`dnms why`: from a route, an address, a prefix or an element of a set back to who brought it about."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.rendering import table
from dnms.projections.why.steps import Step

COLUMNS = ("Why", "Event", "Position", "Time", "Actor", "Asked for")


def why(
    *of: Annotated[
        str,
        Parameter(
            help="An address, a prefix, a route as `ip route` prints it, an element of a set: 2001:db8::5 in sales-6."
        ),
    ],
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """Why something is as it is, back to the plan, with who applied it, and to who delegated what came from above.

    Each line is followed by its causes, which are set in. Exit code 1: the log knows of no such thing.
    """
    text = " ".join(of)
    found = asking.ask(lambda answers: answers.prefixes.why(text))
    listed(found, Step, lambda: [table(COLUMNS, map(_row, found))], output)
    return OK


def _row(step: Step) -> tuple[object, ...]:
    place = f"{step.position} of log {step.log}" if step.log is not None else step.position
    return (f"{'  ' * step.depth}{step.what}", step.event, place, step.time, step.actor, step.request)
