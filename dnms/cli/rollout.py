"""`dnms rollout`: how far a new plan has come, where nodes are told it in waves."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.text import Text

from dnms.cli import changing, http
from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.options import API, SITE, ApiUrl, SiteDirectory
from dnms.cli.rendering import Output, answer, say_if_none, table
from dnms.projections.rollouts.queries import RolloutRow

COLUMNS = ("Subnet", "Plan", "Status", "Wave", "Told", "Proven", "Stopped by", "Began", "Changed")

app = App(name="rollout", help="New plans on their way to the nodes, in waves.")

Subnet = Annotated[str, Parameter(help="Whose rollout.")]


class Steered(msgspec.Struct, frozen=True):
    """What was brought about."""

    position: int
    folded: bool
    subnet: str
    events: list[str]


@app.command
def status(
    subnet: Annotated[str | None, Parameter(help="That of this subnet only.")] = None,
    /,
    *,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """The newest rollout of each subnet: how many nodes are told the new, how many have it, and what stopped it."""
    found = asking.ask(lambda answers: answers.rollouts(subnet=subnet))
    say_if_none("rollout", found, subnet=subnet)
    listed(found, RolloutRow, lambda: [table(COLUMNS, map(_row, found))], output)
    return OK


@app.command
def pause(subnet: Subnet, /, *, api: ApiUrl = API, site: SiteDirectory = SITE, output: Output = "table") -> int:
    """Tell no further node for now. Who is told already keeps what it has."""
    return _steer(subnet, "pause", api, site, output)


@app.command
def resume(subnet: Subnet, /, *, api: ApiUrl = API, site: SiteDirectory = SITE, output: Output = "table") -> int:
    """Go on after a pause, or in spite of a node that stopped it: what was not proven is not waited for."""
    return _steer(subnet, "resume", api, site, output)


@app.command
def abort(subnet: Subnet, /, *, api: ApiUrl = API, site: SiteDirectory = SITE, output: Output = "table") -> int:
    """Tell all nodes what they had before, until another plan comes."""
    return _steer(subnet, "abort", api, site, output)


def _steer(subnet: str, to: Literal["pause", "resume", "abort"], api: str, site: SiteDirectory, output: Output) -> int:
    steered = changing.post(api, site, f"/rollouts/{http.quoted(subnet)}", {"to": to}, Steered)
    said = ", ".join(name.replace(".", " ") for name in steered.events)
    answer(steered, lambda: [Text(f"{subnet}: {said}.")], output)
    return OK


def _row(row: RolloutRow) -> tuple[object, ...]:
    stopped = f"{row.stopped_by}, {row.stopped_why}" if row.stopped_by else ""
    return (row.subnet, row.plan, row.status, row.wave, row.told, row.proven, stopped, row.began, row.changed)
