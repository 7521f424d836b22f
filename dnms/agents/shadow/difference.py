"""In what two answers to one message differ: what the other server said (there), and what DNMS would (here)."""

from __future__ import annotations

from typing import Literal

import msgspec

What = Literal["answer", "address", "lifetime", "timer", "option", "new-client"]
"""`new-client`: of who had nothing yet, that each server would give another free address."""

ROUNDING = 2
"""Seconds between two lifetimes that are the same one: what is left of a promise is told in whole seconds."""


class Difference(msgspec.Struct, frozen=True):
    """One."""

    what: What
    of: str
    there: str
    here: str


def seconds(what: What, of: str, there: int, here: int) -> list[Difference]:
    """Of two times; none where they are as good as the same."""
    return [] if abs(there - here) <= ROUNDING else [Difference(what, of, f"{there} s", f"{here} s")]
