"""Sockets for discovery: UDP multicast on one link, with hop limit 255 both ways; and TCP listeners.

All functions act at once and raise KernelError. On a link whose fe80:: address is still tentative a bind to it and a
send are refused with `not-there`: wait for `dad.link_local_ready` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from dnms.events.ip import family, is_link_local
from dnms.linux.errors import KernelError
from dnms.linux.messages import plain

IPV6_MULTICAST_ALL = 29
SO_BINDTOIFINDEX = 62
SO_RCVBUFFORCE = 33
HOPS = 255  # a packet from off the link cannot have it (RFC 5082)
MAX_DATAGRAM = 4096  # bytes; more than any message of discovery, which stay under 1 232
BURST = 64  # datagrams read before other tasks get their turn
BACKLOG = 128

Peer = tuple[str, int, int, int]
"""Address, port, flow, and the index of the interface that a link-local address is on."""

Receive = Callable[[bytes, Peer, int], None]
"""Takes a datagram: its bytes, from whom, and its hop limit (0: unknown)."""


def group_socket(interface: int, port: int, groups: Collection[str], *, address: str = "::") -> socket.socket:
    """A UDP socket that hears these groups on this interface (its index). Several may share a port on one machine,
    but for one that hears no group: what comes by unicast only one of them would hear, and the others not.

    It hears what is sent to `address` alone: with one of the groups, nothing that comes by unicast.
    """
    sock = _datagram_socket(interface)
    try:
        if groups or address != "::":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Otherwise it hears every group that any socket of this machine has joined.
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        sock.bind((address, port, 0, interface if address != "::" else 0))
        for group in groups:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _membership(group, interface))
    except OSError as error:
        sock.close()
        raise KernelError.from_errno(error.errno or 0, f"listen for multicast on port {port}") from error
    return sock


def widen(sock: socket.socket, size: int) -> None:
    """Have so many bytes of what comes at once wait in a socket; without the right to that, as many as anybody may."""
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            return


def unicast_socket(interface: int) -> socket.socket:
    """A UDP socket with a port of its own: a node asks from it; an agent answers from it, since of several sockets on
    the group's port only one would hear what comes back.
    """
    sock = _datagram_socket(interface)
    try:
        sock.bind(("::", 0))
    except OSError as error:
        sock.close()
        raise KernelError.from_errno(error.errno or 0, "open a UDP socket") from error
    return sock


def rejoin(sock: socket.socket, interface: int, groups: Collection[str]) -> None:
    """Join again, so that the kernel reports its membership anew: a snooping bridge may have forgotten it."""
    try:
        for group in groups:
            with contextlib.suppress(OSError):  # it was never a member, or the interface was away meanwhile
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _membership(group, interface))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _membership(group, interface))
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, "join a multicast group") from error


def send(sock: socket.socket, data: bytes, peer: Peer | tuple[str, int], *, interface: int) -> bool:
    """Send a datagram to a group or a peer on this interface; false if the link cannot carry it at this moment.

    That is so while fe80:: is tentative or gone, the link down, a queue full: asking again later is discovery's way.
    """
    try:
        sock.sendto(data, (peer[0], peer[1], 0, interface))
    except OSError as error:
        # Of a group, EINVAL says that the table of neighbours is full, which all namespaces of a machine share.
        if error.errno in _FOR_NOW or (error.errno == errno.EINVAL and peer[0].startswith("ff")):
            return False
        raise KernelError.from_errno(error.errno or 0, f"send to {peer[0]}") from error
    return True


_FOR_NOW = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EAGAIN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOBUFS,
        errno.ENODEV,
        errno.EPERM,  # a firewall's answer
    }
)


def listener(address: bytes, port: int, *, interface: int) -> socket.socket:
    """A TCP socket that listens on this address; a link-local one is on this interface. Port 0: any that is free."""
    kind = socket.AF_INET if family(address) == 4 else socket.AF_INET6
    try:
        sock = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:  # this machine has no such family
        raise KernelError.from_errno(error.errno or 0, f"listen on {plain(address)} port {port}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        where: Any = (plain(address), port)
        if kind == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            where = (plain(address), port, 0, interface if is_link_local(address) else 0)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise KernelError.from_errno(error.errno or 0, f"listen on {plain(address)} port {port}") from error
    return sock


class DatagramReader:
    """Hands each datagram that comes to `receive`, from when it is made until `close`. Runs on every event loop.

    What `receive` raises ends nothing: it goes to the loop's exception handler. `dropped` counts, by a stable word.
    """

    def __init__(self, sock: socket.socket, receive: Receive) -> None:
        self._socket = sock
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)
        self.dropped: Counter[str] = Counter()

    def close(self) -> None:
        """Stop reading and close the socket."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        for _ in range(BURST):
            if self._socket.fileno() < 0:
                return  # closed by what it received
            try:
                data, ancillary, flags, peer = self._socket.recvmsg(MAX_DATAGRAM, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return
            except OSError:
                self.dropped["read-error"] += 1  # an ICMP error about something that was sent, or the link went down
                return
            if flags & socket.MSG_TRUNC:
                self.dropped["oversized"] += 1
                continue
            self._receive(data, peer, _hop_limit(ancillary))


def _hop_limit(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
            return int(struct.unpack("=i", value[:4])[0])
    return 0


def _datagram_socket(interface: int) -> socket.socket:
    sock = None
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # A membership alone is no fence: the kernel compares the group, and not the interface on which it was joined.
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, interface)
        for option, value in (
            (socket.IPV6_V6ONLY, 1),
            (socket.IPV6_MULTICAST_IF, interface),
            (socket.IPV6_MULTICAST_HOPS, HOPS),
            (socket.IPV6_UNICAST_HOPS, HOPS),
            (socket.IPV6_RECVHOPLIMIT, 1),
        ):
            sock.setsockopt(socket.IPPROTO_IPV6, option, value)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise KernelError.from_errno(error.errno or 0, "open a UDP socket") from error
    return sock


def _membership(group: str, interface: int) -> bytes:
    return socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", interface)
