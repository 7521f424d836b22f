from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from dnms.cli.freshness import AGAIN, Doubt, Teller, doubt
from dnms.projections.views import Status, ViewPosition

AT = ViewPosition(site="s", log_id="one", sequence=7, time=datetime(2026, 3, 1, 12, tzinfo=UTC), commits=7, events=9)
SOUND = Status(state="following", running=True, position=AT)


def test_views_that_are_kept_up_raise_no_doubt() -> None:
    assert doubt(SOUND, unread=0) is None


@pytest.mark.parametrize(
    ("change", "unread", "word", "said"),
    [
        ({"state": "stopped", "running": False, "explanation": "a gap"}, 0, "stopped", "have stopped (a gap)"),
        ({"running": False}, 0, "idle", "are kept up by nobody now"),
        ({}, None, "cut-off", "may be behind the log, which cannot be reached now"),
        ({}, 3, "behind", "are 3 commits behind the log"),
    ],
)
def test_what_speaks_against_an_answer(change: dict[str, object], unread: int | None, word: str, said: str) -> None:
    found = doubt(msgspec.structs.replace(SOUND, **change), unread=unread)
    assert found == Doubt(word, f"the views {said}; they are as of 2026-03-01 12:00:00Z")


def test_views_that_are_not_there_say_so_themselves() -> None:
    assert doubt(Status(state="missing", running=False, why="views-missing", explanation="none yet")) is None


def test_a_doubt_is_told_once_and_that_it_has_gone(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller()
    for said in (None, Doubt("behind", "1 behind"), Doubt("behind", "2 behind"), Doubt("stopped", "stopped"), None):
        teller.tell(said)
    assert capsys.readouterr().err.splitlines() == ["dnms: 1 behind", "dnms: stopped", f"dnms: {AGAIN}"]
