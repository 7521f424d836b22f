"""`dnms node diff`: what a node has otherwise at one moment than at another, and the events that say so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from dnms.cli import node_configuration
from dnms.cli.answers import NodeAnswer
from dnms.cli.asking import NOWHERE_ELSE, Asking, AskingThen
from dnms.cli.exits import NO, OK, USAGE, Failure
from dnms.cli.histories import PAGE, Sought, Times
from dnms.cli.options import WHEN, Moment
from dnms.cli.rendering import Output, answer, say, table
from dnms.projections.events.searching import AuditRow
from dnms.projections.nodes.configured import ConfigurationChange, differences
from dnms.projections.nodes.queries import SHORT, ambiguous


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has otherwise at the later moment."""

    node: str | None
    client: str
    since: datetime
    until: datetime | None  # None: now
    changes: list[ConfigurationChange]
    events: list[AuditRow]  # between the two, what the node told of its configuration


def diff(
    node: Annotated[str, Parameter(help=f"Its name, or its client id or the first {SHORT} digits of that.")],
    /,
    *,
    since: Annotated[Moment, Parameter(name="--from", help=f"As it was then: {WHEN}")],
    until: Annotated[Moment | None, Parameter(name="--to", help="And then; without it, as it is now.")] = None,
    asking: Asking = NOWHERE_ELSE,
    output: Output = "table",
) -> int:
    """What a node has otherwise at one moment than at another; lifetimes run down and do not count.

    Exit code 1: nothing, as far as the node told.
    """
    if until is not None and until < since:
        raise Failure(USAGE, "--from is behind --to; change the two")
    before, after = _of(asking, node, since), _of(asking, node, until)
    client = after.node.client
    sought, times = Sought(kind="configuration", entity=client), Times(since, until)
    events = asking.ask(lambda answers: answers.histories.audit(sought, times, limit=PAGE))
    found = Difference(
        node=after.node.name,
        client=client,
        since=since,
        until=until,
        changes=list(differences(before.configuration or {}, after.configuration or {})),
        events=[event for event in events if event.name != "configuration.applied"],
    )
    links = {
        link["index"]: link["name"] for each in (before, after) for link in (each.configuration or {}).get("links", ())
    }
    answer(found, lambda: _tables(found, links), output)
    if not found.changes:
        say(f"{node} has nothing otherwise, as far as it told")
    return OK if found.changes else NO


def _of(asking: Asking, node: str, at: datetime | None) -> NodeAnswer:
    """All about the one node. Failure where there is none, or several."""
    then = AskingThen(api=asking.api, site=asking.site, data=asking.data, at=at)
    found = then.ask(lambda answers: answers.node(node))
    if len(found) > 1:
        raise Failure(USAGE, ambiguous(node, [one.node for one in found]))
    return found[0]


def _tables(found: Difference, links: dict[int, str]) -> Iterator[RenderableType]:
    yield node_configuration.changes(found.changes, links)
    rows = ((event.time, event.position, event.name) for event in found.events)
    yield table(("When", "Event", "What"), rows, title="Events")
