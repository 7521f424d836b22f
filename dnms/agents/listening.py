"""What both kinds of doors to a link have, a Subnet Agent's and a relay's: who knocks, and who asks for an agent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import traceback
from collections import Counter
from typing import NamedTuple, Protocol, TypeVar

from dnms.linux import multicast
from dnms.linux.errors import KernelError
from dnms.linux.multicast import DatagramReader, Peer, Receive
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import ALL_NODES, GROUP, PORT

T_co = TypeVar("T_co", covariant=True)

GROUPS = (GROUP, ALL_NODES)


class Entered(NamedTuple):
    """Who was led through TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    peer: str  # the node's address; a link-local one may have its scope
    relay: str = ""  # through which it came; empty: none


class Knock(Protocol[T_co]):
    """A connection that was not let in yet."""

    @property
    def peer(self) -> str:
        """The address that it comes from."""
        ...

    async def enter(self, *, within: float) -> T_co:
        """Lead it in, in so many seconds: through TLS, or what it has to prove. OSError, ssl.SSLError, PeerError."""
        ...

    def close(self) -> None:
        """Let it not in."""


class Listener(Protocol[T_co]):
    """One address and port that is listened on."""

    async def accept(self) -> Knock[T_co]:
        """Wait for the next connection. OSError."""
        ...

    def close(self) -> None:
        """Listen no more."""


class Discovery(Protocol):
    """The sockets of discovery: one hears the link's groups, answers go out from the other."""

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        ...

    def send(self, data: bytes, peer: Peer) -> None:
        """Answer a peer, if the link carries it at this moment. KernelError."""

    def rejoin(self) -> None:
        """Join the groups again: a snooping bridge may have forgotten the membership. KernelError."""

    def close(self) -> None:
        """Hear no more."""


class DiscoveryLink(Protocol):
    """What is needed of a link to be found on it."""

    def discovery(self, receive: Receive) -> Discovery:
        """Hear who asks for an agent. KernelError."""
        ...


async def read_exactly(sock: socket.socket, length: int) -> bytes:
    """So many bytes of a TCP connection that has no streams yet. OSError; PeerError if it ends before."""
    loop, read = asyncio.get_running_loop(), bytearray()
    while len(read) < length:
        if not (data := await loop.sock_recv(sock, length - len(read))):
            raise PeerError(Code.TRUNCATED, f"{len(read)} bytes of {length}")
        read += data
    return bytes(read)


class TcpKnock:
    """A TCP connection that was accepted, before TLS."""

    def __init__(self, connection: socket.socket, peer: str, context: ssl.SSLContext, *, relay: str = "") -> None:
        self.peer = peer
        self._relay = relay
        self._connection = connection
        self._context = context

    async def enter(self, *, within: float) -> Entered:
        """Lead it through TLS. OSError, ssl.SSLError."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, self._connection, ssl=self._context, ssl_handshake_timeout=within
            )
        except BaseException as error:
            # asyncio's frames hold the error, which holds them, and with them TLS's buffer of 256 KiB: a flood of what
            # never gets through TLS would keep a gigabyte of these, until it comes to Python to look for such circles.
            traceback.clear_frames(error.__traceback__)
            raise
        return Entered(reader, asyncio.StreamWriter(transport, protocol, reader, loop), self.peer, self._relay)

    def close(self) -> None:
        """Let it not in."""
        self._connection.close()


class TcpListener:
    """A TCP socket that listens, and the TLS behind it."""

    def __init__(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = listening
        self._context = context

    async def accept(self) -> TcpKnock:
        """Wait for the next connection. OSError."""
        connection, address = await asyncio.get_running_loop().sock_accept(self._socket)
        return TcpKnock(connection, str(address[0]), self._context)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class LinuxDiscovery:
    """Discovery on one interface."""

    def __init__(self, interface: int, receive: Receive) -> None:
        """KernelError if the sockets cannot be had."""
        self._interface = interface
        self._listening = multicast.group_socket(interface, PORT, GROUPS)
        try:
            self._answers = multicast.unicast_socket(interface)
        except KernelError:
            self._listening.close()
            raise
        self._reader = DatagramReader(self._listening, receive)

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        return self._reader.dropped

    def send(self, data: bytes, peer: Peer) -> None:
        """Answer a peer. KernelError."""
        multicast.send(self._answers, data, peer, interface=self._interface)

    def rejoin(self) -> None:
        """Join the groups again. KernelError."""
        multicast.rejoin(self._listening, self._interface, GROUPS)

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()
        self._answers.close()
