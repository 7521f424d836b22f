"""`dnms subscriber run`: runs subscribers on this machine, each as one instance."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import structlog
from cyclopts import Parameter

from dnms.bus import jetstream
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.port import Log, Unavailable
from dnms.cli.exits import MACHINE, OK, USAGE, Failure
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, facts
from dnms.disk.extensions import ExtensionError
from dnms.disk.site import Site
from dnms.disk.subscriber_state import SubscriberState
from dnms.events.plan import Name
from dnms.kit import logging
from dnms.kit.clock import SystemClock
from dnms.subscribers import AnySubscriber
from dnms.subscribers.caller import Calling
from dnms.subscribers.calling import CallRunner
from dnms.subscribers.effects import Effects
from dnms.subscribers.installed import all_subscribers
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import ApplyError, Local, OptionsError

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
        name="--interface", negative=(), help="SUBNET=INTERFACE: this machine's link to a subnet; once for each."
    ),
]

Config = Annotated[
    Path | None, Parameter(help="A file in TOML with a table for each subscriber that takes one, such as [webhook].")
]

_logger = structlog.get_logger(__name__)


class Running(msgspec.Struct, frozen=True):
    """What is run, and up to where the log was folded when it first looked at all of it."""

    subscriber: str
    instance: str
    site: str
    bus: str
    position: int


def run(
    name: str,
    /,
    *names: Annotated[str, Parameter(help="Others, which run in the same process.")],
    bus: Bus = f"nats://{HOST}:{BUS_PORT}",
    site: SiteDirectory = SITE,
    state: State = None,
    instance: Instance = None,
    interface: Interfaces = None,
    config: Config = None,
    output: Output = "table",
) -> int:
    """Run subscribers on this machine, until SIGINT or SIGTERM: they keep what is here as the site's log says, or call
    for each event.

    Each says so once it has read the whole log and looked at what is here; its log goes to stderr. It drops nothing
    before that, nor while the bus is away, and ends, leaving all as it is, if the log cannot be trusted. Where one of
    several ends, all do.
    """
    chosen = _chosen([name, *names])
    given = {"interfaces": ("--interface", interface), "config": ("--config", config)}
    for field, (option, value) in given.items():
        if value and not any(field in each.takes for each in chosen):
            raise Failure(USAGE, f"{option}: the subscriber {', '.join(each.name for each in chosen)} takes none")
    links, called = _interfaces(interface or []), _instance(instance)
    opened = Site.load(site)
    local = Local(site=opened.name, instance=called, interfaces=links, config=config, bus=bus)
    logging.configure()
    try:
        asyncio.run(_until_signalled(chosen, local, opened, bus=bus, state=state, output=output))
    except OptionsError as error:
        raise Failure(USAGE, str(error)) from error
    return OK


def known() -> tuple[AnySubscriber, ...]:
    """All that can be run here. Failure."""
    try:
        return all_subscribers()
    except ExtensionError as error:
        raise Failure(MACHINE, str(error)) from error


def _chosen(names: Sequence[str]) -> list[AnySubscriber]:
    by_name = {each.name: each for each in known()}
    for index, name in enumerate(names):
        if name not in by_name:
            raise Failure(USAGE, f"there is no subscriber {name!r}; expected one of {', '.join(by_name)}")
        if name in names[:index]:
            raise Failure(USAGE, f"{name} stands there twice; run another one with --instance, in a process of its own")
    return [by_name[name] for name in names]


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
    chosen: Sequence[AnySubscriber],
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
    for subscriber in chosen:
        await _try(subscriber, local)
    log = await _connect(bus, site, stop)
    if log is None:
        return
    directory = state or site.path / "subscribers"

    def run_one(subscriber: AnySubscriber) -> Coroutine[Any, Any, None]:
        def ready(position: int) -> None:
            running = Running(subscriber.name, local.instance, site.name, bus, position)
            named = [(field, getattr(running, field)) for field in Running.__struct_fields__]
            answer(running, lambda: [facts(named)], output)

        return _runner(log, subscriber, directory, local).run(stop, ready=ready)

    try:
        await _together([run_one(subscriber) for subscriber in chosen], stop)
    finally:
        await log.close()


async def _try(subscriber: AnySubscriber, local: Local) -> None:
    """Whose options are wrong, and who may not look at its world, is told so at once. OptionsError, Failure."""
    if isinstance(subscriber, Calling):
        await subscriber.caller(local).close()
        return
    subscriber.folding(local)
    try:
        await subscriber.world(local).actual()
    except ApplyError as error:
        raise Failure(MACHINE, str(error)) from error


def _runner(log: Log, subscriber: AnySubscriber, directory: Path, local: Local) -> CallRunner | Runner[Any, Any]:
    now = SystemClock().now
    if isinstance(subscriber, Calling):
        # Several of one kind run side by side, each with a configuration of its own.
        state = SubscriberState(directory, f"{subscriber.name}.{local.instance}")
        return CallRunner(log, subscriber, state, local=local, now=now, chance=random.random)
    effects = Effects(log, subscriber.name, local.instance, site=local.site, now=now)
    return Runner(log, subscriber, SubscriberState(directory, subscriber.name), local=local, effects=effects)


async def _together(runs: Sequence[Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Run all until they end; where one does, so do the others. What one raises is raised, once all have ended."""
    tasks = [asyncio.create_task(one) for one in runs]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait(tasks)
    for task in tasks:
        task.result()


async def _connect(bus: str, site: Site, stop: asyncio.Event) -> JetStreamLog | None:
    """Wait for the bus, which may start later than this machine; None if `stop` is set before. LogError, SiteError."""
    while True:
        try:
            return await jetstream.connect(bus, site.name, token=site.bus_token)
        except Unavailable as error:
            _logger.warning("no bus yet: --bus says where it is", reason=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_RETRY):
                await stop.wait()
                return None
