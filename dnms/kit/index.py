"""Finds rows of a table by a part of their bytes, in sixteen bytes a row: a dict of small objects takes ten times that.

Theory of operation. A table of fixed rows lies in one bytearray, and a key is the same few bytes of each row. Of a row
the index keeps 64 bits: a hash of its key, and its number. They stand in open addressing with linear probing, and
removing one moves up those behind it, so nothing is ever left in the way. The hash is a CRC: as fast as Python calls
anything, and the same in every process, so that an index can be written to a disk and read again. Keys that somebody
makes collide on purpose would make it slow; who has such ones must hash them with a secret before.

It is split in many segments, because a segment is made anew when it is full, and nobody may wait for all of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final
from zlib import crc32

SEGMENTS: Final = 256
SMALLEST: Final = 8  # places of a segment that has something in it
FULLEST: Final = 0.6  # of a segment's places; more, and a key that is not there takes long to miss

_NUMBER: Final = (1 << 32) - 1
_NOTHING: Final = array("Q", [0])  # of all that are empty, and never written to: it is too full for one already


class Index:
    """Row numbers by key. The rows are another's: a key's bytes must stand in its row while it is in here."""

    def __init__(self, rows: bytearray, *, width: int, begin: int, end: int) -> None:
        """`width`: bytes of a row; `begin` and `end`: which of them are the key."""
        self._rows = rows
        self._width = width
        self._begin = begin
        self._length = end - begin
        self._segments = [_NOTHING] * SEGMENTS
        self._used = [0] * SEGMENTS
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, key: bytes) -> int:
        """The number of the row with this key; -1 if there is none."""
        code = crc32(key)
        segment = self._segments[code & 255]
        mask = len(segment) - 1
        place = code >> 8 & mask
        while entry := segment[place]:
            if entry >> 32 == code:
                at = ((entry & _NUMBER) - 1) * self._width + self._begin
                if self._rows[at : at + self._length] == key:
                    return (entry & _NUMBER) - 1
            place = place + 1 & mask
        return -1

    def add(self, key: bytes, number: int) -> int:
        """The row `number` has this key, unless one in here has it: the number of the one that has."""
        code = crc32(key)
        which = code & 255
        segment = self._segments[which]
        mask = len(segment) - 1
        place = code >> 8 & mask
        while entry := segment[place]:
            if entry >> 32 == code:
                at = ((entry & _NUMBER) - 1) * self._width + self._begin
                if self._rows[at : at + self._length] == key:
                    return (entry & _NUMBER) - 1
            place = place + 1 & mask
        self._used[which] += 1
        self._count += 1
        if self._used[which] > FULLEST * len(segment):
            self._segments[which] = segment = _larger(segment)
            _put(segment, code << 32 | number + 1)
        else:
            segment[place] = code << 32 | number + 1
        return number

    def extend(self, keys: Sequence[bytes], first: int) -> int:
        """The rows from `first` on have these keys, up to the one that is in here already; how many were taken.

        It does what `add` does, without a call for each.
        """
        rows, width, begin, length = self._rows, self._width, self._begin, self._length
        segments, used = self._segments, self._used
        number = first
        for key in keys:
            code = crc32(key)
            which = code & 255
            segment = segments[which]
            mask = len(segment) - 1
            place = code >> 8 & mask
            while entry := segment[place]:
                if entry >> 32 == code:
                    at = ((entry & _NUMBER) - 1) * width + begin
                    if rows[at : at + length] == key:
                        self._count += number - first
                        return number - first
                place = place + 1 & mask
            number += 1
            used[which] += 1
            if used[which] > FULLEST * len(segment):
                segments[which] = segment = _larger(segment)
                _put(segment, code << 32 | number)
            else:
                segment[place] = code << 32 | number
        self._count += number - first
        return number - first

    def remove(self, key: bytes) -> None:
        """The row with this key is in here no longer. KeyError."""
        number = self.find(key)
        if number < 0:
            raise KeyError(key)
        code = crc32(key)
        segment = self._segments[code & 255]
        mask = len(segment) - 1
        place = code >> 8 & mask
        while segment[place] != code << 32 | number + 1:
            place = place + 1 & mask
        hole = place
        while entry := segment[place := place + 1 & mask]:
            if place - (entry >> 40) & mask >= place - hole & mask:  # it would be found in the hole as well
                segment[hole] = entry
                hole = place
        segment[hole] = 0
        self._used[code & 255] -= 1
        self._count -= 1

    def dump(self) -> tuple[list[int], bytes]:
        """How many places each segment has, and all of them, for `load` on a machine of the same byte order."""
        return [len(segment) for segment in self._segments], b"".join(self._segments)

    def load(self, sizes: Sequence[int], entries: memoryview) -> None:
        """Take what `dump` gave. ValueError if it is no such thing; of its content nothing is checked."""
        if len(sizes) != SEGMENTS or sum(sizes) * 8 != len(entries):
            raise ValueError("an index of another shape")
        if any(size < 1 or size & size - 1 for size in sizes):
            raise ValueError("a segment's size is a power of two")
        begin = 0
        for which, size in enumerate(sizes):
            segment = array("Q")
            segment.frombytes(entries[begin : begin + 8 * size])
            self._segments[which] = segment
            self._used[which] = size - segment.count(0)
            begin += 8 * size
        self._count = sum(self._used)


def _put(segment: array[int], entry: int) -> None:
    mask = len(segment) - 1
    place = entry >> 40 & mask
    while segment[place]:
        place = place + 1 & mask
    segment[place] = entry


def _larger(segment: array[int]) -> array[int]:
    larger = array("Q", bytes(8 * max(SMALLEST, 2 * len(segment))))
    mask = len(larger) - 1
    for entry in segment:
        if entry:  # as `_put`, since a table that grows does little else
            place = entry >> 40 & mask
            while larger[place]:
                place = place + 1 & mask
            larger[place] = entry
    return larger
