"""The life of a Node Agent on one interface.

It looks for agents for ever, keeps one session with one of them, and goes back to looking when that ends. What it was
assigned outlives the session, and a restart: only its own end, or an agent's word, takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
import socket
import ssl
import time
from collections import deque
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec
import structlog

from dnms.agents.node.application import Application, held_now, remaining, without_lifetimes
from dnms.agents.node.connecting import Connecting, Connection, in_order
from dnms.agents.node.identity import iaid_of, machine
from dnms.agents.node.search import Search
from dnms.agents.node.work import Pace, Work
from dnms.agents.pump import Pump
from dnms.disk.node_state import Identity, Kept, NodeStateDirectory, NodeStateError
from dnms.events.configuration import Assignment, Snapshot
from dnms.events.ip import format_address
from dnms.events.seen import AppliedItem
from dnms.kit.clock import MICROSECONDS
from dnms.kit.errors import leaves, one_line
from dnms.linux.changes import AddressChanged, LinkChanged, Resync, RouteChanged
from dnms.linux.dad import link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.linux.netlink import Netlink
from dnms.wire import node_events as heard
from dnms.wire.channel import Closed
from dnms.wire.discovery import Candidate
from dnms.wire.errors import Code
from dnms.wire.exchanges import Exchange
from dnms.wire.messages import FOREVER, Association
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import USABLE, NodeState, Unconfigured

STEADY = 10.0  # seconds; who lost a session sooner waits before it searches again, ever longer
FIRST_PAUSE = 0.25  # seconds
LONGEST_PAUSE = 30.0
SLEPT = 1.0  # seconds; less than that is no sleep of the machine
LEAVE_WITHIN = 1.0  # seconds for a last word to the agent
COALESCE = 0.2  # seconds in which changes of the kernel become one observation
LOOK_AGAIN = 30.0  # seconds

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


async def run(settings: NodeSettings, *, stop: asyncio.Event) -> None:
    """Live until `stop` is set; the node keeps its configuration then. NodeAgentError if it cannot run here."""
    try:
        connecting = Connecting(settings.interface, settings.root_certificate)
    except (OSError, ssl.SSLError) as error:
        raise NodeAgentError(
            f"cannot read the site's root certificate {settings.root_certificate} ({error}): "
            "copy root.pem from the site's directory"
        ) from error
    try:
        directory = NodeStateDirectory(settings.state)
        async with Netlink() as netlink:
            agent = NodeAgent(settings, directory, netlink, connecting)
            living = asyncio.create_task(agent.live())
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((living, stopping), return_when=asyncio.FIRST_COMPLETED)
                await agent.leave()
            finally:
                stopping.cancel()
                living.cancel()
                await asyncio.wait((living,))
            if not living.cancelled():
                living.result()
    except* (KernelError, NodeStateError) as errors:
        raise NodeAgentError(one_line(errors)) from errors


class NodeAgent:
    """One interface of one node."""

    def __init__(
        self, settings: NodeSettings, directory: NodeStateDirectory, netlink: Netlink, connecting: Connecting
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._netlink = netlink
        self._connecting = connecting
        self._name = settings.name or socket.gethostname()
        self._application = Application(
            netlink, settings.interface, state=settings.state, resolv_conf=settings.resolv_conf
        )
        self._state = NodeState()
        self._session: NodeSession | None = None
        self._pump: Pump[heard.NodeEvent] | None = None
        self._work = Work()
        self._pace = Pace()
        self._unsteady = 0  # sessions in a row that did not last
        self._later: asyncio.TimerHandle | None = None  # a repair that has to wait
        self._observed: Snapshot | None = None
        self._alone = asyncio.Event()  # no session is held
        self._alone.set()

    async def live(self) -> None:
        """Until cancelled. KernelError, NodeStateError. An interface that goes is waited for; one that is not there at
        the start is a mistake.
        """
        await link_local_ready(self._netlink, self._settings.interface)
        identity = self._identity(await self._application.snapshot())
        await self._restore()
        while True:
            try:
                await self._live_on_link(identity)
            except (KernelError, BaseExceptionGroup) as error:
                if not _is_gone(error):
                    raise
            _logger.warning("interface gone", interface=self._settings.interface)
            await self._until_there()

    async def _live_on_link(self, identity: Identity) -> None:
        link = await self._netlink.link(self._settings.interface)
        search = Search(link.index, duid=identity.duid)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(link.index, search))
                tasks.create_task(self._expire(search))
                tasks.create_task(self._look_now_and_then())
                tasks.create_task(self._work.watch())
                while True:
                    await link_local_ready(self._netlink, self._settings.interface)
                    self._look_soon()
                    await self._try(await search.candidates(), identity, search)
        finally:
            if self._later is not None:
                self._later.cancel()
            await self._work.stop()

    async def _until_there(self) -> None:
        with self._netlink.changes() as changes:
            while True:
                try:
                    await self._netlink.link(self._settings.interface)
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
        return self._directory.identity(machine=machine(), hardware=tuple(sorted(hardware)), draw=secrets.token_bytes)

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def _try(self, candidates: tuple[Candidate[Peer], ...], identity: Identity, search: Search) -> None:
        """Hold a session with the first candidate that takes us, until it ends."""
        loop = asyncio.get_running_loop()
        attempts = in_order(candidates)
        welcomed = False
        while (connection := await self._connecting.first(attempts)) is not None:
            began = loop.time()
            try:
                welcomed |= await self._hold(connection, identity)
            except (KernelError, NodeStateError, OSError, ValueError) as error:
                _logger.error("session given up", reason=str(error))
            if loop.time() - began >= STEADY:
                self._unsteady = 0
                search.begin_anew()
                return
            # It would not have us, or did not last: there is no use in trying the same agent elsewhere.
            tried = connection.attempt.candidate
            attempts = deque(each for each in attempts if each.candidate is not tried)
        if welcomed:  # else the search itself becomes slower
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._unsteady)
            self._unsteady = min(self._unsteady + 1, 16)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            search.begin_anew()

    async def _hold(self, connection: Connection, identity: Identity) -> bool:
        """One session, until it ends; whether the agent had welcomed us."""
        loop = asyncio.get_running_loop()
        iaid = iaid_of(self._settings.interface)
        session = NodeSession(
            self._state,
            duid=identity.duid,
            name=self._name,
            interface=self._settings.interface,
            associations=(Association(iaid=iaid, family=6), Association(iaid=iaid, family=4)),
            now=loop.time(),
        )
        pump: Pump[heard.NodeEvent] = Pump(session, connection.reader, connection.writer)
        self._session, self._pump = session, pump
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
        loop = asyncio.get_running_loop()
        match event:
            case heard.Welcomed(welcome=welcome):
                _logger.info("session opened", agent=welcome.agent, site=welcome.site, subnet=welcome.subnet)
                self._observed = await self._application.snapshot()
                session.register(self._observed, loop.time())
            case heard.Assigned():
                if event.refused:
                    _logger.warning("not everything was assigned", **event.refused)
                self._work.begin(partial(self._apply, event.assignment, event.began, session))
            case heard.Extended():
                if (assignment := _extended(self._state.assignment, event)) is not None:
                    # The outcome of an assignment that this cuts short is still to be told.
                    owed = session if session.exchange is Exchange.APPLYING else None
                    self._work.begin(partial(self._apply, assignment, event.began, owed))
            case heard.Refused():
                _logger.warning("refused", exchange=event.exchange, code=event.code, text=event.text)
            case Unconfigured():
                self._work.begin(partial(self._strip, event.why), whole=True)
            case Closed():
                _logger.info("session closed", why=event.why, said=event.said, text=event.text)

    # -- the kernel --------------------------------------------------------------------------------------------------

    async def _apply(self, assignment: Assignment, began: float, session: NodeSession | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            items = await self._application.apply(assignment, elapsed=loop.time() - began)
        except (KernelError, OSError) as error:
            _logger.error("assignment not applied", reason=str(error))
            items = tuple(AppliedItem(address=each.address, outcome="refused") for each in assignment.addresses)
        usable = tuple(item.address for item in items if item.outcome == USABLE)
        duplicates = tuple(item.address for item in items if item.outcome == "duplicate")
        _logger.info(
            "assignment applied",
            addresses=[format_address(address) for address in usable],
            duplicates=[format_address(address) for address in duplicates],
        )
        if session is not None:
            session.applied(assignment.generation, items, loop.time())
            if duplicates:
                session.declined(duplicates, loop.time())
            if self._pump is not None:
                self._pump.wake()
        self._keep(assignment, began, usable)
        await self._observe()

    def _keep(self, assignment: Assignment, began: float, usable: tuple[bytes, ...]) -> None:
        state, now = self._state, asyncio.get_running_loop().time()
        if state.link is None or state.assignment is None or not usable:
            return
        if state.assignment.generation != assignment.generation:
            return  # there is a newer one already
        site, subnet = state.link
        kept = Kept(
            assignment=assignment,
            site=site,
            subnet=subnet,
            usable=usable,
            since=int((time.time() - (now - began)) * MICROSECONDS),
            renew_after=_whole(state.renew_at - began),
            rebind_after=_whole(state.rebind_at - began),
        )
        try:
            self._directory.keep(self._settings.interface, kept)
        except NodeStateError as error:
            _logger.error("assignment not kept for a restart", reason=str(error))

    async def _restore(self) -> None:
        """After a restart: what was kept and is not over is applied again; the next session confirms it.

        What cannot be read or applied is no reason not to live: an agent will assign anew.
        """
        try:
            kept = self._directory.kept(self._settings.interface)
            if kept is not None:
                self._connecting.seen = kept.since / MICROSECONDS
                await self._apply_kept(kept)
        except (KernelError, NodeStateError, OSError) as error:
            _logger.error("not restored", reason=str(error))

    async def _apply_kept(self, kept: Kept) -> None:
        now = asyncio.get_running_loop().time()
        elapsed = time.time() - kept.since / MICROSECONDS
        if elapsed < 0:
            _logger.warning("the clock is not set: only permanent addresses are applied again")
            elapsed = float(1 << 32)
        assignment = remaining(kept.assignment, elapsed)
        if not assignment.addresses:
            return
        items = await self._application.apply(assignment, elapsed=0)
        usable = {item.address for item in items if item.outcome == USABLE}
        self._state.restore(
            kept.assignment,
            link=(kept.site, kept.subnet),
            until={
                address.address: math.inf if address.permanent else now + address.valid
                for address in assignment.addresses
                if address.address in usable
            },
            renew_at=now - elapsed + kept.renew_after,
            rebind_at=now - elapsed + kept.rebind_after,
        )
        self._state.declined(item.address for item in items if item.outcome == "duplicate")

    async def _strip(self, why: Code) -> None:
        _logger.warning("not configured any more", why=why)
        assigned = self._state.assignment.addresses if why is Code.EXPIRED and self._state.assignment else ()
        await self._application.strip(keep={each.address for each in assigned if each.permanent})
        try:
            self._directory.forget(self._settings.interface)
        except NodeStateError as error:
            _logger.error("assignment not forgotten", reason=str(error))
        await self._observe()

    async def _expire(self, search: Search) -> None:
        """What is held expires whether there is a session or not; a session sees to it itself.

        The machine's sleep counts, though neither the kernel nor the event loop's clock counts it.
        """
        asleep = _asleep()
        while True:
            deadline = self._state.deadline()
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(1.0 if deadline is None else min(1.0, max(0.01, deadline - now)))
            if (slept := _asleep() - asleep) > SLEPT:
                asleep += slept
                _logger.info("this machine slept", seconds=round(slept))
                self._state.skip(slept)
                self._link_came_back(search)
            if self._session is None:
                self._state.tick(asyncio.get_running_loop().time())
                for event in self._state.events():
                    self._work.begin(partial(self._strip, event.why), whole=True)

    async def _watch(self, interface: int, search: Search) -> None:
        """See to what changes; a link that came back may be another one. KernelError `no-interface` when it is gone."""
        carrier = True
        loop = asyncio.get_running_loop()
        pending: asyncio.TimerHandle | None = None
        try:
            with self._netlink.changes() as changes:
                async for change in changes:
                    if isinstance(change, LinkChanged) and change.link.index == interface:
                        if change.gone:
                            raise KernelError("no-interface", f"{self._settings.interface} is gone")
                        if change.link.carrier and not carrier:
                            self._link_came_back(search)
                        carrier = change.link.carrier
                    if isinstance(change, Resync):
                        await self._netlink.link(self._settings.interface)  # that it is gone may be among what was lost
                    if isinstance(change, AddressChanged | RouteChanged | LinkChanged | Resync) and (
                        pending is None or pending.when() <= loop.time()
                    ):
                        pending = loop.call_later(COALESCE, self._look_soon)
        finally:
            if pending is not None:
                pending.cancel()

    def _link_came_back(self, search: Search) -> None:
        if self._session is not None and self._pump is not None:
            self._session.link_came_back(asyncio.get_running_loop().time())
            self._pump.wake()
        else:
            search.begin_anew()

    async def _look_now_and_then(self) -> None:
        """Not everything is told: files change, notifications get lost, and some repairs have to wait."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            self._look_soon()

    def _look_soon(self) -> None:
        if self._work.idle:  # what is being done tells at its end what became of it
            self._work.begin(self._look)

    async def _look(self) -> None:
        await self._repair()
        await self._observe()

    async def _repair(self) -> None:
        """Apply again what the node should have and the kernel lost: with a link that went down, by another program."""
        now = asyncio.get_running_loop().time()
        wanted = held_now(self._state, now)
        if wanted is None:
            return
        if not await self._application.lacks(wanted):
            self._pace.sound(now)
            return
        if wait := self._pace.wait(now):
            if self._later is None or self._later.when() <= now:
                self._later = asyncio.get_running_loop().call_later(wait, self._look_soon)
            return
        _logger.warning("configuration lost; it is applied again")
        self._pace.repaired(now)
        items = await self._application.apply(wanted, elapsed=0)
        # What was refused is tried again; what another took meanwhile is not the node's any more.
        duplicates = tuple(item.address for item in items if item.outcome == "duplicate")
        if duplicates and self._session is not None:
            self._session.declined(duplicates, asyncio.get_running_loop().time())
        elif duplicates:
            self._state.declined(duplicates)

    async def _observe(self) -> None:
        """Tell the agent what the node has, where it has changed since it was told last."""
        if self._session is None or self._pump is None or self._observed is None:
            return
        snapshot = await self._application.snapshot()
        if without_lifetimes(snapshot) != without_lifetimes(self._observed) and self._session is not None:
            self._observed = snapshot
            self._session.observe(snapshot, asyncio.get_running_loop().time())
        if self._pump is not None:
            self._pump.wake()


def _is_gone(error: BaseException) -> bool:
    """Whether all that went wrong is that the interface is not there."""
    causes = leaves(error) if isinstance(error, BaseExceptionGroup) else iter((error,))
    return all(isinstance(each, KernelError) and each.why == "no-interface" for each in causes)


def _asleep() -> float:
    """Seconds that this machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _extended(assignment: Assignment | None, extended: heard.Extended) -> Assignment | None:
    """The assignment with its lifetimes begun anew."""
    if assignment is None:
        return None
    addresses = tuple(
        address
        if address.permanent
        else msgspec.structs.replace(address, preferred=extended.preferred, valid=extended.valid)
        for address in assignment.addresses
    )
    return msgspec.structs.replace(assignment, addresses=addresses)


def _whole(seconds: float) -> int:
    return FOREVER if math.isinf(seconds) else max(1, int(seconds))
