"""Who answers for an IPv6 address on a link: Neighbor Solicitation and Advertisement (RFC 4861, 7.2).

It is asked from the interface's link-local address, as address resolution is. A solicitation from the unspecified
address is one of DAD, and would make a node give up an address that it is still probing for (RFC 4862, 5.4.3).
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection

from dnms.linux import icmp6
from dnms.linux.asking import Answers, ask
from dnms.linux.errors import KernelError
from dnms.linux.readiness import Turn, readable

SOLICITATION, ADVERTISEMENT = 135, 136
SOURCE_LINK_LAYER, TARGET_LINK_LAYER = 1, 2  # options
ARPHRD_ETHER = 1
MAX_PACKET = 1_500

_FIXED = struct.Struct("!BBHI16s")  # type, code, checksum, flags, target


async def answers(
    interface: str, addresses: Collection[bytes], *, first: bool = False
) -> dict[bytes, frozenset[bytes]]:
    """The hardware addresses that answer for IPv6 addresses of others, or the `first` of each. KernelError.

    Interfaces that are not Ethernet have no answers.
    """
    found = Answers(len(set(addresses)) if first else 0)
    own = _hardware(interface)
    if not addresses or own is None:
        return {}
    sock = icmp6.hear(interface, ADVERTISEMENT)
    try:

        def send() -> None:
            for address in addresses:
                _send(sock, interface, own, address)

        await ask(_listen(sock, own, frozenset(addresses), found), send, found.enough)
    finally:
        sock.close()
    return found.all()


def _hardware(interface: str) -> bytes | None:
    """The hardware address of an Ethernet interface."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0) as sock:
            sock.bind((interface, 0))
            _, _, _, kind, hardware = sock.getsockname()
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"look at {interface}") from error
    return bytes(hardware) if kind == ARPHRD_ETHER else None


def _send(sock: socket.socket, interface: str, hardware: bytes, target: bytes) -> None:
    packet = _FIXED.pack(SOLICITATION, 0, 0, 0, target) + bytes([SOURCE_LINK_LAYER, 1]) + hardware
    group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]  # solicited-node (RFC 4291, 2.7.1)
    try:
        sock.sendto(packet, (socket.inet_ntop(socket.AF_INET6, group), 0, 0, socket.if_nametoindex(interface)))
    except BlockingIOError:
        return  # as good as lost on the wire, and there are more to come
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"solicit neighbours on {interface}") from error


async def _listen(sock: socket.socket, own: bytes, wanted: frozenset[bytes], found: Answers) -> None:
    turn = Turn()
    while True:
        try:
            packet, ancillary, _, _ = sock.recvmsg(MAX_PACKET, socket.CMSG_SPACE(4))
        except BlockingIOError:
            await readable(sock)
            continue
        except OSError as error:
            raise KernelError.from_errno(error.errno or 0, "hear neighbours") from error
        hops = next(
            (int.from_bytes(data, sys.byteorder) for _, kind, data in ancillary if kind == socket.IPV6_HOPLIMIT), 0
        )
        answer = answered(packet, hops=hops)
        if answer is not None and answer[0] in wanted and answer[1] != own:
            found.note(answer[0], answer[1])
        await turn.read_one()


def answered(packet: bytes, *, hops: int) -> tuple[bytes, bytes] | None:
    """Which address (16 bytes) somebody has by this advertisement, and the hardware address that it tells.

    None for what is malformed, from off the link, or tells none (RFC 4861, 7.1.2): an answer to multicast has to.
    """
    if len(packet) < _FIXED.size or hops != icmp6.HOPS:
        return None
    kind, code, _, _, target = _FIXED.unpack_from(packet)
    if (kind, code) != (ADVERTISEMENT, 0):
        return None
    options = packet[_FIXED.size :]
    while len(options) >= 2:
        size = 8 * options[1]
        if not size or size > len(options):
            return None
        if options[0] == TARGET_LINK_LAYER and size == 8:
            return bytes(target), bytes(options[2:8])
        options = options[size:]
    return None
