"""The log as its users see it: append with an expected sequence, read, follow.

Two implementations, `memory.MemoryLog` and `jetstream.JetStreamLog`, pass the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from dnms.bus.keys import Keys


class Record(msgspec.Struct, frozen=True):
    """A message of the log, as bytes."""

    subject: str
    sequence: int  # of the stream: 1, 2, 3, … without gaps over all subjects
    stored_at: int  # the log's clock, microseconds since 1970-01-01 UTC
    data: bytes


class Batch(msgspec.Struct, frozen=True):
    """What came together; `caught_up` says that nothing more was stored when it was sent."""

    records: tuple[Record, ...]
    caught_up: bool


class LogError(Exception):
    """The log did not do what was asked; `why` is a stable word that is counted."""

    why = "log"


class LostRace(LogError):
    """Another commit came first on this subject. Fold what was missed and decide again."""

    why = "lost-race"


class Unavailable(LogError):
    """The log cannot be reached, or cannot store; what was asked did not happen, as far as can be known."""

    why = "unavailable"


class Denied(LogError):
    """The bus does not take this token. Trying again does not help."""

    why = "denied"


class Unanswered(LogError):
    """No acknowledgement: the message may be stored, or may yet be. `append.append` finds out."""

    why = "unanswered"


class Doubled(LogError):
    """Another process writes on a subject that is this process's alone. Trying again does not help."""

    why = "doubled"


class LogForked(LogError):
    """This is another log, or a shorter one, than the one that was read before. Nothing goes on by itself then."""

    why = "log-forked"


class LogDamaged(LogError):
    """A message is missing, or is no commit: a gap in a sequence or in a chain of predecessors. Never skipped."""

    why = "log-damaged"
    advice = "`dnms log check` says what is missing, and `dnms log repair` brings it back from an archive"


class Log(Protocol):
    """One site's stream."""

    @property
    def log_id(self) -> str:
        """Drawn when the stream was made; another one is another log."""
        ...

    @property
    def keys(self) -> Keys:
        """With what the personal values in it are sealed; kept beside the stream, since a key can be destroyed."""
        ...

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        """Store one message if the last one on `subject` has sequence `expected` (0: none); return its sequence.

        The primitive under `append.append`, which is what writers call. LostRace, Unavailable (certainly not stored) or
        Unanswered (perhaps stored).
        """
        ...

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        """The first message on `subject` with a higher sequence, or None. Unavailable."""
        ...

    async def end(self) -> int:
        """The sequence of the newest message of the stream; 0 if there is none. Unavailable."""
        ...

    def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncIterator[Batch]:
        """All messages on `subjects` (NATS wildcards) after the sequence `after`, in order, then those to come.

        The first batch comes at once, empty if there is nothing. Goes on by itself after any loss of connection,
        without a gap and without a repetition. Ends when the iterator is closed.
        """
        ...
