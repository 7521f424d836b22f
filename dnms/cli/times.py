"""Times as people write them: ISO 8601, seconds, and words such as "last tuesday 14:03"."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MAX_TEXT = 100  # characters; who writes more does not write a time

_WORD = re.compile(r"[A-Za-z]{3}|\d{1,2}:\d{2}|\d\s*[smhdwy]\b")
"""What words that tell a time have at least one of: a word, a time of day, a number with its unit."""

_EITHER = re.compile(r"\b\d{1,4}[/.]\d{1,2}([/.]\d{1,4})?\b")
"""What one country reads with the day first and the next one with the month."""

EXPECTED = (
    "expected ISO 8601 such as 2026-03-01T12:00:00Z, seconds since 1970, or words such as 'last tuesday 14:03' or "
    "'2 hours ago'"
)


def parse_moment(text: str, *, now: datetime | None = None) -> datetime:
    """An instant; ValueError.

    ISO 8601 is in UTC unless it names a zone; seconds are since 1970-01-01 UTC. Words are understood in the time zone
    of this machine unless they name one, count from `now` (the present time), and mean the past where they can.
    """
    exact = _exact(text)
    return exact if exact is not None else _words(text, now)


def understood(text: str, moment: datetime) -> str | None:
    """How words were understood, in the zone that they were read in and in UTC; None of what says that itself."""
    if _exact(text) is not None:
        return None
    zone = moment.tzname() or ""
    return f"{text!r} is {moment:%A} {moment.isoformat(' ', 'seconds')} ({zone}), {_utc(moment)}"


def _exact(text: str) -> datetime | None:
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (OverflowError, OSError, ValueError):
            raise ValueError("it lies outside of the years 1 to 9999") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _words(text: str, now: datetime | None) -> datetime:
    if _EITHER.search(text):
        raise ValueError("it may have the day or the month first; write it as 2026-03-01")
    if len(text) > MAX_TEXT or not _WORD.search(text):
        raise ValueError(EXPECTED)
    import dateparser  # noqa: PLC0415  # 0.1 s that only words cost

    base = (now or datetime.now(UTC)).astimezone().replace(tzinfo=None)  # in the zone of this machine
    found: datetime | None = dateparser.parse(
        text,
        languages=["en"],  # else it takes a second to try all of them
        settings={"RELATIVE_BASE": base, "PREFER_DATES_FROM": "past", "PREFER_DAY_OF_MONTH": "first"},
    )
    if found is None:
        raise ValueError(EXPECTED)
    try:
        return found if found.tzinfo is not None else found.astimezone()
    except (OverflowError, OSError, ValueError):
        raise ValueError("it lies outside of the years 1 to 9999") from None


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
