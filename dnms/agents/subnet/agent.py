"""A Subnet Agent, wired together: the log, the books, the listeners of one link."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import ssl
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from dnms.agents import tls
from dnms.agents.door import SPARE
from dnms.agents.offers import Offers
from dnms.agents.subnet import uplink
from dnms.agents.subnet.advertising import Advertising, Kept
from dnms.agents.subnet.announcing import Announcing, Losing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.claims import Claims
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.dhcp6_uplink import Dhcp6Uplink
from dnms.agents.subnet.extending import Extending
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.gateways import Gateways
from dnms.agents.subnet.link import Link
from dnms.agents.subnet.linux import LinuxLink
from dnms.agents.subnet.newcomers import NEW_AT_ONCE, Newcomers
from dnms.agents.subnet.node_upstream import NodeUpstream
from dnms.agents.subnet.outage import Journal
from dnms.agents.subnet.porch import SPARE_BEHIND, Porch, Trust
from dnms.agents.subnet.seeing import Seeing
from dnms.agents.subnet.served import Introduction
from dnms.agents.subnet.sessions import Sessions
from dnms.agents.subnet.snapshot import Keeper, Snapshots, Whose
from dnms.agents.subnet.start import reach, read_snapshot, waits
from dnms.agents.subnet.uplink import Asks
from dnms.agents.subnet.upstream import Upstream
from dnms.agents.subnet.waves import Waves
from dnms.bus.clock import LogClock
from dnms.bus.port import Log, LogDamaged, LogError, LogForked, Unavailable
from dnms.disk.advertised import AdvertisedFile
from dnms.disk.dhcp6_state import Dhcp6StateError, Dhcp6StateFile
from dnms.disk.extensions import ExtensionError, load_strategies
from dnms.disk.journal import Belongs, JournalError
from dnms.disk.journal import Journal as DiskJournal
from dnms.disk.site import Site, SiteError
from dnms.disk.snapshot import SnapshotFile
from dnms.events.codec import BrokenCommit
from dnms.events.ip import format_address
from dnms.events.plan import Name, Uplink
from dnms.kit.clock import SystemClock
from dnms.kit.errors import one_line
from dnms.linux.errors import KernelError
from dnms.wire.answering import fitting
from dnms.wire.messages import PORT, Offer
from dnms.wire.relaying import Here

NODE_STATE = Path("/var/lib/dnms/node")

MEASURE = 10.0  # seconds between two looks at the log's clock

_logger = structlog.get_logger(__name__)


Work = Coroutine[Any, Any, None]
"""What is done until it is cancelled."""


class Beside(Protocol):
    """Something that an agent does beside its sessions."""

    async def run(self) -> None:
        """Until cancelled. KernelError if the link cannot be heard; LogError, for what cannot be mended."""


class SubnetAgentError(Exception):
    """The agent cannot run here, or must not go on; one line that says what to do."""


class SubnetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a Subnet Agent is told at its start."""

    interface: str  # on the link; empty: this machine is not on it
    subnet: str
    name: str
    site: Path  # the site's directory
    bus: str  # nats://host:port
    relays: tuple[str, ...] = ()  # the names of those that are on the link, where this machine is not
    port: int = PORT  # TCP; 0: any that is free
    preference: int = 0  # the higher is chosen first, 0 to 255
    new_nodes: int = NEW_AT_ONCE  # that the site does not know, from one address at once; then one a minute
    uplink: str = ""  # the interface towards where prefixes come from; empty: this machine is no router of the subnet
    node_state: Path = NODE_STATE  # of the Node Agent on that interface
    dhcpv6: bool = False  # clients without a Node Agent are served by DHCPv6
    dhcpv4: bool = False  # addresses are given by DHCPv4 too
    watch: bool = False  # who is on the link is seen, and what is wrong there
    state: Path | None = None  # where its journal is; None: `agent/` with its name, beside the site's directory

    @property
    def journal(self) -> Path:
        """The file of what it gives while the log is away. Agents of several subnets may have one name."""
        return self.directory / f"journal-{self.subnet}.sqlite"

    @property
    def snapshot(self) -> Path:
        """The file of what it has made of the log."""
        return self.directory / f"snapshot-{self.subnet}.dnms"

    @property
    def advertised(self) -> Path:
        """The file of what it has advertised on the link."""
        return self.directory / f"advertised-{self.subnet}"

    @property
    def directory(self) -> Path:
        """Where it keeps what it needs after a restart."""
        return self.state or self.site.parent / "agent" / self.name


