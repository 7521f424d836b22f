"""`dnms subscriber`: who acts on the log, and running one of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import structlog
from cyclopts import App, Parameter

from dnms.bus import jetstream
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.port import Unavailable
from dnms.cli.exits import MACHINE, OK, USAGE, Failure
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, table
from dnms.disk.site import Site
from dnms.disk.subscriber_state import SubscriberState
from dnms.kit import logging
from dnms.subscribers import SUBSCRIBERS
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import ApplyError, Subscriber

app = App(name="subscriber", help="Who acts on the log, such as the firewall: run one, list them.")

CONNECT_RETRY = 2.0  # seconds

Bus = Annotated[BusText, Parameter(name="--bus", env_var="DNMS_BUS", help="Where the log is.")]
State = Annotated[
    Path | None,
    Parameter(help="Where it keeps by which log it acted. Without it: subscribers/ in the site's directory."),
]

_logger = structlog.get_logger(__name__)


class Listed(msgspec.Struct, frozen=True):
    """A subscriber that can be run."""

    name: str
    about: str


class Running(msgspec.Struct, frozen=True):
    """What is run, and up to where the log was folded when it first looked at all of it."""

    subscriber: str
    site: str
    bus: str
    position: int


@app.command(name="list")
def list_(*, output: Output = "table") -> int:
    """The subscribers that this release has, and what each is for."""
    listed = [Listed(each.name, each.about) for each in SUBSCRIBERS]
    answer(listed, lambda: [table(("Subscriber", "Keeps"), ((each.name, each.about) for each in listed))], output)
    return OK


@app.command
def run(
    name: str,
    *,
    bus: Bus = f"nats://{HOST}:{BUS_PORT}",
    site: SiteDirectory = SITE,
    state: State = None,
    output: Output = "table",
) -> int:
    """Run a subscriber on this machine, until SIGINT or SIGTERM: it keeps what is here as the site's log says.

    Says so once it has folded the whole log and looked at what is here; its log goes to stderr. It drops nothing before
    that, nor while the bus is away, and ends, leaving all as it is, if the log cannot be trusted.
    """
    subscriber = next((each for each in SUBSCRIBERS if each.name == name), None)
    if subscriber is None:
        known = ", ".join(each.name for each in SUBSCRIBERS)
        raise Failure(USAGE, f"there is no subscriber {name!r}; expected one of {known}")
    logging.configure()
    asyncio.run(_until_signalled(subscriber, bus, site, state, output))
    return OK


async def _until_signalled(
    subscriber: Subscriber[Any, Any], bus: str, site: Path, state: Path | None, output: Literal["table", "json"]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    opened = Site.load(site)
    try:
        await subscriber.world().actual()  # who may not look at it is told so at once
    except ApplyError as error:
        raise Failure(MACHINE, str(error)) from error
    log = await _connect(bus, opened, stop)
    if log is None:
        return
    try:
        kept = SubscriberState(state or opened.path / "subscribers", subscriber.name)
        runner = Runner(log, subscriber, kept, site=opened.name)

        def ready(position: int) -> None:
            running = Running(subscriber.name, opened.name, bus, position)
            named = [(field, getattr(running, field)) for field in Running.__struct_fields__]
            answer(running, lambda: [facts(named)], output)

        await runner.run(stop, ready=ready)
    finally:
        await log.close()


async def _connect(bus: str, site: Site, stop: asyncio.Event) -> JetStreamLog | None:
    """Wait for the bus, which may start later than this machine; None if `stop` is set before. LogError, SiteError."""
    while True:
        try:
            return await jetstream.connect(bus, site.name, token=site.bus_token)
        except Unavailable as error:
            _logger.warning("no bus yet", reason=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_RETRY):
                await stop.wait()
                return None
