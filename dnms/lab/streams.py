"""Streams of pings and of TCP, from the router to nodes, and what of them was lost.

The kernels of the nodes answer pings (RFC 4443, 4.2; RFC 792) from the address that was asked. An echo server in each
node's namespace answers TCP; a connection lives as long as the node has the address that it began with.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec

from dnms.events.ip import MAPPED, family, format_address
from dnms.linux.namespaces import Namespace

EVERY = 0.1  # seconds between two pings to an address, and two words on a connection
ANSWERED = 2.0  # seconds after which a ping is lost, and a connection has ended
PORT = 7  # echo, RFC 862
_HEAD = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence
_ASK = {4: 8, 6: 128}
_ANSWER = {4: 0, 6: 129}
_IDENTIFIER = 0x444E


class Counted(msgspec.Struct, frozen=True):
    """What became of all streams."""

    pings: int
    lost_pings: int
    connections: int
    broken_connections: int


class Streams:
    """From one namespace to addresses of others."""

    def __init__(self, source: Namespace) -> None:
        self._source = source
        self._raw: dict[int, socket.socket] = {}
        self._sending: dict[bytes, asyncio.Task[None]] = {}
        self._talking: dict[bytes, asyncio.Task[None]] = {}
        self._waiting: dict[tuple[bytes, int], float] = {}  # address and number: when it was asked
        self._asked = self._number = self._connections = 0
        self.heard: dict[bytes, float] = {}  # address: when it answered first, by the monotonic clock
        self.lost: list[str] = []  # for people
        self.broken: list[str] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, source: Namespace, targets: Sequence[Namespace]) -> AsyncGenerator[Streams, None]:
        """With echo servers in `targets`. OSError."""
        streams = cls(source)
        async with AsyncExitStack() as stack:
            for target in targets:
                with target.entered():
                    listening = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
                server = await asyncio.start_server(_echo, sock=listening)
                stack.callback(server.close)
            loop = asyncio.get_running_loop()
            for kind, domain, protocol in (
                (6, socket.AF_INET6, socket.IPPROTO_ICMPV6),
                (4, socket.AF_INET, socket.IPPROTO_ICMP),
            ):
                with source.entered():
                    raw = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
                stack.callback(raw.close)
                streams._raw[kind] = raw
                loop.add_reader(raw, streams._hear, kind)
                stack.callback(loop.remove_reader, raw)
            try:
                yield streams
            finally:
                await streams._stop(list(streams._sending))

    def begin(self, address: bytes, *, talk: bool = True) -> None:
        """Ping an address from now on, and talk over a connection to it."""
        self._sending[address] = asyncio.ensure_future(self._ping(address))
        if talk:
            self._talking[address] = asyncio.ensure_future(self._talk(address))
            self._connections += 1

    async def end(self, addresses: Sequence[bytes]) -> None:
        """Leave these alone from now on, and see what is still to come."""
        await self._stop(addresses)
        await asyncio.sleep(ANSWERED)
        for address, number in [each for each in self._waiting if each[0] in addresses]:
            asked = self._waiting.pop((address, number))
            ago = time.monotonic() - asked
            self.lost.append(f"no answer from {format_address(address)} to a ping {ago:.1f} s ago")

    @property
    def counted(self) -> Counted:
        """Of all that has ended."""
        return Counted(self._asked, len(self.lost), self._connections, len(self.broken))

    async def _stop(self, addresses: Sequence[bytes]) -> None:
        ending = [tasks.pop(each) for tasks in (self._sending, self._talking) for each in addresses if each in tasks]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for task in ending:
            if not task.cancelled():
                task.result()

    async def _ping(self, address: bytes) -> None:
        kind = family(address)
        while True:
            self._number = (self._number + 1) & 0xFFFF
            self._asked += 1
            self._waiting[address, self._number] = time.monotonic()
            packet = _HEAD.pack(_ASK[kind], 0, 0, _IDENTIFIER, self._number)
            if kind == 4:  # of ICMPv6 the kernel knows the checksum
                packet = _HEAD.pack(_ASK[kind], 0, _checksum(packet), _IDENTIFIER, self._number)
            with suppress(OSError):  # then no answer comes either
                self._raw[kind].sendto(packet, (_text(address), 0))
            await asyncio.sleep(EVERY)

    def _hear(self, kind: int) -> None:
        with suppress(BlockingIOError):
            while True:
                data, peer = self._raw[kind].recvfrom(2048)
                if kind == 4:
                    data = data[(data[0] & 15) * 4 :]
                what, _, _, identifier, number = _HEAD.unpack_from(data)
                if (what, identifier) == (_ANSWER[kind], _IDENTIFIER):
                    address = ipaddress.ip_address(peer[0].split("%")[0]).packed
                    address = address if kind == 6 else MAPPED + address
                    self._waiting.pop((address, number), None)
                    self.heard.setdefault(address, time.monotonic())

    async def _talk(self, address: bytes) -> None:
        """Until cancelled, or until the connection is broken."""
        loop = asyncio.get_running_loop()
        with self._source.entered():
            channel = socket.socket(socket.AF_INET6 if family(address) == 6 else socket.AF_INET, socket.SOCK_STREAM)
        said = 0
        with channel:
            channel.setblocking(False)
            try:
                async with asyncio.timeout(ANSWERED):
                    await loop.sock_connect(channel, (_text(address), PORT))
                while True:
                    async with asyncio.timeout(ANSWERED):
                        await loop.sock_sendall(channel, b"%8d" % said)
                        heard = b""
                        while len(heard) < 8 and (more := await loop.sock_recv(channel, 8 - len(heard))):
                            heard += more
                    if heard != b"%8d" % said:
                        raise ConnectionError("it was closed")
                    said += 1
                    await asyncio.sleep(EVERY)
            except OSError as error:  # TimeoutError too
                why = str(error) or "no answer"
                self.broken.append(f"the connection to {format_address(address)} broke after {said} words: {why}")


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(64):
            writer.write(data)
            await writer.drain()
    writer.close()


def _text(address: bytes) -> str:
    return format_address(address)


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
