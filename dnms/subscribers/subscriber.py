"""What a subscriber is: a fold of the log to what is wanted, a look at what is there, a pure plan, and its application.

A subscriber knows nothing of logs that are damaged, late or empty: `runner` does, and gives it plans that may be
applied.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from dnms.events.commit import Stored

T = TypeVar("T")
"""One thing in the world that a subscriber keeps: hashable, and equal to another one where nothing has to be done."""

A = TypeVar("A", bound="Actual[Any]")

T_co = TypeVar("T_co", covariant=True)
A_co = TypeVar("A_co", bound="Actual[Any]", covariant=True)


class ApplyError(Exception):
    """The world was not read, or not changed. `why` is a stable word that is counted. It is tried again."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class PartlyApplied(ApplyError):
    """What can be changed is changed, and the rest cannot be now. It is tried again, and keeps nothing else waiting.

    `lacks` is what of the plan's `add` is not there, as the log has it.
    """

    def __init__(self, why: str, text: str, lacks: Iterable[str] = ()) -> None:
        super().__init__(why, text)
        self.lacks = frozenset(lacks)


class Actual(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What is there. A subscriber whose plan has to know more than its own things extends it."""

    ours: frozenset[T]
    """What the subscriber may drop. What is not ours is never in it, nor in a plan."""


class Plan(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What is to change. What is added stands without what is dropped: a runner leaves drops out where it must."""

    add: frozenset[T] = frozenset()
    drop: frozenset[T] = frozenset()
    late: frozenset[T] = frozenset()
    """What of `add` takes something away from somebody, as a rule that drops does. It waits for a whole log too."""

    lacks: frozenset[T] = frozenset()
    """What is wanted and is neither there nor can be had now. Who waits for the rest is not kept waiting."""

    notes: tuple[str, ...] = ()
    """What is wanted or not wanted and cannot be had, for people, in an order that stays."""


class Folding(Protocol[T_co]):
    """The fold of the whole log to what is wanted. It does no I/O, and depends on the log alone."""

    def take(self, stored: Stored) -> bool:
        """Take in the next commit; whether what is wanted may be another now. Never refuses an event.

        UnknownToThisRelease if the site is at a level that this release does not know.
        """
        ...

    def wanted(self) -> frozenset[T_co] | None:
        """What should be there; None if the log does not say so, which is not the same as nothing."""
        ...


class World(Protocol[T, A_co]):
    """The part of the world that a subscriber keeps."""

    async def actual(self) -> A_co:
        """What is there now. ApplyError."""
        ...

    async def apply(self, plan: Plan[T]) -> None:
        """Add and drop. ApplyError; whatever was done until then, the next plan begins from there."""
        ...


@runtime_checkable
class Hearing(Protocol):
    """What a World is too that hears of what others do there."""

    def changes(self) -> AsyncGenerator[None, None]:
        """Yields whenever a look is due. Never ends by itself."""
        ...


class OptionsError(Exception):
    """What was given on this machine cannot be used, or something is missing; one line that says what to give."""


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber is made with on the machine where it runs; none of it is in the log."""

    site: str
    instance: str = "local"  # as the log calls it
    interfaces: Mapping[str, str] = {}  # by subnet: this machine's link to it (`--interface SUBNET=INTERFACE`)
    config: Path | None = None  # `--config FILE`
    bus: str = ""  # where the log is, as it was given


Taken = Literal["interfaces", "config"]
"""A field of Local that not every subscriber takes."""


class Subscriber(msgspec.Struct, Generic[T, A], frozen=True, kw_only=True):
    """An entry of SUBSCRIBERS. `folding` and `world` raise OptionsError if what they are given will not do."""

    name: str
    about: str  # what it is for, in one line
    folding: Callable[[Local], Folding[T]]
    world: Callable[[Local], World[T, A]]
    plan: Callable[[frozenset[T], A], Plan[T]]  # pure
    takes: frozenset[Taken] = frozenset()


class Happened(msgspec.Struct, frozen=True):
    """One commit of an example's log."""

    subject: str  # behind the site: plan, ledger.lan, …
    events: tuple[Any, ...]


class Example(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A log, and what is wanted at its end. Every subscriber brings some, in a module `examples`."""

    title: str
    log: Sequence[Happened]
    wanted: frozenset[T] | None
