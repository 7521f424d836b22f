"""Takes DNMS off an interface, and tells an agent that the node has no use any more for what it was given."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from contextlib import aclosing

import structlog

from dnms.agents.node.agent import NodeAgentError, NodeSettings
from dnms.agents.node.application import Application
from dnms.agents.node.connecting import Connecting, Connection, in_order
from dnms.agents.node.linux import LinuxMachine, Trust
from dnms.agents.node.machine import Machine
from dnms.agents.node.search import Search
from dnms.agents.pump import Pump
from dnms.disk.node_state import Kept, NodeStateDirectory, NodeStateError
from dnms.events.configuration import Snapshot
from dnms.kit.clock import MICROSECONDS
from dnms.linux.capability import may_configure
from dnms.linux.errors import KernelError
from dnms.linux.give_back import give_back as undo
from dnms.linux.netlink import Netlink
from dnms.wire import node_events as heard
from dnms.wire.channel import Closed
from dnms.wire.errors import Code
from dnms.wire.messages import PrefixAssociation
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import NodeState, Unconfigured

RELEASE_WITHIN = 5.0
"""Seconds to find an agent and to have the end of the leases in the log. Who is on another link, or has no agent any
more, waits so long for nothing.
"""

_logger = structlog.get_logger(__name__)


async def give_back(settings: NodeSettings) -> None:
    """Take DNMS off the interface: what it set goes, what was there before comes again, and the leases are released
    where an agent answers. NodeAgentError if it cannot, or if an agent runs on the interface.
    """
    if not may_configure():
        raise NodeAgentError("not allowed to configure interfaces: run it as root, or give it CAP_NET_ADMIN")
    try:
        directory = NodeStateDirectory(settings.state)
        with directory.own(settings.interface):
            async with Netlink() as netlink:
                await undo(
                    netlink,
                    interface=settings.interface,
                    state=settings.state,
                    resolv_conf=settings.resolv_conf,
                    root=settings.root,
                )
                kept = _kept(directory, settings.interface)
                directory.delegate(settings.interface, None)
                directory.forget(settings.interface)  # or the next start would apply it again
                _logger.info("given back", interface=settings.interface)
                if kept is not None and (kept.usable or kept.assignment.prefixes):
                    # Only now: what is released must not be used any more (RFC 8415, 18.2.7).
                    await _release(settings, directory, netlink, kept)
    except (KernelError, NodeStateError, OSError) as error:
        raise NodeAgentError(str(error)) from error


def _kept(directory: NodeStateDirectory, interface: str) -> Kept | None:
    try:
        return directory.kept(interface)
    except NodeStateError as error:
        _logger.warning("nobody knows which leases it had", reason=str(error))
        return None


async def _release(settings: NodeSettings, directory: NodeStateDirectory, netlink: Netlink, kept: Kept) -> None:
    why = f"no agent has taken them back within {RELEASE_WITHIN:.0f} s"
    try:
        trust = Trust(settings.interface, settings.root_certificate)
        machine = LinuxMachine(
            netlink, settings.interface, trust, state=settings.state, resolv_conf=settings.resolv_conf
        )
        async with asyncio.timeout(RELEASE_WITHIN):
            await Releasing(machine, directory, kept, name=settings.name or socket.gethostname()).run()
            return
    except TimeoutError:
        pass
    except (KernelError, NodeStateError, OSError, ssl.SSLError, ValueError) as error:
        why = str(error)
    _logger.warning("the log has its leases until they end", reason=why)


class Releasing:
    """Finds an agent, and releases what was kept."""

    def __init__(self, machine: Machine, directory: NodeStateDirectory, kept: Kept, *, name: str) -> None:
        self._machine = machine
        self._directory = directory
        self._kept = kept
        self._name = name

    async def run(self) -> None:
        """Until an agent has taken it back. KernelError, NodeStateError; ValueError if the node has too much to tell
        of.
        """
        machine = self._machine
        await machine.ready()
        snapshot = await Application(machine).snapshot()
        hardware = {link.hardware.text for link in snapshot.links if link.hardware is not None}
        duid = self._directory.identity(
            machine=machine.smbios_uuid(), hardware=tuple(sorted(hardware)), draw=machine.chance.randbytes
        ).duid
        search = Search(machine, (await machine.link()).index, duid=duid)
        connecting = Connecting(machine.connect)
        connecting.seen = self._kept.since / MICROSECONDS
        while True:
            attempts = in_order(await search.candidates())
            while (connection := await connecting.first(attempts)) is not None:
                if await self._is_taken_back(connection, duid, snapshot):
                    return

    async def _is_taken_back(self, connection: Connection, duid: bytes, snapshot: Snapshot) -> bool:
        """One session. The agent confirms what is held, and what it assigns by that is released."""
        loop, agent = asyncio.get_running_loop(), connection.attempt.candidate.offer.agent
        session = NodeSession(
            self._held(),
            duid=duid,
            name=self._name,
            interface=self._machine.interface,
            associations=(),
            prefixes=tuple(
                PrefixAssociation(iaid=iaid) for iaid in {each.iaid for each in self._kept.assignment.prefixes}
            ),
            now=loop.time(),
        )
        pump: Pump[heard.NodeEvent] = Pump(session, connection.reader, connection.writer)
        released = False
        async with aclosing(pump.events()) as events:
            async for event in events:
                match event:
                    case heard.Welcomed(welcome=welcome):
                        if connection.validity.covers(welcome.time / MICROSECONDS):
                            session.register(snapshot, loop.time())
                        else:
                            _logger.error("the agent's certificate is not valid at the agent's own time", agent=agent)
                            session.leave(loop.time())
                    case heard.Assigned() | heard.Extended() if not released:
                        released = True
                        session.release(loop.time())
                    case heard.Refused() | Unconfigured() if not released:
                        session.leave(loop.time())
                    case Closed(said=Code.RELEASED):
                        _logger.info("leases released", agent=agent)
                        return True
                    case Closed():
                        _logger.info("leases not released", agent=agent, why=event.why, said=event.said)
        return False

    def _held(self) -> NodeState:
        kept, state = self._kept, NodeState()
        state.restore(
            kept.assignment,
            link=(kept.site, kept.subnet),
            until=dict.fromkeys(kept.usable, math.inf),
            renew_at=math.inf,
            rebind_at=math.inf,
        )
        return state
