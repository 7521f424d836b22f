"""rtnetlink's sockets: one that asks, one that has much changed at once, one that hears.

pyroute2's asyncio sockets do not run on uvloop (its issue 1335), are made at the first `await` (too late to choose a
namespace), and decode everything: a router with a million routes is counted here without decoding them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import msgspec

from dnms.linux.errors import KernelError
from dnms.linux.readiness import readable

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
SO_RCVBUFFORCE = 33

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_ACK_TLVS = 0x200

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ERROR = struct.Struct("=i")
ATTRIBUTE = struct.Struct("=HH")
NLMSGERR_ATTR_MSG = 1

READ = 1 << 18  # bytes; the kernel fills at most 32 KiB of a dump at once, and a notification is far smaller
MONITOR_BUFFER = 64 << 20  # bytes; 20 000 routes at once overflow the default buffer after about 215
DUMP_TRIES = 5  # a dump that the kernel marks as interrupted by a change is asked for again

AT_ONCE = 1_000  # changes in one message to the kernel, which makes them before it returns: 1 000 routes in some 10 ms
FOR_ANSWERS = 4 << 20  # bytes of refusals that fit into the socket of a batch
ANSWER = 2_048  # bytes that one refusal may take there, with what the kernel keeps beside it

Wanted = Callable[[bytes, int], bool]
"""Says of a raw message, by the buffer and the offset of its payload, whether it is worth decoding."""


class Asked(msgspec.Struct, frozen=True):
    """One change of many."""

    kind: int  # RTM_*
    message: bytes  # without the header
    flags: int
    doing: str  # for people


def split(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Offset, length, type, flags and sequence of each message in a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            return
        yield offset, length, kind, flags, sequence
        offset += length + 3 & ~3


def open_socket(groups: int = 0, *, buffer: int = 0) -> socket.socket:
    """A non-blocking rtnetlink socket in the thread's network namespace, subscribed to a mask of groups.

    `buffer`: bytes that may wait in it, where that is not as usual.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        if buffer:
            # Forcing needs the privilege in the first user namespace; without it, what the system allows.
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            sock.setsockopt(SOL_NETLINK, option, 1)
        sock.bind((0, groups))
    except BaseException:
        sock.close()
        raise
    return sock


class RequestSocket:
    """Asks the kernel one thing after the other. Any number of tasks may use it."""

    def __init__(self) -> None:
        self._socket = open_socket()
        self._lock = asyncio.Lock()
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def change(self, kind: int, message: bytes, flags: int, *, doing: str) -> None:
        """Ask for a change and wait until the kernel has made it; KernelError if it refuses. `doing` is for people."""
        await self._ask(kind, message, NLM_F_REQUEST | NLM_F_ACK | flags, doing, lambda _data, _offset: False)

    async def dump(self, kind: int, message: bytes, *, doing: str, wanted: Wanted | None = None) -> list[bytes]:
        """The payloads of all messages of a dump that are wanted, taken at one moment."""
        for _ in range(DUMP_TRIES):
            messages, whole = await self._ask(kind, message, NLM_F_REQUEST | NLM_F_DUMP, doing, wanted)
            if whole:
                break
        return messages  # a system that changes all the time is seen as well as it can be

    async def _ask(
        self, kind: int, message: bytes, flags: int, doing: str, wanted: Wanted | None
    ) -> tuple[list[bytes], bool]:
        """Send one request; return the payloads of the answers, and whether the kernel says that they fit together."""
        async with self._lock:
            self._sequence = sequence = self._sequence % 0xFFFF_FFFF + 1
            try:
                self._socket.send(HEADER.pack(HEADER.size + len(message), kind, flags, sequence, 0) + message)
            except OSError as error:
                raise KernelError.from_errno(error.errno or 0, doing) from error
            return await self._answer(sequence, doing, wanted)

    async def _answer(self, sequence: int, doing: str, wanted: Wanted | None) -> tuple[list[bytes], bool]:
        messages: list[bytes] = []
        whole = True
        while True:
            try:
                data = self._socket.recv(READ)
            except BlockingIOError:
                await readable(self._socket)
                continue
            except OSError as error:
                raise KernelError.from_errno(error.errno or 0, doing) from error
            for offset, length, kind, flags, answered in split(data):
                if answered != sequence:
                    continue  # the rest of a request whose caller was cancelled
                whole = whole and not flags & NLM_F_DUMP_INTR
                payload = offset + HEADER.size
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    code = -ERROR.unpack_from(data, payload)[0] if length >= HEADER.size + ERROR.size else 0
                    if code > 0:
                        raise KernelError.from_errno(code, doing, _said(data[offset : offset + length], kind, flags))
                    return messages, whole
                if wanted is None or wanted(data, payload):
                    messages.append(data[payload : offset + length])


