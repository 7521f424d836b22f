"""Where a Subnet Agent listens that is not on the link of its nodes: what comes is of relays, or it is not let in.

Theory of operation. Each connection says first which relay it is of, signed (`wire.relaying`); anybody can knock, so
that has the bounds of a door of its own. What is proven then is a knock of a node, as one on the link is: by the
address that the relay has seen it with, so that the bounds for one node's address hold behind a relay too. The node's
own TLS is what it is led through, and nothing of that is read before.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from typing import Any, NoReturn

import structlog

from dnms.agents.door import MAX_HANDSHAKES, SPARE, Door
from dnms.agents.listening import TcpKnock, read_exactly
from dnms.disk.relay_credentials import Relays
from dnms.disk.signing import BadSignature, Untrusted
from dnms.events.ip import format_address, parse_address
from dnms.linux import multicast
from dnms.linux.errors import KernelError
from dnms.linux.readiness import peek
from dnms.wire import relaying
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import MAX_TEXT
from dnms.wire.rates import Buckets
from dnms.wire.relaying import HEAD, RECORD_HEAD, Asking, Here, Refused

ANYWHERE = tuple(map(parse_address, ("::", "0.0.0.0")))
SPARE_BEHIND = SPARE + MAX_HANDSHAKES  # descriptors that the door of nodes behind this one leaves to it and others
MAX_HELLOS = 65_536  # ClientHellos that have come: nothing but what a relay has signed pushes one out
MAX_PROVEN = 64  # nodes that wait to be led through TLS; more wait before their relay is believed
LINES_AT_ONCE = 4  # of the log about one address that is refused; more are counted
LINES_A_SECOND = 1 / 60
MAX_PEERS = 1_024  # whose lines are counted
REPORT = 60.0  # seconds between two lines about what was dropped
TAKE_WITHIN = 2.0  # seconds for a relay to take that it is refused

_logger = structlog.get_logger(__name__)


class Trust:
    """Which relays an agent believes: those that it is told of, of its own site, about its own subnet."""

    def __init__(self, root: bytes, subnet: str, relays: Collection[str]) -> None:
        """`root` is the site's root certificate, PEM. ValueError if it is damaged."""
        self._relays = Relays(root)
        self._subnet = subnet
        self._names = frozenset(relays)

    def check(self, head: relaying.Head, body: bytes) -> tuple[str, relaying.Said]:
        """The relay's name, and what it says. PeerError."""
        signed, said = relaying.decode_signed(head, body)
        content = relaying.to_sign(head.kind, signed.said)
        at = datetime.datetime.now(datetime.UTC)
        try:
            name = self._relays.name(signed.certificate, content, signed.signature, at=at)
        except Untrusted as error:
            raise PeerError(Code.UNTRUSTED, str(error)) from error
        except BadSignature as error:
            raise PeerError(Code.SIGNATURE, str(error)) from error
        if name not in self._names:
            text = f"the agent was not told of relay {name!r}: start it with `--relay {name}` if it should be"
            raise PeerError(Code.NOT_AUTHORISED, text)
        if said.subnet != self._subnet:
            text = f"relay {name!r} is on the link of subnet {said.subnet!r}, and this agent serves {self._subnet!r}"
            raise PeerError(Code.OTHER_SUBNET, text)
        return name, said


class RelayKnock:
    """A connection that says to be of a relay."""

    def __init__(self, connection: socket.socket, peer: str, porch: Porch) -> None:
        self.peer = peer
        self._connection = connection
        self._porch = porch

    async def enter(self, *, within: float) -> TcpKnock | None:
        """The node that the relay passes on; None if it asked who is there, and was told. PeerError."""
        try:
            async with asyncio.timeout(within):
                return await self._enter()
        except TimeoutError as error:
            raise PeerError(Code.TIMEOUT) from error
        except OSError as error:
            raise PeerError(Code.END, str(error)) from error

    async def _enter(self) -> TcpKnock | None:
        porch, connection = self._porch, self._connection
        head = relaying.decode_head(await read_exactly(connection, HEAD))
        body = await read_exactly(connection, head.length)
        try:
            relay, said = porch.trust.check(head, body)
        except PeerError as error:
            await self._refuse(error)
        if isinstance(said, Asking):
            await self._answer(porch.here())
            self.close()
            return None
        length = relaying.record_length(await self._peek(RECORD_HEAD))
        if relaying.digest(await self._peek(length)) != said.hello:
            await self._refuse(PeerError(Code.SIGNATURE, "the relay has signed for another ClientHello"))
        if not porch.is_first(said.hello):
            await self._refuse(PeerError(Code.REPEATED, "this ClientHello has come before"))
        return TcpKnock(connection, format_address(said.node), porch.context, relay=relay)

    async def _peek(self, length: int) -> bytes:
        data = await peek(self._connection, length)
        if len(data) < length:
            raise PeerError(Code.TRUNCATED)
        return data

    async def _answer(self, answer: relaying.Answer) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, relaying.encode_answer(answer))

    async def _refuse(self, error: PeerError) -> NoReturn:
        """Tell the relay why, and raise it."""
        self._porch.tell_refused(self.peer, error)
        try:
            async with asyncio.timeout(TAKE_WITHIN):
                await self._answer(Refused(code=error.why, text=error.text[:MAX_TEXT]))
                self._connection.shutdown(socket.SHUT_WR)
                # What is not read makes the end of the connection a reset, by which the answer would be lost.
                while await asyncio.get_running_loop().sock_recv(self._connection, relaying.MAX_RECORD):
                    pass
        except OSError:  # a timeout is one
            pass
        raise error

    def close(self) -> None:
        """Let it not in."""
        self._connection.close()


