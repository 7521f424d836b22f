"""What a Subnet Agent has made of the log, so that its next start need not read all of that again.

It is a cache. A file that is torn, damaged, or of another format or release is never used: what is in it can be had
from the log. So whoever opens one gets all of what was written, or nothing and a line that says why.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dnms import __version__
from dnms.disk import atomic

MAGIC: Final = b"DNMSSNAP"
FORMAT: Final = 1
_DIGEST: Final = 32  # bytes, at the end of the file

_RELEASE: Final = __version__.encode().ljust(16, b"\0")[:16]
_HEAD: Final = MAGIC + FORMAT.to_bytes(4) + _RELEASE + sys.byteorder[:1].encode()
_LENGTH: Final = 8  # bytes of the length of the first part, behind the head


class SnapshotError(Exception):
    """There is a snapshot, and it is of no use, or it cannot be written; one line that says why."""


class SnapshotFile:
    """The snapshot of one agent. One process has it at a time: who holds the journal beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()  # who is cancelled while it writes leaves a thread that goes on

    def read(self) -> tuple[memoryview, memoryview] | None:
        """The small part and the large one of what was written, as long as somebody looks at them; None if there is no
        snapshot. SnapshotError.
        """
        try:
            for scratch in self.path.parent.glob(f".{self.path.name}.*"):
                scratch.unlink()  # of a process that was killed while it wrote
            with self.path.open("rb") as file:
                content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            return None
        except ValueError:
            raise SnapshotError(f"the snapshot {self.path} is empty") from None
        except OSError as error:
            raise SnapshotError(f"cannot read the snapshot {self.path}: {error}") from error
        if bytes(content[: len(MAGIC)]) != MAGIC or len(content) < len(_HEAD) + _LENGTH + _DIGEST:
            raise SnapshotError(f"{self.path} is no snapshot, or the beginning of one")
        if bytes(content[: len(_HEAD)]) != _HEAD:
            raise SnapshotError(f"the snapshot {self.path} is of another release or machine")
        if hashlib.blake2b(content[:-_DIGEST], digest_size=_DIGEST).digest() != bytes(content[-_DIGEST:]):
            raise SnapshotError(f"the snapshot {self.path} is torn or damaged")
        begin = len(_HEAD) + _LENGTH
        end = begin + int.from_bytes(content[len(_HEAD) : begin])
        return content[begin:end], content[end:-_DIGEST]

    async def write(self, small: bytes, large: Sequence[bytes]) -> None:
        """Put this in the place of what was written before; it is on the disk when this returns. SnapshotError."""
        await asyncio.to_thread(self._write, small, large)

    def _write(self, small: bytes, large: Sequence[bytes]) -> None:
        parts = [_HEAD, len(small).to_bytes(_LENGTH), small, *large]
        digest = hashlib.blake2b(digest_size=_DIGEST)
        for part in parts:
            digest.update(part)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._writing:
                atomic.write(self.path, [*parts, digest.digest()], mode=0o600)
        except OSError as error:
            raise SnapshotError(f"cannot write the snapshot {self.path}: {error}") from error
