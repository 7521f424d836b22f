"""The life of a Node Agent on one interface.

It looks for agents for ever, keeps one session with one of them, and goes back to looking when that ends. What it was
assigned outlives the session, and a restart: only its own end, or an agent's word, takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from dnms.agents.node.application import Application
from dnms.agents.node.configuring import Configuring
from dnms.agents.node.confirming import Confirming
from dnms.agents.node.connecting import Connecting, Connection, in_order
from dnms.agents.node.linux import LinuxMachine, Trust
from dnms.agents.node.machine import Hearing, Machine
from dnms.agents.node.search import Search
from dnms.agents.pump import Pump
from dnms.disk.node_state import Identity, NodeStateDirectory, NodeStateError
from dnms.domain.identity import iaid_of
from dnms.events.configuration import Snapshot
from dnms.kit.clock import MICROSECONDS
from dnms.kit.errors import leaves, one_line
from dnms.linux.capability import may_configure
from dnms.linux.changes import AddressChanged, LinkChanged, Resync, RouteChanged
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.linux.netlink import Netlink
from dnms.wire import node_events as heard
from dnms.wire.channel import Closed
from dnms.wire.discovery import FIRST_WITHIN, Candidate
from dnms.wire.errors import Code
from dnms.wire.messages import Association, PrefixAssociation
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import NodeState, Unconfigured

STEADY = 10.0  # seconds; who lost a session sooner waits before it searches again, ever longer
FIRST_PAUSE = 0.25  # seconds
LONGEST_PAUSE = 30.0
SLEPT = 1.0  # seconds; less than that is no sleep of the machine
LEAVE_WITHIN = 1.0  # seconds for a last word to the agent
DOUBT_AGAIN = 2.0  # seconds: whoever can send Router Advertisements makes the node ask its agent no more often
COALESCE = 0.2  # seconds in which changes of the kernel become one observation

T = TypeVar("T")

_logger = structlog.get_logger(__name__)


class NodeAgentError(Exception):
    """The agent cannot run here; one line that says what to do."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a Node Agent is told at its start."""

    interface: str
    state: Path
    root_certificate: Path
    name: str = ""  # empty: the machine's host name
    resolv_conf: Path = Path("/etc/resolv.conf")
    prefix: int | None = None  # a prefix is wanted, of this length; 0: of any
    root: Path = Path("/")  # of the file system that other managers of interfaces are configured in


async def run(settings: NodeSettings, *, stop: asyncio.Event) -> None:
    """Live until `stop` is set; the node keeps its configuration then. NodeAgentError if it cannot run here."""
    if not may_configure():
        raise NodeAgentError("not allowed to configure interfaces: run it as root, or give it CAP_NET_ADMIN")
    try:
        trust = Trust(settings.interface, settings.root_certificate)
    except (OSError, ssl.SSLError) as error:
        raise NodeAgentError(
            f"cannot read the site's root certificate {settings.root_certificate} ({error}): "
            "copy root.pem from the site's directory"
        ) from error
    try:
        directory = NodeStateDirectory(settings.state)
        with directory.own(settings.interface):
            await _live(settings, directory, trust, stop)
    except* (KernelError, NodeStateError) as errors:
        raise NodeAgentError(one_line(errors)) from errors


async def _live(settings: NodeSettings, directory: NodeStateDirectory, trust: Trust, stop: asyncio.Event) -> None:
    async with Netlink() as netlink:
        machine = LinuxMachine(
            netlink,
            settings.interface,
            trust,
            state=settings.state,
            resolv_conf=settings.resolv_conf,
            root=settings.root,
        )
        agent = NodeAgent(machine, directory, name=settings.name or socket.gethostname(), prefix=settings.prefix)
        await agent.live_until(stop)


