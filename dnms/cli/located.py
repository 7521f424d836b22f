"""Where a site's log is, for commands that read it whether the site is served or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from cyclopts import Parameter

from dnms.bus import jetstream
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.port import Denied, Log, Unavailable
from dnms.cli.exits import MACHINE, Failure
from dnms.cli.options import BUS_PORT, HOST, BusText
from dnms.disk.site import Site
from dnms.projections import files

Bus = Annotated[
    BusText | None,
    Parameter(
        help=f"Where the log is. Without it: nats://{HOST}:{BUS_PORT} while `dnms serve` runs, else an embedded bus."
    ),
]


def is_served(site: Site) -> bool:
    """Whether `dnms serve` runs for a site's directory on this machine."""
    return files.is_written(site.views)


@asynccontextmanager
async def opened_log(site: Site, bus: str | None) -> AsyncGenerator[Log, None]:
    """The site's log, open: on the bus that `located` finds."""
    async with located(site, bus) as url:
        log = await jetstream.connect(url, site.name, token=site.bus_token)
        try:
            yield log
        finally:
            await log.close()


TargetBus = Annotated[
    BusText | None, Parameter(help="A NATS server or cluster to copy to. Without it: the site's embedded bus.")
]


@asynccontextmanager
async def target(site: Site, bus: str | None) -> AsyncGenerator[str, None]:
    """The bus that is named, or the site's embedded one, which need not have anything yet."""
    if bus is not None:
        yield bus
        return
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server:
        yield server.url


@asynccontextmanager
async def located(site: Site, bus: str | None) -> AsyncGenerator[str, None]:
    """The bus that is named, that of `dnms serve` if it runs, or an embedded one for now."""
    guessed = bus is None and is_served(site)
    if guessed:
        bus = f"nats://{HOST}:{BUS_PORT}"
    if bus is not None:
        try:
            yield bus
        except (Denied, Unavailable) as error:
            if not guessed:
                raise
            raise type(error)(f"{error}; if `dnms serve` has its bus elsewhere, name that with --bus") from error
        return
    if not site.log_directory.exists():
        raise Failure(MACHINE, f"{site.path} has no log of its own yet; if it is on another bus, name that with --bus")
    async with EmbeddedServer(site.log_directory, token=site.bus_token) as server:
        yield server.url
