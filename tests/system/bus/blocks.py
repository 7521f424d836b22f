"""The files of a JetStream stream under a stopped server: where its records are, and how they get damaged.

A record of a block: length (4 bytes, two flags on top), sequence (8), time (8), length of the subject (2), the subject,
if there are headers their length (4) and they, the payload, a checksum of all but the length (8).
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from dnms.events import subjects

_HEAD = struct.Struct("<IQqH")
_HEADERS, _ERASED = 1 << 31, 1 << 30
_CHECKSUM = 8


class Message(msgspec.Struct, frozen=True):
    """Where a stored message lies in its block."""

    first: int
    end: int
    sequence: int
    fields: dict[str, range]  # by name, the places of its bytes


def folder(log: Path, site: str) -> Path:
    """Where the server keeps a site's stream below its data directory."""
    (found,) = log.glob(f"jetstream/*/streams/{subjects.stream(site)}")
    return found


def blocks(log: Path, site: str) -> list[Path]:
    """The files with messages, in their order."""
    return sorted((folder(log, site) / "msgs").glob("*.blk"), key=lambda path: int(path.stem))


def index(log: Path, site: str) -> Path:
    """The file with the stream's state, written when the server stops."""
    return folder(log, site) / "msgs" / "index.db"


def messages(block: Path) -> list[Message]:
    """All messages of a block."""
    data = block.read_bytes()
    found: list[Message] = []
    first = 0
    while first < len(data):
        length, sequence, _, subject = _HEAD.unpack_from(data, first)
        end = first + (length & ~(_HEADERS | _ERASED))
        payload = first + _HEAD.size + subject
        fields = {
            "length": range(first, first + 4),
            "sequence": range(first + 4, first + 12),
            "time": range(first + 12, first + 20),
            "length of the subject": range(first + 20, first + 22),
            "subject": range(first + 22, payload),
        }
        if length & _HEADERS:
            (headers,) = struct.unpack_from("<I", data, payload)
            fields["length of the headers"] = range(payload, payload + 4)
            fields["headers"] = range(payload + 4, payload + 4 + headers)
            payload += 4 + headers
        fields["payload"] = range(payload, end - _CHECKSUM)
        fields["checksum"] = range(end - _CHECKSUM, end)
        found.append(Message(first, end, sequence, fields))
        first = end
    return found


def flip(file: Path, place: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    with file.open("r+b") as opened:
        opened.seek(place)
        (byte,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))


def cut(file: Path, length: int) -> None:
    """Keep only the beginning of a file."""
    with file.open("r+b") as opened:
        opened.truncate(length)
