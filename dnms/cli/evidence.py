"""`dnms evidence`: who had an address at a time, in a file that the site signs, and whether such a file holds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

import dnms
from dnms.cli.exits import NO, OK, USAGE, Failure
from dnms.cli.located import Bus, opened_log
from dnms.cli.options import SITE, WHEN, AddressText, Moment, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, moment, say, table
from dnms.cli.who_had import tables
from dnms.disk import atomic
from dnms.disk.site import Site
from dnms.events.ip import parse_address
from dnms.kit import logging
from dnms.projections.evidence import checking, document
from dnms.projections.evidence.document import Evidence, EvidenceError, Statement
from dnms.projections.evidence.verdict import Verified, verified
from dnms.projections.history.holding import Holding

app = App(name="evidence", help="Who had an address, in a file that the site signs; such a file against the log.")


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    file: str
    address: str
    at: datetime
    answer: list[Holding]
    log_id: str
    last: int


@app.default
def make(
    address: Annotated[AddressText, Parameter(help="IPv4 or IPv6.")],
    /,
    *,
    at: Annotated[Moment, Parameter(help=f"At this instant: {WHEN}")],
    file: Annotated[Path, Parameter(help="Where to write it; no file that is there is written over.")],
    site: SiteDirectory = SITE,
    bus: Bus = None,
    output: Output = "table",
) -> int:
    """Write who had an address at a time, with the events that say so, signed by the site. Reads the whole log.

    Exit code 1 if nobody had it, as far as the log knows; the file then says that.
    """
    logging.configure()
    if file.exists():
        raise Failure(USAGE, f"{file} is there already; give another --file")
    if not file.absolute().parent.is_dir():
        raise Failure(USAGE, f"there is no directory {file.absolute().parent}")
    local = at.astimezone()

    async def made() -> Statement:
        opened = Site.load(site)
        signer = opened.signer()  # who cannot sign hears it before the log is read
        async with opened_log(opened, bus) as log:
            said = await checking.make(
                log,
                opened.name,
                parse_address(address),
                at,
                asked=at.isoformat(),
                zone=f"{local.tzname()} ({local:%z})",
                made=datetime.now(UTC),
                release=dnms.__version__,
            )
        atomic.write(file, document.encode(said, signer), mode=0o600)
        return said

    said = asyncio.run(made())
    done = Made(
        file=str(file), address=said.address, at=said.at, answer=said.answer, log_id=said.log_id, last=said.log.last
    )
    answer(
        done,
        lambda: [
            facts([("evidence", done.file), ("address", done.address), ("at", done.at), ("log", _log(said))]),
            *tables(said.answer),
        ],
        output,
    )
    if said.at > said.log.time:
        say(f"the log ends at {moment(said.log.time)}, before the time that is asked for")
    if not said.answer:
        say(f"nobody had {address} at {moment(at)}, as far as the log knows")
    return OK if said.answer else NO


@app.command
def verify(
    file: Path,
    /,
    *,
    offline: Annotated[
        bool, Parameter(help="Look at the signature and the file alone, and not at the log.", negative=())
    ] = False,
    root: Annotated[
        Path | None, Parameter(help="The site's root certificate, root.pem. Without it: of the site's directory.")
    ] = None,
    site: SiteDirectory = SITE,
    bus: Bus = None,
    output: Output = "table",
) -> int:
    """Whether a file of evidence holds: who signed it, and whether the log says the same. Exit code 1 if not."""
    logging.configure()
    try:
        content = file.read_bytes() if file.stat().st_size <= document.MAX_BYTES else b""
    except OSError as error:
        raise Failure(USAGE, f"cannot read {file}: {error.strerror or error}") from error
    try:
        evidence = document.decode(content)
    except EvidenceError as error:
        raise Failure(USAGE, f"{file}: {error}") from None

    found = asyncio.run(_verified(evidence, root=root, site=site, bus=bus, offline=offline))
    said, verdict = found.statement, f"{found.verdict}: {found.explanation}"
    answer(
        found,
        lambda: [
            facts(
                [
                    ("verdict", verdict),
                    ("address", said.address),
                    ("at", said.at),
                    ("asked for as", f"{said.asked}, {said.zone}"),
                    ("made", said.made),
                    ("site", said.site),
                    ("log", _log(said)),
                ]
            ),
            *tables(said.answer),
            table(
                ("Position", "Time", "Subject", "Actor", "Event"),
                ((one.position, one.time, one.subject, one.actor, one.name) for one in said.events),
                title="Events",
            ),
        ],
        output,
    )
    if not found.holds:
        say(f"{file} does NOT hold: {verdict}")
    return OK if found.holds else NO


async def _verified(evidence: Evidence, *, root: Path | None, site: Path, bus: str | None, offline: bool) -> Verified:
    opened = Site.load(site) if root is None or not offline else None
    path = root or (opened.root_certificate if opened is not None else None)
    assert path is not None
    try:
        certificate = path.read_bytes()
    except OSError as error:
        raise Failure(USAGE, f"cannot read {path}: {error.strerror or error}") from error
    found = await verified(evidence, root=certificate, log=None)
    if offline or opened is None or not found.holds:
        return found
    async with opened_log(opened, bus) as log:
        return await verified(evidence, root=certificate, log=log, site=opened.name)


def _log(said: Statement) -> str:
    return f"{said.log_id} up to position {said.log.last}"
