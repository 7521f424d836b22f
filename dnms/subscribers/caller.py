"""What a subscriber is that calls something outside for each event: a program, a web server.

It knows nothing of logs, order and attempts: `calling` does, and calls it once an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from typing import Any, Protocol

import msgspec

from dnms.events.codec import EVENTS
from dnms.events.effect import EffectCalled
from dnms.events.ip import Prefix, format_address
from dnms.events.recorded import Event
from dnms.projections.text import instant, plain
from dnms.subscribers.following import EFFECT
from dnms.subscribers.subscriber import Local, Taken

NAMES = frozenset(event.NAME for event in EVENTS)
FAMILIES = frozenset(name.partition(".")[0] for name in NAMES)


class CallError(Exception):
    """The call was not done, or nobody knows that it was. `why` is a stable word. It is tried again."""

    def __init__(self, why: str, text: str, *, not_before: float = 0.0) -> None:
        """`not_before`: seconds that the other side wants to be left alone."""
        super().__init__(text)
        self.why = why
        self.not_before = not_before


class Happening(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One event, and where it stands in the log."""

    log_id: str
    sequence: int
    index: int
    subject: str
    time: int  # microseconds since 1970-01-01 UTC
    stored_at: int  # the log's own clock, in microseconds
    actor: str
    event: Event

    @property
    def kind(self) -> str:
        """The event's name."""
        return self.event.NAME

    @cached_property
    def position(self) -> str:
        """The key by which whoever is called knows an event that it was called for before."""
        return f"{self.log_id}:{self.sequence}.{self.index}"

    @property
    def about(self) -> str:
        """What the event is about, as text: the prefix, the address or the client (in hex); empty if it has none."""
        prefix, address = getattr(self.event, "prefix", None), getattr(self.event, "address", None)
        if isinstance(prefix, Prefix):
            return str(prefix)
        if isinstance(address, bytes):
            return format_address(address)
        client = getattr(self.event, "client", None)
        return client.hex() if isinstance(client, bytes) else ""

    def entities(self) -> tuple[Hashable, ...]:
        """Whose order it stands in: the client's and, in its ledger, that of the address or prefix; or its subject's.

        Both, since either would come out of order by the other alone: of two prefixes of a client the old one is to end
        after the new one begins, and an address is to be given up by one client before the next one has it. An address
        stands for itself in its ledger only, as realms have the same one twice. What has none of them, as the plan's
        events have not, is in the order of its subject.
        """
        found: list[Hashable] = []
        client = getattr(self.event, "client", None)
        if isinstance(client, bytes):
            found.append(client)
        places = (getattr(self.event, name, None) for name in ("address", "prefix"))
        found += [(self.subject, value) for value in places if isinstance(value, bytes | Prefix)]
        return tuple(found) or (self.subject,)

    def document(self) -> dict[str, Any]:
        """The event for others, in what JSON can hold; names are those of the REST API."""
        return {
            "position": self.position,
            "sequence": self.sequence,
            "index": self.index,
            "time": instant(self.time),
            "subject": self.subject,
            "name": self.kind,
            "actor": self.actor,
            "fields": plain(self.event),
        }


class Kinds:
    """Which events are called for: names (`prefix.delegated`) and families (`prefix`); none: all but `effect`."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        """ValueError with the word that is none."""
        self._words = frozenset(words)
        for word in words:
            if word not in NAMES and word not in FAMILIES:
                raise ValueError(
                    f"there is no kind of events {word!r}; expected a name such as prefix.delegated, or the first word "
                    f"of one: {', '.join(sorted(FAMILIES))}"
                )

    def __contains__(self, kind: object) -> bool:
        if kind == EffectCalled.NAME:
            return False  # whoever calls for what it called for never comes to an end
        family = str(kind).partition(".")[0]
        return bool(self._words & {kind, family}) if self._words else family != EFFECT  # but for who says so


class Caller(Protocol):
    """Who calls."""

    @property
    def kinds(self) -> Kinds:
        """For which events."""
        ...

    @property
    def from_first(self) -> bool:
        """Whether an instance that never ran begins with the log's first event, and not with what is to come."""
        ...

    @property
    def at_once(self) -> int:
        """How many calls may be under way at a time."""
        ...

    async def call(self, happening: Happening) -> None:
        """Call once; CallError. What it is called for may have been called for before: the position tells."""
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...


class Calling(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of SUBSCRIBERS. `caller` raises OptionsError if what it is given will not do."""

    name: str
    about: str  # what it is for, in one line
    caller: Callable[[Local], Caller]
    takes: frozenset[Taken] = frozenset()
