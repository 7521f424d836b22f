"""`dnms keys`: copies of the keys of what is personal in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import RenderableType

from dnms.archive.key_copies import CopiedKeys, read_keys, store_keys, write_keys
from dnms.archive.records import ArchiveError
from dnms.bus.key_stream import key_store
from dnms.cli.exits import OK, USAGE, Failure
from dnms.cli.located import Bus, TargetBus, located, target
from dnms.cli.options import SITE, SiteDirectory
from dnms.cli.rendering import Output, answer, facts
from dnms.disk.site import Site
from dnms.kit import logging

app = App(name="keys", help="The keys of what is personal in the log: copy them, for another bus and for its loss.")


@app.command
def export(
    file: Annotated[Path, Parameter(help="A file that is not there yet.")],
    /,
    *,
    site: SiteDirectory = SITE,
    bus: Bus = None,
    output: Output = "table",
) -> int:
    """Copy all keys to a file. Who has it and a copy of the log reads all names: of those forgotten later, too."""
    logging.configure()

    async def copied() -> CopiedKeys:
        opened = Site.load(site)
        async with (
            located(opened, bus) as url,
            key_store(url, opened.name, token=opened.bus_token) as store,
        ):
            keys, _ = await store.since(0)
        return write_keys(file, keys, site=opened.name)

    done = _run(copied())
    answer(done, lambda: [_copied(done)], output)
    return OK


@app.command(name="import")
def import_(
    file: Annotated[Path, Parameter(help="What `dnms keys export` wrote.")],
    /,
    *,
    site: SiteDirectory = SITE,
    bus: TargetBus = None,
    output: Output = "table",
) -> int:
    """Copy keys to a bus, before its log is served: a name without a key counts as forgotten."""
    logging.configure()

    async def copied() -> CopiedKeys:
        opened = Site.load(site)
        keys = read_keys(file, site=opened.name)
        async with (
            target(opened, bus) as url,
            key_store(url, opened.name, token=opened.bus_token) as store,
        ):
            return await store_keys(store, keys, site=opened.name)

    done = _run(copied())
    answer(done, lambda: [_copied(done)], output)
    return OK


def _run(work: Coroutine[None, None, CopiedKeys]) -> CopiedKeys:
    """Run it; where a path is none that it can be, say so."""
    try:
        return asyncio.run(work)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Failure(USAGE, f"{error.filename}: {error.strerror}") from error
    except ArchiveError as error:
        raise Failure(USAGE, str(error)) from error


def _copied(done: CopiedKeys) -> RenderableType:
    named: list[tuple[str, object]] = [("site", done.site), ("keys", done.keys)]
    if done.others:
        named.append(("not copied, as their nodes have others", done.others))
    return facts(named)
