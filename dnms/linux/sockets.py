"""Which local addresses sockets use, by sock_diag(7): what is torn down with an address that goes."""

from __future__ import annotations

import socket
import struct

from dnms.events.ip import MAPPED
from dnms.linux.errors import KernelError
from dnms.linux.rtnetlink import ERROR, HEADER, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, READ, split

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20

CONNECTED = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
"""States of TCP in which there is another end: all but TIME_WAIT, CLOSE and LISTEN. A connected UDP socket is in
state 1. What only listens is not cut off by an address that goes, and may be bound to it for years."""

_REQUEST = struct.Struct("=BBBBI48s")  # family, protocol, extensions, padding, states, socket id
_SOURCE = struct.Struct("!HH16s")  # ports, local address: the beginning of a socket id
_ID = 4  # the offset of the socket id in an answer: after family, state, timer, retransmissions

SOCKET_TIMEOUT = 5.0  # seconds; the kernel answers within what it takes to walk its table


def connected_from() -> frozenset[bytes]:
    """The local addresses (16 bytes, IPv4 is mapped) of connected sockets of the thread's network namespace.

    KernelError; `not-there` if this kernel cannot say it.
    """
    found: set[bytes] = set()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as sock:
            sock.settimeout(SOCKET_TIMEOUT)
            for kind in (socket.AF_INET, socket.AF_INET6):
                for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
                    found |= _dump(sock, kind, protocol)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, "list sockets") from error
    return frozenset(found)


def _dump(sock: socket.socket, kind: int, protocol: int) -> set[bytes]:
    """One family and one protocol. OSError."""
    body = _REQUEST.pack(kind, protocol, 0, 0, CONNECTED, bytes(48))
    flags = NLM_F_REQUEST | NLM_F_DUMP
    sock.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body)
    found: set[bytes] = set()
    while True:
        data = sock.recv(READ)
        for offset, _length, answer, _flags, _sequence in split(data):
            payload = offset + HEADER.size
            if answer in (NLMSG_ERROR, NLMSG_DONE):
                code = -ERROR.unpack_from(data, payload)[0]
                if code > 0:
                    raise OSError(code, "sock_diag")
                return found
            local = _SOURCE.unpack_from(data, payload + _ID)[2]
            found.add(MAPPED + local[:4] if data[payload] == socket.AF_INET else local)
