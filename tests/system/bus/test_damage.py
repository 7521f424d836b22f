"""A log whose files were damaged under a stopped server: whoever reads it has all of it, or hears what is missing.

Many sites share a server and a start, each with a damage of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer, EmbeddedServerError
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import LogDamaged, LogForked
from dnms.bus.reading import Position, read
from dnms.events import codec, subjects
from dnms.events.address import AddressReleased
from dnms.events.commit import Commit, Stored
from tests.system.bus import blocks
from tests.system.bus.conftest import TOKEN

COMMITS = 12
PLACES = ("plan", "ledger.lan", "node.0a")
DEADLINE = 60.0


class Kept(msgspec.Struct, frozen=True):
    """What somebody has read before."""

    stored: tuple[Stored, ...]
    position: Position


class Found(msgspec.Struct, frozen=True):
    """What is read after a damage: all of it up to the end as the reader sees it, or an alarm."""

    stored: tuple[Stored, ...] = ()
    alarm: str = ""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "log"


@asynccontextmanager
async def opened(server: EmbeddedServer, site: str) -> AsyncIterator[JetStreamLog]:
    log = await connect(server.url, site, token=TOKEN)
    try:
        yield log
    finally:
        await log.close()


async def write(log: JetStreamLog, *, commits: int = COMMITS, padding: int = 0) -> None:
    heads: dict[str, int] = {}
    for number in range(commits):
        subject = f"dnms.{log.site}.{PLACES[number % len(PLACES)]}"
        commit = Commit(
            id=number.to_bytes(16),
            time=1_000_000,
            predecessor=heads.get(subject, 0),
            actor="agent/test" + "t" * padding,
            events=(AddressReleased(address=bytes(16), client=bytes(16), iaid=number),),
        )
        heads[subject] = await append(log, subject, codec.encode(commit), expected=commit.predecessor)


async def read_to_the_end(
    log: JetStreamLog, *, followed: Sequence[str] = (), after: Position | int = 0
) -> tuple[Stored, ...]:
    found: list[Stored] = []
    patterns = [f"dnms.{log.site}.{place}" for place in followed] or [subjects.everything(log.site)]
    async with asyncio.timeout(DEADLINE), aclosing(read(log, patterns, after=after)) as batches:
        async for batch in batches:
            found.extend(batch.stored)
            if batch.caught_up:
                return tuple(found)
    raise AssertionError("a follow ended")


async def keep(log: JetStreamLog) -> Kept:
    stored = await read_to_the_end(log)
    return Kept(stored, Position(log.log_id, stored[-1].sequence, stored[-1].commit.id))


async def written(
    directory: Path, sites: Sequence[str], *, commits: int = COMMITS, padding: int = 0
) -> dict[str, Kept]:
    """A log for each site, and what was read of it before the server stopped."""

    async def one(server: EmbeddedServer, site: str) -> Kept:
        async with opened(server, site) as log:
            await write(log, commits=commits, padding=padding)
            return await keep(log)

    async with EmbeddedServer(directory, token=TOKEN) as server:
        return dict(zip(sites, await asyncio.gather(*(one(server, site) for site in sites)), strict=True))


async def found(
    directory: Path, kept: dict[str, Kept], *, followed: Sequence[str] = (), resumed: bool = False
) -> dict[str, Found]:
    """What each site's reader finds at the next start of the server; it may know what was read before."""

    async def one(server: EmbeddedServer, site: str) -> Found:
        try:
            async with opened(server, site) as log:
                after = kept[site].position if resumed else 0
                return Found(await read_to_the_end(log, followed=followed, after=after))
        except (LogDamaged, LogForked) as error:
            return Found(alarm=f"{error.why}: {error}")

    async with EmbeddedServer(directory, token=TOKEN) as server:
        return dict(zip(kept, await asyncio.gather(*(one(server, site) for site in kept)), strict=True))


def in_silence(kept: dict[str, Kept], found: dict[str, Found]) -> dict[str, tuple[Stored, ...]]:
    """Of which sites something else was read than had been written, and nobody said so."""
    return {
        site: found[site].stored
        for site, before in kept.items()
        if not found[site].alarm and found[site].stored != before.stored
    }


FIELDS = (
    "length",
    "sequence",
    "time",
    "length of the subject",
    "subject",
    "length of the headers",
    "headers",
    "payload",
    "checksum",
)


