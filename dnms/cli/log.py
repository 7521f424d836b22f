"""`dnms log`: copies of the log outside of its stream, and what they mend."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import App, Parameter
from rich.console import RenderableType

from dnms.archive import copying, follower
from dnms.archive.comparing import Comparison, compare, spoken
from dnms.archive.copying import Copied
from dnms.archive.records import ArchiveError
from dnms.archive.repair import Repaired
from dnms.archive.repair import repair as repair_store
from dnms.archive.segments import Archive
from dnms.archive.slices import Written
from dnms.archive.stores import served_copy, unserved
from dnms.bus import jetstream
from dnms.bus.survey import survey
from dnms.cli import slicing
from dnms.cli.exits import NO, OK, USAGE, Failure
from dnms.cli.located import Bus, TargetBus, is_served, located, opened_log, target
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, say
from dnms.cli.replay import Place
from dnms.disk.site import Site
from dnms.kit import logging
from dnms.projections.replay.wanted import Bound

app = App(name="log", help="The log itself: copy it, archive it, check it against its archive, repair it.")

T = TypeVar("T")

Directory = Annotated[Path, Parameter(help="The archive's directory.")]


class Archived(msgspec.Struct, frozen=True):
    """How far an archive goes."""

    site: str
    log_id: str
    archive: str
    archived: int


@app.command
def export(
    file: Annotated[Path, Parameter(help="A file that is not there yet.")],
    /,
    *,
    first: Annotated[
        Place | None,
        Parameter(name="--from", help="Only a slice: from this position or time on, with the state before it."),
    ] = None,
    last: Annotated[Place | None, Parameter(name="--to", help="Only a slice: up to this position or time.")] = None,
    pseudonymise: Annotated[
        bool,
        Parameter(help="Replace names, DUIDs, hardware addresses and addresses; only of a slice.", negative=()),
    ] = False,
    site: SiteDirectory = SITE,
    bus: Bus = None,
    output: Output = "table",
) -> int:
    """Copy the whole log, up to its end now, to a file, or a slice of it for `dnms replay FILE`.

    It holds personal data unless that is pseudonymised, and is readable by its owner alone.
    """
    logging.configure()
    if first is not None or last is not None or pseudonymise:
        return _slice(file, first or Bound(), last, pseudonymise=pseudonymise, site=site, bus=bus, output=output)

    async def copied() -> Copied:
        opened = Site.load(site)
        async with opened_log(opened, bus) as log:
            return await copying.export(log, file, site=opened.name)

    done = _run(copied())
    answer(done, lambda: [_copied(done)], output)
    return OK


@app.command(name="import")
def import_(
    source: Annotated[Path, Parameter(help="What `dnms log export` wrote, or an archive's directory.")],
    /,
    *,
    site: SiteDirectory = SITE,
    bus: TargetBus = None,
    output: Output = "table",
) -> int:
    """Copy a log to a bus that has none of this site: the same sequences, times, bytes and id. Not while it is served.

    The site's directory has to be the same one, or a copy. Interrupted, it goes on when it is called again.
    """
    logging.configure()

    async def copied() -> Copied:
        opened = Site.load(site)
        found = copying.source(source)
        if found.site != opened.name:
            raise ArchiveError(f"{source} is of the site {found.site!r}, and {site} of {opened.name!r}")
        async with target(opened, bus) as url:
            return await copying.import_source(found, url, token=opened.bus_token)

    done = _run(copied())
    say("names and hardware addresses are sealed in it: bring their keys, `dnms keys import`, before it is served")
    answer(done, lambda: [_copied(done)], output)
    return OK


@app.command
def archive(
    directory: Directory,
    /,
    *,
    once: Annotated[bool, Parameter(help="Up to the log's end now, and no further.", negative=())] = False,
    site: SiteDirectory = SITE,
    bus: Annotated[
        BusText, Parameter(name="--bus", env_var="DNMS_BUS", help="Where the log is.")
    ] = f"nats://{HOST}:{BUS_PORT}",
    output: Output = "table",
) -> int:
    """Archive the log as it grows, until SIGINT or SIGTERM, in a directory that should be on another disk.

    Says so once it has all that there is; its log goes to stderr. Goes on where it ended before. What comes is in a
    file within 10 seconds.
    """
    logging.configure()

    async def archived() -> None:
        opened = Site.load(site)
        async with _until_signalled() as stop:
            log = await jetstream.connect(bus, opened.name, token=opened.bus_token)

            def ready(last: int) -> None:
                done = Archived(opened.name, log.log_id, str(directory.absolute()), last)
                named = [("site", done.site), ("archive", done.archive), ("archived up to", done.archived)]
                answer(done, lambda: [facts(named)], output)

            try:
                await follower.archive(log, directory, site=opened.name, once=once, stop=stop, archived=ready)
            finally:
                await log.close()

    _run(archived())
    return OK


@app.command
def check(directory: Directory, /, *, site: SiteDirectory = SITE, bus: Bus = None, output: Output = "table") -> int:
    """Compare the log with its archive, message by message. Exit code 1 if one of them lacks something.

    Changes nothing, and can run beside `dnms serve`. Without that it looks at a copy, which needs room on the disk.
    """
    logging.configure()

    async def compared() -> Comparison:
        opened = Site.load(site)
        kept = _archive(directory, opened)
        async with AsyncExitStack() as stack:
            on_disk = 0
            if bus is None and not is_served(opened) and opened.log_directory.is_dir():
                stack.enter_context(unserved(opened.log_directory))
                copy = opened.log_directory.with_name("log.check")
                place = served_copy(opened.log_directory, copy, site=opened.name, token=opened.bus_token)
                url, on_disk = await stack.enter_async_context(place)
            else:
                url = await stack.enter_async_context(located(opened, bus))
            found = await stack.enter_async_context(survey(url, opened.name, token=opened.bus_token))
            return await compare(kept, found, on_disk=on_disk)

    found = _run(compared())
    answer(found, lambda: _compared(found), output)
    return OK if found.whole else NO


@app.command
def repair(
    directory: Directory,
    /,
    *,
    archive_alone: Annotated[
        bool,
        Parameter(help="Build it from the archive, whatever the stream has: the rest is gone.", negative=()),
    ] = False,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Build the log of a site's embedded bus anew, from its archive and what the stream still has. Not while served.

    The new one takes the place of the old one when it is complete and compared; the old one is kept beside it. Changes
    nothing where messages are in neither of the two.
    """
    logging.configure()

    async def repaired() -> Repaired:
        opened = Site.load(site)
        kept = _archive(directory, opened)
        log = opened.log_directory
        return await repair_store(log, kept, token=opened.bus_token, archive_alone=archive_alone, say=say)

    done = _run(repaired())

    def tables() -> Iterable[RenderableType]:
        if not done.changed:
            return [f"The log is whole, up to position {done.messages}; nothing was changed."]
        return [facts([("messages", done.messages), ("restored", done.restored), ("the old log", done.kept)])]

    answer(done, tables, output)
    return OK


