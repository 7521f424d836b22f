"""A shadow, wired together: a fork of the log, the books and the servers of an agent, and what is heard of the link."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from dnms.agents.shadow.exchanges import Exchanges, Found
from dnms.agents.shadow.link import DUID, ShadowLink
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.start import reach
from dnms.bus.forked import ForkedLog
from dnms.bus.port import LogError
from dnms.disk.extensions import ExtensionError, load_strategies
from dnms.disk.site import Site, SiteError
from dnms.domain import rollouts
from dnms.events.seen import HardwareContested
from dnms.kit.errors import one_line
from dnms.linux.dhcp_heard import Datagram, DhcpHeard
from dnms.linux.errors import KernelError

AGENT = "shadow"

MAX_HEARD = 10_000
"""Datagrams that wait to be looked at; more come than can be compared."""

LOOK = 0.5  # seconds between two looks for who is silent


class ShadowError(Exception):
    """It cannot run here, or must not go on; one line that says what to do."""


class ShadowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a shadow is told at its start."""

    interface: str
    subnet: str
    site: Path  # the site's directory
    bus: str  # nats://host:port


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What it has heard in all."""

    compared: int  # answers of the other server, and its silences
    equal: int
    clients: int
    differences: dict[str, int]  # by what differs, and of what
    new_clients: int  # to which each server would give another free address: no difference
    ignored: dict[str, int]  # what was heard and not compared, by a stable word


async def run(
    settings: ShadowSettings, *, stop: asyncio.Event, ready: Callable[[], None], report: Callable[[Found], None]
) -> Summary | None:
    """Listen until `stop` is set; None if it was before all of the log was read. ShadowError.

    `ready` is called when it listens, `report` for each difference.
    """
    try:
        load_strategies()
        site = Site.load(settings.site)
        reached = await reach(settings.bus, site, None, stop=stop)
    except (ExtensionError, SiteError, LogError) as error:
        raise ShadowError(str(error)) from error
    if reached is None:
        return None
    try:
        now = reached.clock.now
        log = ForkedLog(reached.log, site.name, forked_at=await reached.log.end(), now=now)
        books = Books(
            log,
            site=site.name,
            secret=site.secret,
            subnet=settings.subnet,
            agent=AGENT,
            now=now,
            random=secrets.token_bytes,
        )
        return await _listen(settings, site, books, stop=stop, ready=ready, report=report)
    except* (KernelError, LogError) as errors:
        raise ShadowError(one_line(errors)) from errors
    finally:
        await reached.log.close()


async def _listen(
    settings: ShadowSettings,
    site: Site,
    books: Books,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None],
    report: Callable[[Found], None],
) -> Summary | None:
    link, newcomers = ShadowLink(), Newcomers()
    differences: Counter[str] = Counter()
    heard: asyncio.Queue[Datagram] = asyncio.Queue(MAX_HEARD)

    async def alarm(_: HardwareContested) -> None:
        """Nobody is told."""

    def told(found: Found) -> None:
        differences["new-client" if found.what == "new-client" else f"{found.what}: {found.of}"] += 1
        report(found)

    def receive(datagram: Datagram) -> None:
        try:
            heard.put_nowait(datagram)
        except asyncio.QueueFull:
            exchanges.ignored["rate"] += 1

    dhcp4 = Dhcp4Server(books, link, client_id=site.client_id, newcomers=newcomers, random=secrets.token_bytes)
    dhcp6 = Dhcp6Server(
        books,
        link,
        duid=DUID,
        interface=settings.interface,
        client_id=site.client_id,
        newcomers=newcomers,
        alarm=alarm,
    )
    exchanges = Exchanges(
        books, link, (dhcp4, dhcp6), interface=settings.interface, client_id=site.client_id, report=told
    )
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(each.run()) for each in (books, dhcp4, dhcp6)]
        stopped = tasks.create_task(stop.wait())
        begun = tasks.create_task(_begun(books, settings.subnet))
        await asyncio.wait((stopped, begun), return_when=asyncio.FIRST_COMPLETED)
        if begun.done() and begun.exception() is None:
            hearing = DhcpHeard(settings.interface, receive)
            try:
                ready()
                await _compare(exchanges, heard, stopped)
            finally:
                hearing.close()
        for each in (begun, *reversed(work)):
            each.cancel()
    if not exchanges.compared and not begun.done():
        return None
    new = differences.pop("new-client", 0)
    return Summary(
        compared=exchanges.compared,
        equal=exchanges.equal,
        clients=len(exchanges.clients),
        differences=dict(differences),
        new_clients=new,
        ignored=dict(exchanges.ignored),
    )


async def _begun(books: Books, subnet: str) -> None:
    """Wait for the log to be read, and the newest plan to be adopted. ShadowError where there is nothing to decide."""
    await books.ready.wait()
    if books.plan.for_subnet(subnet).subnet is None:
        raise ShadowError(f"the plan has no subnet {subnet!r}; `dnms plan show` has their names")
    if not books.ledger.plan.position or books.ledger.plan.position < books.plan.position:
        await books.planned.wait()
    if rollouts.told(books.ledger, bytes(16), 0).policy.mode == "observe":
        raise ShadowError(f"the plan has subnet {subnet!r} only observed: an agent would answer nobody there")


async def _compare(exchanges: Exchanges, heard: asyncio.Queue[Datagram], stopped: asyncio.Task[bool]) -> None:
    """Until it is stopped. LogError."""
    loop = asyncio.get_running_loop()
    looked = loop.time()
    while not stopped.done():
        taken: Datagram | None = None
        try:
            async with asyncio.timeout(LOOK):
                taken = await heard.get()
        except TimeoutError:
            pass
        if taken is not None:
            await exchanges.take(taken)
        if heard.empty() and loop.time() - looked >= LOOK:
            exchanges.tick(loop.time())
            looked = loop.time()
