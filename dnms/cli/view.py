"""`dnms view`: the views against the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import RenderableType
from rich.text import Text

from dnms.bus import jetstream
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.port import Denied, Log, Unavailable
from dnms.cli.exits import MACHINE, NO, OK, Failure
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, say, table
from dnms.disk.site import Site
from dnms.kit import logging
from dnms.projections import files, runner
from dnms.projections.verify import Verification
from dnms.projections.verify import verify as compare

app = App(name="view", help="The views: fold them anew, compare them with the log.")

Bus = Annotated[
    BusText | None,
    Parameter(
        help=f"Where the log is. Without it: nats://{HOST}:{BUS_PORT} while `dnms serve` runs, else an embedded bus."
    ),
]


class Rebuilt(msgspec.Struct, frozen=True):
    """How far the views go now."""

    log_id: str
    sequence: int


@app.command
def rebuild(*, site: SiteDirectory = SITE, bus: Bus = None, output: Output = "table") -> int:
    """Fold the whole log into new views, and put them in the place of the old ones. Not while `dnms serve` runs."""
    logging.configure()

    async def fold() -> Rebuilt:
        opened = Site.load(site)
        with files.writing(opened.views):
            pass  # who cannot write hears it before the log is opened
        async with _log(opened, bus) as log:
            position = await runner.rebuild(log, opened.views, site=opened.name)
            return Rebuilt(position.log_id, position.sequence)

    rebuilt = asyncio.run(fold())
    answer(rebuilt, lambda: [Text(f"The views are folded up to position {rebuilt.sequence}.")], output)
    return OK


@app.command
def verify(*, site: SiteDirectory = SITE, bus: Bus = None, output: Output = "table") -> int:
    """Fold the log again, into another file, and compare. Exit code 1 if the views are not what the log says."""
    logging.configure()

    async def folded() -> Verification:
        opened = Site.load(site)
        async with _log(opened, bus) as log:
            return await compare(log, opened.views)

    found = asyncio.run(folded())
    answer(found, lambda: _tables(found), output)
    for difference in found.differences:
        say(difference)
    return OK if found.equal else NO


@asynccontextmanager
async def _log(site: Site, bus: str | None) -> AsyncGenerator[Log, None]:
    """The site's log: on the bus that is named, on that of `dnms serve` if it runs, or on an embedded one for now."""
    async with AsyncExitStack() as stack:
        guessed = bus is None and files.is_written(site.views)
        if guessed:
            bus = f"nats://{HOST}:{BUS_PORT}"
        if bus is None:
            if not site.log_directory.exists():
                raise Failure(
                    MACHINE, f"{site.path} has no log of its own yet; if it is on another bus, name that with --bus"
                )
            server = EmbeddedServer(site.log_directory, token=site.bus_token)
            bus = (await stack.enter_async_context(server)).url
        try:
            log = await jetstream.connect(bus, site.name, token=site.bus_token)
        except (Denied, Unavailable) as error:
            if not guessed:
                raise
            raise type(error)(f"{error}; if `dnms serve` has its bus elsewhere, name that with --bus") from error
        stack.push_async_callback(log.close)
        yield log


def _tables(found: Verification) -> Iterable[RenderableType]:
    yield table(
        ("Table", "Rows", "In the log", "Equal"),
        ((one.table, one.rows, one.expected_rows, one.equal) for one in found.tables),
    )
    said = "The views are what the log says" if found.equal else "The views are NOT what the log says"
    yield Text(f"{said}, up to position {found.sequence}: {found.commits} commits, {found.events} events.")
