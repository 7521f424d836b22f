"""A Subnet Agent, wired together: the log, the books, the listeners of one link."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import socket
import ssl
from pathlib import Path

import msgspec
import structlog

from dnms.agents import tls
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.offers import Offers
from dnms.agents.subnet.served import Introduction
from dnms.agents.subnet.sessions import Sessions
from dnms.bus.clock import LogClock
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import LogError, Unavailable
from dnms.disk.site import Site, SiteError
from dnms.events.codec import BrokenCommit
from dnms.events.ip import format_address
from dnms.events.plan import Name
from dnms.kit.errors import one_line
from dnms.linux import multicast
from dnms.linux.dad import link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_DADFAILED, IFA_F_TENTATIVE
from dnms.linux.netlink import Netlink
from dnms.wire.answering import LARGEST_LOAD
from dnms.wire.datagrams import encode_offer
from dnms.wire.messages import MAX_ENDPOINTS, PORT, Endpoint, Offer

CONNECT_RETRY = 2.0  # seconds
MEASURE = 10.0  # seconds between two looks at the log's clock

_logger = structlog.get_logger(__name__)


class SubnetAgentError(Exception):
    """The agent cannot run here, or must not go on; one line that says what to do."""


class SubnetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a Subnet Agent is told at its start."""

    interface: str
    subnet: str
    name: str
    site: Path  # the site's directory
    bus: str  # nats://host:port
    port: int = PORT  # TCP; 0: any that is free
    preference: int = 0  # the higher is chosen first, 0 to 255


async def run(settings: SubnetSettings, *, stop: asyncio.Event) -> None:
    """Serve the link until `stop` is set. SubnetAgentError if that cannot be, or if the log is damaged."""
    for option, name in (("--name", settings.name), ("--subnet", settings.subnet)):
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            raise SubnetAgentError(
                f"{option} {name!r}: expected a name of lower-case letters, digits and hyphens, at most 63"
            ) from None
    try:
        site = Site.load(settings.site)
        context = tls.serving(site.agent_certificate, site.agent_key)
        root = ssl.PEM_cert_to_DER_cert(site.root_certificate.read_text())
        connected = await _connect(settings.bus, site, stop)
    except (SiteError, LogError, OSError, ssl.SSLError) as error:
        raise SubnetAgentError(str(error)) from error
    if connected is None:
        return
    log, clock = connected
    books = Books(
        log,
        site=site.name,
        secret=site.secret,
        subnet=settings.subnet,
        agent=settings.name,
        now=clock.now,
        random=secrets.token_bytes,
    )
    sessions = Sessions(
        books,
        Introduction(settings.name, site.name, settings.subnet),
        context,
        client_id=site.client_id,
    )
    fingerprint = hashlib.sha256(root).digest()
    try:
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(books.run()),
                tasks.create_task(_keep_time(clock, books)),
                tasks.create_task(_serve(settings, site.name, fingerprint, books, sessions)),
            ]
            await stop.wait()
            _logger.info("leaving", subnet=settings.subnet, sessions=len(sessions))
            # Listeners first: they record the end of their sessions in books that still write.
            for task in reversed(work):
                task.cancel()
                await asyncio.wait((task,))
    except* (KernelError, LogError, BrokenCommit) as errors:
        raise SubnetAgentError(one_line(errors)) from errors
    finally:
        await log.close()


async def _connect(bus: str, site: Site, stop: asyncio.Event) -> tuple[JetStreamLog, LogClock] | None:
    """Wait for the bus, which may start later than this machine; None if `stop` is set before. SiteError, LogError."""
    while True:
        log = None
        try:
            log = await connect(bus, site.name, token=site.bus_token)
            clock = LogClock(log)
            await clock.measure()
        except LogError as error:
            if log is not None:
                await log.close()
            if not isinstance(error, Unavailable):
                raise
            _logger.warning("no bus yet", reason=str(error))
        else:
            return log, clock
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_RETRY):
                await stop.wait()
                return None


async def _serve(settings: SubnetSettings, site: str, root: bytes, books: Books, sessions: Sessions) -> None:
    """Listen on the link, once the books are complete."""
    await books.caught_up.wait()
    await books.close_abandoned()
    if books.ledger.plan.subnet is None:
        _logger.warning("the plan has no such subnet yet: nodes are refused until it has", subnet=settings.subnet)
    async with Netlink() as netlink:
        await link_local_ready(netlink, settings.interface)
        link = await netlink.link(settings.interface)
        # fe80:: comes first in an offer; every other address of the interface works as well (D29).
        held = sorted(await netlink.addresses(link.index), key=lambda each: each.origin != "link-local")
        usable = [each.address for each in held if not each.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)]
    listening = _listen(usable[:MAX_ENDPOINTS], settings.port, link.index)
    offer = Offer(
        nonce=bytes(16),
        site=site,
        subnet=settings.subnet,
        agent=settings.name,
        endpoints=tuple(listening),
        preference=settings.preference,
        root=root,
    )
    offers = Offers(link.index, fitting(offer), lambda: len(sessions))
    _logger.info(
        "serving",
        subnet=settings.subnet,
        agent=settings.name,
        addresses=[format_address(each.address) for each in listening],
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sessions.serve(listening.values()))
        tasks.create_task(offers.run())
        tasks.create_task(_push(books, sessions))


def _listen(addresses: list[bytes], port: int, interface: int) -> dict[Endpoint, socket.socket]:
    """Listen on each address; one that has gone since it was looked for is left out, unless no other is left."""
    listening: dict[Endpoint, socket.socket] = {}
    try:
        for address in addresses:
            try:
                listener = multicast.listener(address, port, interface=interface)
            except KernelError as error:
                if error.why != "not-there" or (address == addresses[-1] and not listening):
                    raise
                continue
            listening[Endpoint(address=address, port=listener.getsockname()[1])] = listener
    except KernelError:
        for listener in listening.values():
            listener.close()
        raise
    return listening


def fitting(offer: Offer) -> Offer:
    """The offer with as many of its endpoints, the first ones, as a datagram takes."""
    while len(offer.endpoints) > 1:
        try:
            encode_offer(msgspec.structs.replace(offer, load=LARGEST_LOAD))
        except ValueError:
            offer = msgspec.structs.replace(offer, endpoints=offer.endpoints[:-1])
        else:
            break
    return offer


async def _keep_time(clock: LogClock, books: Books) -> None:
    """Measure the log's clock now and then."""
    while True:
        await asyncio.sleep(MEASURE)
        try:
            if await clock.measure():
                books.suspend_expiry()
        except Unavailable as error:
            _logger.debug("the log's clock is not known", reason=str(error))


async def _push(books: Books, sessions: Sessions) -> None:
    while True:
        await books.adopted.wait()
        books.adopted.clear()
        await sessions.push()
