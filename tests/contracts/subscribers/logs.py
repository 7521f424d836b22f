"""The examples of every subscriber, as commits and as logs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from dnms.bus.memory import MemoryLog
from dnms.events import codec
from dnms.events.commit import Commit, Stored
from dnms.subscribers import SUBSCRIBERS
from dnms.subscribers.subscriber import Example, Happened, Local, Subscriber

SITE = "example"


def examples(name: str) -> list[Example[Any]]:
    found: list[Example[Any]] = importlib.import_module(f"dnms.subscribers.{name}.examples").EXAMPLES
    return found


def local(name: str) -> Local:
    """What a subscriber is made with in these tests: `LOCAL` of its examples."""
    found: Local = getattr(importlib.import_module(f"dnms.subscribers.{name}.examples"), "LOCAL", Local(site=SITE))
    return found


STATES: tuple[Subscriber[Any, Any], ...] = tuple(each for each in SUBSCRIBERS if isinstance(each, Subscriber))
"""Those that keep a state of the world."""

CASES = [(subscriber, example) for subscriber in STATES for example in examples(subscriber.name)]
IDS = [f"{subscriber.name}: {example.title}" for subscriber, example in CASES]


def commits(log: Sequence[Happened]) -> list[Stored]:
    """The commits of an example, with their places in the log."""
    heads: dict[str, int] = {}
    found = []
    for sequence, one in enumerate(log, start=1):
        subject = f"dnms.{SITE}.{one.subject}"
        commit = Commit(
            id=sequence.to_bytes(16),
            time=sequence,
            predecessor=heads.get(subject, 0),
            actor="agent/east",
            events=one.events,
        )
        found.append(Stored(subject=subject, sequence=sequence, stored_at=sequence, commit=commit, size=100))
        heads[subject] = sequence
    return found


async def write(log: MemoryLog, happened: Sequence[Happened]) -> None:
    """Append these after what is in the log."""
    for one in happened:
        subject = f"dnms.{log.site}.{one.subject}"
        head = max((record.sequence for record in log.records if record.subject == subject), default=0)
        number = len(log.records) + 1
        commit = Commit(id=number.to_bytes(16), time=number, predecessor=head, actor="agent/east", events=one.events)
        await log.store(subject, codec.encode(commit), expected=head)


def wanted(subscriber: Subscriber[Any, Any], log: Sequence[Happened]) -> frozenset[Any] | None:
    """What a subscriber wants at the end of a log."""
    folding = subscriber.folding(local(subscriber.name))
    for stored in commits(log):
        folding.take(stored)
    return folding.wanted()
