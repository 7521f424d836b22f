"""`dnms who-had`: who had an address when."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import NO, OK
from dnms.cli.options import AddressText, Moment
from dnms.cli.rendering import Output, answer, moment, say, table
from dnms.projections.history.queries import Holding
from dnms.projections.nodes.queries import SHORT


def who_had(
    address: Annotated[AddressText, Parameter(help="IPv4 or IPv6.")],
    /,
    *,
    at: Annotated[
        Moment | None,
        Parameter(help="When: ISO 8601 (UTC unless it names a zone) or seconds since 1970. Without it: ever."),
    ] = None,
    asking: Asking = NOWHERE_ELSE,
    output: Output = "table",
) -> int:
    """Who had an address, by a lease or as a machine registered it. Exit code 1: nobody, as far as the log knows."""
    holdings = asking.ask(lambda answers: answers.who_had(address, at))
    if holdings or output == "json":
        columns = ("Node", "Client", "By", "Subnet", "Since", "Until", "Position")
        answer(holdings, lambda: [table(columns, map(_row, holdings))], output)
    if not holdings:
        say(f"nobody had {address} {'at any time' if at is None else f'at {moment(at)}'}, as far as the log knows")
    return OK if holdings else NO


def _row(held: Holding) -> tuple[object, ...]:
    by = f"lease from {held.pool}" if held.pool else f"registered, {held.origin} on {held.interface}"
    until = held.until or "now"
    return (held.node, held.client[:SHORT], by, held.subnet, held.since, until, held.opened)
