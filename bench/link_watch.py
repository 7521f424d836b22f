"""What happens on a link that comes up, as its kernel tells it and as it is on the wire: when a node came how far.

The kernel's notifications say when an address is there and when it can be used; a packet socket on the node's interface
says when it asked and when it was answered, with the kernel's own times (SO_TIMESTAMPNS, socket(7)).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import Iterator

import msgspec

from dnms.events.configuration import InterfaceAddress
from dnms.events.ip import format_address, is_link_local
from dnms.linux.changes import AddressChanged, Changes
from dnms.linux.messages import IFA_F_DADFAILED, IFA_F_OPTIMISTIC, IFA_F_TENTATIVE
from dnms.linux.namespaces import Namespace
from dnms.wire.datagrams import MAGIC
from dnms.wire.datagrams import OFFER as OFFERED
from dnms.wire.datagrams import SOLICIT as SOLICITED
from dnms.wire.messages import PORT

ETH_P_ALL, ETH_P_IPV6 = 3, 0x86DD
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
LONGEST = 2_048  # bytes of a packet that are looked at
TCP, UDP, ICMP6, HOP_BY_HOP = 6, 17, 58, 0
DHCP_SERVER = 547
SYN, ACK = 0x02, 0x10
ROUTER_ADVERTISEMENT = 134

SOLICIT, OFFER, CONNECT, ADVERTISED, ASKED = "solicit", "offer", "connect", "advertised", "asked"
"""Packets: a node's multicast, an agent's offer, the first one of a connection; an RA; one to a DHCP server."""


class Way(msgspec.Struct):
    """When a node came how far: seconds since 1970-01-01 UTC; None: it did not, or nobody has seen it."""

    up: float  # its link has a carrier
    link_local: float | None = None  # its link-local address can be used
    added: float | None = None  # its kernel was given the address
    usable: float | None = None  # and lets a socket be bound to it
    settled: float | None = None  # and has found no duplicate
    packets: dict[str, float] = {}  # the first of each kind


class LinkWatch:
    """Follows one interface of a namespace until the address that it waits for is settled."""

    def __init__(self, namespace: Namespace, interface: str, prefix: ipaddress.IPv6Network) -> None:
        """From now on. Needs a running loop, and the interface to be up. OSError."""
        self.way = Way(up=0.0, packets={})
        self.address: bytes | None = None
        self._namespace = namespace
        self._prefix = prefix
        self._settled = asyncio.Event()
        with namespace.entered():
            self._changes = Changes()
            self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETH_P_ALL))
        self._wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._wire.setblocking(False)
        self._wire.bind((interface, ETH_P_ALL))
        asyncio.get_running_loop().add_reader(self._wire, self._heard)
        self._following = asyncio.create_task(self._follow())

    async def settled(self, within: float) -> bool:
        """Whether an address of the prefix was found to be no duplicate within so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Follow no more."""
        asyncio.get_running_loop().remove_reader(self._wire)
        self._wire.close()
        self._following.cancel()
        await asyncio.wait((self._following,))
        self._changes.close()

    async def _follow(self) -> None:
        async for change in self._changes:
            if isinstance(change, AddressChanged) and not change.gone:
                self._changed(change.address, time.time())

    def _changed(self, held: InterfaceAddress, now: float) -> None:
        if held.flags & IFA_F_DADFAILED or ipaddress.ip_address(held.address).is_loopback:
            return
        tentative, optimistic = held.flags & IFA_F_TENTATIVE, held.flags & IFA_F_OPTIMISTIC
        if is_link_local(held.address):
            if not tentative:
                self.way.link_local = self.way.link_local or now
        elif ipaddress.ip_address(held.address) in self._prefix:
            self.address = held.address
            self.way.added = self.way.added or now
            if self.way.usable is None and (optimistic or not tentative) and self._can_be_bound(held.address):
                self.way.usable = now
            if not tentative:
                self.way.settled = self.way.settled or now
                self._settled.set()

    def _can_be_bound(self, address: bytes) -> bool:
        with self._namespace.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind((format_address(address), 0))
            except OSError:
                return False
        return True

    def _heard(self) -> None:
        while True:
            try:
                packet, ancillary, _, _ = self._wire.recvmsg(LONGEST, socket.CMSG_SPACE(TIMESPEC.size))
            except OSError:  # nothing more; or the link is down, at the end
                return
            at = next((_seconds(data) for _, kind, data in ancillary if kind == SO_TIMESTAMPNS), time.time())
            for kind in kinds(packet):
                self.way.packets.setdefault(kind, at)


def kinds(frame: bytes) -> Iterator[str]:
    """What an Ethernet frame is, of what is waited for; nothing where it is something else or cut off."""
    if len(frame) < 62 or int.from_bytes(frame[12:14]) != ETH_P_IPV6:
        return
    following, rest = frame[20], frame[54:]
    if following == HOP_BY_HOP:
        following, rest = rest[0], rest[8 * (rest[1] + 1) :]
    if len(rest) < 4:
        return
    destination = int.from_bytes(rest[2:4])
    if following == ICMP6 and rest[0] == ROUTER_ADVERTISEMENT:
        yield ADVERTISED
    elif following == UDP and destination == DHCP_SERVER:
        yield ASKED
    elif following == UDP and rest[8:12] == MAGIC and len(rest) > 13:
        yield from {SOLICITED: (SOLICIT,), OFFERED: (OFFER,)}.get(rest[13], ())
    elif following == TCP and destination == PORT and len(rest) > 13 and rest[13] & (SYN | ACK) == SYN:
        yield CONNECT


def _seconds(timespec: bytes) -> float:
    seconds, nanoseconds = TIMESPEC.unpack(timespec)
    return float(seconds + nanoseconds / 1e9)
