"""`dnms who-had` and `dnms node history`: who had an address when, and which addresses a node had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from itertools import groupby
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType

from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import NO, OK
from dnms.cli.histories import Times
from dnms.cli.listing import Listing, listed
from dnms.cli.options import AddressOrPrefix
from dnms.cli.rendering import moment, say, table
from dnms.cli.since import EVER, FromTo
from dnms.projections.history.holding import DELEGATED, SEEN, Holding
from dnms.projections.nodes.queries import SHORT

COLUMNS = ("Node", "By", "Subnet", "Since", "Until", "Sure", "Events")


def who_had(
    address: Annotated[AddressOrPrefix, Parameter(help="An address, or a prefix for all that are in it.")],
    /,
    *,
    when: FromTo = EVER,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """Who had an address: by a lease, by a prefix delegated, as registered, or as an agent saw it. Times are in UTC.

    Each is confirmed by another source, contradicted by one, or single. Exit code 1: nobody, as far as the log knows.
    """
    times = when.times
    return _told(asking.ask(lambda answers: answers.histories.who_had(address, times)), address, times, output)


def of_node(
    node: Annotated[str, Parameter(help=f"Its name, or its client id or the first {SHORT} digits of that.")],
    /,
    *,
    when: FromTo = EVER,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """Which addresses a node had, and when, as `who-had` says. Exit code 1: none, as far as the log knows."""
    times = when.times
    found = asking.ask(lambda answers: answers.histories.of_node(node, times))
    if not found:
        say(f"{node} had no address {_when(times)}, as far as the log knows")
    if found or output != "table":
        listed(found, Holding, lambda: tables(found), output)
    return OK if found else NO


def _told(found: list[Holding], address: str, times: Times, output: Listing) -> int:
    if found or output != "table":
        listed(found, Holding, lambda: tables(found), output)
    if not found:
        of = f"any address of {address}" if "/" in address else address
        say(f"nobody had {of} {_when(times)}, as far as the log knows")
    return OK if found else NO


def _when(times: Times) -> str:
    if times.sequence is not None:
        return f"after the commit at {times.sequence}"
    if times.since is None and times.until is None:
        return "at any time"
    if times.since is not None and times.since == times.until:
        return f"at {moment(times.since)}"
    begin = "" if times.since is None else f"from {moment(times.since)} "
    return f"{begin}to {'now' if times.until is None else moment(times.until)}"


def tables(found: Sequence[Holding]) -> Iterable[RenderableType]:
    """Holdings for people, a table an address: with all in one, no terminal is wide enough for it."""
    clients: dict[str | None, set[str]] = {}
    for held in found:
        clients.setdefault(held.node, set()).add(held.client)
    for address, holdings in groupby(found, lambda held: held.address):
        yield table(COLUMNS, [_row(held, clients[held.node]) for held in holdings], title=address)


def _row(held: Holding, namesakes: Set[str]) -> tuple[object, ...]:
    who = held.node or held.client
    if held.node is not None and len(namesakes) > 1:
        who = f"{held.node} ({held.client[:SHORT]})"
    events = held.opened if held.closed in (None, held.opened) else f"{held.opened} {held.closed}"
    return (who, _by(held), held.subnet, held.since, held.until or "now", held.sure, events)


def _by(held: Holding) -> str:
    if held.source == SEEN:
        return f"seen, {held.how}" + (f" with {held.agent}" if held.agent else "")
    if held.source == DELEGATED:
        return f"delegated from {held.pool}"
    return f"lease from {held.pool}" if held.pool else f"registered, {held.origin} on {held.interface}"