def _said(message: bytes, kind: int, flags: int) -> str:
    """The kernel's own explanation of an error, if there is one."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    offset = HEADER.size + ERROR.size + (HEADER.size if kind == NLMSG_ERROR else 0)
    while offset + ATTRIBUTE.size <= len(message):
        length, attribute = ATTRIBUTE.unpack_from(message, offset)
        if length < ATTRIBUTE.size:
            break
        if attribute == NLMSGERR_ATTR_MSG:
            return message[offset + ATTRIBUTE.size : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += length + 3 & ~3
    return ""


class BatchSocket:
    """Has the kernel make many changes at once: those that it refuses are told, the others are made."""

    def __init__(self) -> None:
        self._socket = open_socket(buffer=FOR_ANSWERS)
        room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // ANSWER
        self._at_once = max(1, min(AT_ONCE, room))
        self._sendable = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        self._lock = asyncio.Lock()
        self._sequences = count(1)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def change(self, changes: Sequence[Asked]) -> dict[int, KernelError]:
        """Make them in their order; what was refused, by the index in `changes`. KernelError if it was not asked.

        Only the last of those that go to the kernel together is acknowledged, and of the others what is refused: an
        acknowledgement of each would take more than making it.
        """
        refused: dict[int, KernelError] = {}
        async with self._lock:
            at = 0
            while at < len(changes):
                data, until = self._packed(changes, at)
                sequences = {sequence: index for index, sequence in enumerate(data, start=at)}
                doing = changes[until - 1].doing
                try:
                    self._socket.send(b"".join(data.values()))
                except OSError as error:
                    raise KernelError.from_errno(error.errno or 0, doing) from error
                for sequence, code, said in await self._answers(max(sequences), doing):
                    if (index := sequences.get(sequence)) is not None:
                        refused[index] = KernelError.from_errno(code, changes[index].doing, said)
                at = until
        return refused

    def _packed(self, changes: Sequence[Asked], at: int) -> tuple[dict[int, bytes], int]:
        """As many messages as go to the kernel at once, by their sequence numbers, and the index of the next one."""
        data: dict[int, bytes] = {}
        size, until = 0, at
        while until < len(changes) and len(data) < self._at_once and (size < self._sendable or not data):
            asked = changes[until]
            last = until + 1 == len(changes)
            until += 1
            sequence = next(self._sequences)
            body = asked.message + bytes(-len(asked.message) % 4)
            length = HEADER.size + len(body)
            size += length
            ends = last or len(data) + 1 == self._at_once or size >= self._sendable
            flags = NLM_F_REQUEST | asked.flags | (NLM_F_ACK if ends else 0)
            data[sequence] = HEADER.pack(length, asked.kind, flags, sequence, 0) + body
        return data, until

    async def _answers(self, last: int, doing: str) -> list[tuple[int, int, str]]:
        """Sequence, errno and explanation of each refusal, up to the answer to the message `last`."""
        refusals: list[tuple[int, int, str]] = []
        while True:
            try:
                data = self._socket.recv(READ)
            except BlockingIOError:
                await readable(self._socket)
                continue
            except OSError as error:
                raise KernelError.from_errno(error.errno or 0, doing) from error
            for offset, length, kind, flags, sequence in split(data):
                if kind != NLMSG_ERROR:
                    continue
                code = -ERROR.unpack_from(data, offset + HEADER.size)[0]
                if code > 0:
                    refusals.append((sequence, code, _said(data[offset : offset + length], kind, flags)))
                if sequence == last:
                    return refusals


class NotificationSocket:
    """Hears the kernel's notifications, and survives when they come too fast. One task reads it."""

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self._socket = open_socket(groups, buffer=MONITOR_BUFFER)
        self._woken: asyncio.Future[None] | None = None
        self._closed = False

    def close(self) -> None:
        """Close the socket; a read that is waiting ends with nothing."""
        self._closed = True
        if self._woken is None:
            self._socket.close()
        elif not self._woken.done():
            self._woken.set_result(None)

    async def read(self) -> bytes | None:
        """The next datagram; empty when closed; None when the kernel has dropped some, and all must be read anew."""
        while not self._closed:
            try:
                return self._socket.recv(READ)
            except BlockingIOError:
                await self._wait()
            except OSError:
                # ENOBUFS: what is still queued is older than the loss. A new socket hears from here on.
                fresh = open_socket(self._groups, buffer=MONITOR_BUFFER)
                self._socket.close()
                self._socket = fresh
                return None
        return b""

    async def _wait(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await readable(self._socket, self._woken)
        finally:
            self._woken = None
            if self._closed:
                self._socket.close()
