"""`dnms node`: the machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import RenderableType

from dnms.cli import node_changes, node_configuration
from dnms.cli.answers import NodeAnswer
from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK, USAGE, Failure
from dnms.cli.listing import Listing, listed
from dnms.cli.node_diff import diff
from dnms.cli.node_plan import plan
from dnms.cli.rendering import Output, answer, facts, say_if_none, table
from dnms.cli.who_had import of_node
from dnms.projections.addresses.queries import NodeAddressRow
from dnms.projections.nodes.queries import SHORT, DriftRow, NodeRow, ambiguous

app = App(name="node", help="The machines: who is there, how one is configured; enter, join and forget them.")
node_changes.register(app)
app.command(of_node, name="history")
app.command(diff)
app.command(plan)

USABLE = "usable"  # the outcome that needs no word


@app.command(name="list")
def list_(
    *,
    subnet: Annotated[str | None, Parameter(help="Those on this subnet only.")] = None,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """All nodes, with what their kernels said of the addresses that they were given."""
    nodes = asking.ask(lambda answers: answers.nodes(subnet=subnet))
    say_if_none("node", nodes, subnet=subnet)
    columns = ("Node", "Subnet", "Session", "Agent", "Addresses", "Last seen")
    listed(nodes, NodeRow, lambda: [table(columns, _rows(nodes))], output)
    return OK


@app.command
def show(
    node: Annotated[str, Parameter(help=f"Its name, or its client id or the first {SHORT} digits of that.")],
    /,
    *,
    asking: AskingThen = NOW,
    output: Output = "table",
) -> int:
    """One node: who it is, every address that it has, its sessions, and what else its kernel told."""
    if not node.strip():
        raise Failure(USAGE, "expected the name of a node, or its client id; `dnms node list` has them")
    found = asking.ask(lambda answers: answers.node(node))
    if len(found) > 1:
        raise Failure(USAGE, ambiguous(node, [one.node for one in found]))
    answer(found[0], lambda: _tables(found[0]), output)
    return OK


def _rows(nodes: Sequence[NodeRow]) -> Iterable[tuple[object, ...]]:
    """By names; nodes that share one are told apart by their client ids."""
    shared = Counter(node.name for node in nodes)
    for node in sorted(nodes, key=lambda node: (node.name is None, node.name or "", node.client)):
        who = node.name or node.client
        if node.name and shared[node.name] > 1:
            who = f"{node.name} ({node.client[:SHORT]})"
        yield (who, node.subnet, node.session, node.agent, _outcomes(node), node.last_seen)


def _outcomes(node: NodeRow) -> list[str]:
    return [address if outcome == USABLE else f"{address} ({outcome})" for address, outcome in node.outcomes.items()]


def _standing(node: NodeRow) -> str | None:
    """Whether what was applied last is there to stay."""
    if node.applied is None:
        return None
    if node.went_back is not None:
        rival = node.went_back.removeprefix("rival-")
        return f"not taken over: {rival} manages it" if rival != node.went_back else f"rolled back ({node.went_back})"
    return "unproven" if node.unproven else "confirmed"


def _origin(held: NodeAddressRow) -> str:
    on = f" on {held.interface}" if held.interface else ""
    return f"{held.origin}{on}, pool {held.pool}" if held.pool else f"{held.origin}{on}"


def changed(drift: DriftRow) -> list[str]:
    """What somebody else changed on a node, a line each."""
    lines = []
    for item in drift.items:
        line = f"{item['kind']} {item.get('name', '')}".rstrip() + f" {item['change']}"
        if item.get("was") or item.get("now"):
            line += f" from {item.get('was') or 'nothing'} to {item.get('now') or 'nothing'}"
        lines.append(line)
    return [*lines, f"and {drift.more} more"] if drift.more else lines


def _tables(about: NodeAnswer) -> Iterable[RenderableType]:
    node, flags = about.node, node_configuration.flags_of(about.configuration)
    yield facts(
        [
            ("node", node.name),
            ("client", node.client),
            ("is also", node.identities),
            ("DUID", node.duid),
            ("hardware", node.hardware),
            ("kernel", node.kernel),
            ("subnet", node.subnet),
            ("arrived", node.arrived),
            ("entered", node.entered),
            ("entered group", node.entered_group),
            ("ready", node.ready if node.entered else None),
            ("session", f"{node.session} ({node.session_closed})" if node.session_closed else node.session),
            ("registered", node.registered),
            ("applied", node.applied),
            ("configuration", _standing(node)),
            ("first seen", node.first_seen),
            ("last seen", node.last_seen),
        ]
    )
    yield table(
        ("Address", "Origin", "Flags", "Since", "Valid until", "Outcome"),
        (
            (
                one.address if one.prefix_length is None else f"{one.address}/{one.prefix_length}",
                _origin(one),
                flags.get(one.address),
                one.since,
                one.valid_until or "for ever",
                node.outcomes.get(one.address),
            )
            for one in about.addresses
        ),
        title="Addresses",
    )
    yield table(
        ("Agent", "Subnet", "State", "Since", "Peer"),
        (
            (one.agent, one.subnet, "open" if one.open else f"closed ({one.why})", one.since, one.peer)
            for one in about.sessions
        ),
        title="Sessions",
    )
    if about.configuration is not None:
        yield from node_configuration.tables(about.configuration)
    if about.drifts:
        yield table(
            ("When", "Subnet", "What", "Done", "Rival"),
            ((one.time, one.subnet, changed(one), one.action, one.rival or None) for one in about.drifts),
            title="Changed by somebody else",
        )
