"""`dnms prefix`: who holds which prefix of whom, until when and by which event, and what is cut from what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import RenderableType

from dnms.cli.answers import PrefixAnswer
from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.options import PrefixText
from dnms.cli.rendering import Output, answer, facts, say, say_if_none, table
from dnms.projections.prefixes.queries import DelegationRow, UplinkRow
from dnms.projections.prefixes.tree import DELEGATION, LINK, TreeRow

app = App(name="prefix", help="The prefixes: who holds which of whom, what is cut from what, what happened to one.")
app.command("dnms.cli.audit:of_prefix", name="history")

DELEGATIONS = ("Prefix", "Node", "Subnet", "Delegation", "Group", "Via", "State", "Valid until", "Event")
UPLINKS = ("Prefix", "Subnet", "Uplink", "From", "State", "Valid until", "Event")
TREE = ("Prefix", "What", "State", "Valid until", "Event")

Subnet = Annotated[str | None, Parameter(help="Those of this subnet only.")]


@app.command(name="list")
def list_(
    *,
    subnet: Subnet = None,
    state: Annotated[
        Literal["delegated", "deprecated", "released", "expired", "withdrawn"] | None,
        Parameter(help="Those in this state only. Without it: those that are not over."),
    ] = None,
    uplinks: Annotated[
        bool, Parameter(negative="", help="Those that came from above, instead of those that are delegated.")
    ] = False,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """The prefixes that are delegated: who holds which, from where, until when, and by which event."""
    if uplinks:
        above = asking.ask(lambda answers: answers.prefixes.uplinks(subnet=subnet, lost=False))
        say_if_none("prefix from above", above, subnet=subnet)
        listed(above, UplinkRow, lambda: [table(UPLINKS, map(_uplink, above))], output)
        return OK
    found = asking.ask(lambda answers: answers.prefixes.delegations(subnet=subnet, state=state))
    say_if_none("delegated prefix", found, subnet=subnet)
    listed(found, DelegationRow, lambda: [table(DELEGATIONS, map(_delegation, found))], output)
    return OK


@app.command
def show(prefix: PrefixText, /, *, asking: AskingThen = NOW, output: Output = "table") -> int:
    """One prefix: to whom it is delegated, or was last, from where it came, what is cut from it. Exit code 1: none."""
    about = asking.ask(lambda answers: answers.prefixes.prefix(prefix))
    answer(about, lambda: _tables(about), output)
    return OK


@app.command
def tree(
    prefix: Annotated[PrefixText | None, Parameter(help="As far as it overlaps this one.")] = None,
    /,
    *,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """What is cut from what: at the top what came from above, below it what is delegated and what links have of it."""
    found = asking.ask(lambda answers: answers.prefixes.tree(within=prefix))
    if not found:
        say("no prefix came from above, and none is delegated")
    listed(found, TreeRow, lambda: [table(TREE, map(_tree, found))], output)
    return OK


def _delegation(row: DelegationRow) -> tuple[object, ...]:
    who = row.node or row.client
    via = f"{row.next_hop}%{row.interface}" if row.interface else row.next_hop
    return (row.prefix, who, row.subnet, row.pool, row.group, via, row.state, row.valid_until, row.opened)


def _uplink(row: UplinkRow) -> tuple[object, ...]:
    return (row.prefix, row.subnet, row.uplink, _source(row), row.state, row.valid_until, row.opened)


def _source(row: UplinkRow) -> str:
    return row.source if row.source_position is None else f"{row.source}, commit {row.source_position}"


def _tree(row: TreeRow) -> tuple[object, ...]:
    what = {
        DELEGATION: f"delegated to {row.node or row.client} in {row.source}",
        LINK: f"the own of {row.subnet}",
    }.get(row.kind, f"to {row.subnet} over {row.of}, from {row.source}")
    return (f"{'  ' * row.depth}{row.prefix}", what, row.state, row.valid_until, row.position)


def _tables(about: PrefixAnswer) -> Iterator[RenderableType]:
    for row in about.delegations:
        yield facts(_facts(row))
    for uplink in about.uplinks:
        yield facts(
            [
                *zip((name.lower() for name in UPLINKS), _uplink(uplink), strict=True),
                ("preferred until", uplink.preferred_until),
                ("excluded", uplink.exclude),
                ("since", uplink.since),
                ("last event", uplink.changed),
                *([("lost", uplink.until), ("because", uplink.why)] if uplink.until is not None else []),
            ]
        )
    for link in about.links:
        yield facts(
            [
                ("prefix", link.prefix),
                ("own prefix of", link.subnet),
                ("by the plan at", link.plan),
                ("event", link.position),
            ]
        )
    if about.tree:
        yield table(TREE, map(_tree, about.tree), title="Cut from and into")


def _facts(row: DelegationRow) -> Iterable[tuple[str, object]]:
    yield from zip((name.lower() for name in DELEGATIONS), _delegation(row), strict=True)
    yield from (
        ("promised until", row.horizon),
        ("cut from", row.above),
        ("excluded", row.exclude),
        ("since", row.since),
        ("last event", row.changed),
    )
    if row.closed is not None:
        yield from (("over", row.until), ("by", row.closed))
