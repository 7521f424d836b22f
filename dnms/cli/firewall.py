"""`dnms firewall`: what this machine's firewall does, and whether that is what the log says."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from dnms.bus import jetstream
from dnms.bus.port import Log
from dnms.bus.reading import read_opened
from dnms.cli.exits import MACHINE, NO, OK, USAGE, Failure
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, say, table
from dnms.disk.site import Site
from dnms.events import subjects
from dnms.subscribers import firewall
from dnms.subscribers.firewall.membership import Membership
from dnms.subscribers.firewall.showing import Shown, ShownRule, shown
from dnms.subscribers.subscriber import ApplyError, Local, OptionsError

app = App(name="firewall", help="This machine's firewall: its rules with their counters; what it lacks by the log.")

RULES = ("Rule", "Of", "For", "Peers", "Match", "Then", "Packets", "Bytes", "Table")
GROUPS = ("Group", "IPv4", "IPv6", "Prefixes", "Table")
DIFFERENCES = ("", "What", "By")

Bus = Annotated[BusText, Parameter(name="--bus", env_var="DNMS_BUS", help="Where the log is.")]
Interfaces = Annotated[
    list[str] | None,
    Parameter(name="--interface", negative=(), help="SUBNET=INTERFACE, as the subscriber was given it."),
]
Config = Annotated[Path | None, Parameter(help="The file that the subscriber was given.")]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted by the log and is not in the kernel, or is there and not wanted."""

    what: str
    missing: bool  # else it is too much
    position: int  # sequence of the commit by which it is wanted; 0: it is not


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """Up to which commit the log was read, and what differs then."""

    position: int
    differences: list[Difference]
    notes: list[str]


@app.command
def show(*, output: Output = "table") -> int:
    """The rules in the kernel with their counters, the plan's rule that each is of, and how many members groups have.

    Says so where another table would drop what is accepted here. Exit code 1 if there is nothing of DNMS here.
    """
    try:
        found = asyncio.run(shown())
    except ApplyError as error:
        raise Failure(MACHINE, str(error)) from error
    if found is None:
        raise Failure(NO, "there is no table of DNMS here; `dnms subscriber run firewall` keeps one")
    for warning in found.warnings:
        say(warning)
    answer(found, lambda: list(_tables(found)), output)
    return OK


def _tables(found: Shown) -> list[Any]:
    return [
        table(RULES, map(_row, found.rules)),
        table(GROUPS, ((each.group, each.ipv4, each.ipv6, each.prefixes, each.table) for each in found.groups)),
    ]


def _row(rule: ShownRule) -> tuple[object, ...]:
    of = "the plan" if rule.planned else "DNMS"
    where = f"{rule.direction} {rule.group}" if rule.direction else f"subnet {rule.group}"
    return rule.rule, of, where, rule.peers, rule.match, rule.verdict, rule.packets, rule.bytes, rule.table


@app.command
def diff(
    *,
    bus: Bus = f"nats://{HOST}:{BUS_PORT}",
    site: SiteDirectory = SITE,
    interface: Interfaces = None,
    config: Config = None,
    output: Output = "table",
) -> int:
    """Read the whole log, and compare what it wants here with what is in the kernel. Changes nothing.

    Exit code 1 if they differ. Give --interface and --config as to `dnms subscriber run firewall`.
    """
    opened = Site.load(site)
    local = Local(site=opened.name, interfaces=dict(map(_link, interface or [])), config=config, bus=bus)
    try:
        found = asyncio.run(_differences(local, opened))
    except OptionsError as error:
        raise Failure(USAGE, str(error)) from error
    except ApplyError as error:
        raise Failure(MACHINE, str(error)) from error
    if found is None:
        raise Failure(NO, "the log has no plan, so nothing says what is wanted here")
    for note in found.notes:
        say(note)
    if not found.differences:
        say(f"the kernel is as the log says, at position {found.position}")
    rows = [("+" if each.missing else "-", each.what, each.position or None) for each in found.differences]
    answer(found, lambda: [table(DIFFERENCES, rows)] if rows else [], output)
    return NO if found.differences else OK


def _link(text: str) -> tuple[str, str]:
    subnet, _, link = text.partition("=")
    if not subnet or not link:
        raise Failure(USAGE, f"--interface {text!r}: expected SUBNET=INTERFACE, such as home=eth1")
    return subnet, link


async def _differences(local: Local, site: Site) -> Differences | None:
    folding, world = firewall.folding(local), firewall.world(local)
    log = await jetstream.connect(local.bus, site.name, token=site.bus_token)
    try:
        position = await _fold(log, folding, local.site)
    finally:
        await log.close()
    wanted = folding.wanted()
    if wanted is None:
        return None
    plan = firewall.SUBSCRIBER.plan(wanted, await world.actual())
    missing = [Difference(what=str(item), missing=True, position=folding.cause(item)) for item in plan.add]
    more = [Difference(what=str(item), missing=False, position=0) for item in plan.drop]
    return Differences(
        position=position, differences=sorted([*missing, *more], key=lambda each: each.what), notes=list(plan.notes)
    )


async def _fold(log: Log, folding: Membership, site: str) -> int:
    """Fold the log to its end; the sequence there."""
    end, position = await log.end(), 0
    if not end:
        return 0
    async with aclosing(read_opened(log, [subjects.everything(site)])) as batches:
        async for batch in batches:
            for stored in batch.stored:
                folding.take(stored)
                position = stored.sequence
            if position >= end:
                break
    return position
