"""`dnms import`: the configuration of another DHCP server as a plan, and its leases into the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol

import msgspec
from cyclopts import App, Parameter
from rich.console import RenderableType
from rich.text import Text

from dnms.cli import from_api, http
from dnms.cli.changing import unsettled
from dnms.cli.exits import MACHINE, NO, OK, USAGE, Failure
from dnms.cli.options import API, SITE, ApiUrl, SiteDirectory
from dnms.cli.plan_text import to_toml
from dnms.cli.rendering import Output, answer, facts, say, table
from dnms.disk import atomic
from dnms.disk.site import Site, SiteError
from dnms.events.ip import Prefix, format_address
from dnms.kit.clock import MICROSECONDS, SystemClock
from dnms.migration import dnsmasq, dnsmasq_leases, isc, isc_leases, kea, kea_leases
from dnms.migration.model import Configuration, Lease, Left, MigrationError, Read
from dnms.migration.plan import document

app = App(name="import", help="Take over from another DHCP server: its configuration and its leases.")

AT_ONCE = 1_000
"""Leases in one request."""

NO_SITE = "site"
"""How the site is called in a plan, where its directory is not here to say it."""

Files = list[tuple[str, str]]

Configs = Annotated[list[Path], Parameter(help="Files of its configuration; what they include is read too.")]
Leases = Annotated[
    list[Path] | None,
    Parameter(name="--leases", help="Its files of leases.", consume_multiple=True, negative=()),
]
PlanFile = Annotated[
    Path | None, Parameter(name="--plan", help="Write the configuration there as a plan, for `dnms plan apply`.")
]
Write = Annotated[
    bool,
    Parameter(negative=(), help="Write the leases to the log; without it, say what would be written."),
]


class Refused(msgspec.Struct, frozen=True):
    """A lease that the log does not take."""

    file: str
    line: int
    address: str
    why: str
    detail: str


class LeftOut(msgspec.Struct, frozen=True):
    """What is not carried, or not as it was."""

    file: str
    line: int
    what: str
    why: str


class Report(msgspec.Struct, kw_only=True):
    """What was made of it."""

    plan: str | None = None  # the file
    dry: bool = True
    leases: dict[str, int] = {}  # by what became, or would become, of them
    reservations: int = 0  # in the plan
    refused: list[Refused] = []
    left: list[LeftOut] = []


class _ReadsLeases(Protocol):
    def __call__(self, files: Files, *, now: int) -> tuple[list[Lease], list[Left]]: ...


class _Server(NamedTuple):
    """How the files of one kind of server are read."""

    origin: str
    configuration: Callable[[Files, Read], Configuration]
    leases: _ReadsLeases
    parts: Callable[[Path], list[Path]] = lambda file: [file]  # of a file of leases


def _parts_of_kea(file: Path) -> list[Path]:
    there = [str(each) for each in file.parent.glob(f"{file.name}*")]
    return [Path(each) for each in kea_leases.parts(str(file), there)]


KEA = _Server("kea", kea.configuration, kea_leases.leases, _parts_of_kea)
ISC = _Server("isc-dhcpd", isc.configuration, isc_leases.leases)
DNSMASQ = _Server("dnsmasq", dnsmasq.configuration, dnsmasq_leases.leases)


@app.command(name="kea")
def of_kea(
    config: Configs,
    /,
    *,
    leases: Leases = None,
    plan: PlanFile = None,
    write: Write = False,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """From Kea: kea-dhcp4.conf and kea-dhcp6.conf, together if they serve one link; leases of memfile.

    Exit code 1 if something was left out.
    """
    return _run(KEA, config, leases or [], plan, write=write, api=api, site=site, output=output)


@app.command(name="isc-dhcpd")
def of_isc(
    config: Configs,
    /,
    *,
    leases: Leases = None,
    plan: PlanFile = None,
    write: Write = False,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """From ISC dhcpd: dhcpd.conf and dhcpd6.conf; dhcpd.leases and dhcpd6.leases.

    Exit code 1 if something was left out.
    """
    return _run(ISC, config, leases or [], plan, write=write, api=api, site=site, output=output)


@app.command(name="dnsmasq")
def of_dnsmasq(
    config: Configs,
    /,
    *,
    leases: Leases = None,
    plan: PlanFile = None,
    write: Write = False,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """From dnsmasq: dnsmasq.conf and what is in dnsmasq.d; dnsmasq.leases.

    Exit code 1 if something was left out.
    """
    return _run(DNSMASQ, config, leases or [], plan, write=write, api=api, site=site, output=output)


def _run(
    server: _Server,
    configs: Sequence[Path],
    leases: Sequence[Path],
    plan: Path | None,
    *,
    write: bool,
    api: str,
    site: Path,
    output: Output,
) -> int:
    try:
        found = server.configuration([(str(file), _text(file)) for file in configs], _included)
        made = document(found, _site_name(site))
        files = [(str(part), _text(part)) for file in leases for part in server.parts(file)]
        has, left = server.leases(files, now=SystemClock().now() // MICROSECONDS) if files else ([], [])
    except MigrationError as error:
        raise Failure(USAGE, f"{error}\nnothing was changed") from error
    report = Report(dry=not write)
    report.left = [LeftOut(each.place.file, each.place.line, each.what, each.why) for each in sorted(found.left + left)]
    if plan is not None:
        _write(plan, to_toml(made))
        report.plan = str(plan)
    report.reservations = len(made.get("reservation", ()))
    if has:
        _ask(has, server.origin, report, api, site)
    answer(report, lambda: _tables(report, leases), output)
    return NO if report.left or report.refused else OK


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(USAGE, f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Failure(USAGE, f"{file}: expected text in UTF-8; byte {error.start} is none") from error


def _included(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


def _site_name(site: Path) -> str:
    try:
        return Site.load(site).name
    except SiteError:
        say(f"no site at {site}: the plan is of a site {NO_SITE!r}; mend that, or name its directory with --site")
        return NO_SITE


def _write(file: Path, text: str) -> None:
    """Write a plan that nobody has changed meanwhile. Failure."""
    try:
        if file.exists():
            if file.read_text() != text:
                raise Failure(USAGE, f"{file} is there and says something else; move it away, or name another file")
            return
        atomic.write(file, text.encode())
    except OSError as error:
        raise Failure(MACHINE, f"cannot write {file}: {error.strerror or error}") from error


class _Row(msgspec.Struct, frozen=True):
    outcome: str
    why: str = ""
    detail: str = ""


class _Answered(msgspec.Struct, frozen=True):
    folded: bool
    leases: list[_Row]


def _ask(wanted: Sequence[Lease], origin: str, report: Report, api: str, site: Path) -> None:
    """Have the site take them, or say what it would. Failure."""

    async def ask() -> None:
        async with http.opened(api, site) as opened:
            for begin in range(0, len(wanted), AT_ONCE):
                some = wanted[begin : begin + AT_ONCE]
                body = {"origin": origin, "dry": report.dry, "leases": list(map(_document, some))}
                answered = await opened.post("/import", body, _Answered)
                for lease, row in zip(some, answered.leases, strict=True):
                    report.leases[row.outcome] = report.leases.get(row.outcome, 0) + 1
                    if row.outcome == "refused":
                        place, address = lease.place, _text_of(lease.address)
                        report.refused.append(Refused(place.file, place.line, address, row.why, row.detail))
            if not report.dry and not answered.folded:
                doubt = await from_api.doubtful(opened)
                say(f"it is in the log; {doubt.text if doubt else 'the views have it only now'}")

    try:
        asyncio.run(ask())
    except http.Refusal as refusal:
        raise unsettled(refusal) from refusal


def _document(lease: Lease) -> dict[str, object]:
    return {
        "address": _text_of(lease.address),
        "duid": lease.duid.hex(),
        "iaid": lease.iaid,
        "hardware": lease.hardware.hex(":") or None,
        "name": lease.name,
        "valid_until": lease.valid_until,
    }


def _text_of(address: bytes | Prefix) -> str:
    return str(address) if isinstance(address, Prefix) else format_address(address)


def _tables(report: Report, leases: Sequence[Path]) -> Iterator[RenderableType]:
    if report.left:
        rows = ((f"{each.file}:{each.line}", each.what, each.why) for each in report.left)
        yield table(("Where", "What is left out", "Why, or what instead"), rows)
    if report.refused:
        refused = ((f"{each.file}:{each.line}", each.address, each.why, each.detail) for each in report.refused)
        yield table(("Where", "Not taken", "Why", ""), refused)
    told: list[tuple[str, object]] = [("left out", len(report.left))]
    if report.plan is not None:
        told += [("plan", report.plan), ("reservations in it", report.reservations)]
    if leases:
        does = "would be written" if report.dry else "written"
        counts = [report.leases.get(outcome, 0) for outcome in ("written", "known", "refused")]
        told.append(("leases", f"{counts[0]} {does}, {counts[1]} known already, {counts[2]} not taken"))
    yield facts(told)
    if leases and report.dry:
        yield Text("Nothing was written: that is what --write does.")
    elif report.plan is not None:
        yield Text(f"Next: `dnms plan diff {report.plan}`.")