async def run(settings: SubnetSettings, *, stop: asyncio.Event) -> None:
    """Serve the link until `stop` is set. SubnetAgentError if that cannot be, or if the log is damaged."""
    for option, name in (("--name", settings.name), ("--subnet", settings.subnet)):
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            raise SubnetAgentError(
                f"{option} {name!r}: expected a name of lower-case letters, digits and hyphens, at most 63"
            ) from None
    with contextlib.ExitStack() as stack:
        try:
            load_strategies()
            site = Site.load(settings.site)
            stack.enter_context(site.attended(settings.subnet, settings.name))
            context = tls.serving(site.agent_certificate, site.agent_key)
            root = ssl.PEM_cert_to_DER_cert(site.root_certificate.read_text())
            porch = None
            if settings.relays:
                porch = Porch(context, Trust(site.root_certificate.read_bytes(), settings.subnet, settings.relays))
            snapshots = SnapshotFile(settings.snapshot)
            whose = Whose(site.name, settings.subnet, settings.name)
            folds = await asyncio.to_thread(read_snapshot, snapshots, whose, secret=site.secret)
            duid = b""
            if settings.dhcpv6:
                duid = Dhcp6StateFile(settings.directory, settings.interface).read(draw=secrets.token_bytes).duid
            reached = await reach(settings.bus, site, folds, stop=stop)
        except (Dhcp6StateError, ExtensionError, SiteError, LogError, OSError, ssl.SSLError) as error:
            raise SubnetAgentError(str(error)) from error
        if reached is None:
            return
        log = reached.log
        link = porch or LinuxLink(settings.interface, context)
        belongs = Belongs(site=site.name, subnet=settings.subnet, log=log.log_id)
        try:
            journal = await asyncio.to_thread(DiskJournal, settings.journal, belongs)
            stack.callback(journal.close)
            await attend(
                settings,
                site,
                log,
                reached.clock,
                link,
                root=hashlib.sha256(root).digest(),
                random=secrets.token_bytes,
                stop=stop,
                journal=journal,
                snapshots=snapshots,
                folds=folds,
                away=reached.away,
                asks=_asks(settings, reached.clock) if settings.uplink else None,
                advertised=AdvertisedFile(settings.advertised),
                duid=duid,
            )
        except* (JournalError, KernelError, LogError, BrokenCommit, Dhcp6StateError) as errors:
            text = one_line(errors)
            if errors.subgroup(LogForked) and settings.snapshot.exists():
                text += f"; if this is the right log, move away what was made of the other one: {settings.snapshot}"
            if errors.subgroup(LogDamaged):
                text += f"; {LogDamaged.advice}"
            raise SubnetAgentError(text) from errors
        finally:
            await log.close()


def _asks(settings: SubnetSettings, clock: LogClock) -> Asks:
    """Who asks above for prefixes, by what the plan says of the uplink."""

    def offset() -> int:
        return clock.now() - SystemClock().now()

    def asked(planned: Uplink) -> Upstream:
        if planned.protocol == "dhcpv6":
            return Dhcp6Uplink(settings.uplink, state=settings.directory, now=clock.now, length=planned.length)
        return NodeUpstream(settings.node_state, settings.uplink, offset=offset)

    return asked


async def attend(
    settings: SubnetSettings,
    site: Site,
    log: Log,
    clock: LogClock,
    link: Link | Porch,
    *,
    root: bytes,
    random: Callable[[int], bytes],
    stop: asyncio.Event,
    journal: Journal | None = None,
    snapshots: Snapshots | None = None,
    folds: Folds | None = None,
    away: bool = False,
    asks: Asks | None = None,
    advertised: Kept | None = None,
    duid: bytes = b"",
) -> None:
    """Serve the nodes of a link, this machine's or one that relays are on, out of a log, until `stop` is set.

    An exception group of KernelError, LogError, BrokenCommit.

    `root` is the fingerprint of the site's root certificate, `random` draws bytes. Without a `journal` nothing is given
    while the log is away. `folds` are those of the newest of the `snapshots`, if there is one. `away`: the log cannot
    be reached yet, and the agent begins with what the folds know. `asks`: who asks above for prefixes; None: nobody.
    `advertised` keeps what hosts of the link were told. `duid` is that of a DHCPv6 server; empty: there is none.
    """
    books = Books(
        log,
        site=site.name,
        secret=site.secret,
        subnet=settings.subnet,
        agent=settings.name,
        now=clock.now,
        random=random,
        journal=journal,
        folds=folds,
        waits=waits(folds, clock),
    )
    keeper = None
    if snapshots is not None:
        whose = Whose(site.name, settings.subnet, settings.name)
        keeper = keeper_of(books, snapshots, whose, clock)
    if away:
        books.begin_without_log()
    introduction = Introduction(settings.name, site.name, settings.subnet, settings.interface)
    newcomers = Newcomers(settings.new_nodes)
    near = None if isinstance(link, Porch) else link
    sessions = Sessions(
        books,
        introduction,
        client_id=site.client_id,
        newcomers=newcomers,
        claims=None if near is None else Claims(books, near.users),
        spare=SPARE_BEHIND if near is None else SPARE,
    )
    beside: list[Beside] = []
    if near is not None:
        beside = _beside(settings, site, books, near, sessions, newcomers=newcomers, random=random, duid=duid)
    offer = Offer(
        nonce=bytes(16),
        site=site.name,
        subnet=settings.subnet,
        agent=settings.name,
        endpoints=(),
        preference=settings.preference,
        root=root,
    )
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(books.run()),
            tasks.create_task(_keep_time(clock, books)),
            tasks.create_task(
                _serve(
                    link,
                    settings.port,
                    offer,
                    books,
                    sessions,
                    advertised=advertised,
                    beside=beside,
                )
            ),
        ]
        if keeper is not None:
            work.append(tasks.create_task(keeper.run()))
        if asks is not None:
            work.append(tasks.create_task(uplink.Uplink(books, asks).run()))
        await stop.wait()
        _logger.info("leaving", subnet=settings.subnet, sessions=len(sessions))
        # Listeners first: they record the end of their sessions in books that still write.
        for task in reversed(work):
            task.cancel()
            await asyncio.wait((task,))
        if keeper is not None:
            await keeper.keep()


