"""Hears the DHCP of a link, of clients and of servers, both what comes and what this machine sends. Sends nothing.

The kernel filters: only UDP to or from the ports of DHCP wakes this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from dnms.events.ip import MAPPED
from dnms.linux.errors import KernelError
from dnms.wire.dhcp4.codes import CLIENT_PORT as CLIENT4
from dnms.wire.dhcp4.codes import SERVER_PORT as SERVER4
from dnms.wire.dhcp6.codes import CLIENT_PORT as CLIENT6
from dnms.wire.dhcp6.codes import SERVER_PORT as SERVER6

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
SO_ATTACH_FILTER = 26
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
MAX_PACKET = 65_536
BURST = 64  # packets read before other tasks get their turn

_SKF_AD_PROTOCOL = 0xFFFFF000
_LD_ABS_H, _LD_ABS_B, _LD_IND_H, _LDX_MSH, _JEQ, _JSET, _RET = 0x28, 0x30, 0x48, 0xB1, 0x15, 0x45, 0x06

_IP6 = 40  # bytes of its header
_UDP = 8
_LINE = 8  # bytes of one of the filter


class Datagram(msgspec.Struct, frozen=True):
    """One that was heard. Addresses are 16 bytes, IPv4 mapped."""

    source: bytes
    to: bytes
    to_port: int
    hardware: bytes  # of who sent the frame
    data: bytes


def _program() -> bytes:
    """The filter, on packets that begin with their IP header (`bpf(2)`, classic)."""
    of4, of6 = (SERVER4, CLIENT4), (SERVER6, CLIENT6)
    lines: list[tuple[int, int, int, int]] = [
        (_LD_ABS_H, 0, 0, _SKF_AD_PROTOCOL),
        (_JEQ, 0, 10, ETH_P_IP),
        (_LD_ABS_B, 0, 0, 9),
        (_JEQ, 0, 18, socket.IPPROTO_UDP),
        (_LD_ABS_H, 0, 0, 6),
        (_JSET, 16, 0, 0x3FFF),  # fragments say no ports, but for the first, which is not whole
        (_LDX_MSH, 0, 0, 0),
        (_LD_IND_H, 0, 0, 0),
        (_JEQ, 12, 0, of4[0]),
        (_JEQ, 11, 0, of4[1]),
        (_LD_IND_H, 0, 0, 2),
        (_JEQ, 9, 10, of4[0]),
        (_JEQ, 0, 9, ETH_P_IPV6),
        (_LD_ABS_B, 0, 0, 6),
        (_JEQ, 0, 7, socket.IPPROTO_UDP),
        (_LD_ABS_H, 0, 0, _IP6),
        (_JEQ, 4, 0, of6[0]),
        (_JEQ, 3, 0, of6[1]),
        (_LD_ABS_H, 0, 0, _IP6 + 2),
        (_JEQ, 1, 0, of6[0]),
        (_JEQ, 0, 1, of6[1]),
        (_RET, 0, 0, MAX_PACKET),
        (_RET, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


FILTER: Final = _program()


class DhcpHeard:
    """On one interface, from when it is made until `close`. KernelError if it cannot be heard."""

    def __init__(self, interface: str, receive: Callable[[Datagram], None]) -> None:
        self.dropped: Counter[str] = Counter()
        """What was not handed on, by a stable word."""
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        sock = None
        try:
            # With protocol 0 it hears nothing before it has its filter.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
            program = ctypes.create_string_buffer(FILTER)
            attached = struct.pack("@HP", len(FILTER) // _LINE, ctypes.addressof(program))
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
            sock.bind((interface, ETH_P_ALL))
            index = socket.if_nametoindex(interface)
            # Where a switch mirrors the server's port, what is heard is addressed to others.
            membership = struct.pack("=IHH8s", index, PACKET_MR_PROMISC, 0, b"")
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise KernelError.from_errno(error.errno or 0, f"hear DHCP on {interface}") from error
        self._socket = sock
        self._loop.add_reader(sock.fileno(), self._read)

    def close(self) -> None:
        """Hear no more."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        for _ in range(BURST):
            if self._socket.fileno() < 0:
                return
            try:
                packet, sender = self._socket.recvfrom(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                self.dropped["read-error"] += 1  # the link went down
                return
            found = datagram(packet, sender[4])
            if found is None:
                self.dropped["malformed"] += 1
            else:
                self._receive(found)


def datagram(packet: bytes, hardware: bytes) -> Datagram | None:
    """The UDP in an IP packet; None if it is cut off or none."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        size = (packet[0] & 0xF) * 4
        end = min(len(packet), int.from_bytes(packet[2:4]))
        source, to, protocol = MAPPED + packet[12:16], MAPPED + packet[16:20], packet[9]
    elif packet[:1] and packet[0] >> 4 == 6 and len(packet) >= _IP6:
        size, end = _IP6, min(len(packet), _IP6 + int.from_bytes(packet[4:6]))
        source, to, protocol = packet[8:24], packet[24:40], packet[6]
    else:
        return None
    if protocol != socket.IPPROTO_UDP or end < size + _UDP or size < 20:
        return None
    port, length = struct.unpack_from("!HH", packet, size + 2)
    if not _UDP <= length <= end - size:
        return None
    return Datagram(source, to, port, hardware, packet[size + _UDP : size + length])
