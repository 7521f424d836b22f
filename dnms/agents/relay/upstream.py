"""The agents that a relay passes nodes on to: which of them answer, and whose turn it is."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from dnms.agents.listening import read_exactly
from dnms.events.ip import family, format_address
from dnms.wire import relaying
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import Endpoint
from dnms.wire.relaying import HEAD, MAX_RECORD, Asking, Here, Refused, Relayed, Said

ASK_EVERY = 5.0  # seconds; so long a node may be offered an agent that is not there
ASK_AGAIN = 2.0  # where it is not
ASK_AT_MOST = 0.5  # seconds between two questions, whoever gives a reason to ask
ASK_WITHIN = 3.0
CONNECT_WITHIN = 1.5  # seconds; a node waits for 5, in which the next agent is to be tried too
ANSWER_WITHIN = 3.0  # seconds for the first bytes of TLS; a storm of nodes keeps an agent busy
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Both ends speak every 15 s, and notice themselves if the other is gone; this is for when both are."""

Say = Callable[[Said], bytes]
"""Encodes and signs what a relay says."""

_logger = structlog.get_logger(__name__)


def keep_alive(sock: socket.socket) -> None:
    """Send what there is at once, and notice some time if nobody is there. OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Agent:
    """One of them. `here` is what it has said last; None: it does not answer, or refuses this relay."""

    def __init__(self, endpoint: Endpoint, subnet: str, say: Say, changed: asyncio.Event) -> None:
        """`changed` is set when `here` changes."""
        address = format_address(endpoint.address)
        self.at = f"[{address}]:{endpoint.port}" if ":" in address else f"{address}:{endpoint.port}"
        self.here: Here | None = None
        self.passed = 0  # nodes, since it has said how many it has
        self._endpoint = endpoint
        self._subnet = subnet
        self._say = say
        self._changed = changed
        self._why = ""  # it was said that it is not there
        self._ask = asyncio.Event()

    async def run(self) -> None:
        """Ask it again and again, until cancelled."""
        while True:
            self._ask.clear()
            try:
                async with asyncio.timeout(ASK_WITHIN):
                    self._is_here(await self._asked())
            except (OSError, PeerError) as error:
                self._is_away(error)
            await asyncio.sleep(ASK_AT_MOST)
            with suppress(TimeoutError):
                every = ASK_AGAIN if self.here is None else ASK_EVERY
                async with asyncio.timeout(random.uniform(0.9, 1.1) * every - ASK_AT_MOST):
                    await self._ask.wait()

    async def open(self, relayed: Relayed, record: bytes) -> tuple[socket.socket, bytes]:
        """Pass on a node that has begun with this record; the connection, and the first bytes that came back.

        OSError, PeerError.
        """
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                sock = await self._connected()
        except OSError as error:
            self._is_away(error)
            self._ask.set()  # perhaps this one connection was lost
            raise
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return sock, await self._answer(sock, self._say(relayed) + record)
        except BaseException as error:
            sock.close()
            # A node that has too many connections is not let in, and must not make the agent one that is not there.
            if isinstance(error, OSError | PeerError):
                self._ask.set()
            raise

    async def _answer(self, sock: socket.socket, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, data)
        first = await loop.sock_recv(sock, 1)
        if not first:
            raise ConnectionResetError("it ended the connection")
        if relaying.is_answer(first):
            answer = await self._read_answer(sock, first)
            raise PeerError(Code.KIND, "an answer to no question") if isinstance(answer, Here) else _refused(answer)
        return first + await loop.sock_recv(sock, MAX_RECORD)

    async def _asked(self) -> Here:
        sock = await self._connected()
        try:
            await asyncio.get_running_loop().sock_sendall(sock, self._say(Asking(subnet=self._subnet)))
            answer = await self._read_answer(sock)
        finally:
            sock.close()
        if isinstance(answer, Refused):
            raise _refused(answer)
        return answer

    async def _read_answer(self, sock: socket.socket, first: bytes = b"") -> relaying.Answer:
        head = relaying.decode_head(first + await read_exactly(sock, HEAD - len(first)))
        return relaying.decode_answer(head, await read_exactly(sock, head.length))

    async def _connected(self) -> socket.socket:
        address = self._endpoint.address
        kind = socket.AF_INET if family(address) == 4 else socket.AF_INET6
        sock = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            keep_alive(sock)
            await asyncio.get_running_loop().sock_connect(sock, (format_address(address), self._endpoint.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _is_here(self, here: Here) -> None:
        if self.here is None:
            _logger.info("agent answers", at=self.at, agent=here.agent, site=here.site)
        if here != self.here:
            self._changed.set()
        self.here, self._why, self.passed = here, "", 0

    def _is_away(self, error: OSError | PeerError) -> None:
        why = str(error.why) if isinstance(error, PeerError) else "not-reached"
        if why != self._why:
            _logger.warning("agent does not take nodes", at=self.at, why=why, text=str(error) or "it does not answer")
        if self.here is not None:
            self._changed.set()
        self.here, self._why = None, why


class Agents:
    """All that a relay knows. `changed` is set when it is to be offered otherwise."""

    def __init__(self, endpoints: Iterable[Endpoint], subnet: str, say: Say) -> None:
        self.changed = asyncio.Event()
        self._agents = [Agent(each, subnet, say, self.changed) for each in endpoints]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for agent in self._agents:
                tasks.create_task(agent.run())

    @property
    def best(self) -> Here | None:
        """What is to be offered: what the one says whose turn it is."""
        return next((agent.here for agent in self._in_order()), None)

    async def open(self, relayed: Relayed, record: bytes) -> tuple[socket.socket, bytes]:
        """Pass a node on to whose turn it is, or else the next: as `Agent.open`. PeerError `no-agent`."""
        for agent in self._in_order():
            try:
                opened = await agent.open(relayed, record)
            except (OSError, PeerError):  # which it has logged
                continue
            agent.passed += 1
            return opened
        raise PeerError(Code.NO_AGENT)

    def _in_order(self) -> list[Agent]:
        """Those that answer: by preference, then by sessions, those that were passed on since counted."""
        ranked = [((-each.here.preference, each.here.load + each.passed), each) for each in self._agents if each.here]
        return [agent for _, agent in sorted(ranked, key=lambda each: each[0])]


def _refused(answer: Refused) -> PeerError:
    known = Code(answer.code) if answer.code in set(Code) else Code.REFUSED
    return PeerError(known, answer.text)
