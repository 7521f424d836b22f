"""No view keeps anything personal of a node that is forgotten, in whatever table and in whatever form it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dnms.bus.append import append
from dnms.bus.memory import MemoryLog
from dnms.events import codec, subjects
from dnms.events.codec import EVENTS
from dnms.events.commit import Commit
from dnms.events.node import NodeForgotten, NodeIdentified
from dnms.events.recorded import Event, Personal
from dnms.events.sealing import changed, personal_kinds
from dnms.projections.example import ALICE, BOB, SITE
from dnms.projections.runner import Runner, rebuild
from dnms.projections.verify import verify
from dnms.projections.views import Views
from tests.unit.events.examples import full

HERS, HIS, BACK = "alice-own-name", "bob-own-name", "alice-is-back"
DEADLINE = 20.0  # seconds


class Written:
    """A log, and the views of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = MemoryLog(SITE, log_id="one", now=lambda: 20)
        self.heads: dict[str, int] = {}

    async def write(self, subject: str, event: Event, *, sealed: bool = True) -> int:
        stored = (await self.log.keys.seal([event], patience=1))[0] if sealed else event
        commit = Commit(
            id=len(self.log.records).to_bytes(16),
            time=10,
            predecessor=self.heads.get(subject, 0),
            actor="agent/east",
            events=(stored,),
        )
        head = await append(self.log, subject, codec.encode(commit), expected=commit.predecessor)
        self.heads[subject] = head
        return head

    async def tell(self, client: bytes, name: str, *, sealed: bool = True) -> None:
        """Every event that holds something personal, with that in it."""
        for kind in personal_kinds(EVENTS):
            event: Event = msgspec.structs.replace(full(kind), client=client)
            event = changed(event, lambda _: Personal(name))
            subject = subjects.node(SITE, client) if kind.NAME.startswith("node.") else subjects.seen(SITE, "lan", "a")
            await self.write(subject, event, sealed=sealed)

    async def forget(self, client: bytes) -> int:
        key = await self.log.keys.of(client)
        event = NodeForgotten(client=client, personal=True, key=b"" if key is None else key.id)
        return await self.write(subjects.node(SITE, client), event)

    def has(self, text: str) -> bool:
        return any(text.encode() in file.read_bytes() for file in self.path.parent.iterdir() if file.is_file())

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[Views]:
        stop = asyncio.Event()
        running = asyncio.create_task(Runner(self.log, self.path, site=SITE).run(stop))
        views = Views(self.path)
        try:
            yield views
        finally:
            await views.close()
            stop.set()
            await running


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "views.db")


async def reached(views: Views, position: int) -> None:
    assert await views.reached(position, within=DEADLINE)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "from before anything was"])
async def test_it_is_in_no_byte_of_the_files_once_the_views_have_that_it_is_forgotten(
    written: Written, sealed: bool
) -> None:
    await written.tell(BOB, HIS)
    await written.tell(ALICE, HERS, sealed=sealed)
    async with written.followed() as views:
        await reached(views, await written.log.end())
        assert written.has(HERS)  # else nothing is looked for
        await reached(views, await written.forget(ALICE))
        assert not written.has(HERS)
        assert written.has(HIS)
        assert written.has("(forgotten)")
        back = NodeIdentified(client=ALICE, duid=Personal(b"\0\4"), name=Personal(BACK))
        await reached(views, await written.write(subjects.node(SITE, ALICE), back))
        assert written.has(BACK)
    assert not written.has(HERS)
    assert (await verify(written.log, written.path)).equal
    await rebuild(written.log, written.path, site=SITE)
    assert not written.has(HERS)
    assert written.has(BACK)


async def test_what_is_forgotten_while_nobody_follows_is_forgotten_before_anything_else(written: Written) -> None:
    await written.tell(ALICE, HERS)
    async with written.followed() as views:
        await reached(views, await written.log.end())
    assert written.has(HERS)
    end = await written.forget(ALICE)
    async with written.followed() as views:
        await reached(views, end)
        assert not written.has(HERS)
    assert (await verify(written.log, written.path)).equal
