"""What holds for the fold of every projection, over the examples that it brings and over generated logs."""

from __future__ import annotations

import importlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.bus.port import LogDamaged
from dnms.events.commit import Commit, Stored
from dnms.projections import PROJECTIONS
from dnms.projections.example import SITE, Example, Happened, happened, stored
from dnms.projections.projection import Projection
from dnms.projections.store import Store
from tests.contracts.projections.logs import cut, folder, logs, tables
from tests.properties.events.strategies import commits

FOLDERS = [
    "activity",
    "addresses",
    "configurations",
    "effects",
    "events",
    "history",
    "link",
    "nodes",
    "pools",
    "prefixes",
    "rollouts",
]
EXAMPLES: dict[str, tuple[Example, ...]] = {
    folder: importlib.import_module(f"dnms.projections.{folder}.examples").EXAMPLES for folder in FOLDERS
}
CASES = [pytest.param(example, id=f"{folder}: {example.title}") for folder in FOLDERS for example in EXAMPLES[folder]]

every_example = pytest.mark.parametrize("example", CASES)


def fold(file: Path, batches: Sequence[Sequence[Stored]], projections: Sequence[Projection] = PROJECTIONS) -> None:
    """Fold into a new file, each batch as a process of its own would: the file is closed and opened between them."""
    Store.create(file, projections, site=SITE, log_id="one").close()
    for batch in batches:
        store = Store(file, projections)
        try:
            store.fold(batch, caught_up=False)
        finally:
            store.close()


def test_every_projection_is_in_the_list_and_brings_examples() -> None:
    listed = {projection.name: projection for projection in PROJECTIONS}
    found = {importlib.import_module(f"dnms.projections.{folder}").PROJECTION.name for folder in FOLDERS}
    assert found == listed.keys()
    assert all(EXAMPLES.values())


def test_the_tables_of_a_projection_begin_with_its_name(tmp_path: Path) -> None:
    for projection in PROJECTIONS:
        with closing(sqlite3.connect(":memory:")) as db:
            db.executescript(projection.schema)
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert names
        assert all(name == projection.name or name.startswith(f"{projection.name}_") for name in names)


@every_example
def test_the_fold_gives_the_rows_of_the_example(example: Example, tmp_path: Path) -> None:
    fold(tmp_path / "views", [stored(example.log)])
    with closing(sqlite3.connect(tmp_path / "views")) as db:
        for select, rows in example.rows.items():
            assert list(db.execute(select)) == rows, select


@every_example
def test_the_rows_are_the_same_wherever_the_fold_is_resumed(example: Example, tmp_path: Path) -> None:
    log = stored(example.log)
    fold(tmp_path / "whole", [log])
    fold(tmp_path / "singly", [[one] for one in log])
    assert tables(tmp_path / "singly") == tables(tmp_path / "whole")
    for place in range(len(log)):
        fold(tmp_path / str(place), [log[:place], log[place:]])
        assert tables(tmp_path / str(place)) == tables(tmp_path / "whole")


@settings(max_examples=40)
@given(log=logs(), places=st.lists(st.integers(0, 30), max_size=4))
def test_the_rows_do_not_depend_on_the_batches(log: list[Happened], places: list[int]) -> None:
    with folder() as directory:
        commits_ = stored(tuple(log))
        fold(directory / "whole", [commits_])
        fold(directory / "cut", cut(commits_, places))
        assert tables(directory / "cut") == tables(directory / "whole")


def build(file: Path, batches: Sequence[Sequence[Stored]]) -> None:
    """Fold into a new file as a log is that is longer than a batch."""
    with closing(Store.create(file, PROJECTIONS, site=SITE, log_id="one")) as store:
        for batch in batches:
            store.fold(batch, caught_up=False)
        store.fold((), caught_up=True)


def schema(file: Path) -> dict[str, str]:
    with closing(sqlite3.connect(file)) as db:
        return dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view')"))


@settings(max_examples=40)
@given(log=logs(), places=st.lists(st.integers(0, 30), max_size=4))
def test_a_file_that_is_built_is_as_one_that_follows(log: list[Happened], places: list[int]) -> None:
    with folder() as directory:
        commits_ = stored(tuple(log))
        fold(directory / "followed", [commits_])
        build(directory / "built", cut(commits_, places))
        assert tables(directory / "built") == tables(directory / "followed")
        assert schema(directory / "built") == schema(directory / "followed")
        assert {one.name for one in directory.iterdir()} == {"followed", "built"}


@every_example
def test_an_example_can_be_built_a_commit_at_a_time(example: Example, tmp_path: Path) -> None:
    log = stored(example.log)
    fold(tmp_path / "followed", [log])
    build(tmp_path / "built", [[one] for one in log])
    assert tables(tmp_path / "built") == tables(tmp_path / "followed")


