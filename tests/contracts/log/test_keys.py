"""The keys of personal values, in memory and on a real nats-server: made once, found by all, destroyed for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.keys import Keys, KeyStore
from dnms.bus.port import Log, LostRace, Unavailable
from dnms.bus.reading import read, read_opened
from dnms.events import codec, subjects
from dnms.events.commit import Commit, Stored
from dnms.events.node import NodeForgotten, NodeIdentified
from dnms.events.recorded import Event, Personal
from dnms.events.sealing import Key

CLIENT, OTHER = b"\x0a" * 16, b"\x0a" + b"\x0b" * 15
PATIENCE = 5.0  # seconds
TOKEN = "t"


def identified(client: bytes, name: str) -> NodeIdentified:
    return NodeIdentified(client=client, duid=Personal(client), name=Personal(name))


class Shard:
    """Writes on one shard of the nodes, and reads it."""

    def __init__(self, log: Log, site: str) -> None:
        self.log = log
        self.site = site
        self.subject = subjects.node(site, CLIENT)
        self.last = 0

    async def write(self, *events: Event) -> None:
        commit = Commit(
            id=(self.last + 1).to_bytes(16), time=1, predecessor=self.last, actor="agent/a", events=tuple(events)
        )
        self.last = await append(self.log, self.subject, codec.encode(commit), expected=self.last)

    async def told(self, *events: NodeIdentified) -> None:
        """Sealed, as a committer would."""
        await self.write(*await self.log.keys.seal(events, patience=PATIENCE))

    async def stored(self) -> list[Stored]:
        async with aclosing(read(self.log, [self.subject])) as batches:
            async for batch in batches:
                return list(batch.stored)
        raise AssertionError

    async def names(self, keys: Keys) -> list[str]:
        opened = await keys.open_all(await self.stored())
        return [event.name.text for each in opened for event in each.commit.events if isinstance(event, NodeIdentified)]


@pytest.fixture
async def shard(log: Log, site: str) -> Shard:
    return Shard(log, site)


def another(log: Log) -> Keys:
    """Those of another process."""
    return Keys(log.keys.store)


async def until_destroyed(store: KeyStore, client: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        while await store.find(client) is not None:  # noqa: ASYNC110  # the store tells nobody
            await asyncio.sleep(0.01)


async def test_another_process_reads_what_was_sealed(shard: Shard) -> None:
    await shard.told(identified(CLIENT, "anna"), identified(OTHER, "bert"))
    stored = await shard.stored()
    assert [event.name.value for event in stored[0].commit.events if isinstance(event, NodeIdentified)] == [None, None]
    assert await shard.names(another(shard.log)) == ["anna", "bert"]
    async with aclosing(read_opened(shard.log, [shard.subject])) as batches:
        batch = await anext(batches)
    assert [event.name.text for event in batch.stored[0].commit.events if isinstance(event, NodeIdentified)] == [
        "anna",
        "bert",
    ]


async def test_what_came_after_the_keys_were_read_is_read_too(shard: Shard) -> None:
    reader = another(shard.log)
    await shard.told(identified(CLIENT, "anna"))
    assert await shard.names(reader) == ["anna"]
    await shard.told(identified(OTHER, "bert"))
    assert await shard.names(reader) == ["anna", "bert"]
    assert len(reader) == 2


async def test_processes_that_meet_make_one_key(log: Log) -> None:
    event = identified(CLIENT, "anna")
    sealed = await asyncio.gather(*(another(log).seal([event], patience=PATIENCE) for _ in range(8)))
    assert len({each.name for [each] in sealed}) == 1


async def test_a_client_has_one_key(log: Log) -> None:
    key = Key(CLIENT, b"the id 1", bytes(64))
    await log.keys.store.create(key)
    with pytest.raises(LostRace):
        await log.keys.store.create(Key(CLIENT, b"the id 2", bytes(64)))
    assert await log.keys.store.find(CLIENT) == key
    await log.keys.store.destroy(b"the id 2", CLIENT)
    assert await log.keys.store.find(CLIENT) == key


async def test_what_was_sealed_with_a_destroyed_key_is_forgotten(shard: Shard) -> None:
    await shard.told(identified(CLIENT, "anna"), identified(OTHER, "bert"))
    key = await shard.log.keys.of(CLIENT)
    assert key is not None
    await shard.log.keys.destroy(CLIENT, key.id)
    assert await shard.log.keys.of(CLIENT) is None
    assert await shard.names(another(shard.log)) == ["(forgotten)", "bert"]
    assert await shard.names(shard.log.keys) == ["(forgotten)", "bert"]


async def test_who_comes_again_has_another_key(shard: Shard) -> None:
    await shard.told(identified(CLIENT, "anna"))
    before = await shard.log.keys.of(CLIENT)
    assert before is not None
    await shard.log.keys.destroy(CLIENT, before.id)
    await shard.told(identified(CLIENT, "anna again"))
    assert await shard.names(another(shard.log)) == ["(forgotten)", "anna again"]


async def test_who_reads_that_a_key_is_destroyed_sees_to_it(shard: Shard) -> None:
    """Who said so was killed before it was done."""
    await shard.told(identified(CLIENT, "anna"))
    key = await shard.log.keys.of(CLIENT)
    assert key is not None
    reader = another(shard.log)
    await reader.load()
    await shard.write(NodeForgotten(client=CLIENT, personal=True, key=key.id))
    # What was sealed by who had not heard of it yet is not to be read, as it is not once the key is destroyed.
    await shard.told(identified(CLIENT, "late"))
    assert await shard.names(reader) == ["anna", "(forgotten)"]
    await until_destroyed(shard.log.keys.store, CLIENT)
    assert await shard.names(another(shard.log)) == ["(forgotten)", "(forgotten)"]
    await reader.close()


async def test_nothing_is_sealed_with_a_key_that_is_about_to_be_destroyed(shard: Shard) -> None:
    await shard.told(identified(CLIENT, "anna"))
    key = await shard.log.keys.of(CLIENT)
    assert key is not None
    await shard.write(NodeForgotten(client=CLIENT, personal=True, key=key.id))
    for stored in await shard.stored():
        shard.log.keys.take(stored)
    await shard.told(identified(CLIENT, "anna again"))
    await until_destroyed_or_new(shard, key)
    assert await shard.names(another(shard.log)) == ["(forgotten)", "anna again"]


async def until_destroyed_or_new(shard: Shard, key: Key) -> None:
    async with asyncio.timeout(PATIENCE):
        while (found := await shard.log.keys.of(CLIENT)) is not None and found.id == key.id:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)


class Away:
    """A store that cannot be reached for so many calls."""

    def __init__(self, store: KeyStore, times: int) -> None:
        self._store = store
        self._times = times

    def _call(self) -> None:
        self._times -= 1
        if self._times >= 0:
            raise Unavailable("away")

    async def create(self, key: Key) -> None:
        self._call()
        await self._store.create(key)

    async def find(self, client: bytes) -> Key | None:
        self._call()
        return await self._store.find(client)

    async def since(self, place: int) -> tuple[list[Key], int]:
        self._call()
        keys, place = await self._store.since(place)
        return list(keys), place

    async def destroy(self, key: bytes, client: bytes) -> None:
        self._call()
        await self._store.destroy(key, client)


async def test_a_store_that_is_away_is_waited_for_and_forgets_nothing(shard: Shard) -> None:
    await shard.told(identified(CLIENT, "anna"))
    assert await shard.names(Keys(Away(shard.log.keys.store, 3))) == ["anna"]


class Behind(Away):
    """A store of which a replica answers that does not have the keys yet."""

    async def find(self, client: bytes) -> Key | None:
        return None

    async def since(self, place: int) -> tuple[list[Key], int]:
        return [], place


async def test_a_key_that_is_not_found_is_not_destroyed(shard: Shard) -> None:
    await shard.told(identified(CLIENT, "anna"))
    reader = Keys(Behind(shard.log.keys.store, 0))
    assert await shard.names(reader) == ["(forgotten)"]
    reader.store = shard.log.keys.store
    await reader.load()
    assert await shard.names(reader) == ["anna"]
    await reader.close()
    assert await shard.log.keys.of(CLIENT) is not None


async def test_without_a_key_nothing_is_written(log: Log) -> None:
    with pytest.raises(Unavailable):
        await Keys(Away(log.keys.store, 1_000)).seal([identified(CLIENT, "anna")], patience=0.05)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "bus", token=TOKEN) as running:
        yield running


def holds(directory: Path, wanted: bytes) -> bool:
    return any(wanted in file.read_bytes() for file in directory.rglob("*") if file.is_file())


async def test_a_destroyed_key_is_in_no_file_of_the_server(bus: EmbeddedServer, tmp_path: Path) -> None:
    log: JetStreamLog = await connect(bus.url, "s", token=TOKEN)
    await log.keys.seal([identified(CLIENT, "anna"), identified(OTHER, "bert")], patience=PATIENCE)
    one, other = await log.keys.of(CLIENT), await log.keys.of(OTHER)
    assert one is not None
    assert other is not None
    assert holds(tmp_path, one.secret)
    assert holds(tmp_path, other.secret)
    await log.keys.destroy(CLIENT, one.id)
    assert not holds(tmp_path, one.secret)
    assert holds(tmp_path, other.secret)
    await log.close()
