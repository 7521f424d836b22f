"""How long answers take: who had an address, and a page of nodes as of a time. In process, and over REST.

Questions are of addresses and instants that the log has an answer for, drawn with a seed, one at a time.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import msgspec

from bench.joins import percentile
from bench.sides import Stopwatch
from dnms.events.ip import format_address
from dnms.projections.history.queries import who_had
from dnms.projections.nodes.queries import nodes
from dnms.projections.text import instant
from dnms.projections.views import Views

QUESTIONS = 1_000
PAGES = 200
PAGE = 100  # nodes
COLD = 20  # questions before those that count


class Times(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50_ms: float
    p99_ms: float


class Asked(msgspec.Struct, frozen=True):
    """An address, and an instant in microseconds at which somebody had it."""

    address: bytes
    at: int

    @property
    def text(self) -> str:
        """The address as people write it."""
        return format_address(self.address)


def times(seconds: Sequence[float]) -> Times:
    """Of single answers."""
    return Times(1_000 * percentile(seconds, 50), 1_000 * percentile(seconds, 99))


def questions(file: Path, *, seed: int = 0) -> list[Asked]:
    """Drawn from the leases that began: each some seconds later. Those of addresses that were declined end before."""
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        rows = db.execute(
            "SELECT address, since FROM history_lease WHERE client IS NOT NULL"
            " AND address NOT IN (SELECT address FROM history_lease WHERE event = 'address.declined')"
        ).fetchall()
    finally:
        db.close()
    chance = random.Random(seed)
    drawn = chance.choices(rows, k=COLD + QUESTIONS)
    return [Asked(address, since + chance.randrange(1, 10_000_000)) for address, since in drawn]


async def in_process(views: Views, asked: Sequence[Asked]) -> Times:
    """Who had it, by a reader of the file."""

    async def ask(one: Asked) -> None:
        async with views.read() as reading:
            if not await who_had(reading.db, one.address, one.at):
                raise RuntimeError(f"nobody had {one.text} at {one.at}")

    return await _each(asked, ask)


async def pages(views: Views, asked: Sequence[Asked]) -> Times:
    """A page of nodes from anywhere, as of an instant."""

    async def ask(one: Asked) -> None:
        async with views.read(instant(one.at)) as reading:
            await nodes(reading.db, after=one.address[-1:], limit=PAGE)

    return await _each(asked[: COLD + PAGES], ask)


async def rest(url: str, token: str, asked: Sequence[Asked]) -> tuple[Times, Times]:
    """Who had it, and first pages, by one connection that is kept."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:

        async def who(one: Asked) -> None:
            at = instant(one.at).isoformat()
            answer = await client.get(f"/api/v1/who-had/{one.text}", params={"at": at})
            if not answer.raise_for_status().json()["items"]:
                raise RuntimeError(f"nobody had {one.text} at {at}")

        async def page(one: Asked) -> None:
            parameters = {"at": instant(one.at).isoformat(), "limit": str(PAGE)}
            (await client.get("/api/v1/nodes", params=parameters)).raise_for_status()

        return await _each(asked, who), await _each(asked[: COLD + PAGES], page)


async def _each(asked: Sequence[Asked], ask: Callable[[Asked], Awaitable[None]]) -> Times:
    took: list[float] = []
    for one in asked:
        watch = Stopwatch()
        await ask(one)
        took.append(watch.seconds())
    return times(took[COLD:])
