"""The options that say in which time something was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from dnms.cli.exits import USAGE, Failure
from dnms.cli.histories import Times
from dnms.cli.options import WHEN, AsOf, Moment


def times(at: Moment | None, first: Moment | None, last: Moment | None, *, names: tuple[str, str]) -> Times:
    """An instant, or from when to when; Failure if it is both, or ends before it begins."""
    if at is not None and (first is not None or last is not None):
        raise Failure(USAGE, f"give --at, or {names[0]} and {names[1]}")
    if first is not None and last is not None and first > last:
        raise Failure(USAGE, f"{names[0]} is behind {names[1]}")
    return Times(at or first, at or last)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FromTo:
    """An instant, or a time of which both ends are a part; without any: ever."""

    at: Annotated[AsOf | None, Parameter(help=f"At this instant, or after the commit at #SEQUENCE: {WHEN}")] = None
    from_: Annotated[Moment | None, Parameter(name="--from", help="From then on, that instant included.")] = None
    to: Annotated[Moment | None, Parameter(help="Up to then, that instant included.")] = None

    @property
    def times(self) -> Times:
        """From when to when. Failure."""
        names = ("--from", "--to")
        if isinstance(self.at, int):
            if self.from_ is not None or self.to is not None:
                raise Failure(USAGE, f"give --at, or {names[0]} and {names[1]}")
            return Times(sequence=self.at)
        return times(self.at, self.from_, self.to, names=names)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SinceUntil:
    """A time of which both ends are a part; without any: ever."""

    since: Annotated[Moment | None, Parameter(help=f"From then on, that instant included: {WHEN}")] = None
    until: Annotated[Moment | None, Parameter(help="Up to then, that instant included.")] = None

    @property
    def times(self) -> Times:
        """From when to when. Failure."""
        return times(None, self.since, self.until, names=("--since", "--until"))


EVER = FromTo()
ALWAYS = SinceUntil()
"""The defaults."""
