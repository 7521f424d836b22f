"""`dnms address`: who has which address now, and what an operator changes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from rich.console import RenderableType
from rich.text import Text

from dnms.cli import changing
from dnms.cli.answers import AddressAnswer
from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.options import API, SITE, AddressText, ApiUrl, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, say_if_none, table
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.link.queries import SightedRow

app = App(name="address", help="The addresses: who holds which now; reserve, release and move them.")
app.command("dnms.cli.audit:of_address", name="history")

IN_SUBNET = "The subnet, where several realms have the address."
Subnet = Annotated[str | None, Parameter(help=IN_SUBNET)]

SIGHTED = ("Address", "Seen with", "Subnet", "Form", "Lasting", "Since", "Recorded", "Counts until")
COLUMNS = ("Address", "Node", "Subnet", "Pool", "Group", "State", "Valid until")


@app.command(name="list")
def list_(
    *,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """All addresses that are leased or reserved, and those that rest because a client found them in use."""
    addresses = asking.ask(lambda answers: answers.addresses(subnet=subnet))
    say_if_none("address", addresses, subnet=subnet)
    listed(addresses, AddressRow, lambda: [table(COLUMNS, map(_row, addresses))], output)
    return OK


@app.command
def seen(
    *,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """All addresses that are seen on the links and that DNMS gave nobody, where an agent watches (`--watch`)."""
    found = asking.ask(lambda answers: answers.sightings(subnet=subnet))
    say_if_none("address", found, subnet=subnet)
    listed(found, SightedRow, lambda: [table(SIGHTED, map(_sighted, found))], output)
    return OK


@app.command
def show(
    address: Annotated[AddressText, Parameter(help="IPv4 or IPv6.")],
    /,
    *,
    asking: AskingThen = NOW,
    output: Output = "table",
) -> int:
    """One address: who holds it, who registered it as its own, and who is seen with it. Exit code 1 if nobody does."""
    about = asking.ask(lambda answers: answers.address(address))
    answer(about, lambda: _tables(about), output)
    return OK


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed in the ledger of a subnet."""

    position: int
    folded: bool
    subnet: str
    client: str
    events: list[dict[str, Any]]


@app.command
def reserve(
    node: Annotated[str, Parameter(help="Its name, its client id, or a DUID in hex, which need not be known yet.")],
    address: AddressText,
    /,
    *,
    interface: Annotated[str, Parameter(help="Of the node, for which the address is.")] = "eth0",
    subnet: Subnet = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Keep an address for one interface of a node. If the node is there it is told at once, and goes over to it."""
    wanted = {"node": node, "interface": interface, "subnet": subnet}
    changed = changing.post(api, site, f"/addresses/{address}/reservation", wanted, Changed)
    answer(changed, lambda: [_told(changed, f"{address} is reserved for {node} on {interface}")], output)
    return OK


@app.command
def release(
    address: AddressText,
    /,
    *,
    lease: Annotated[bool, Parameter(negative="", help="End the lease too. A node that is there asks anew.")] = False,
    subnet: Subnet = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """End the reservation of an address; who has it keeps it until its lease ends. Exit code 1 if there is none."""
    parameters = {"subnet": subnet, "lease": lease}
    changed = changing.delete(api, site, f"/addresses/{address}/reservation", parameters, Changed)
    ended = [_ENDED[event["name"]] for event in changed.events if event["name"] in _ENDED]
    answer(changed, lambda: [_told(changed, f"{address}: {' and '.join(ended)} ended")], output)
    return OK


_ENDED = {"address.unheld": "the reservation", "address.withdrawn": "the lease"}


@app.command
def move(
    address: AddressText,
    /,
    *,
    to: Annotated[AddressText | None, Parameter(help="Where to; without it the next one that is free.")] = None,
    subnet: Subnet = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Give who has an address another one. A node that is there goes over to it; the old one is drained."""
    changed = changing.post(api, site, f"/addresses/{address}/move", {"to": to, "subnet": subnet}, Changed)
    given = [event["fields"]["address"] for event in changed.events if event["name"] == "address.allocated"]
    answer(changed, lambda: [_told(changed, f"who has {address} moves to {', '.join(given)}")], output)
    return OK


def _told(changed: Changed, what: str) -> RenderableType:
    said = f"{what}, in subnet {changed.subnet} since position {changed.position}."
    return Text(said if changed.events else f"It was so already, in subnet {changed.subnet}.")


def _row(lease: AddressRow) -> tuple[object, ...]:
    who = lease.node or lease.client
    return (lease.address, who, lease.subnet, lease.pool, lease.group, lease.state, lease.valid_until)


def _sighted(row: SightedRow) -> tuple[object, ...]:
    lasting = row.lasting if row.lasting == "unknown" else f"{row.lasting}, {row.sure}"
    return (row.address, row.node or row.client, row.subnet, row.form, lasting, row.since, row.recorded, row.until)


def _tables(about: AddressAnswer) -> Iterable[RenderableType]:
    for lease in about.leases:
        yield facts(
            [
                *zip((name.lower() for name in COLUMNS), _row(lease), strict=True),
                ("promised until", lease.horizon),
                ("reserved", lease.reserved),
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
    if about.seen:
        yield table(SIGHTED, map(_sighted, about.seen), title="Seen on the link")
