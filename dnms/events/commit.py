"""A commit: the unit of the log. All of its events happen together or not at all.

These types are out of the garbage collector's sight (`gc=False`): they hold values and no cycles, and it took half of
the time of reading a log to look through them in vain.
"""

from __future__ import annotations

import msgspec

from dnms.events.recorded import Event, Request

FORMAT = 1
"""The version of the commit's own form, its first element."""

MAX_EVENTS = 5_000
MAX_BYTES = 7 << 20
"""A commit stays under the bus's payload of 8 MiB; a larger change is staged, and activated by one commit."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, all that its decision was given beside the state, and what came of it.

    `events[first:first + count]` of the commit are its outcome; or it was refused with a stable word, `times`
    times since it was last recorded.
    """

    request: Request
    at: int  # microseconds since 1970-01-01 UTC
    entropy: bytes = b""
    first: int = 0
    count: int = 0
    refused: str | None = None
    times: int = 1


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one writer appended to one subject, at once."""

    id: bytes  # 16 random bytes
    time: int  # microseconds since 1970-01-01 UTC; never earlier than the predecessor's
    predecessor: int  # stream sequence of the message before it on its subject; 0 for the first
    actor: str  # agent/<name>, operator/<name>
    plan: int = 0  # position of the plan that the decisions were made by; 0 where none is needed
    decisions: tuple[Decision, ...] = ()
    events: tuple[Event, ...] = ()  # those of the decisions, then what was merely seen
    hash: bytes | None = None  # place for the chain of hashes
    signature: bytes | None = None  # place for the writer's signature


class Stored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A commit where it lies in the log."""

    subject: str
    sequence: int  # of the stream
    stored_at: int  # the log's own clock when it was stored, in microseconds
    commit: Commit
    size: int  # bytes in the log
