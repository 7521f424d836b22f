"""What nats-server says in its own log, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

MOST = 1 << 20  # bytes that are read at once; what was said before them was said again since

_FAILED = re.compile(rb"JetStream failed to store a msg on stream .*?: (.+)\n")


class FailedWrites:
    """Writes to the disk that failed, from now on.

    A stream that could not be written once, since the disk was full for a moment, takes nothing more and gives no
    answers, also when there is room again: not before the server is started again. It says so at each message.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = self._size()

    def newest(self) -> str:
        """Why a write failed since the last look; empty if none did."""
        size = self._size()
        if size < self._read:
            self._read = 0  # the server has begun a new log
        self._read = max(self._read, size - MOST)
        try:
            with self._log.open("rb") as file:
                file.seek(self._read)
                said = file.read(MOST)
        except FileNotFoundError:
            return ""
        whole = said[: said.rfind(b"\n") + 1]
        self._read += len(whole)
        failed = _FAILED.findall(whole)
        return failed[-1].decode(errors="replace") if failed else ""

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0
