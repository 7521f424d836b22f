"""`dnms audit`, `dnms activity` and the histories of addresses, prefixes and subnets: what happened, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter, validators
from rich.console import RenderableType

from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.event import Kind, what
from dnms.cli.exits import NO, OK
from dnms.cli.histories import Sought
from dnms.cli.listing import Listing, listed
from dnms.cli.options import AddressText, PrefixText
from dnms.cli.rendering import say, table
from dnms.cli.since import ALWAYS, SinceUntil
from dnms.projections.activity.queries import ActivityRow, By, Each
from dnms.projections.events.searching import AuditRow

MAX_LIMIT = 10_000_000

COLUMNS = ("Position", "Time", "Actor", "Node", "What")

Limit = Annotated[int, Parameter(help="The newest so many.", validator=validators.Number(gte=1, lte=MAX_LIMIT))]

subnet_app = App(name="subnet", help="The subnets: what changed in one.")


def audit(
    *,
    kind: Kind = None,
    actor: Annotated[str | None, Parameter(help="Only those that this writer wrote, as agent/east.")] = None,
    entity: Annotated[
        str | None, Parameter(help="Only those about this: an address, a prefix, a node, a name of the plan.")
    ] = None,
    cause: Annotated[
        str | None,
        Parameter(help="Only those that name this commit as their cause, or that came of this kind of request."),
    ] = None,
    grep: Annotated[
        list[str] | None,
        Parameter(
            help="Only those with this in one of their texts, in upper or lower case; several: with all of them."
        ),
    ] = None,
    when: SinceUntil = ALWAYS,
    limit: Limit = 100,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """Every event, searched: who did what, when, and why. The newest, in the order of the log. Exit code 1: none."""
    sought = Sought(kind=kind, actor=actor, entity=entity, cause=cause, texts=tuple(grep or ()))
    times = when.times
    return _told(asking.ask(lambda answers: answers.histories.audit(sought, times, limit=limit)), output)


def of_address(
    address: Annotated[AddressText, Parameter(help="IPv4 or IPv6.")],
    /,
    *,
    when: SinceUntil = ALWAYS,
    limit: Limit = 100,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """What happened to an address: in ledgers, on nodes as far as it changed, in the plan. Exit code 1: nothing."""
    times = when.times
    return _told(asking.ask(lambda answers: answers.histories.of_addresses(address, times, limit=limit)), output)


def of_prefix(
    prefix: PrefixText,
    /,
    *,
    when: SinceUntil = ALWAYS,
    limit: Limit = 100,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """What happened to the addresses of a prefix, and to the subnets and pools that have some. Exit code 1: nothing."""
    times = when.times
    return _told(asking.ask(lambda answers: answers.histories.of_addresses(prefix, times, limit=limit)), output)


@subnet_app.command(name="changes")
def of_subnet(
    subnet: str,
    /,
    *,
    when: SinceUntil = ALWAYS,
    limit: Limit = 100,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """What changed in a subnet, and who did it: its plan, its leases but for renewals, which nodes came and left."""
    times = when.times
    return _told(asking.ask(lambda answers: answers.histories.of_subnet(subnet, times, limit=limit)), output)


def activity(
    *,
    by: Annotated[
        list[By] | None, Parameter(help="Told apart by kind or family of events, and by subnet.", negative=())
    ] = None,
    each: Annotated[Each, Parameter(help="A row an hour, or a day of UTC.")] = "hour",
    kind: Kind = None,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    when: SinceUntil = ALWAYS,
    asking: Asking = NOWHERE_ELSE,
    output: Listing = "table",
) -> int:
    """How many events there were in each hour, in UTC. Hours without any are left out."""
    times = when.times
    found = asking.ask(
        lambda answers: answers.histories.activity(times, by=by or (), each=each, kind=kind, subnet=subnet)
    )
    columns = ("Hour" if each == "hour" else "Day", *(("Subnet",) if "subnet" in (by or ()) else ()))
    kinds = "kind" in (by or ()) or "family" in (by or ())
    columns = (*columns, *(("Kind",) if kinds else ()), "Events")
    listed(found, ActivityRow, lambda: [table(columns, map(_counted, found))], output)
    return OK


def _told(found: Sequence[AuditRow], output: Listing) -> int:
    if found or output != "table":
        listed(found, AuditRow, lambda: [_table(found)], output)
    if not found:
        say("nothing of that happened, as far as the log knows")
    return OK if found else NO


def _table(found: Sequence[AuditRow]) -> RenderableType:
    """Why something happened has its column where anything says so."""
    reasons = [event.request or (f"of commit {event.cause}" if event.cause else None) for event in found]
    why = any(reason is not None for reason in reasons)
    rows = [(*_row(event), reason) if why else _row(event) for event, reason in zip(found, reasons, strict=True)]
    return table((*COLUMNS, "Why") if why else COLUMNS, rows)


def _row(event: AuditRow) -> tuple[object, ...]:
    who = event.node or event.client
    return (event.position, event.time, event.actor, who, f"{event.name} {what(event.fields)}".strip())


def _counted(row: ActivityRow) -> tuple[object, ...]:
    parts = [] if row.subnet is None else [row.subnet or "(site)"]
    parts += [] if row.kind is None else [row.kind]
    return (row.time, *parts, row.events)