def _beside(
    settings: SubnetSettings,
    site: Site,
    books: Books,
    link: Link,
    sessions: Sessions,
    *,
    newcomers: Newcomers,
    random: Callable[[int], bytes],
    duid: bytes,
) -> list[Beside]:
    """What an agent that is on its link does for those without a Node Agent, as it was told at its start."""
    beside: list[Beside] = []
    if duid:
        dhcp6 = Dhcp6Server(
            books,
            link,
            duid=duid,
            interface=settings.interface,
            client_id=site.client_id,
            newcomers=newcomers,
            alarm=sessions.alarm,
            has_session=sessions.has,
        )
        beside.append(dhcp6)
    if settings.dhcpv4:
        beside.append(Dhcp4Server(books, link, client_id=site.client_id, newcomers=newcomers, random=random))
    if settings.watch:
        beside.append(Seeing(books, link, client_id=site.client_id))
    first = settings.watch or settings.dhcpv4 or settings.dhcpv6
    beside.append(Announcing(books, link, servers=(site.client_id(duid),) if duid else (), first=first))
    return beside


def keeper_of(books: Books, snapshots: Snapshots, whose: Whose, clock: LogClock) -> Keeper:
    """Of an agent with these books and this clock."""

    def expires_from() -> dict[int, float] | None:
        if (waits := books.waits) is None:
            return None
        now = clock.elapsed()
        return {kind: now + seconds for kind, seconds in waits.items()}

    return Keeper(books.folds, snapshots, whose, told=lambda: clock.told, expires_from=expires_from)


async def _serve(
    link: Link | Porch,
    port: int,
    offer: Offer,
    books: Books,
    sessions: Sessions,
    *,
    advertised: Kept | None = None,
    beside: Collection[Beside] = (),
) -> None:
    """Listen on the link, once the books are complete; `offer` lacks the endpoints that are found then.

    `beside`: what serves the link beside the sessions.
    """
    await books.ready.wait()
    if books.plan.for_subnet(books.subnet).subnet is None:  # the ledger may adopt it only now
        _logger.warning("the plan has no such subnet yet: nodes are refused until it has", subnet=books.subnet)
    if isinstance(link, Porch):
        work = _behind_relays(link, port, offer, sessions)
    else:
        work = [*await _on_link(link, port, offer, books, sessions), Advertising(books, link, kept=advertised).run()]
    work += [_push(books, sessions), Extending(books, sessions).run(), Losing(books).run()]
    work += [each.run() for each in beside]
    work.append(Waves(books, lambda: (node for node, _ in sessions.nodes)).run())
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)


async def _on_link(link: Link, port: int, offer: Offer, books: Books, sessions: Sessions) -> list[Work]:
    """Listen on the link; what is to be done then. KernelError."""
    listening = await link.listen(port)
    offer = fitting(msgspec.structs.replace(offer, endpoints=tuple(listening)))
    offers = Offers(link, offer, lambda: len(sessions))
    _logger.info(
        "serving",
        subnet=offer.subnet,
        agent=offer.agent,
        addresses=[format_address(each.address) for each in listening],
    )
    return [sessions.serve(listening.values()), offers.run(), Gateways(books, link).run()]


def _behind_relays(porch: Porch, port: int, offer: Offer, sessions: Sessions) -> list[Work]:
    """Listen for relays, which offer what they are told here; what is to be done then. KernelError."""
    ports = porch.listen(port)

    def here() -> Here:
        return Here(
            site=offer.site,
            subnet=offer.subnet,
            agent=offer.agent,
            load=len(sessions),
            preference=offer.preference,
            root=offer.root,
        )

    porch.here = here
    _logger.info("serving relays", subnet=offer.subnet, agent=offer.agent, ports=ports)
    return [porch.run(), sessions.serve([porch])]


async def _keep_time(clock: LogClock, books: Books) -> None:
    """Measure the log's clock now and then, and when somebody doubts that it is there."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEASURE):
                await books.outage.doubted.wait()
        books.outage.doubted.clear()
        try:
            if await clock.measure():
                books.suspend_expiry()
        except Unavailable as error:
            _logger.debug("the log's clock is not known", reason=str(error))
            if books.caught_up.is_set():
                books.outage.begin(str(error))


async def _push(books: Books, sessions: Sessions) -> None:
    while True:
        await books.changed.wait()
        await sessions.push(books.take_due())
