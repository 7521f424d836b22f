"""`dnms view`: the views against the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
from cyclopts import App
from rich.console import RenderableType
from rich.text import Text

from dnms.cli.exits import NO, OK
from dnms.cli.located import Bus, opened_log
from dnms.cli.options import SITE, SiteDirectory
from dnms.cli.rendering import Output, answer, say, table
from dnms.disk.site import Site
from dnms.kit import logging
from dnms.projections import files, runner
from dnms.projections.verify import Verification
from dnms.projections.verify import verify as compare

app = App(name="view", help="The views: fold them anew, compare them with the log.")


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
        async with opened_log(opened, bus) as log:
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
        async with opened_log(opened, bus) as log:
            return await compare(log, opened.views)

    found = asyncio.run(folded())
    answer(found, lambda: _tables(found), output)
    for difference in found.differences:
        say(difference)
    return OK if found.equal else NO


def _tables(found: Verification) -> Iterable[RenderableType]:
    yield table(
        ("Table", "Rows", "In the log", "Equal"),
        ((one.table, one.rows, one.expected_rows, one.equal) for one in found.tables),
    )
    said = "The views are what the log says" if found.equal else "The views are NOT what the log says"
    yield Text(f"{said}, up to position {found.sequence}: {found.commits} commits, {found.events} events.")
