"""`dnms address`: who has which address now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import RenderableType

from dnms.cli.answers import AddressAnswer
from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import OK
from dnms.cli.options import AddressText
from dnms.cli.rendering import Output, answer, facts, say_if_none, table
from dnms.projections.addresses.queries import AddressRow

app = App(name="address", help="The addresses: who holds which now.")


COLUMNS = ("Address", "Node", "Subnet", "Pool", "Group", "State", "Valid until")


@app.command(name="list")
def list_(
    *,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    asking: Asking = NOWHERE_ELSE,
    output: Output = "table",
) -> int:
    """All addresses that are leased, and those that rest because a client found them in use."""
    addresses = asking.ask(lambda answers: answers.addresses(subnet=subnet))
    say_if_none("address", addresses, subnet=subnet)
    answer(addresses, lambda: [table(COLUMNS, map(_row, addresses))], output)
    return OK


@app.command
def show(
    address: Annotated[AddressText, Parameter(help="IPv4 or IPv6.")],
    /,
    *,
    asking: Asking = NOWHERE_ELSE,
    output: Output = "table",
) -> int:
    """One address: who holds it, and who registered it as its own. Exit code 1 if nobody does."""
    about = asking.ask(lambda answers: answers.address(address))
    answer(about, lambda: _tables(about), output)
    return OK


def _row(lease: AddressRow) -> tuple[object, ...]:
    who = lease.node or lease.client
    return (lease.address, who, lease.subnet, lease.pool, lease.group, lease.state, lease.valid_until)


def _tables(about: AddressAnswer) -> Iterable[RenderableType]:
    for lease in about.leases:
        yield facts(
            [
                *zip((name.lower() for name in COLUMNS), _row(lease), strict=True),
                ("promised until", lease.horizon),
                ("since", lease.since),
                ("last event", lease.changed),
            ]
        )
    if about.registered:
        yield table(
            ("Address", "Node", "Interface", "Origin", "Subnet", "Since", "Valid until"),
            (
                (
                    f"{one.address}/{one.prefix_length}",
                    one.node or one.client,
                    one.interface,
                    one.origin,
                    one.subnet,
                    one.since,
                    one.valid_until or "for ever",
                )
                for one in about.registered
            ),
            title="Registered by nodes",
        )
