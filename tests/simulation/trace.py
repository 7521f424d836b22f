"""What happened in a simulation, line by line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any


class Trace:
    """The lines, and what was found wrong."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.lines: list[str] = []  # each with its virtual time
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()  # how often what happened
        self.now = now
        self._ended = False
        self._digest = hashlib.sha256()

    def note(self, what: str, /, **fields: Any) -> None:
        """Something happened."""
        if self._ended:
            return
        self.counts[what] += 1
        line = f"{self.now():10.4f} {what}"
        if fields:
            line += " " + " ".join(f"{name}={value}" for name, value in fields.items())
        self.lines.append(line)
        self._digest.update(line.encode() + b"\n")

    def fail(self, what: str) -> None:
        """Something is as it must never be."""
        if what not in self.wrong and not self._ended:
            self.wrong.append(what)
        self.note(f"WRONG: {what}")

    def end(self) -> None:
        """What happens from here on is no part of it: all is being taken apart."""
        self._ended = True

    @property
    def digest(self) -> str:
        """Two runs that are alike have the same."""
        return self._digest.hexdigest()
