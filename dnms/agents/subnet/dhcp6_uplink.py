"""An upstream by DHCPv6: the requesting router of `wire.dhcp6` on an interface of this machine (RFC 8415, RFC 9096).

What it was delegated is on the disk before anybody hears of it, and is what it has after a restart, until a server says
otherwise: it asks at once. It gives nothing back when it ends, unless `release` is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import SystemRandom

import structlog

from dnms.agents.subnet.upstream import Received
from dnms.bus.clock import since_boot
from dnms.disk.dhcp6_state import Dhcp6State, Dhcp6StateFile
from dnms.domain.identity import iaid_of
from dnms.events.ip import is_link_local, parse_address
from dnms.events.requests import UplinkPrefix
from dnms.events.uplink import Source
from dnms.kit.clock import MICROSECONDS
from dnms.linux import multicast
from dnms.linux.changes import LinkChanged, Resync
from dnms.linux.dad import link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader, Peer
from dnms.linux.netlink import Netlink
from dnms.wire.dhcp6.client import Client, Delegated, Ended, Refused
from dnms.wire.dhcp6.codes import ALL_SERVERS_AND_RELAYS, CLIENT_PORT, SERVER_PORT
from dnms.wire.dhcp6.exchanges import Exchange
from dnms.wire.dhcp6.held import Held
from dnms.wire.discovery import Chance
from dnms.wire.errors import PeerError

AGAIN = 1.0  # seconds until it is looked again for an interface that is not there
LOOK = 30.0  # seconds after which the time is looked at, at the latest: the event loop's stands while a machine sleeps
QUIET = 60.0  # seconds between two lines about what servers refuse: anybody on the link can be one
TEXT = 200  # characters of what one says to that

_logger = structlog.get_logger(__name__)


class Dhcp6Uplink:
    """The upstream of one interface. It is an `upstream.Upstream`."""

    def __init__(
        self,
        interface: str,
        *,
        state: Path,
        now: Callable[[], int],
        length: int = 0,
        chance: Chance | None = None,
    ) -> None:
        """Its state is kept in the directory `state`, `length` is the hint. `now` is wall time in microseconds.

        Dhcp6StateError if the state cannot be read, or a first one not be written.
        """
        self.changed = asyncio.Event()
        self.dropped: Counter[str] = Counter()
        """What was not believed, by a stable word."""
        self._interface = interface
        self._now = now
        self._length = length
        self._chance = chance or SystemRandom()
        self._file = Dhcp6StateFile(state, interface)
        self._state = self._file.read(draw=secrets.token_bytes)
        self._told: dict[Held, UplinkPrefix] = {}  # as it was reported: an instant is worked out once
        self._why = "cut"  # of what was kept and is over the ledger knows itself that it expired
        self._client: Client | None = None
        self._woken = asyncio.Event()
        self._gone = False  # the interface
        self._quiet_until = 0.0
        if self._state.server:
            self.changed.set()

    def current(self) -> Received | None:
        """What is held now; None before a server has ever answered."""
        if not self._state.server:
            return None
        source = Source(name=f"dhcpv6 {self._state.server.hex(':')}")
        now = max(self._now(), self._state.told)
        prefixes = tuple(each for each in self._state.prefixes if each.valid_until > now)
        return Received(prefixes=prefixes, source=source, why=self._why)

    async def run(self) -> None:
        """Ask and renew, until cancelled. KernelError, Dhcp6StateError."""
        client = self._client or self._begin()
        away = ""  # why it is not there
        while True:
            try:
                async with self._on_link(client) as send:
                    away = ""
                    await self._drive(client, send)
                return
            except KernelError as error:
                if error.why not in ("no-interface", "not-there", "interface-down"):
                    raise
                if str(error) != away:
                    away = str(error)
                    _logger.warning("the uplink is not there", interface=self._interface, reason=away)
            await asyncio.sleep(AGAIN)
            client.link_came_back(since_boot())

    async def release(self) -> None:
        """Give all back, and wait until the server knows, or has not answered four times; after `run` was cancelled.

        It waits for the link too: bound it. KernelError, Dhcp6StateError.
        """
        client = self._client or self._begin()
        client.release(since_boot())
        self._heed(client)
        async with self._on_link(client) as send:
            await self._drive(client, send)

    def _begin(self) -> Client:
        """Of what was kept, by the machine's clock. A wall clock that was set back prolongs nothing."""
        elapsed, state = since_boot(), self._state
        at = max(self._now(), state.told)
        for each in state.prefixes:
            held = Held(
                prefix=each.prefix,
                preferred_until=elapsed + (each.preferred_until - at) / MICROSECONDS,
                valid_until=elapsed + (each.valid_until - at) / MICROSECONDS,
                exclude=each.exclude,
            )
            self._told[held] = each
        self._client = Client(
            duid=state.duid,
            iaid=iaid_of(self._interface),
            chance=self._chance,
            now=elapsed,
            length=self._length,
            held=tuple(self._told),
            server=state.server,
        )
        return self._client

    @contextlib.asynccontextmanager
    async def _on_link(self, client: Client) -> AsyncIterator[Callable[[bytes], object]]:
        """Hear the link, when it has a link-local address; with it comes a function that asks all servers."""
        async with Netlink() as netlink:
            await link_local_ready(netlink, self._interface)
            carrier_changes = await netlink.carrier_changes(self._interface)
            index = (await netlink.link(self._interface)).index
            self._gone = False
            sock = _open(index, self._interface)
            reader = DatagramReader(sock, lambda data, peer, _: self._receive(client, data, peer))
            watching = asyncio.create_task(self._watch(netlink, client, index, carrier_changes))
            try:
                yield lambda data: multicast.send(sock, data, (ALL_SERVERS_AND_RELAYS, SERVER_PORT), interface=index)
            finally:
                watching.cancel()
                await asyncio.wait((watching,))
                reader.close()
                self.dropped.update(reader.dropped)

    async def _watch(self, netlink: Netlink, client: Client, index: int, before: int) -> None:
        """Tell the client when the link comes back, or is another one."""
        with netlink.changes() as changes:
            async for change in changes:
                match change:
                    case LinkChanged(link=link) if link.index == index:
                        self._gone = change.gone
                        if link.carrier and change.carrier_changes > before:
                            before = change.carrier_changes
                            client.link_came_back(since_boot())
                    case Resync():
                        client.link_came_back(since_boot())
                    case _:
                        continue
                self._woken.set()

    async def _drive(self, client: Client, send: Callable[[bytes], object]) -> None:
        """Until the client has ended. KernelError, Dhcp6StateError."""
        while True:
            self._woken.clear()
            if self._gone:
                raise KernelError("no-interface", f"{self._interface} is gone")
            for data in client.to_send(since_boot()):
                send(data)
            self._heed(client)
            if client.exchange is Exchange.ENDED:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK, client.deadline() - since_boot())):
                    await self._woken.wait()

    def _receive(self, client: Client, data: bytes, peer: Peer) -> None:
        if not is_link_local(parse_address(peer[0].partition("%")[0])):
            self.dropped["off-link"] += 1
            return
        try:
            client.receive(data, since_boot())
        except PeerError as error:
            self.dropped[error.why] += 1
            _logger.debug("a DHCPv6 message is dropped", interface=self._interface, why=error.why, reason=error.text)
        self._woken.set()

    def _heed(self, client: Client) -> None:
        """Keep what has changed, and say so. Dhcp6StateError."""
        changed = False
        for event in client.events():
            match event:
                case Delegated():
                    changed, self._why = True, "cut"
                    _logger.info("prefixes delegated", prefixes=[str(each.prefix) for each in event.held])
                case Ended():
                    changed, self._why = True, event.why
                    left = [str(each.prefix) for each in event.held]
                    _logger.warning("prefixes ended", why=event.why, left=left)
                case Refused() if since_boot() >= self._quiet_until:
                    self._quiet_until = since_boot() + QUIET
                    text = "".join(each for each in event.text if each.isprintable())[:TEXT]
                    _logger.warning("a DHCPv6 server gives no prefix", status=event.status, text=text)
        if changed:
            self._keep(client)

    def _keep(self, client: Client) -> None:
        wall, elapsed = max(self._now(), self._state.told), since_boot()

        def instant(of: float) -> int:
            return wall + round((of - elapsed) * MICROSECONDS)

        before, self._told = self._told, {}
        for each in client.held:
            self._told[each] = before.get(each) or UplinkPrefix(
                prefix=each.prefix,
                preferred_until=instant(each.preferred_until),
                valid_until=instant(each.valid_until),
                exclude=each.exclude,
            )
        state = Dhcp6State(duid=self._state.duid, server=client.server, prefixes=tuple(self._told.values()), told=wall)
        self._file.write(state)
        self._state = state
        self.changed.set()


def _open(index: int, interface: str) -> socket.socket:
    """The socket of a client. KernelError."""
    try:
        return multicast.group_socket(index, CLIENT_PORT, ())
    except KernelError as error:
        if error.why == "in-use":
            raise KernelError(error.why, f"another DHCPv6 client has port 546 of {interface}: stop it there") from error
        raise
