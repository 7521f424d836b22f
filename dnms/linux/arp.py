"""Address conflict detection of IPv4 (RFC 5227) by ARP: the kernel has none.

The timing is shortened. RFC 5227 waits 5 to 9 seconds, for links of 2008 with thousands of hosts that boot together.
Here an address comes from one ledger that has given it to nobody else, so a probe guards only against hosts that DNMS
does not know; those answer within milliseconds. A second in all is no longer than the kernel's DAD of IPv6, which runs
beside it, so it delays nobody.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Collection, Mapping

from dnms.events.ip import MAPPED
from dnms.linux.asking import Answers, ask, listening
from dnms.linux.errors import KernelError
from dnms.linux.readiness import Turn, readable

ETH_P_ARP = 0x0806
ARPHRD_ETHER = 1
BROADCAST = b"\xff" * 6
NOBODY = bytes(4)
REQUEST = 1

PROBE_WAIT = 0.1  # seconds, at most, before the first, so that nodes which were started together do not speak at once
PROBES = 3
PROBE_INTERVAL = 0.2  # seconds
LISTEN = 0.5  # seconds after the last
ANNOUNCEMENTS = 2
ANNOUNCE_INTERVAL = 0.2  # seconds; the second is for what the first lost

_PACKET = struct.Struct("!HHBBH6s4s6s4s")  # hardware, protocol, lengths, operation, sender, target


async def conflicts(interface: str, addresses: Collection[bytes]) -> frozenset[bytes]:
    """Which of these IPv4 addresses another host on the link uses, or probes at this moment. KernelError.

    The addresses are not on the interface yet. Interfaces that are not Ethernet have no ARP, and no conflicts.
    """
    wanted = {address.removeprefix(MAPPED): address for address in addresses}
    found: set[bytes] = set()
    sock = _open(interface)
    try:
        if not wanted or sock.getsockname()[3] != ARPHRD_ETHER:
            return frozenset()
        own = sock.getsockname()[4]

        def hear(packet: bytes) -> None:
            if (address := claimed(packet, own, wanted.keys())) is not None:
                found.add(address)

        async with listening(_listen(sock, hear)) as task:
            await asyncio.sleep(random.uniform(0, PROBE_WAIT))
            for probe in range(PROBES):
                for address in wanted.keys() - found:
                    _send(sock, interface, own, NOBODY, address)
                await asyncio.sleep(PROBE_INTERVAL if probe < PROBES - 1 else LISTEN)
                if task.done() or len(found) == len(wanted):
                    break
    finally:
        sock.close()
    return frozenset(wanted[address] for address in found)


async def answers(
    interface: str, asked: Mapping[bytes, bytes], *, first: bool = False
) -> dict[bytes, frozenset[bytes]]:
    """The hardware addresses that answer for IPv4 addresses of others, or the `first` of each. KernelError.

    `asked` has with each the address to ask from: one of ours in the same prefix. Without such a one it is unspecified,
    and then whoever probes for the address at this moment takes that for a conflict (RFC 5227, 2.1.1). Interfaces that
    are not Ethernet have no ARP, and no answers.
    """
    wanted = {address.removeprefix(MAPPED): address for address in asked}
    found = Answers(len(wanted) if first else 0)
    sock = _open(interface)
    try:
        if not wanted or sock.getsockname()[3] != ARPHRD_ETHER:
            return {}
        own = sock.getsockname()[4]

        def hear(packet: bytes) -> None:
            if (answer := answered(packet, own)) is not None and answer[0] in wanted:
                found.note(wanted[answer[0]], answer[1])

        def send() -> None:
            for packed, address in wanted.items():
                _send(sock, interface, own, asked[address].removeprefix(MAPPED), packed)

        await ask(_listen(sock, hear), send, found.enough)
    finally:
        sock.close()
    return found.all()


async def announce(interface: str, addresses: Collection[bytes]) -> None:
    """Tell the link that these IPv4 addresses are ours now, so that nobody goes on with what he knew before."""
    sock = _open(interface)
    try:
        if not addresses or sock.getsockname()[3] != ARPHRD_ETHER:
            return
        for announcement in range(ANNOUNCEMENTS):
            if announcement:
                await asyncio.sleep(ANNOUNCE_INTERVAL)
            for address in addresses:
                packed = address.removeprefix(MAPPED)
                _send(sock, interface, sock.getsockname()[4], packed, packed)
    finally:
        sock.close()


def _open(interface: str) -> socket.socket:
    """A socket that hears the interface's ARP."""
    sock = None
    try:
        # With protocol 0 it hears nothing until it is bound; otherwise it would hear other interfaces first.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        sock.bind((interface, ETH_P_ARP))
    except OSError as error:
        if sock is not None:
            sock.close()
        raise KernelError.from_errno(error.errno or 0, f"hear ARP on {interface}") from error
    return sock


def _send(sock: socket.socket, interface: str, hardware: bytes, sender: bytes, target: bytes) -> None:
    packet = _PACKET.pack(ARPHRD_ETHER, 0x0800, 6, 4, REQUEST, hardware, sender, bytes(6), target)
    try:
        sock.sendto(packet, (interface, ETH_P_ARP, 0, ARPHRD_ETHER, BROADCAST))
    except BlockingIOError:
        return  # the device's queue is full: as good as lost on the wire, and there are more to come
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"send ARP on {interface}") from error


async def _listen(sock: socket.socket, hear: Callable[[bytes], None]) -> None:
    """Hand on all ARP that the interface hears. KernelError, when the link goes down."""
    turn = Turn()
    while True:
        try:
            packet = sock.recv(128)
        except BlockingIOError:
            await readable(sock)
            continue
        except OSError as error:
            raise KernelError.from_errno(error.errno or 0, "hear ARP") from error
        hear(packet)
        await turn.read_one()


def answered(packet: bytes, own: bytes) -> tuple[bytes, bytes] | None:
    """Which address (4 bytes) another host than `own` has by this packet, and its hardware address."""
    if len(packet) < _PACKET.size:
        return None
    _, protocol, *lengths, _operation, hardware, sender, _, _target = _PACKET.unpack_from(packet)
    if protocol != 0x0800 or lengths != [6, 4] or hardware == own or sender == NOBODY:
        return None
    return bytes(sender), bytes(hardware)


def claimed(packet: bytes, own: bytes, wanted: Collection[bytes]) -> bytes | None:
    """Which of the addresses `wanted` (4 bytes each) another host than `own` (its hardware address) speaks for, or
    probes for (RFC 5227, 2.1.1).
    """
    if len(packet) < _PACKET.size:
        return None
    _, protocol, *_lengths, _operation, hardware, sender, _, target = _PACKET.unpack_from(packet)
    if protocol != 0x0800 or hardware == own:
        return None
    if sender in wanted:
        return bytes(sender)
    # Another probes for it too: none of us may have it.
    return bytes(target) if sender == NOBODY and target in wanted else None
