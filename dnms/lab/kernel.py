"""What a namespace's kernel has, read by the lab's own code.

The agents read the kernel too, with `dnms.linux`; a wrong reading there must not agree with itself, so the lab that
judges them has a reader of its own: two kinds of message, from rtnetlink's structs (rtnetlink(7)).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dnms.events.ip import MAPPED, format_address, is_link_local
from dnms.linux.namespaces import Namespace

OURS = 200
"""The protocol number of addresses and routes that an agent sets (IFA_PROTO, rtm_protocol)."""

_NETLINK_ROUTE = 0
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _GET_ROUTE = 24, 26
_GROUPS = 0x10 | 0x40 | 0x100 | 0x400  # addresses and routes of both families
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_RTA_GATEWAY, _RTA_TABLE = 5, 15
_PROTO_RA = 2
_TENTATIVE, _DAD_FAILED, _TEMPORARY = 0x40, 0x08, 0x01
_TABLE_MAIN = 254
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 1 << 18


class Held(msgspec.Struct, frozen=True):
    """One address on one interface."""

    address: bytes  # 16 bytes; IPv4 is mapped
    protocol: int  # IFA_PROTO; 0 where the kernel does not say
    usable: bool  # neither tentative nor found to be a duplicate
    temporary: bool  # RFC 8981

    @property
    def is_global(self) -> bool:
        """Neither link-local nor loopback: what SLAAC, an agent or an operator gave."""
        return not (self.is_loopback or is_link_local(self.address))

    @property
    def is_loopback(self) -> bool:
        """::1 or 127/8."""
        return ipaddress.ip_address(self.address[12:] if self.address.startswith(MAPPED) else self.address).is_loopback

    @property
    def is_slaac(self) -> bool:
        """Whether the kernel made it from a Router Advertisement; temporary ones go with it and are not counted."""
        return self.protocol == _PROTO_RA and not self.temporary

    def __str__(self) -> str:
        return format_address(self.address)


class Default(msgspec.Struct, frozen=True):
    """One default route of the main table."""

    gateway: bytes | None
    protocol: int  # RTPROT_*


class Kernel(msgspec.Struct, frozen=True):
    """Addresses and default routes of one namespace."""

    addresses: tuple[Held, ...]
    defaults: tuple[Default, ...]

    @property
    def ours(self) -> frozenset[bytes]:
        """The addresses that an agent has set."""
        return frozenset(held.address for held in self.addresses if held.protocol == OURS)

    def lets_use(self, address: bytes) -> bool:
        """Whether this address of ours can be used."""
        return any(held.address == address and held.usable and held.protocol == OURS for held in self.addresses)


def read(namespace: Namespace) -> Kernel:
    """What is there now. Takes 0.2 ms."""
    with namespace.entered():
        channel = _socket()
    with channel:
        addresses = tuple(filter(None, map(_held, _dump(channel, _GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0)))))
        routes = _dump(channel, _GET_ROUTE, _ROUTE.pack(0, 0, 0, 0, _TABLE_MAIN, 0, 0, 0, 0))
        return Kernel(addresses, tuple(filter(None, map(_default, routes))))


def listens(namespace: Namespace, port: int) -> bool:
    """Whether somebody there receives UDP over IPv6 on this port."""
    with namespace.entered():
        sockets = Path("/proc/thread-self/net/udp6").read_text().splitlines()[1:]
    return any(int(line.split()[1].rpartition(":")[2], 16) == port for line in sockets)


def advertisements(namespace: Namespace) -> int:
    """How many Router Advertisements it has received."""
    with namespace.entered():
        counters = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
    return int(counters["Icmp6InRouterAdvertisements"])


class Watch:
    """Follows one namespace's kernel, to know the moment in which something became so."""

    def __init__(self, namespace: Namespace, changed: Callable[[], None]) -> None:
        """Begin now; `changed` is called after each change of an address or a route. Needs a running loop."""
        self.usable_at: dict[bytes, float] = {}
        """When the kernel first let an address of ours be used: seconds, monotonic."""
        self.probed_from: dict[bytes, float] = {}
        """When the kernel was given it, and began to look for duplicates, of those addresses that it looks for."""
        self.link_local_at: float | None = None
        """When the kernel first told of a link-local address that can be used; None: it was there before, or is not."""
        self.removed: set[bytes] = set()
        """Addresses of ours that were removed at some time, even if they came back at once."""
        self.used: list[tuple[bytes, float, float]] = []
        """Addresses of ours that could be used, from when to when; those that still can are in `using`."""
        self.using: dict[bytes, float] = {}
        """Addresses of ours that can be used now, and since when."""
        self.lost = 0  # times at which the kernel said more than was read
        self._changed = changed
        with namespace.entered():
            self._socket = _socket(_GROUPS)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Stop following."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        now = time.monotonic()
        try:
            for kind, payload in _messages(self._socket.recv(_BUFFER)):
                held = _held((kind, payload))
                if held is not None and held.protocol == OURS:
                    self._ours(held, now, gone=kind == _DELETE_ADDRESS)
                elif held is not None and held.usable and is_link_local(held.address) and kind == _NEW_ADDRESS:
                    self.link_local_at = self.link_local_at or now
        except OSError:  # ENOBUFS: some changes are lost, and `changed` makes the lab read everything again
            self.lost += 1
        self._changed()

    def _ours(self, held: Held, now: float, *, gone: bool) -> None:
        if held.usable and not gone:
            self.using.setdefault(held.address, now)
        elif (since := self.using.pop(held.address, None)) is not None:
            self.used.append((held.address, since, now))
        if gone:
            self.removed.add(held.address)
        elif held.usable:
            self.usable_at.setdefault(held.address, now)
            return
        if held.address not in self.usable_at:  # else it is not the first time any more
            if gone:
                self.probed_from.pop(held.address, None)
            else:
                self.probed_from.setdefault(held.address, now)


