"""`dnms alarm`: what is wrong on the links."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.rendering import say_if_none, table
from dnms.projections.link.queries import AlarmRow

COLUMNS = ("Alarm", "Subnet", "Address", "Who", "Other", "Prefix", "Why", "Since", "Cleared")

app = App(name="alarm", help="What is wrong on the links: who has another's address, or is a router and should not.")


@app.command(name="list")
def list_(
    *,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    cleared: Annotated[bool, Parameter(negative="", help="The last that are over, too.")] = False,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """All alarms that are not cleared, the newest first. Agents that watch their links raise them (`--watch`)."""
    found = asking.ask(lambda answers: answers.alarms(subnet=subnet, cleared=cleared))
    say_if_none("alarm", found, subnet=subnet)
    listed(found, AlarmRow, lambda: [table(COLUMNS, map(_row, found))], output)
    return OK


def _row(row: AlarmRow) -> tuple[object, ...]:
    who, other = row.node or row.client, row.other_node or row.other
    over = "" if row.cleared is None else f"{row.cleared}, {row.ended}"
    return (row.alarm, row.subnet, row.address, who, other, row.prefix, row.why, row.since, over)
