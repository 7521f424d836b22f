"""A log of every release that there was gives the answers that it gave then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dnms import __version__
from dnms.archive.records import LogFile
from dnms.bus.reading import Checked
from dnms.domain.replay import Replay
from dnms.events import subjects
from tests.system.evolution import golden_log as golden


def same(now: Any, then: Any) -> bool:
    """Whether an answer says all that it said; a later release may say more beside it."""
    match then:
        case dict():
            return isinstance(now, dict) and all(key in now and same(now[key], then[key]) for key in then)
        case list():
            return isinstance(now, list) and len(now) == len(then) and all(map(same, now, then))
        case _:
            return type(now) is type(then) and bool(now == then)


@pytest.mark.parametrize("log", golden.logs(), ids=lambda path: path.name)
def test_an_old_log_is_answered_as_it_was(log: Path, tmp_path: Path) -> None:
    then = json.loads(log.with_name(log.name.replace(".dnmslog.gz", ".json")).read_text())
    assert then
    now = golden.answers(log, tmp_path)
    for question, answer in then.items():
        assert answer, question
        assert same(now[question], answer), question


@pytest.mark.parametrize("log", golden.logs(), ids=lambda path: path.name)
def test_an_old_log_is_whole_and_folded_by_the_domain(log: Path) -> None:
    checked, replay = Checked([subjects.everything(golden.SITE)]), Replay(golden.SITE, golden.SECRET)
    for record in LogFile(log).messages():
        replay.take(checked.take(record))
    assert replay.plan.site == golden.SITE
    assert replay.ledgers[subjects.ledger(golden.SITE, "lan")].leases


def test_every_kind_of_event_is_in_a_log_and_this_release_has_one() -> None:
    assert list(golden.missing()) == [], "run `make golden` and commit the new log"
    assert golden.FOLDER / f"{__version__}.dnmslog.gz" in golden.logs(), "run `make golden` and commit the new log"


def test_what_is_made_is_the_same_each_time() -> None:
    assert golden.made() == golden.made()


@pytest.mark.parametrize(
    ("now", "then", "alike"),
    [
        ([{"a": 1, "b": 2}], [{"a": 1}], True),
        ([{"a": 1}], [{"a": 1, "b": None}], False),
        ([{"a": 1}, {"a": 2}], [{"a": 1}], False),
        ([{"a": True}], [{"a": 1}], False),
    ],
)
def test_what_counts_as_the_same(now: Any, then: Any, alike: bool) -> None:
    assert same(now, then) is alike
