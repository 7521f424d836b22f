"""Sockets for ICMPv6 of a link: what routers and neighbours say there."""

from __future__ import annotations

import socket
import struct

from dnms.linux.errors import KernelError

HOPS = 255
"""What has crossed a router is not believed (RFC 4861, 6.1.2 and 7.1.2)."""

ICMP6_FILTER = 1


def hear(interface: str, kind: int) -> socket.socket:
    """A socket that hears this type of ICMPv6 on the interface, with its hop limit, and nothing else. KernelError."""
    sock = None
    try:
        sort = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        sock = socket.socket(socket.AF_INET6, sort, socket.IPPROTO_ICMPV6)
        blocked = bytearray(b"\xff" * 32)  # a bit a type, in 32-bit words of this machine's byte order
        (word,) = struct.unpack_from("=I", blocked, kind // 32 * 4)
        struct.pack_into("=I", blocked, kind // 32 * 4, word & ~(1 << kind % 32))
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, bytes(blocked))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise KernelError.from_errno(error.errno or 0, f"hear ICMPv6 on {interface}") from error
    return sock
