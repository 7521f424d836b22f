"""`dnms subscriber`: who acts on the log, and what those who call have given up."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.text import Text

from dnms.cli import changing, http, subscriber_run
from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.options import API, SITE, ApiUrl, SiteDirectory
from dnms.cli.rendering import Output, answer, moment, say, table
from dnms.projections.effects.queries import DeadRow, SubscriberRow

app = App(name="subscriber", help="Who acts on the log, such as the firewall: run one, list them.")
app.command(subscriber_run.run)

COLUMNS = ("Subscriber", "Instance", "Position", "Applied", "Waited", "Waiting", "Dead", "Fails")
DEAD_COLUMNS = ("Subscriber", "Instance", "Position", "Event", "Died", "Attempts", "Why")


class Asked(msgspec.Struct, frozen=True):
    """What is called for again."""

    position: int
    folded: bool
    subscriber: str
    letters: list[DeadRow]


@app.command(name="list")
def list_(*, asking: AskingThen = NOW, output: Listing = "table") -> int:
    """The subscribers that ran for this site: what each did last, how long that took, what waits, whether it fails."""
    found = asking.ask(lambda answers: answers.subscribers())
    if not found:
        known = "; ".join(f"{each.name}: {each.about}" for each in subscriber_run.known())
        say(f"no subscriber has said anything yet; `dnms subscriber run NAME` runs one ({known})")
    listed(found, SubscriberRow, lambda: [table(COLUMNS, map(_row, found))], output)
    return OK


@app.command
def dead(
    name: Annotated[str | None, Parameter(help="Of this subscriber only.")] = None,
    /,
    *,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """Dead letters: events for which a subscriber has called in vain for a day. `retry` has it call again."""
    found = asking.ask(lambda answers: answers.dead_letters(subscriber=name))
    if not found:
        say("there are no dead letters" if name is None else f"{name} has no dead letters")
    listed(found, DeadRow, lambda: [table(DEAD_COLUMNS, map(_dead_row, found))], output)
    return OK


@app.command
def retry(
    name: Annotated[str, Parameter(help="The subscriber.")],
    /,
    *positions: Annotated[str, Parameter(help="Of the events, as `dnms subscriber dead` has them. Without one: all.")],
    instance: Annotated[str | None, Parameter(help="That one only.")] = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Have a subscriber call again for its dead letters. An instance that does not run does it when it is started."""
    body = {"instance": instance, "positions": list(positions)}
    asked = changing.post(api, site, f"/subscribers/{http.quoted(name)}/retry", body, Asked)
    answer(asked, lambda: [Text(_told(each)) for each in asked.letters], output)
    return OK


def _told(letter: DeadRow) -> str:
    return f"{letter.subscriber}/{letter.instance} calls again for {letter.kind} at {letter.position}."


def _row(row: SubscriberRow) -> tuple[object, ...]:
    failing = f"since {moment(row.failing_since)}: {row.why}, {row.text}" if row.failing_since else ""
    waited = f"{row.waited_ms:.0f} ms"
    return (row.subscriber, row.instance, row.position, row.applied, waited, row.waiting, row.dead, failing)


def _dead_row(row: DeadRow) -> tuple[object, ...]:
    why = f"{row.why}, {row.text}"
    return (row.subscriber, row.instance, row.position, row.kind, row.died, row.attempts, why)