class NodeAgent:
    """One interface of one node."""

    def __init__(
        self, machine: Machine, directory: NodeStateDirectory, *, name: str, prefix: int | None = None
    ) -> None:
        """`prefix`: the length of a prefix that it asks for (RFC 8415, 6.3), 0: any; None: it wants none."""
        self._machine = machine
        self._directory = directory
        self._connecting = Connecting(machine.connect)
        self._name = name
        self._prefix = prefix
        self._application = Application(machine)
        self._state = NodeState()
        self._configuring = Configuring(
            self._application,
            Confirming(machine, directory),
            self._state,
            directory,
            machine.interface,
            now=machine.time,
        )
        self._session: NodeSession | None = None
        self._pump: Pump[heard.NodeEvent] | None = None
        self._unsteady = 0  # sessions in a row that did not last
        self._drawn = False  # the kernel has drawn for how long this node waits
        self._moved = False  # the link may be another one since agents were found on it
        self._patience: asyncio.Timeout | None = None  # of what there is no use in on another link
        self._doubted = asyncio.Event()  # that the agent of the session is on this link
        self._asleep = machine.asleep()
        self._alone = asyncio.Event()  # no session is held
        self._alone.set()

    async def live_until(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the agent of its session is told then. KernelError, NodeStateError."""
        living = asyncio.create_task(self.live())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((living, stopping), return_when=asyncio.FIRST_COMPLETED)
            await self.leave()
        finally:
            stopping.cancel()
            living.cancel()
            await asyncio.wait((living,))
        if not living.cancelled():
            living.result()

    async def live(self) -> None:
        """Until cancelled. KernelError, NodeStateError. An interface that goes is waited for; one that is not there at
        the start is a mistake.
        """
        await self._configuring.recover()
        await self._ready()
        identity = self._identity(await self._application.snapshot())
        self._connecting.seen = await self._configuring.restore()
        while True:
            try:
                await self._live_on_link(identity)
            except (KernelError, BaseExceptionGroup) as error:
                task = asyncio.current_task()
                if not _is_gone(error) or (task is not None and task.cancelling()):
                    raise
            _logger.warning("interface gone", interface=self._machine.interface)
            await self._until_there()

    async def _ready(self) -> None:
        """Wait for fe80::, for which the kernel draws as long as a second (RFC 4862, 5.4.2). KernelError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._machine.ready()
        self._drawn |= loop.time() - began > FIRST_WITHIN

    async def _live_on_link(self, identity: Identity) -> None:
        link = await self._machine.link()
        search = Search(self._machine, link.index, duid=identity.duid)
        routers = self._hear_routers(link.index)
        self._doubted.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(link.index, search))
                tasks.create_task(self._expire(search))
                tasks.create_task(self._verify())
                tasks.create_task(self._configuring.watch())
                while True:
                    await self._ready()
                    search.is_spread, self._drawn = self._drawn, False
                    self._configuring.look_soon()
                    await self._try(await search.candidates(), identity, search)
        finally:
            if routers is not None:
                routers.close()
            await self._configuring.stop()

    def _hear_routers(self, interface: int) -> Hearing | None:
        """What routers advertise is told, but is not needed to live."""
        try:
            return self._machine.hear_routers(interface, self._configuring.look_soon, self._doubted.set)
        except KernelError as error:
            _logger.warning("Router Advertisements are not heard", reason=str(error))
            return None

    async def _until_there(self) -> None:
        with self._machine.changes() as changes:
            while True:
                try:
                    await self._machine.link()
                    return
                except KernelError as error:
                    if not _is_gone(error):
                        raise
                await anext(changes)

    async def leave(self) -> None:
        """Take leave of the agent, so that it need not wonder; the node keeps what it has."""
        if self._session is not None and self._pump is not None:
            self._session.leave(asyncio.get_running_loop().time())
            self._pump.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN):
                await self._alone.wait()

    def _identity(self, snapshot: Snapshot) -> Identity:
        hardware = {link.hardware.text for link in snapshot.links if link.hardware is not None}
        return self._directory.identity(
            machine=self._machine.smbios_uuid(), hardware=tuple(sorted(hardware)), draw=self._machine.chance.randbytes
        )

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def _try(self, candidates: tuple[Candidate[Peer], ...], identity: Identity, search: Search) -> None:
        """Hold a session with the first candidate that takes us, until it ends."""
        loop = asyncio.get_running_loop()
        attempts = in_order(candidates)
        welcomed = self._moved = False
        while (connection := await self._unless_moved(self._connecting.first(attempts))) is not None:
            began = loop.time()
            try:
                welcomed |= await self._hold(connection, identity)
            except (KernelError, NodeStateError, OSError, ValueError) as error:
                _logger.error("session given up", reason=str(error))
            if self._moved or loop.time() - began >= STEADY:
                self._unsteady = 0
                search.begin_anew()
                return
            # It would not have us, or did not last: there is no use in trying the same agent elsewhere.
            tried = connection.attempt.candidate
            attempts = deque(each for each in attempts if each.candidate is not tried)
        if welcomed and not self._moved:  # else the search itself becomes slower
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._unsteady)
            self._unsteady = min(self._unsteady + 1, 16)
            await self._unless_moved(asyncio.sleep(pause * self._machine.chance.uniform(0.5, 1.0)))
            search.begin_anew()

    async def _unless_moved(self, work: Awaitable[T]) -> T | None:
        """What comes of it; None as soon as the link may be another one."""
        try:
            async with asyncio.timeout(None) as self._patience:
                return await work
        except TimeoutError:
            return None
        finally:
            self._patience = None

    async def _hold(self, connection: Connection, identity: Identity) -> bool:
        """One session, until it ends; whether the agent had welcomed us."""
        loop = asyncio.get_running_loop()
        iaid = iaid_of(self._machine.interface)
        session = NodeSession(
            self._state,
            duid=identity.duid,
            name=self._name,
            interface=self._machine.interface,
            associations=(Association(iaid=iaid, family=6), Association(iaid=iaid, family=4)),
            prefixes=() if self._prefix is None else (PrefixAssociation(iaid=iaid, length=self._prefix),),
            now=loop.time(),
        )
        pump: Pump[heard.NodeEvent] = Pump(session, connection.reader, connection.writer)
        self._session, self._pump = session, pump
        self._configuring.attend(session, pump)
        self._alone.clear()
        try:
            async with aclosing(pump.events()) as events:
                async for event in events:
                    if isinstance(event, heard.Welcomed) and not self._is_valid(connection, event.welcome.time):
                        session.leave(loop.time())
                    else:
                        await self._handle(event, session)
        finally:
            self._session = self._pump = None
            self._configuring.attend(None, None)
            self._alone.set()
        return session.welcome is not None

    def _is_valid(self, connection: Connection, time: int) -> bool:
        """Whether the agent's certificate is valid by the agent's own time: ours may never have been set."""
        if connection.validity.covers(time / MICROSECONDS):
            self._connecting.seen = max(self._connecting.seen, time / MICROSECONDS)
            return True
        agent = connection.attempt.candidate.offer.agent
        _logger.error("the agent's certificate is not valid at the agent's own time", agent=agent)
        return False

    async def _handle(self, event: heard.NodeEvent, session: NodeSession) -> None:
        match event:
            case heard.Welcomed(welcome=welcome):
                _logger.info("session opened", agent=welcome.agent, site=welcome.site, subnet=welcome.subnet)
                if welcome.outage:
                    _logger.warning("the agent cannot reach the log", agent=welcome.agent)
                await self._configuring.register(session)
            case heard.Assigned():
                if event.outage:
                    _logger.warning("assigned while the agent cannot reach the log")
                if event.refused:
                    _logger.warning("not everything was assigned", refused=event.refused)
                self._configuring.assigned(event, session)
            case heard.Extended():
                self._configuring.extended(event, session)
            case heard.Refused():
                _logger.warning("refused", exchange=event.exchange, code=event.code, text=event.text)
            case heard.Answered():
                self._configuring.answered()
            case Unconfigured():
                self._configuring.unconfigured(event.why)
            case Closed():
                _logger.info("session closed", why=event.why, said=event.said, text=event.text)
                if event.why == Code.DEAD_PEER and self._pump is not None:
                    self._pump.abort()

    # -- what happens without a session ------------------------------------------------------------------------------

    async def _expire(self, search: Search) -> None:
        """What is held expires whether there is a session or not; a session sees to it itself.

        The machine's sleep counts, though neither the kernel nor the event loop's clock counts it.
        """
        fingerprint = self._machine.fingerprint()
        while True:
            deadline = self._state.deadline()
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(1.0 if deadline is None else min(1.0, max(0.01, deadline - now)))
            if (found := self._machine.fingerprint()) != fingerprint:
                fingerprint = found
                self._configuring.look_soon()
            if (slept := self._machine.asleep() - self._asleep) > SLEPT:
                self._asleep += slept
                _logger.info("this machine slept", seconds=round(slept))
                self._state.skip(slept)
                self._link_came_back(search)
            if self._session is None:
                self._state.tick(asyncio.get_running_loop().time())
                for event in self._state.events():
                    self._configuring.unconfigured(event.why)

    async def _watch(self, interface: int, search: Search) -> None:
        """See to what changes; a link that came back may be another one. KernelError `no-interface` when it is gone."""
        loop = asyncio.get_running_loop()
        pending: asyncio.TimerHandle | None = None
        try:
            with self._machine.changes() as changes:
                flaps = await self._machine.carrier_changes()
                async for change in changes:
                    now = flaps
                    if isinstance(change, LinkChanged) and change.link.index == interface:
                        if change.gone:  # said of a port too that only left its bridge
                            await self._check_there(interface)
                        elif change.link.carrier:
                            now = change.carrier_changes
                    if isinstance(change, Resync):
                        await self._check_there(interface)
                        now = await self._machine.carrier_changes()
                    if now != flaps:
                        flaps = now
                        await self._forget_neighbours()
                        self._link_came_back(search)
                    if isinstance(change, AddressChanged | RouteChanged | LinkChanged | Resync) and (
                        pending is None or pending.when() <= loop.time()
                    ):
                        pending = loop.call_later(COALESCE, self._configuring.look_soon)
        finally:
            if pending is not None:
                pending.cancel()

    async def _forget_neighbours(self) -> None:
        """The kernel does so too, but not where a carrier went and came at once, or where nothing of it was seen."""
        try:
            await self._machine.forget_neighbours()
        except KernelError as error:
            _logger.info("neighbours not forgotten", reason=str(error))

    async def _check_there(self, interface: int) -> None:
        """KernelError `no-interface` if it is gone, or another one has its name."""
        if (await self._machine.link()).index != interface:
            raise KernelError("no-interface", f"{self._machine.interface} is another interface now")

    def _link_came_back(self, search: Search) -> None:
        now = asyncio.get_running_loop().time()
        self._moved = True  # if a session ends by that, it is not for being unsteady
        if self._session is not None and self._pump is not None:
            self._session.link_came_back(now)
            self._pump.wake()
            self._doubted.set()
            return
        if self._patience is not None:
            self._patience.reschedule(now)
            self._patience = None  # it ends but once
        search.begin_anew()

    async def _verify(self) -> None:
        """Until cancelled: where the link may be another one, the agent of the session answers, or is searched anew.

        Else a request to an agent that is on another link would be waited for as long as to one that is busy.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            again, session, pump = loop.time() + DOUBT_AGAIN, self._session, self._pump
            if session is None or pump is None:
                continue
            if not await self._configuring.session_answers() and session is self._session:
                _logger.warning("the agent does not answer on this link")
                self._moved = True
                await self._forget_neighbours()
                pump.abort()
            await asyncio.sleep(max(0.0, again - loop.time()))


def _is_gone(error: BaseException) -> bool:
    """Whether all that went wrong is that the interface is not there."""
    causes = leaves(error) if isinstance(error, BaseExceptionGroup) else iter((error,))
    return all(isinstance(each, KernelError) and each.why == "no-interface" for each in causes)
