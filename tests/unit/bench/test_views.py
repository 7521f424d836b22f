"""The log that `bench.views` makes, how its sides take the same work, and how it shows what it found."""

from __future__ import annotations

import sqlite3
from itertools import islice
from pathlib import Path

import pytest

from bench import view_folds, view_log, views
from bench.processes import Memory
from bench.view_folds import FILE, Folds, Part
from bench.view_log import Generated
from bench.view_peers import Legal, legal
from bench.view_questions import Times, questions
from bench.view_serve import Served
from bench.views import Report
from bench.visits import SITE, Visits
from dnms.archive.segments import Archive
from dnms.bus.reading import Checked
from dnms.domain.aggregate import resettle
from dnms.domain.ledger import Ledger
from dnms.events import codec, subjects

MIB = 1 << 20


def test_the_same_seed_makes_the_same_log_and_another_one_another() -> None:
    first, again, other = (list(islice(Visits(2_000, seed=seed).records(), 400)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_readers_accept_the_log_and_the_ledger_decides_it_again() -> None:
    checked, visits = Checked([subjects.everything(SITE)], after=0), Visits(10_000)
    ledger, subject, decided = Ledger(bytes(32)), subjects.ledger(SITE, visits.subnets[0]), 0
    for record in visits.records():
        stored = checked.take(record)
        if stored.subject == subject:
            assert codec.encode(resettle(ledger, stored.commit)) == record.data
            decided += 1
            for event in stored.commit.events:
                ledger.evolve(event, at=stored.commit.time, position=stored.sequence)
        if visits.events >= 10_000:
            break
    assert decided > 100
    assert 100 < visits.today < 250, "about half a year"


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generated, Folds]:
    folder = tmp_path_factory.mktemp("views")
    made, _ = view_log.generate(folder / "archive", 2_000)
    records = Archive.open(folder / "archive").all()
    return folder, made, view_folds.measure(folder, view_log.LOG_ID, records, 50.0)


def rows(file: Path, table: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(file)
    try:
        return sorted(db.execute(f"SELECT * FROM {table}"), key=repr)
    finally:
        db.close()


def test_the_bare_side_writes_the_rows_that_the_views_have(folded: tuple[Path, Generated, Folds]) -> None:
    folder, made, found = folded
    assert found.events == made.events
    for table in ("event", "node_row", "address_lease_row", "history_lease", "history_use", "activity"):
        assert rows(folder / "bare.sqlite", table) == rows(folder / FILE, table) != [], table


def test_grep_has_a_line_for_each_lease_that_was_given_or_renewed(folded: tuple[Path, Generated, Folds]) -> None:
    folder, _, _ = folded
    asked = questions(folder / FILE)
    lines = legal(folder, folder / FILE, asked).lines
    text = (folder / "kea-legal.txt").read_text()
    assert lines == text.count("\n") > 100
    assert all(f"Address: {one.text} has been assigned" in text for one in asked)


FAST, SLOW = Times(0.1, 0.2), Times(10.0, 100.0)
PART = Part(1.0, 1e6, 9e5)


def report(*, rebuild: float, rss: int, answers: Times) -> Report:
    folds = Folds(1_000, rebuild, PART, PART, PART, PART, 0.5, {"event": 1.0}, 6.0, 900.0)
    memory = Memory(rss * MIB, rss * MIB, rss * MIB)
    return Report(
        load=0.5,
        cores=2,
        log=Generated(1_000, 200, 50, 1, 184, 240.0, 1.0),
        folds=folds,
        who_had=answers,
        page=answers,
        postgresql=None,
        legal=Legal(10, 1_000, SLOW),
        served=Served(1.0, 1.0, 1.0, memory, memory, FAST, 2_000.0, answers, answers),
        seconds=1.0,
    )


def test_what_misses_a_goal_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    views.show(report(rebuild=60_000, rss=100, answers=FAST))
    good = capsys.readouterr().out
    views.show(report(rebuild=10_000, rss=400, answers=SLOW))
    bad = capsys.readouterr().out
    assert "✗" not in good
    assert bad.count("✗") == 6
    assert "apt-get install postgresql" in " ".join(good.split())
