"""The sockets of a DHCPv4 server on one link (RFC 2131, 4.1): port 67 is heard there alone, and who has no address yet
is answered by a frame of its own, since it answers no ARP.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable

from dnms.events.ip import MAPPED, family, format_address
from dnms.linux.arp import ARPHRD_ETHER
from dnms.linux.dhcp6_server import WAITING
from dnms.linux.errors import KernelError
from dnms.linux.multicast import SO_BINDTOIFINDEX, DatagramReader, widen
from dnms.wire.dhcp4.codes import SERVER_PORT

ETH_P_IP = 0x0800
IP_PKTINFO = 8
HOPS = 64

_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_PSEUDO = struct.Struct("!4s4sBBH")  # RFC 768
_PKTINFO = struct.Struct("=I4s4s")

_FOR_NOW = frozenset(
    {errno.EAGAIN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOBUFS, errno.EPERM, errno.EACCES}
)


class Dhcp4ServerSockets:
    """On one interface (its name and index), from when it is made until `close`. Answers come from `address`."""

    def __init__(self, name: str, interface: int, address: bytes, receive: Callable[[bytes], None]) -> None:
        """KernelError if the sockets cannot be had: `in-use` where another server runs on the link."""
        if family(address) != 4:
            text = f"{name} has no IPv4 address: give it one of the subnet's, or leave --dhcpv4 out"
            raise KernelError("not-there", text)
        self.address = address
        self._name = name
        self._frames = self._datagrams = None
        try:
            # Protocol 0: it hears nothing.
            self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | _FLAGS, 0)
            self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | _FLAGS)
            self._datagrams.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, interface)
            self._datagrams.bind(("", SERVER_PORT))
            widen(self._datagrams, WAITING)
        except OSError as error:
            for sock in (self._frames, self._datagrams):
                if sock is not None:
                    sock.close()
            if error.errno == errno.EADDRINUSE:
                text = "another DHCPv4 server has port 67 of this link: stop it, or leave --dhcpv4 out"
                raise KernelError("in-use", text) from error
            raise KernelError.from_errno(error.errno or 0, f"listen on port {SERVER_PORT} of {name}") from error
        self._reader = DatagramReader(self._datagrams, lambda data, _peer, _hops: receive(data))

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        return self._reader.dropped

    def send(self, data: bytes, to: bytes, port: int, hardware: bytes = b"") -> bool:
        """Answer a client or a relay, at this hardware address if there is one; false if the link cannot carry it now.

        KernelError.
        """
        assert self._frames is not None and self._datagrams is not None
        try:
            if hardware:
                where = (self._name, ETH_P_IP, 0, ARPHRD_ETHER, hardware)
                self._frames.sendto(datagram(data, self.address, to, port), where)
            else:
                # From the address that the client knows this server by, whichever others the interface has.
                source = _PKTINFO.pack(0, self.address[12:], bytes(4))
                place = (format_address(to), port)
                self._datagrams.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, place)
        except OSError as error:
            if error.errno in _FOR_NOW:
                return False
            raise KernelError.from_errno(error.errno or 0, f"send to {format_address(to)}") from error
        return True

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()
        assert self._frames is not None
        self._frames.close()


_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


def datagram(data: bytes, source: bytes, to: bytes, port: int) -> bytes:
    """A whole IPv4 datagram with a message from the server's port (RFC 791, 3.1; RFC 768). Addresses are mapped."""
    here, there = source.removeprefix(MAPPED), to.removeprefix(MAPPED)
    length = _UDP.size + len(data)
    pseudo = _PSEUDO.pack(here, there, 0, socket.IPPROTO_UDP, length)
    # A sum of zero is written as its other zero, since 0 says that there is none.
    udp_sum = _checksum(pseudo + _UDP.pack(SERVER_PORT, port, length, 0) + data) or 0xFFFF
    fields = (0x45, 0, _IP.size + length, 0, 0, HOPS, socket.IPPROTO_UDP)
    ip_sum = _checksum(_IP.pack(*fields, 0, here, there))
    return _IP.pack(*fields, ip_sum, here, there) + _UDP.pack(SERVER_PORT, port, length, udp_sum) + data


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
