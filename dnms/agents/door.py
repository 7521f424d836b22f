"""Takes TCP connections and leads them in, through TLS as a rule. Whoever is on the link can knock, so all of it has
bounds.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from dnms.agents.listening import Knock, Listener
from dnms.wire.errors import PeerError

MAX_SESSIONS = 4_096  # of one link; each holds a descriptor and some 50 KiB, most of it for TLS
MAX_HANDSHAKES = 256  # at once, beside them; a peer that says nothing costs as much as one that talks
"""When there are more, the oldest one of the peer that has the most gives way. TLS takes a node a few milliseconds, so
what came in the greatest number and is not finished for longest is no node's, and keeps nobody out."""
MAX_A_PEER = 16  # connections of one address; a node has one, and perhaps a dead one of before
HANDSHAKE_WITHIN = 10.0  # seconds
SPARE = 128  # descriptors that connections leave to the log, netlink, and what else the agent opens
PAUSE = 1.0  # seconds, when the system has no room for another connection

T = TypeVar("T")

Guest = Callable[[T], Awaitable[None]]
"""Serves one connection that was led in, until it has ended, and closes it."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Door(Generic[T]):
    """The listeners of one agent or relay. `dropped` counts whom it did not let in, by a stable word."""

    def __init__(self, guest: Guest[T], *, most: int = MAX_A_PEER, each: int = 1, spare: int = SPARE) -> None:
        """`most`: connections of one address; `each`: descriptors of one; `spare`: those that are left to others."""
        self.dropped: Counter[str] = Counter()
        self._guest = guest
        self._most = most
        self._room = _connections(each, spare)
        self._peers: Counter[str] = Counter()  # connections of each
        self._handshakes: dict[asyncio.Task[None], str] = {}  # and its peer; the oldest first
        self._ending: set[asyncio.Task[None]] = set()  # handshakes that gave way
        self._guests: dict[asyncio.Task[None], str] = {}

    async def serve(self, listeners: Iterable[Listener[T]]) -> None:
        """Let in who knocks there, until cancelled; who is in then may stay, and is the caller's."""
        listening = tuple(listeners)
        try:
            async with asyncio.TaskGroup() as tasks:
                for listener in listening:
                    tasks.create_task(self._accept(listener))
        finally:
            for listener in listening:
                listener.close()
            handshakes = (*self._handshakes, *self._ending)
            for handshake in handshakes:
                handshake.cancel()
            if handshakes:
                await asyncio.wait(handshakes)
                await asyncio.sleep(0)  # the loop closes an aborted connection in its next round

    async def _accept(self, listener: Listener[T]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                knock = await listener.accept()
            except OSError as error:
                self.dropped["not-accepted"] += 1  # it has gone, or there is no room for it
                if error.errno in _NO_ROOM:
                    await asyncio.sleep(PAUSE)
                continue
            if why := self._refuses(knock.peer):
                self.dropped[why] += 1
                knock.close()
                continue
            task = loop.create_task(self._lead_in(knock))
            self._handshakes[task] = knock.peer
            self._peers[knock.peer] += 1
            task.add_done_callback(lambda done, knock=knock: self._gone(done, knock))  # type: ignore[misc]
            await asyncio.sleep(0)  # who gave way is closed before the next one comes: descriptors are few

    def _refuses(self, peer: str) -> str:
        """Why one more connection of this peer is refused; empty if it is not. Another one gives way if need be."""
        if self._peers[peer] >= self._most:
            return "too-many-of-a-peer"
        if len(self._handshakes) >= MAX_HANDSHAKES and not self._gives_way("too-many-handshakes"):
            return "too-many-handshakes"
        if len(self._handshakes) + len(self._guests) >= self._room and not self._gives_way("too-many-sessions"):
            return "too-many-sessions"
        return ""

    def _gives_way(self, why: str) -> bool:
        """End the oldest handshake of the peer that has the most; False if there is none."""
        of_each = Counter(self._handshakes.values())
        most = max(of_each.values(), default=0)
        oldest = next((task for task, peer in self._handshakes.items() if of_each[peer] == most), None)
        if oldest is None:
            return False
        self.dropped[why] += 1
        self._forget(oldest)
        self._ending.add(oldest)
        oldest.cancel()
        return True

    def _gone(self, task: asyncio.Task[None], knock: Knock[T]) -> None:
        self._forget(task)
        self._ending.discard(task)
        if task.cancelled():  # perhaps before it had begun
            knock.close()

    def _forget(self, task: asyncio.Task[None]) -> None:
        peer = self._handshakes.pop(task, None) or self._guests.pop(task, None)
        if peer is None:
            return
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    async def _lead_in(self, knock: Knock[T]) -> None:
        try:
            entered = await knock.enter(within=HANDSHAKE_WITHIN)
        except (OSError, ssl.SSLError):
            self.dropped["no-tls"] += 1
            knock.close()
            return
        except PeerError as error:
            self.dropped[error.why] += 1
            knock.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._guests[task] = self._handshakes.pop(task)
        await self._guest(entered)


def _connections(each: int, spare: int) -> int:
    """How many connections this process has descriptors for, once its limit is as high as it may raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_SESSIONS + MAX_HANDSHAKES
    wanted = each * most + spare
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return most if soft == resource.RLIM_INFINITY else max(1, min(most, (soft - spare) // each))
