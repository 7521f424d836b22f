"""Hears what the hosts of a link say to all: ARP, Neighbor Discovery, and DHCP servers and clients.

A packet socket hears every frame of an interface, so the kernel is given a filter (classic BPF, packet(7)) by which it
hands on these alone. What then is left of a flood is bounded: so many frames a second are read, and the kernel drops
the rest where it stands, in a buffer that is small.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable

from dnms.linux.arp import ARPHRD_ETHER
from dnms.linux.errors import KernelError
from dnms.wire.rates import Bucket
from dnms.wire.seen import MAX_FRAME

READS_AT_ONCE, READS_A_SECOND = 1_000, 1_000
"""Frames that are read. A link of 1 000 hosts says some ten a second to all; a frame costs some 20 µs of one core."""
BURST = 32  # frames read before other tasks get their turn
PAUSE = 0.05  # seconds in which nothing is read when there were too many
BUFFER = 1 << 18  # bytes of the socket's: some 300 frames, as the kernel counts them

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 1, 6, 23
PACKET_MR_ALLMULTI = 2
SO_ATTACH_FILTER = 26

_STATISTICS = struct.Struct("=II")  # frames that passed the filter, and of these those that were dropped
_MEMBERSHIP = struct.Struct("=iHH8s")
_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, operand
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog

# Opcodes of classic BPF: class, size and mode together.
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_X, _LOAD_HEADER = 0x30, 0x28, 0x48, 0xB1
_IF_EQUAL, _IF_ABOVE, _IF_ANY_BIT, _JUMP, _RETURN = 0x15, 0x25, 0x45, 0x05, 0x06
_VLAN_PRESENT = 0xFFFFF000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT

_WORDS: tuple[tuple[str, int, int, str, str], ...] = (
    # A tagged frame is of another link.
    ("", _LOAD_BYTE, _VLAN_PRESENT, "", ""),
    ("", _IF_EQUAL, 0, "", "drop"),
    ("", _LOAD_HALF, 12, "", ""),  # the type of the frame
    ("", _IF_EQUAL, 0x0806, "take", ""),
    ("", _IF_EQUAL, 0x86DD, "six", ""),
    ("", _IF_EQUAL, 0x0800, "four", "drop"),
    ("six", _LOAD_BYTE, 20, "", ""),  # the next header: with none between, as RFC 6980 has it
    ("", _IF_EQUAL, 58, "icmp", ""),
    ("", _IF_EQUAL, 17, "", "drop"),
    ("", _LOAD_HALF, 54, "", ""),  # from a server, or to servers
    ("", _IF_EQUAL, 547, "take", ""),
    ("", _LOAD_HALF, 56, "", ""),
    ("", _IF_EQUAL, 547, "take", "drop"),
    ("icmp", _LOAD_BYTE, 21, "", ""),  # the hop limit
    ("", _IF_EQUAL, 255, "", "drop"),
    ("", _LOAD_BYTE, 54, "", ""),  # the type: RS 133, RA 134, NS 135, NA 136
    ("", _IF_ABOVE, 136, "drop", ""),
    ("", _IF_ABOVE, 132, "take", "drop"),
    ("four", _LOAD_BYTE, 23, "", ""),  # the protocol
    ("", _IF_EQUAL, 17, "", "drop"),
    ("", _LOAD_HALF, 20, "", ""),  # a part of a datagram
    ("", _IF_ANY_BIT, 0x3FFF, "drop", ""),
    ("", _LOAD_HEADER, 14, "", ""),  # the length of the IPv4 header
    ("", _LOAD_HALF_X, 14, "", ""),  # from a server, or to one
    ("", _IF_EQUAL, 67, "take", ""),
    ("", _LOAD_HALF_X, 16, "", ""),
    ("", _IF_EQUAL, 67, "take", "drop"),
    ("take", _RETURN, MAX_FRAME, "", ""),
    ("drop", _RETURN, 0, "", ""),
)
"""Label, opcode, operand, and where to go if that is so and if not; no label: on to the next."""


def program() -> bytes:
    """The filter as the kernel takes it."""
    places = {label: place for place, (label, *_) in enumerate(_WORDS) if label}

    def way(label: str, place: int) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        _INSTRUCTION.pack(code, way(yes, place), way(no, place), operand)
        for place, (_, code, operand, yes, no) in enumerate(_WORDS)
    )


class Watching:
    """Hands each such frame to `heard`, from when it is made until `close`.

    What `heard` raises ends nothing: it goes to the loop's exception handler. `dropped` counts, by a stable word.
    """

    def __init__(self, interface: str, heard: Callable[[bytes], None]) -> None:
        """KernelError if it cannot be heard; `not-supported` where the interface is not Ethernet."""
        self._heard = heard
        self._interface = interface
        self._socket = _open(interface)
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(burst=READS_AT_ONCE, per_second=READS_A_SECOND, now=self._loop.time())
        self._paused: asyncio.TimerHandle | None = None
        self.dropped: Counter[str] = Counter()
        self._resume()

    def count(self) -> None:
        """Take what the kernel has dropped since then into `dropped`."""
        if self._socket.fileno() >= 0:
            _, lost = _STATISTICS.unpack(self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size))
            if lost:
                self.dropped["flood"] += lost

    def close(self) -> None:
        """Hear no more."""
        if self._paused is not None:
            self._paused.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(BURST):
            if self._socket.fileno() < 0:
                return  # closed by who heard
            if not self._bucket.take(self._loop.time()):
                self._loop.remove_reader(self._socket.fileno())
                self._paused = self._loop.call_later(PAUSE, self._resume)
                return
            try:
                frame = self._socket.recv(MAX_FRAME)
            except BlockingIOError:
                return
            except OSError as error:
                # The link went down, and may come again; or it is gone, and then whoever serves it ends.
                self.dropped["link-down" if error.errno == errno.ENETDOWN else "read-error"] += 1
                return
            self._heard(frame)


def _open(interface: str) -> socket.socket:
    filter_ = ctypes.create_string_buffer(program())
    sock = None
    try:
        # With protocol 0 it hears nothing until it is bound, and by then it has its filter.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        size = len(_WORDS)
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _PROGRAM.pack(size, ctypes.addressof(filter_)))
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # what this machine says it knows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER // 2)  # which the kernel doubles
        sock.bind((interface, ETH_P_ALL))
        if sock.getsockname()[3] != ARPHRD_ETHER:
            raise KernelError("not-supported", f"{interface} is not Ethernet: nothing is said there to all")
        # Solicitations go to groups of which this machine is none (RFC 4291, 2.7.1): the interface is to take them too.
        index = socket.if_nametoindex(interface)
        everything = _MEMBERSHIP.pack(index, PACKET_MR_ALLMULTI, 0, bytes(8))
        sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, everything)
    except KernelError:
        assert sock is not None
        sock.close()
        raise
    except OSError as error:
        if sock is not None:
            sock.close()
        raise KernelError.from_errno(error.errno or 0, f"watch {interface}") from error
    return sock