class _RelayListener:
    """A TCP socket that relays connect to."""

    def __init__(self, listening: socket.socket, porch: Porch) -> None:
        self._socket = listening
        self._porch = porch

    async def accept(self) -> RelayKnock:
        """Wait for the next connection. OSError."""
        connection, address = await asyncio.get_running_loop().sock_accept(self._socket)
        return RelayKnock(connection, str(address[0]), self._porch)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class Porch:
    """Of one agent. It is a listener: what it hands on are knocks of nodes."""

    def __init__(self, context: ssl.SSLContext, trust: Trust) -> None:
        """`context` is what nodes are led through."""
        self.context = context
        self.trust = trust
        self.here: Callable[[], Here] = _not_yet
        """Tells who the agent is; set before it runs."""
        # One address is a relay, with all nodes of its link.
        self._door: Door[TcpKnock | None] = Door(self._take, most=MAX_HANDSHAKES)
        self._listeners: list[_RelayListener] = []
        self._proven: asyncio.Queue[TcpKnock] = asyncio.Queue(MAX_PROVEN)
        self._hellos: OrderedDict[bytes, None] = OrderedDict()
        self._lines = Buckets(burst=LINES_AT_ONCE, per_second=LINES_A_SECOND, most=MAX_PEERS)

    @property
    def dropped(self) -> Counter[str]:
        """What was not let in, by a stable word."""
        return self._door.dropped

    def listen(self, port: int) -> list[int]:
        """Listen on all addresses of this machine; the ports. KernelError if there are none of either family."""
        sockets: list[socket.socket] = []
        for address in ANYWHERE:
            try:
                sockets.append(multicast.listener(address, port, interface=0))
            except KernelError as error:
                if error.why not in ("not-there", "not-supported"):  # as where this family is off
                    for each in sockets:
                        each.close()
                    raise
        if not sockets:
            raise KernelError("not-there", "this machine has neither IPv6 nor IPv4")
        self._listeners = [_RelayListener(each, self) for each in sockets]
        return [each.getsockname()[1] for each in sockets]

    async def run(self) -> None:
        """Take connections of relays until cancelled; after `listen`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._door.serve(self._listeners))
            tasks.create_task(self._report())

    async def accept(self) -> TcpKnock:
        """Wait for the next node."""
        return await self._proven.get()

    def close(self) -> None:
        """Hand on no more."""
        while not self._proven.empty():
            self._proven.get_nowait().close()

    def is_first(self, hello: bytes) -> bool:
        """Whether no node has begun with this: who only says it again would have a place of that node's address."""
        if hello in self._hellos:
            return False
        self._hellos[hello] = None
        if len(self._hellos) > MAX_HELLOS:
            self._hellos.popitem(last=False)
        return True

    def tell_refused(self, peer: str, error: PeerError) -> None:
        """A line of the log, unless this address has had many of late."""
        if self._lines.take(peer, asyncio.get_running_loop().time()):
            _logger.warning("relay refused", peer=peer, why=str(error.why), text=error.text)

    async def _take(self, knock: TcpKnock | None) -> None:
        if knock is None:
            return
        try:
            await self._proven.put(knock)
        except asyncio.CancelledError:
            knock.close()
            raise

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT)
            if self.dropped:
                counted: dict[str, Any] = dict(self.dropped)
                _logger.warning("relays not let in", **counted)
                self.dropped.clear()


def _not_yet() -> Here:
    raise RuntimeError("the agent has not begun")
