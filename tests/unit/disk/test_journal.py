from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnms.disk import journal
from dnms.disk.journal import VERSION, Belongs, Journal, JournalError
from dnms.events.requests import MergeOutage

BELONGS = Belongs(site="s", subnet="office", log="l")


def entry(number: int, *, until: int = 600) -> MergeOutage:
    return MergeOutage(
        client=(number % 8).to_bytes(16),
        iaid=1,
        address=number.to_bytes(16),
        pool="six",
        valid_until=until,
        horizon=until,
        happened=1,
    )


@contextmanager
def opened(path: Path, belongs: Belongs = BELONGS) -> Iterator[Journal]:
    with closing(Journal(path, belongs)) as kept:
        yield kept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


async def test_what_was_written_is_there_after_a_restart_and_what_was_removed_is_not(path: Path) -> None:
    with opened(path) as kept:
        assert kept.entries == ()
        for number in range(3):
            await kept.write(entry(number))
        await kept.write(entry(1, until=900))
        await kept.remove(entry(0), entry(1))  # of which the second has another one in its place
        await kept.remove(entry(7))
    with opened(path) as kept:
        assert kept.entries == (entry(1, until=900), entry(2))
    assert mode(path) == 0o600


async def test_a_process_that_was_killed_leaves_what_it_has_written(path: Path, tmp_path: Path) -> None:
    with opened(path) as kept:
        await kept.write(entry(1))
        copy = tmp_path / "as-it-was"
        rewrite(copy, content(path))
    with opened(copy) as kept:
        assert kept.entries == (entry(1),)


async def test_a_write_that_was_cut_off_half_way_takes_nothing_with_it(path: Path, tmp_path: Path) -> None:
    """The file is half changed then, and SQLite's own journal beside it says what was there."""
    entries = tuple(entry(number) for number in range(40))
    whole, alone = tmp_path / "cut-off", tmp_path / "cut-off-without-the-file-beside-it"
    with opened(path) as kept:
        for each in entries:
            await kept.write(each)
        before = content(path)
        kept._db.execute("PRAGMA cache_size = 1")  # so that it goes to the disk before it is complete
        kept._db.execute("BEGIN IMMEDIATE")
        kept._db.execute("UPDATE granted SET checksum = zeroblob(600)")
        rewrite(whole, content(path))
        rewrite(alone, content(path))
        rewrite(tmp_path / "cut-off-journal", content(path.with_name(f"{path.name}-journal")))
        kept._db.execute("ROLLBACK")
    assert content(whole) != before
    with opened(whole) as kept:
        assert set(kept.entries) == set(entries)
    with pytest.raises(JournalError, match="is damaged"):
        Journal(alone, BELONGS)


def test_one_process_has_it_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.0)
    with opened(path), pytest.raises(JournalError, match="another agent has the journal"):
        Journal(path, BELONGS)
    with opened(path):
        pass


@pytest.mark.parametrize("changed", [{"site": "t"}, {"subnet": "lab"}, {"log": "m"}])
async def test_one_of_another_site_subnet_or_log_is_not_opened(path: Path, changed: dict[str, str]) -> None:
    with opened(path) as kept:
        await kept.write(entry(1))
    before = content(path)
    with pytest.raises(JournalError, match="another --state"):
        Journal(path, msgspec.structs.replace(BELONGS, **changed))
    assert content(path) == before


def test_one_of_a_newer_release_is_not_opened(path: Path) -> None:
    with opened(path):
        pass
    change(path, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(JournalError, match="of a newer release"):
        Journal(path, BELONGS)


async def test_a_full_disk_takes_no_entry_and_keeps_those_it_has(path: Path) -> None:
    with opened(path) as kept:
        await kept.write(entry(0))
        pages = kept._db.execute("PRAGMA page_count").fetchone()[0]
        kept._db.execute(f"PRAGMA max_page_count = {pages}")
        written = [0]
        with pytest.raises(JournalError, match="full"):
            for number in range(1, 1_000):
                await kept.write(entry(number))
                written.append(number)
        await kept.remove(entry(0))
        await kept.write(entry(0))
    with opened(path) as kept:
        assert {each.address for each in kept.entries} == {entry(number).address for number in written}


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot open the journal"):
        Journal(tmp_path / "file" / "journal.sqlite", BELONGS)


def content(path: Path) -> bytes:
    return path.read_bytes()


def rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-4_096]),
        lambda path: path.write_bytes(b"\0" * 4_096 + path.read_bytes()[4_096:]),
        lambda path: path.write_text("not a journal, but a file of somebody's that is long enough to be one"),
        lambda path: change(
            path, "DELETE FROM granted WHERE iaid = 1 AND address = (SELECT max(address) FROM granted)"
        ),
        lambda path: change(path, "DELETE FROM belongs"),
        lambda path: change(path, "UPDATE granted SET entry = x'80'"),
        lambda path: change(path, "DROP TABLE granted"),
    ],
)
async def test_a_damaged_one_is_not_opened_and_stays_as_it_is(path: Path, damage: Callable[[Path], object]) -> None:
    with opened(path) as kept:
        for number in range(40):
            await kept.write(entry(number))
    damage(path)
    before = content(path)
    with pytest.raises(JournalError, match="is damaged"):
        Journal(path, BELONGS)
    assert content(path) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_no_cut_and_no_flipped_byte_loses_an_entry_in_silence(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "journal.sqlite"
    remove(path)
    entries = tuple(entry(number) for number in range(data.draw(st.integers(1, 5))))
    with opened(path) as kept:
        for each in entries:
            await kept.write(each)
    damaged = bytearray(content(path))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    else:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    rewrite(path, bytes(damaged))
    try:
        with opened(path) as kept:
            assert set(kept.entries) == set(entries)
    except JournalError:
        pass
