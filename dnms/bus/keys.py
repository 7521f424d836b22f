"""The keys with which personal values are sealed: in a store beside the log, and in the memory of whoever reads it.

Theory of operation. A key is in the store before anything that is sealed with it is in the log. So whoever reads a
sealed value, and then finds no key of that id in the store, knows that the key was destroyed, for good. That the store
cannot be reached says nothing, and is waited for, as it is for the log: both are on the same bus.

A client has one key at a time, however many processes make one for it at once. To forget it, its shard says so first
(`node.forgotten`, with the key's id), and then the key is destroyed. Every process that reads that event drops the key
from its memory, and sees to it that the store has dropped it too: so it does not matter where the one that began this
was killed. What is sealed with that key by who has not read the event yet can be read by nobody.

Keys are in memory only where they are used. No process writes one to a disk of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.events.commit import Commit, Stored
from dnms.events.node import NodeForgotten
from dnms.events.recorded import Personal, Recorded
from dnms.events.sealing import (
    FORGOTTEN,
    SECRET_BYTES,
    Key,
    changed,
    client_of,
    is_personal,
    key_ids,
    sealed,
    unseal,
)

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0
"""Seconds between two attempts to reach the store, doubling from the one to the other."""

_logger = structlog.get_logger(__name__)

R = TypeVar("R", bound=Recorded)
T = TypeVar("T")


class KeyStore(Protocol):
    """Where the keys of one site are, outside of its log. Every call may be Unavailable."""

    async def create(self, key: Key) -> None:
        """Store a client's key, so that it outlives a power cut. LostRace if the client has one; Unanswered."""
        ...

    async def find(self, client: bytes) -> Key | None:
        """The key of a client, or None if it has none now."""
        ...

    async def since(self, place: int) -> tuple[Sequence[Key], int]:
        """The keys made after a place (0: all) that were not destroyed, and the place up to which these are."""
        ...

    async def destroy(self, key: bytes, client: bytes) -> None:
        """Overwrite the client's key of this id where it is stored; nothing if it has another one, or none."""
        ...


class MemoryKeyStore:
    """Keys that are gone with the process: for the log in memory."""

    def __init__(self) -> None:
        self.keys: dict[bytes, Key] = {}  # by client

    async def create(self, key: Key) -> None:
        """See `KeyStore`."""
        if key.client in self.keys:
            raise LostRace("the client has a key")
        self.keys[key.client] = key

    async def find(self, client: bytes) -> Key | None:
        """See `KeyStore`."""
        return self.keys.get(client)

    async def since(self, place: int) -> tuple[Sequence[Key], int]:
        """See `KeyStore`."""
        return tuple(self.keys.values()), place

    async def destroy(self, key: bytes, client: bytes) -> None:
        """See `KeyStore`."""
        known = self.keys.get(client)
        if known is not None and known.id == key:
            del self.keys[client]