def test_a_file_that_is_built_is_whole_where_a_fold_fails(tmp_path: Path) -> None:
    log = stored(EXAMPLES["addresses"][0].log)
    fold(tmp_path / "first", [log[:1]])
    file = tmp_path / "built"
    Store.create(file, PROJECTIONS, site=SITE, log_id="one").close()

    def break_later(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
        if batch[0].sequence > 1:
            raise ArithmeticError("a defect")

    broken = Projection(name="broken", version=1, schema="", fold=break_later)
    with closing(Store(file, (*PROJECTIONS, broken), building=True)) as store:
        store.fold(log[:1], caught_up=False)
        with pytest.raises(ArithmeticError):
            store.fold(log[1:], caught_up=False)
        store.stop("fold-failed", "a defect")
    assert tables(file) == tables(tmp_path / "first")


def test_what_was_not_committed_when_a_fold_fails_is_not_said_to_be_folded(tmp_path: Path) -> None:
    """While a file is built a transaction is of several batches."""
    log = stored(EXAMPLES["addresses"][0].log * 8)
    fold(tmp_path / "committed", [log[:8]])
    file = tmp_path / "built"
    Store.create(file, PROJECTIONS, site=SITE, log_id="one").close()

    def break_later(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
        if batch[0].sequence == 11:
            raise ArithmeticError("a defect")

    broken = Projection(name="broken", version=1, schema="", fold=break_later)
    with closing(Store(file, (*PROJECTIONS, broken), building=True)) as store:
        store.fold(log[:8], caught_up=False)
        store.fold(log[8:10], caught_up=False)
        assert store.position.sequence == 10
        with pytest.raises(ArithmeticError):
            store.fold(log[10:], caught_up=False)
        assert store.position.sequence == 8
        with pytest.raises(LogDamaged, match="a gap"):
            store.fold(log[11:], caught_up=False)
        store.stop("fold-failed", "a defect")
    assert tables(file) == tables(tmp_path / "committed")


def test_a_table_is_taken_for_one_with_versions_by_its_key_and_not_by_its_name(tmp_path: Path) -> None:
    def count(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
        rows = [(one.subject, one.sequence) for one in batch]
        cursor.executemany("INSERT INTO count_row VALUES (?, ?)", rows)

    made = "CREATE TABLE count_row (subject TEXT, sequence INTEGER, PRIMARY KEY (subject, sequence)) WITHOUT ROWID"
    counting = Projection(name="count", version=1, schema=made, fold=count)
    log = stored(EXAMPLES["addresses"][0].log * 8)
    with closing(Store.create(tmp_path / "built", (*PROJECTIONS, counting), site=SITE, log_id="one")) as store:
        store.fold(log[:8], caught_up=False)
        store.fold(log[8:], caught_up=True)
    assert sorted(tables(tmp_path / "built")["count_row"]) == sorted((one.subject, one.sequence) for one in log)
    assert schema(tmp_path / "built")["count_row"] == made


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["plan", "node.00", "ledger.lan", "seen.lan.east", "effect.dns.one"]), commits()),
        max_size=4,
    )
)
def test_whatever_can_stand_in_the_log_can_be_folded(entries: list[tuple[str, Commit]]) -> None:
    log = stored(tuple(happened(subject, commit.time, *commit.events) for subject, commit in entries))
    with folder() as directory:
        fold(directory / "views", [log])
        with closing(sqlite3.connect(directory / "views")) as db:
            [found] = db.execute("SELECT sequence, commits, events FROM view_position")
    assert found == (len(log), len(log), sum(len(one.commit.events) for one in log))


@settings(max_examples=40)
@given(st.lists(commits(), max_size=4))
def test_a_fold_of_few_kinds_of_events_makes_nothing_of_others(entries: list[Commit]) -> None:
    """It is not called where there are no others."""
    for projection in PROJECTIONS:
        if projection.kinds is not None:
            log = [
                happened(
                    "ledger.lan",
                    commit.time,
                    *(event for event in commit.events if type(event) not in projection.kinds),
                )
                for commit in entries
            ]
            with closing(sqlite3.connect(":memory:")) as db:
                db.executescript(projection.schema)
                before = "\n".join(db.iterdump())
                projection.fold(db.cursor(), stored(tuple(log)))
                assert "\n".join(db.iterdump()) == before


def _broken(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    raise ArithmeticError("a defect")


def test_rows_and_position_are_committed_together_or_not_at_all(tmp_path: Path) -> None:
    log = stored(EXAMPLES["addresses"][0].log)
    file = tmp_path / "views"
    fold(file, [log[:1]])
    before = tables(file)
    store = Store(file, (*PROJECTIONS, Projection(name="broken", version=1, schema="", fold=_broken)))
    with pytest.raises(ArithmeticError):
        store.fold(log[1:], caught_up=True)
    assert store.position.sequence == 1
    store.close()
    assert tables(file) == before
    again = Store(file, PROJECTIONS)
    again.fold(log[1:], caught_up=True)
    again.close()
    fold(tmp_path / "whole", [log])
    assert tables(file) == tables(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from dnms.projections import PROJECTIONS
from dnms.projections.addresses.examples import EXAMPLES
from dnms.projections.example import stored
from dnms.projections.projection import Projection
from dnms.projections.store import Store

def die(cursor, batch):
    os.kill(os.getpid(), signal.SIGKILL)

store = Store(Path(sys.argv[1]), (*PROJECTIONS, Projection(name="die", version=1, schema="", fold=die)))
store.fold(stored(EXAMPLES[0].log)[1:], caught_up=True)
"""


def test_a_writer_that_is_killed_leaves_rows_and_position_that_belong_together(tmp_path: Path) -> None:
    log = stored(EXAMPLES["addresses"][0].log)
    file = tmp_path / "views"
    fold(file, [log[:1]])
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    fold(tmp_path / "first", [log[:1]])
    assert tables(file) == tables(tmp_path / "first")


def test_a_gap_and_a_broken_chain_are_damage_and_change_nothing(tmp_path: Path) -> None:
    log = stored(EXAMPLES["addresses"][1].log)
    file = tmp_path / "views"
    fold(file, [log[:1]])
    before = tables(file)
    store = Store(file, PROJECTIONS)
    with pytest.raises(LogDamaged, match="a gap"):
        store.fold(log[2:], caught_up=True)
    other = stored((happened("plan", 1), happened("plan", 2)))[1]
    with pytest.raises(LogDamaged, match="commits are missing"):
        store.fold([other], caught_up=True)
    store.close()
    assert tables(file) == before
