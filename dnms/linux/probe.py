"""Whether something answers: gateways by ARP and Neighbor Discovery, anything else by an echo (RFC 792, RFC 4443)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from dnms.events.ip import family, is_link_local
from dnms.linux import arp, neighbours
from dnms.linux.errors import KernelError
from dnms.linux.messages import plain
from dnms.linux.readiness import readable

ECHOES = 3
ECHO_INTERVAL = 0.5  # seconds, after the last too
MAX_PACKET = 2_048
ECHO4, REPLY4 = 8, 0
ECHO6, REPLY6 = 128, 129

_FIXED = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence


async def neighbours_of(interface: str, addresses: Mapping[bytes, bytes]) -> frozenset[bytes]:
    """Those of the addresses that somebody on the link answers for. Each has the address of ours to ask from, for ARP;
    all zero if there is none. KernelError.
    """
    six = [address for address in addresses if family(address) == 6]
    four = {address: source for address, source in addresses.items() if family(address) == 4}
    by_arp, by_nd = await asyncio.gather(
        arp.answers(interface, four, first=True), neighbours.answers(interface, six, first=True)
    )
    return frozenset(by_arp) | frozenset(by_nd)


async def echoes(address: bytes, *, source: bytes | None, interface: int) -> bool:
    """Whether an address answers an echo that comes from an address of ours. KernelError if none can be sent."""
    six = family(address) == 6
    kind, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    try:
        with socket.socket(kind, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol) as sock:
            if source is not None:
                sock.bind((plain(source), 0, 0, 0) if six else (plain(source), 0))
            scope = interface if is_link_local(address) else 0
            there: tuple[Any, ...] = (plain(address), 0, 0, scope) if six else (plain(address), 0)
            return await _answered(sock, address, there)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"ask {plain(address)} for an echo") from error


async def _answered(sock: socket.socket, address: bytes, there: tuple[Any, ...]) -> bool:
    """OSError."""
    identifier = int.from_bytes(os.urandom(2))
    for sequence in range(ECHOES):
        try:
            sock.sendto(_request(family(address), identifier, sequence), there)
        except OSError:
            await asyncio.sleep(ECHO_INTERVAL)  # no route yet, or a queue is full
            continue
        try:
            async with asyncio.timeout(ECHO_INTERVAL):
                while True:
                    await readable(sock)
                    packet, peer = sock.recvfrom(MAX_PACKET)
                    if peer[0].partition("%")[0] == plain(address) and _is_reply(packet, family(address), identifier):
                        return True
        except TimeoutError:
            continue
    return False


def _request(kind: int, identifier: int, sequence: int) -> bytes:
    if kind == 6:  # the kernel fills in the checksum
        return _FIXED.pack(ECHO6, 0, 0, identifier, sequence)
    blank = _FIXED.pack(ECHO4, 0, 0, identifier, sequence)
    total = sum(struct.unpack("!4H", blank))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return _FIXED.pack(ECHO4, 0, checksum, identifier, sequence)


def _is_reply(packet: bytes, kind: int, identifier: int) -> bool:
    offset = 0 if kind == 6 else 4 * (packet[0] & 0x0F) if packet else 0  # IPv4 brings its own header
    if len(packet) < offset + _FIXED.size:
        return False
    said, code, _, whose, _ = _FIXED.unpack_from(packet, offset)
    return (said, code, whose) == (REPLY6 if kind == 6 else REPLY4, 0, identifier)