def _slice(  # as `export`
    file: Path, first: Bound, last: Bound | None, *, pseudonymise: bool, site: Path, bus: str | None, output: Output
) -> int:
    async def written() -> Written:
        opened = Site.load(site)
        async with opened_log(opened, bus) as log:
            return await slicing.write(
                log,
                file,
                site=opened.name,
                secret=opened.secret,
                first=first,
                last=last,
                pseudonymise=pseudonymise,
            )

    done = _run(written())
    named = ("site", "first", "last", "messages", "pseudonymised")
    answer(done, lambda: [facts([(name, getattr(done, name)) for name in named])], output)
    return OK


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; where a path is none that it can be, say so."""
    try:
        return asyncio.run(work)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Failure(USAGE, f"{error.filename}: {error.strerror}") from error


def _archive(directory: Path, site: Site) -> Archive:
    kept = Archive.open(directory)
    if kept.site != site.name:
        raise ArchiveError(f"{directory} is the archive of the site {kept.site!r}, and {site.path} is {site.name!r}")
    return kept


def _copied(done: Copied) -> RenderableType:
    return facts([("site", done.site), ("log", done.log_id), ("messages", done.messages)])


def _compared(found: Comparison) -> Iterable[RenderableType]:
    named: list[tuple[str, Any]] = [
        ("archived up to", found.archived),
        ("stored up to", found.stored),
        ("not archived yet", found.not_archived),
        ("only in the archive", spoken(found.missing)),
        ("in neither", spoken(found.lost)),
        ("not the same", spoken(found.changed)),
    ]
    yield facts(named)
    yield from found.damaged
    if found.cut_off:
        yield f"The bus found {found.cut_off} bytes unreadable when it started, and cut them off."
    yield "The log is what its archive says." if found.whole else "The log and its archive are NOT whole and the same."


@asynccontextmanager
async def _until_signalled() -> AsyncGenerator[asyncio.Event, None]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    yield stop
