"""Up to where a stream's files go, whatever is damaged in them: what the server does not say once it has cut them off.

A server that was killed has no index of its messages. At its next start it finds a damaged one, drops it and all behind
it, and from the start after that it knows nothing of them. Their heads are still there to be counted before.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from dnms.events import subjects

_HEAD = struct.Struct("<IQqH")  # of a message in a block, before its subject; see `unfinished`

_EARLIEST, _LATEST = 1_577_836_800_000_000_000, 4_102_444_800_000_000_000
"""Nanoseconds since 1970-01-01 UTC: 2020 and 2100. What looks like a head and has another time is none."""

NEEDED = 3  # heads from the end, to tell which one is damaged where two do not follow each other


def last_on_disk(directory: Path, site: str) -> int:
    """The sequence of the last message in a site's blocks below a data directory; 0 if there is none. OSError.

    One flipped bit, in the last messages or elsewhere, does not change it, but in the subject of the very last one.
    """
    found: list[int] = []
    for messages in directory.glob(f"jetstream/*/streams/{subjects.stream(site)}/msgs"):
        blocks = [block for block in messages.glob("*.blk") if block.stem.isdigit()]
        for block in sorted(blocks, key=lambda block: int(block.stem), reverse=True):
            found = [*_sequences(block.read_bytes(), site), *found]
            if len(found) >= NEEDED:
                break
    match found[-NEEDED:]:
        case []:
            return 0
        case [*_, before, last] if last == before + 1:
            return last
        case [first, _, last] if last == first + 2:
            return last
        case [first, second, _] if second == first + 1:
            return second + 1
        case [*_, last]:
            return last
        case _:
            return 0


def _sequences(block: bytes, site: str) -> list[int]:
    found = []
    for match in re.finditer(re.escape(f"dnms.{site}.".encode()), block):
        head = match.start() - _HEAD.size
        if head < 0:
            continue
        _, sequence, time, subject = _HEAD.unpack_from(block, head)
        name = block[match.start() : match.start() + subject]
        if _EARLIEST < time < _LATEST and len(name) == subject and name.isascii() and b" " not in name:
            found.append(sequence)
    return found