class Keys:
    """The keys of a store as one process has them."""

    def __init__(self, store: KeyStore, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """`random` draws bytes that nobody can foresee."""
        self.store = store
        self._random = random
        self._by_client: dict[bytes, Key] = {}
        self._by_id: dict[bytes, Key] = {}
        self._condemned: set[bytes] = set()  # ids of keys of which the log says that they are destroyed
        self._forgotten: dict[bytes, int] = {}  # by client: up to which sequence nothing personal of it is shown
        self._absent: set[bytes] = set()  # ids of keys that were asked for and are not there
        self._place = 0  # in the store
        self._destroying: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._by_id)

    async def seal(self, recorded: Iterable[R], *, patience: float) -> list[R]:
        """Events or requests with what is personal of their clients sealed, and keys made for clients that have none.

        Unavailable if the store does not answer within `patience` seconds.
        """
        given = list(recorded)
        clients = dict.fromkeys(client_of(each) for each in given if is_personal(each))
        missing = [client for client in clients if client not in self._by_client]
        if missing:
            try:
                async with asyncio.timeout(patience):
                    await asyncio.gather(*(self._make(client) for client in missing))
            except TimeoutError:
                raise Unavailable(f"the store of keys does not answer within {patience:.0f} s") from None
        return [sealed(each, self._by_client[client_of(each)]) if is_personal(each) else each for each in given]

    def open(self, value: T) -> T:
        """Anything of `events` with what is personal in it in clear, as far as its keys are in memory: see `learn`."""
        return changed(value, self._unseal)

    async def opened(self, value: T, client: bytes) -> T:
        """What is known of a client with what is personal in it in clear, but for what is forgotten. Unavailable."""
        if not all(map(self._is_settled, key_ids(value))):
            found = await self.store.find(client)
            if found is not None:
                self._add(found)
        return self.open(value)

    async def open_all(self, commits: Sequence[Stored]) -> tuple[Stored, ...]:
        """Commits in the log's order with what is personal in clear, but for what is forgotten.

        Waits as long as the store cannot be reached.
        """
        await self.learn(commits)
        opened: list[Stored] = []
        for stored in commits:
            if not _has_clients(stored):
                opened.append(stored)
                continue
            self.take(stored)
            commit = self._open_commit(stored.commit, stored.sequence)
            opened.append(stored if commit is stored.commit else msgspec.structs.replace(stored, commit=commit))
        return tuple(opened)

    async def learn(self, commits: Iterable[Stored]) -> None:
        """Have all keys in memory that these commits were sealed with and that still are. Waits for the store."""
        wanted: dict[bytes, bytes] = {}  # key id to client
        for stored in filter(_has_clients, commits):
            for each in _personal_of(stored.commit):
                for key_id in sorted(key_ids(each)):
                    if not self._is_settled(key_id):
                        wanted[key_id] = client_of(each)
        if wanted:
            await self._until_there(lambda: self._look_up(wanted))

    async def load(self) -> None:
        """Have all keys of the store in memory. Waits for the store."""
        await self._until_there(self._refresh)

    def take(self, stored: Stored) -> None:
        """Take note of the keys that are destroyed by what a commit says."""
        if ".node." not in stored.subject:
            return
        for event in stored.commit.events:
            if isinstance(event, NodeForgotten) and event.personal:
                self._forgotten[event.client] = max(stored.sequence, self._forgotten.get(event.client, 0))
            if isinstance(event, NodeForgotten) and event.key:
                known = self._drop(event.client, event.key)
                if known is not None:
                    self._finish(known)

    async def of(self, client: bytes) -> Key | None:
        """The key that a client has now, by the store. Unavailable."""
        return await self.store.find(client)

    async def destroy(self, client: bytes, key: bytes) -> None:
        """Destroy the client's key of this id, here and in the store. Unavailable."""
        self._drop(client, key)
        await self.store.destroy(key, client)

    async def close(self) -> None:
        """Stop what is under way; whoever reads the log next goes on with it."""
        for task in self._destroying:
            task.cancel()
        await asyncio.gather(*self._destroying, return_exceptions=True)

    def _unseal(self, value: Personal) -> Personal:
        key_id = value.key_id
        key = self._by_id.get(key_id) if key_id is not None else None
        return value if key is None else unseal(value, key)

    def _open_commit(self, commit: Commit, sequence: int) -> Commit:
        """The commit itself if nothing in it is personal, as of most."""
        changes: dict[str, Any] = {}
        if any(map(is_personal, commit.events)):
            changes["events"] = tuple(self._open_one(event, sequence) for event in commit.events)
        if any(is_personal(decision.request) for decision in commit.decisions):
            changes["decisions"] = tuple(
                msgspec.structs.replace(each, request=self._open_one(each.request, sequence))
                for each in commit.decisions
            )
        return msgspec.structs.replace(commit, **changes) if changes else commit

    def _open_one(self, recorded: R, sequence: int) -> R:
        """In clear; forgotten, where the log says so, whether its key is destroyed yet, or it was never sealed."""
        if is_personal(recorded) and sequence <= self._forgotten.get(client_of(recorded), 0):
            return changed(recorded, lambda _: FORGOTTEN)
        return self.open(recorded)

    async def _make(self, client: bytes) -> None:
        """Have a key for this client, whoever made it. Goes on until cancelled; LogError that no attempt mends."""
        key = Key(client, self._random(Personal.KEY_ID_BYTES), self._random(SECRET_BYTES))
        pause = FIRST_PAUSE
        while True:
            try:
                self._add(await self._create(key))
                if client in self._by_client:
                    return  # else it is one that is about to be destroyed
            except LostRace:
                pass  # another one's that was destroyed since
            except (Unavailable, Unanswered) as error:
                _logger.debug("no key yet", reason=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _create(self, key: Key) -> Key:
        """Store a key; the one that its client has, if it has one. As most are new it is not asked before. LostRace."""
        try:
            await self.store.create(key)
        except LostRace:  # to another one, or to ours of which no answer came
            found = await self.store.find(key.client)
            if found is None:
                raise
            return found
        return key

    async def _refresh(self) -> None:
        keys, self._place = await self.store.since(self._place)
        for key in keys:
            self._add(key)

    async def _look_up(self, wanted: dict[bytes, bytes]) -> None:
        await self._refresh()
        for key_id, client in wanted.items():
            if self._is_settled(key_id):
                continue
            # What lists the keys may be a replica that is behind; this is asked of the one that stores.
            found = await self.store.find(client)
            if found is not None:
                self._add(found)
            if key_id not in self._by_id:
                self._absent.add(key_id)

    async def _until_there(self, attempt: Callable[[], Any]) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await attempt()
                return
            except (Unavailable, Unanswered) as error:
                _logger.warning("waiting for the store of keys", why=error.why, text=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_settled(self, key_id: bytes) -> bool:
        """Whether the key is here, or nobody need look for it."""
        return key_id in self._by_id or key_id in self._condemned or key_id in self._absent

    def _add(self, key: Key) -> None:
        if key.id in self._condemned:
            self._finish(key)
        else:
            self._by_client[key.client] = self._by_id[key.id] = key

    def _drop(self, client: bytes, key_id: bytes) -> Key | None:
        """Have it in memory no more; the key if it was."""
        self._condemned.add(key_id)
        known = self._by_client.get(client)
        if known is not None and known.id == key_id:
            del self._by_client[client]
        return self._by_id.pop(key_id, None)

    def _finish(self, key: Key) -> None:
        """Destroy in the store what the log says is destroyed: who said so may have been killed meanwhile."""
        client, key_id = key.client, key.id
        task = asyncio.create_task(self._until_there(lambda: self.store.destroy(key_id, client)))
        self._destroying.add(task)
        task.add_done_callback(self._destroying.discard)


def _personal_of(commit: Commit) -> list[Recorded]:
    return [each for each in (*commit.events, *(one.request for one in commit.decisions)) if is_personal(each)]


def _has_clients(stored: Stored) -> bool:
    """Whether something personal can be in it: it stands in `node` and `seen` only, and leases are many."""
    return stored.subject.split(".", 3)[2] in {"node", "seen"}