@pytest.mark.parametrize("indexed", [True, False], ids=["stopped", "killed"])
async def test_a_flipped_bit_of_any_message_is_told(directory: Path, indexed: bool) -> None:
    """In every field of the first, a middle and the last message. A server that was killed leaves no index."""
    flips = [
        (number, field, byte)
        for number in (0, COMMITS // 2, COMMITS - 1)
        for field in FIELDS
        for byte in (0, 1 if field == "sequence" else -1)
    ]
    kept = await written(directory, [f"s{number}" for number in range(len(flips))])
    for site, (number, field, byte) in zip(kept, flips, strict=True):
        (block,) = blocks.blocks(directory, site)
        blocks.flip(block, blocks.messages(block)[number].fields[field][byte], bit=number % 8)
        if not indexed:
            blocks.index(directory, site).unlink()
    told = await found(directory, kept)
    assert not in_silence(kept, told)
    for (number, field, byte), after in zip(flips, told.values(), strict=True):
        assert after.alarm.startswith("log-damaged"), (number, field, byte)
        # It says which is missing, or what the last one is that can be read.
        assert {number, number + 1} & set(map(int, re.findall(r"\d+", after.alarm))), (number, field, after.alarm)


async def test_a_bit_that_keeps_the_server_from_its_start_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence that is far too high: nats-server 2.15 counts up to it."""
    await written(directory, ["s0"])
    (block,) = blocks.blocks(directory, "s0")
    blocks.flip(block, blocks.messages(block)[-1].fields["sequence"][-1])
    monkeypatch.setattr("dnms.bus.embedded.START_PATIENCE", 1.5)  # it takes a GiB in three seconds
    with pytest.raises(EmbeddedServerError, match=r"is the log damaged\? It said last: .*DNMS(-KEYS)?_s0"):
        await EmbeddedServer(directory, token=TOKEN).start()


async def test_a_flipped_bit_anywhere_in_the_other_files_changes_nothing(directory: Path) -> None:
    kept = await written(directory, [f"s{number}" for number in range(30)])
    for turn, file in enumerate(("msgs/index.db", "meta.inf", "meta.sum")):
        some = list(kept)[turn::3]
        size = (blocks.folder(directory, some[0]) / file).stat().st_size
        for number, site in enumerate(some):
            blocks.flip(blocks.folder(directory, site) / file, number * size // len(some), bit=number % 8)
    told = await found(directory, kept)
    assert not in_silence(kept, told)
    # Without its metadata it is made anew over the same blocks: to whoever has read it before, it is another log.
    known = await found(directory, kept, resumed=True)
    assert [site for site in kept if known[site].alarm.startswith("log-forked: this is the log")] == [
        site for number, site in enumerate(kept) if number % 3
    ]


@pytest.mark.parametrize("indexed", [True, False], ids=["stopped", "killed"])
async def test_a_block_that_is_cut_off_anywhere_is_told(directory: Path, indexed: bool) -> None:
    kept = await written(directory, [f"s{number}" for number in range(24)])
    ends: dict[str, int] = {}
    for number, site in enumerate(kept):
        (block,) = blocks.blocks(directory, site)
        message = blocks.messages(block)[number // 2]
        blocks.cut(block, message.first + (number % 2) * (number + 1))  # at a message, or within it
        ends[site] = message.sequence - 1
        if not indexed:
            blocks.index(directory, site).unlink()
    told = await found(directory, kept)
    for site, end in ends.items():
        if indexed:
            assert re.search(rf"log-damaged: .* missing, .* ends at {end}$", told[site].alarm), (end, told[site])
        else:
            # As if the server had been killed right then: without a position, nobody knows that there was more.
            assert told[site] == Found(kept[site].stored[:end])
    known = await found(directory, kept, resumed=True)
    assert all(each.alarm for each in known.values())


async def test_a_write_that_was_not_finished_is_no_damage(directory: Path) -> None:
    """A server was killed in the middle of its last write, wherever that is: all that it acknowledged is there."""
    cuts = [*range(0, 32, 3), *range(32, 240, 13)]
    kept = await written(directory, [f"s{number}" for number in range(len(cuts))])
    for site, cut in zip(kept, cuts, strict=True):
        (block,) = blocks.blocks(directory, site)
        blocks.cut(block, blocks.messages(block)[-1].first + cut)
        blocks.index(directory, site).unlink()
    acknowledged = {
        site: Kept(before.stored[:-1], Position(before.position.log_id, COMMITS - 1, before.stored[-2].commit.id))
        for site, before in kept.items()
    }
    told = await found(directory, acknowledged)
    assert not in_silence(acknowledged, told)
    assert not [each.alarm for each in told.values() if each.alarm]
    known = await found(directory, acknowledged, resumed=True)
    assert not [each.alarm for each in known.values() if each.alarm]
    async with EmbeddedServer(directory, token=TOKEN) as server, opened(server, "s5") as log:
        last = acknowledged["s5"].stored[-3]
        assert await append(log, last.subject, b"goes on", expected=last.sequence) == COMMITS


async def test_a_block_that_is_gone_is_told(directory: Path) -> None:
    kept = await written(directory, ["first", "middle", "last", "all", "forgotten"], commits=8, padding=3 << 20)
    for site in kept:
        found_blocks = blocks.blocks(directory, site)
        assert len(found_blocks) >= 3
        gone = {"first": found_blocks[:1], "middle": found_blocks[1:2], "last": found_blocks[-1:]}.get(
            site, found_blocks
        )
        for block in gone:
            block.unlink()
    blocks.index(directory, "forgotten").unlink()
    told = await found(directory, kept)
    assert {site: bool(re.search(r"log-damaged: .* missing.* \d", each.alarm)) for site, each in told.items()} == {
        "first": True,
        "middle": True,
        "last": True,
        "all": True,
        "forgotten": False,
    }
    assert told["forgotten"] == Found()  # an empty log: who has read nothing before cannot know
    known = await found(directory, kept, resumed=True)
    assert all(each.alarm for each in known.values())


async def test_who_follows_some_subjects_is_told_of_them(directory: Path) -> None:
    """Of the last message of a subject too, behind which no other says that it is missing."""
    kept = await written(directory, [f"s{number}" for number in range(COMMITS)])
    for number, site in enumerate(kept):
        (block,) = blocks.blocks(directory, site)
        blocks.flip(block, blocks.messages(block)[number].fields["payload"][0])
    for followed in ([PLACES[0]], [PLACES[1]], PLACES[1:]):
        told = await found(directory, kept, followed=followed)
        for number, site in enumerate(kept):
            damaged = PLACES[number % len(PLACES)] in followed
            assert told[site].alarm.startswith("log-damaged") == damaged, (number, followed, told[site].alarm)
