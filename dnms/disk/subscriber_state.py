"""What a subscriber keeps over its end: by which commit of which log it acted last.

What it folds is folded anew at each start. This alone tells another log, and one that has lost its end, from the one
by which what is in the world was put there.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dnms.disk import atomic


class Acted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest commit that was folded when the subscriber last acted."""

    log_id: str
    sequence: int
    commit: str  # its id, in hex


class SubscriberStateError(Exception):
    """The state cannot be read or written; one line that says what to do."""


class SubscriberState:
    """The file of one subscriber, in a directory that is made when it is missing."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}.json"
        self._name = name

    @contextmanager
    def own(self) -> Iterator[None]:
        """Be the only one of this subscriber meanwhile. SubscriberStateError if there is another."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise SubscriberStateError(f"cannot write {self.path.parent}: {error.strerror or error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SubscriberStateError(
                    f"another subscriber {self._name} runs with the state in {self.path.parent}: stop it first"
                ) from error
            yield

    def read(self) -> Acted | None:
        """What was written last; None if it never acted. SubscriberStateError."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Acted)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SubscriberStateError(
                f"cannot read {self.path} ({error}), which says by which log {self._name} acted: restore it, or move "
                f"it away if the log is known to be the same and whole"
            ) from error

    def write(self, acted: Acted) -> None:
        """Remember it; SubscriberStateError if it cannot be written, and then the old one is still there."""
        try:
            atomic.write(self.path, msgspec.json.encode(acted), mode=0o600)
        except OSError as error:
            raise SubscriberStateError(f"cannot write {self.path}: {error.strerror or error}") from error
