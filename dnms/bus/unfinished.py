"""The write that a killed nats-server did not finish: removed before the next start, for it looks like damage then.

JetStream writes a message in one piece and acknowledges it when that is synced. A server that is killed meanwhile
leaves a part of it at the end of its newest block. Nobody was told of that message, so nothing is lost with it; but at
its next start the server says that it found bytes unreadable and cut them off, as it says of a flipped bit that cost it
everything behind it (`wholeness`). So what can only be an unfinished write is taken away here, and nothing else is
touched.

A message in a block: its length (4 bytes, two flags on top), sequence (8), time (8), length of its subject (2), the
subject, headers and payload, a checksum (8).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import msgspec

from dnms.events import codec

MAX_LENGTH = 9 << 20  # of a message: the bus takes 8 MiB, and its subject and headers are short

_HEAD = struct.Struct("<IQqH")
_HEADERS = 1 << 31  # the flag in a length that says that there are some
_LENGTH = (1 << 30) - 1  # without the flags
_CHECKSUM = 8


class Unfinished(msgspec.Struct, frozen=True):
    """A part of a message at the end of a block."""

    block: Path
    place: int  # where it begins
    size: int
    after: int  # the sequence of the message before it; 0 if the block has none


def remove_unfinished(directory: Path) -> list[Unfinished]:
    """Remove what is unfinished in all streams below a data directory of a server that does not run. OSError."""
    removed = []
    for messages in directory.glob("jetstream/*/streams/*/msgs"):
        blocks = [block for block in messages.glob("*.blk") if block.stem.isdigit()]
        if not blocks:
            continue
        found = unfinished(max(blocks, key=lambda block: int(block.stem)))
        if found is not None:
            with found.block.open("r+b") as file:
                file.truncate(found.place)
                os.fsync(file.fileno())
            removed.append(found)
    return removed


def unfinished(block: Path) -> Unfinished | None:
    """The unfinished write at the end of a block; None if it ends with a whole message, or in any other way.

    A message whose length was damaged seems to be unfinished too. But then it is a commit as it stands, or others
    follow it, whose subjects begin as its own does.
    """
    data = block.read_bytes()
    place, before = 0, 0
    while place < len(data):
        found = Unfinished(block, place, len(data) - place, before)
        if found.size < _HEAD.size:
            return found
        flagged, sequence, _, subject_length = _HEAD.unpack_from(data, place)
        length = flagged & _LENGTH
        least = _HEAD.size + subject_length + _CHECKSUM
        if not least <= length <= MAX_LENGTH or (before and sequence != before + 1):
            return None
        if length > found.size:
            return None if _is_whole(data[place + _HEAD.size :], subject_length, flagged & _HEADERS != 0) else found
        place, before = place + length, sequence
    return None


def _is_whole(rest: bytes, subject_length: int, headers: bool) -> bool:
    """Whether what follows the head of the last message is all of it, or more."""
    if len(rest) <= subject_length:
        return False
    site = b".".join(rest[:subject_length].split(b".")[:2])
    if site in rest[subject_length:]:
        return True
    payload = rest[subject_length:-_CHECKSUM]
    if headers:
        payload = payload[4 + int.from_bytes(payload[:4], "little") :]
    try:
        codec.decode(payload)
    except codec.UnknownToThisRelease:
        return True
    except codec.BrokenCommit:
        return False
    return True
