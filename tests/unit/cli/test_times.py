"""Times as people write them, in a zone of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dnms.cli.times import parse_moment, understood

NOW = datetime(2026, 11, 27, 0, 20, tzinfo=UTC)  # a Friday, 01:20 in Berlin


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine there: in winter an hour before UTC, in summer two."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("1772366400", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("1772366400.25", datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_instant(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["", "a", "whenever", "2026-13-01", "1e300", "nan", "inf", "-1e15", "m" * 101])
def test_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected ISO 8601|outside of the years"):
        parse_moment(text)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("last tuesday 14:03", datetime(2026, 11, 24, 13, 3, tzinfo=UTC)),
        ("Tuesday 14:03", datetime(2026, 11, 24, 13, 3, tzinfo=UTC)),
        ("tuesday 14:03 UTC", datetime(2026, 11, 24, 14, 3, tzinfo=UTC)),
        ("tuesday 14:03 +05:00", datetime(2026, 11, 24, 9, 3, tzinfo=UTC)),
        ("yesterday 9am", datetime(2026, 11, 26, 8, tzinfo=UTC)),
        ("2 hours ago", datetime(2026, 11, 26, 22, 20, tzinfo=UTC)),
        ("1h ago", datetime(2026, 11, 26, 23, 20, tzinfo=UTC)),
        ("14:03", datetime(2026, 11, 26, 13, 3, tzinfo=UTC)),
        ("1 July 2026 12:00", datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("march", datetime(2026, 2, 28, 23, tzinfo=UTC)),
    ],
)
def test_words_are_local_time_and_mean_the_past(text: str, moment: datetime) -> None:
    assert parse_moment(text, now=NOW) == moment


@pytest.mark.usefixtures("berlin")
def test_how_words_were_understood_names_the_day_the_zone_and_utc() -> None:
    text = "1 july 2026 12:00"
    told = understood(text, parse_moment(text, now=NOW))
    assert told == "'1 july 2026 12:00' is Wednesday 2026-07-01 12:00:00+02:00 (CEST), 2026-07-01 10:00:00Z"
    assert understood("2026-03-01", parse_moment("2026-03-01")) is None
    assert understood("5", parse_moment("5")) is None


@pytest.mark.parametrize("text", ["01/02/2026", "1.2.2026 12:00", "3/4 noon"])
def test_a_day_that_may_be_a_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the day or the month first"):
        parse_moment(text, now=NOW)
