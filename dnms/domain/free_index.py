"""Which addresses of an IPv4 range were never given: a bit an address, found from any point in near-constant time."""

from __future__ import annotations

import re
from typing import Final

_BLOCK: Final = 4096  # bytes of the bitmap that one counter summarises
_NOT_FULL: Final = re.compile(rb"[^\xff]")  # scans at the speed of C


class FreeIndex:
    """A bitmap over `size` offsets, all free at first. Two mebibytes for an IPv4 /8, made when it is first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._bits = bytearray((size + 7) // 8)
        self._taken = [0] * ((len(self._bits) + _BLOCK - 1) // _BLOCK)
        for offset in range(size, len(self._bits) * 8):
            self.take(offset)  # the bits behind the end are nobody's

    def take(self, offset: int) -> None:
        """The offset is no longer free."""
        byte, bit = offset >> 3, 1 << (offset & 7)
        if not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self._taken[byte // _BLOCK] += 1

    def free(self, offset: int) -> None:
        """The offset is free again."""
        byte, bit = offset >> 3, 1 << (offset & 7)
        if self._bits[byte] & bit:
            self._bits[byte] ^= bit
            self._taken[byte // _BLOCK] -= 1

    def find(self, start: int) -> int | None:
        """The first free offset at or after `start`, then from the beginning; None if all are taken."""
        found = self._find(start, self._size)
        return found if found is not None else self._find(0, start)

    def _find(self, start: int, end: int) -> int | None:
        offset = start
        while offset < end:
            byte = offset >> 3
            block = byte // _BLOCK
            block_end = min((block + 1) * _BLOCK, len(self._bits))
            if self._taken[block] < (block_end - block * _BLOCK) * 8:
                if offset & 7:  # the rest of a byte that was begun
                    while offset & 7 and self._bits[byte] & 1 << (offset & 7):
                        offset += 1
                    if offset & 7:
                        return offset if offset < end else None
                    byte = offset >> 3
                if match := _NOT_FULL.search(self._bits, byte, block_end):
                    value = self._bits[match.start()]
                    lowest = (~value & (value + 1)).bit_length() - 1
                    offset = match.start() * 8 + lowest
                    return offset if offset < end else None
            offset = block_end * 8
        return None