def _socket(groups: int = 0) -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    channel.bind((0, groups))
    return channel


def _dump(channel: socket.socket, kind: int, question: bytes) -> Iterator[tuple[int, bytes]]:
    channel.send(_HEADER.pack(_HEADER.size + len(question), kind, _REQUEST_DUMP, 1, 0) + question)
    while True:
        for answer, payload in _messages(channel.recv(_BUFFER)):
            if answer == _DONE:
                return
            if answer == _ERROR:
                code = -int.from_bytes(payload[:4], "little", signed=True)
                raise OSError(code, os.strerror(code))
            yield answer, payload


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, position)
        yield kind, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def _attributes(payload: bytes, position: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while position + _ATTRIBUTE.size <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, position)
        found[kind] = payload[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return found


def _mapped(address: bytes) -> bytes:
    return MAPPED + address if len(address) == 4 else address


def _held(message: tuple[int, bytes]) -> Held | None:
    kind, payload = message
    if kind not in (_NEW_ADDRESS, _DELETE_ADDRESS):
        return None
    _, _, flags, _, _ = _ADDRESS.unpack_from(payload)
    attributes = _attributes(payload, _ADDRESS.size)
    address = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
    flags = struct.unpack("=I", attributes[_IFA_FLAGS])[0] if _IFA_FLAGS in attributes else flags
    return Held(
        address=_mapped(address),
        protocol=attributes.get(_IFA_PROTO, b"\0")[0],
        usable=not flags & (_TENTATIVE | _DAD_FAILED),
        temporary=len(address) == 16 and bool(flags & _TEMPORARY),
    )


def _default(message: tuple[int, bytes]) -> Default | None:
    kind, payload = message
    if kind != _NEW_ROUTE:
        return None
    _, bits, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(payload)
    attributes = _attributes(payload, _ROUTE.size)
    if _RTA_TABLE in attributes:
        table = struct.unpack("=I", attributes[_RTA_TABLE])[0]
    if bits or table != _TABLE_MAIN:
        return None
    gateway = attributes.get(_RTA_GATEWAY)
    return Default(gateway=_mapped(gateway) if gateway else None, protocol=protocol)
