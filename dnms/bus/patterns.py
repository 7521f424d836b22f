"""Subjects and the patterns that match them, as NATS has them: `*` is one token, a last `>` one token or more."""

from __future__ import annotations

from collections.abc import Sequence


def matches(pattern: str, subject: str) -> bool:
    """Whether `subject`, which has no wildcards, is one of those that `pattern` means."""
    return _meet(pattern.split("."), subject.split("."))


def check_subject(site: str, subject: str) -> None:
    """ValueError if nothing can be stored under `subject` in the log of `site`."""
    tokens = subject.split(".")
    if tokens[:2] != ["dnms", site] or len(tokens) < 3 or not all(map(_is_token, tokens)):
        raise ValueError(f"{subject!r} is no subject of the site {site!r}")


def check_patterns(site: str, patterns: Sequence[str]) -> None:
    """ValueError if these cannot be followed together: none, of another site, or some that overlap.

    Overlapping ones are refused by JetStream, since it would have to say which of them a message belongs to.
    """
    if not patterns:
        raise ValueError("no subject to follow")
    split = [pattern.split(".") for pattern in patterns]
    for index, tokens in enumerate(split):
        wild = tokens[-1] == ">"
        if tokens[:2] != ["dnms", site] or len(tokens) < 3:
            raise ValueError(f"{patterns[index]!r} is outside the site {site!r}")
        if not all(token == "*" or _is_token(token) for token in (tokens[:-1] if wild else tokens)):
            raise ValueError(f"{patterns[index]!r} is no pattern of subjects")
        for other in range(index):
            if _meet(tokens, split[other]):
                raise ValueError(f"{patterns[index]!r} and {patterns[other]!r} overlap")


def covers_site(patterns: Sequence[str]) -> bool:
    """Whether these are all subjects of a site, so that stream sequences come without a gap."""
    return len(patterns) == 1 and patterns[0].count(".") == 2 and patterns[0].endswith(".>")


def _is_token(token: str) -> bool:
    return bool(token) and not any(c in "*>" or c.isspace() for c in token)


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether some subject is meant by both."""
    for index in range(max(len(one), len(other))):
        if index >= len(one) or index >= len(other):
            return False
        if one[index] == ">" or other[index] == ">":
            return True
        if one[index] != other[index] and "*" not in (one[index], other[index]):
            return False
    return True
