"""`dnms subscriber`: who acts on the log, and running one of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import structlog
from cyclopts import App, Parameter

from dnms.bus import jetstream
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.port import Unavailable
from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import MACHINE, OK, USAGE, Failure
from dnms.cli.listing import Listing, listed
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, moment, say, table
from dnms.disk.site import Site
from dnms.disk.subscriber_state import SubscriberState
from dnms.events.plan import Name
from dnms.kit import logging
from dnms.kit.clock import SystemClock
from dnms.projections.effects.queries import SubscriberRow
from dnms.subscribers import SUBSCRIBERS
from dnms.subscribers.effects import Effects
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import ApplyError, Local, OptionsError, Subscriber

app = App(name="subscriber", help="Who acts on the log, such as the firewall: run one, list them.")

COLUMNS = ("Subscriber", "Instance", "Position", "Applied", "Waited", "Fails")

CONNECT_RETRY = 2.0  # seconds

Bus = Annotated[BusText, Parameter(name="--bus", env_var="DNMS_BUS", help="Where the log is.")]
State = Annotated[
    Path | None,
    Parameter(help="Where it keeps by which log it acted. Without it: subscribers/ in the site's directory."),
]

Instance = Annotated[
    str | None, Parameter(help="How the log calls this one; two of one subscriber differ. Without it: the host's name.")
]

Interfaces = Annotated[
    list[str] | None,
    Parameter(
        name="--interface",
        negative=(),
        help="SUBNET=INTERFACE: this machine's link to a subnet; once for each.",
    ),
]

Config = Annotated[Path | None, Parameter(help="A file of the subscriber's own, in TOML.")]

_logger = structlog.get_logger(__name__)


class Running(msgspec.Struct, frozen=True):
    """What is run, and up to where the log was folded when it first looked at all of it."""

    subscriber: str
    instance: str
    site: str
    bus: str
    position: int


@app.command(name="list")
def list_(*, asking: AskingThen = NOW, output: Listing = "table") -> int:
    """The subscribers that ran for this site: what each applied last, how long that took, and whether it fails."""
    found = asking.ask(lambda answers: answers.subscribers())
    if not found:
        known = "; ".join(f"{each.name}: {each.about}" for each in SUBSCRIBERS)
        say(f"no subscriber has said anything yet; `dnms subscriber run NAME` runs one ({known})")
    listed(found, SubscriberRow, lambda: [table(COLUMNS, map(_row, found))], output)
    return OK


def _row(row: SubscriberRow) -> tuple[object, ...]:
    failing = f"since {moment(row.failing_since)}: {row.why}, {row.text}" if row.failing_since else ""
    return (row.subscriber, row.instance, row.position, row.applied, f"{row.waited_ms:.0f} ms", failing)


@app.command
def run(
    name: str,
    *,
    bus: Bus = f"nats://{HOST}:{BUS_PORT}",
    site: SiteDirectory = SITE,
    state: State = None,
    instance: Instance = None,
    interface: Interfaces = None,
    config: Config = None,
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
    given = {"interfaces": ("--interface", interface), "config": ("--config", config)}
    for field, (option, value) in given.items():
        if value and field not in subscriber.takes:
            raise Failure(USAGE, f"{option}: the subscriber {name} takes none")
    opened = Site.load(site)
    local = Local(
        site=opened.name, instance=_instance(instance), interfaces=_interfaces(interface or []), config=config
    )
    logging.configure()
    try:
        asyncio.run(_until_signalled(subscriber, local, opened, bus=bus, state=state, output=output))
    except OptionsError as error:
        raise Failure(USAGE, str(error)) from error
    return OK


def _interfaces(given: list[str]) -> dict[str, str]:
    """The links by subnet; Failure."""
    found: dict[str, str] = {}
    for text in given:
        subnet, _, link = text.partition("=")
        try:
            msgspec.convert(subnet, Name)
        except msgspec.ValidationError:
            link = ""
        if not link:
            raise Failure(USAGE, f"--interface {text!r}: expected SUBNET=INTERFACE, such as home=eth1")
        if subnet in found:
            raise Failure(USAGE, f"--interface {text!r}: the subnet {subnet} was given {found[subnet]} before")
        found[subnet] = link
    return found


def _instance(given: str | None) -> str:
    """The name of this instance; Failure if it cannot be one."""
    name = given if given is not None else socket.gethostname().partition(".")[0].lower()
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        text = f"--instance {name!r}: expected a name of lower-case letters, digits and hyphens, at most 63"
        raise Failure(USAGE, text) from None


async def _until_signalled(
    subscriber: Subscriber[Any, Any],
    local: Local,
    site: Site,
    *,
    bus: str,
    state: Path | None,
    output: Literal["table", "json"],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await subscriber.world(local).actual()  # who may not look at it is told so at once
    except ApplyError as error:
        raise Failure(MACHINE, str(error)) from error
    log = await _connect(bus, site, stop)
    if log is None:
        return
    try:
        kept = SubscriberState(state or site.path / "subscribers", subscriber.name)
        effects = Effects(log, subscriber.name, local.instance, site=site.name, now=SystemClock().now)
        runner = Runner(log, subscriber, kept, local=local, effects=effects)

        def ready(position: int) -> None:
            running = Running(subscriber.name, local.instance, site.name, bus, position)
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
