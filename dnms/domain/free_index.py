"""Which addresses of an IPv4 range were never given: a bit an address, found from any point in near-constant time.

Offsets stand in groups of 512, a cache line of the bitmap, and a byte for each group says whether one of it is free. A
search is a scan of these bytes by memchr(3) and a look into the group that it ends at, however full the range is: of a
/8 they are 32 KiB, which take 1 µs from end to end. A draft has these bytes for itself, and the groups that it changes.
"""

from __future__ import annotations

from typing import Final

_GROUP: Final = 64  # bytes of the bitmap
_SHIFT: Final = 9  # of an offset: the number of its group
_WITHIN: Final = (1 << _SHIFT) - 1
_FULL: Final = (1 << 8 * _GROUP) - 1


class FreeIndex:
    """A bitmap over `size` offsets, all free at first. 2.04 MiB for an IPv4 /8, made when it is first needed."""

    def __init__(self, size: int, *, base: FreeIndex | None = None) -> None:
        groups = (size + _WITHIN) >> _SHIFT
        self._size = size
        self._base = base
        self._bits = bytearray() if base else bytearray(groups * _GROUP)
        self._changed: dict[int, int] = {}  # in a draft: the bits of each group that is not as in the base
        self._open: bytearray = bytearray(base._open if base else b"\1" * groups)  # 0: none of the group is free
        if base is None:
            for offset in range(size, groups << _SHIFT):
                self.take(offset)  # the bits behind the end are nobody's

    def draft(self) -> FreeIndex:
        """A copy that may be thrown away, while this one stays as it is."""
        return FreeIndex(self._size, base=self)

    def take(self, offset: int) -> None:
        """The offset is no longer free."""
        group = offset >> _SHIFT
        taken = self._taken(group) | 1 << (offset & _WITHIN)
        self._put(group, taken)
        if taken == _FULL:
            self._open[group] = 0

    def free(self, offset: int) -> None:
        """The offset is free again."""
        group = offset >> _SHIFT
        self._put(group, self._taken(group) & ~(1 << (offset & _WITHIN)))
        self._open[group] = 1

    def find(self, start: int) -> int | None:
        """The first free offset at or after `start`, then from the beginning; None if all are taken."""
        found = self._find(start)
        return found if found is not None else self._find(0)

    def _find(self, start: int) -> int | None:
        group = self._open.find(1, start >> _SHIFT)
        while group >= 0:
            taken = self._taken(group)
            if group == start >> _SHIFT:
                taken |= (1 << (start & _WITHIN)) - 1  # what is before `start`
            lowest = (~taken & (taken + 1)).bit_length() - 1
            if lowest <= _WITHIN:
                return (group << _SHIFT) + lowest
            group = self._open.find(1, group + 1)
        return None

    def _taken(self, group: int) -> int:
        """The bits of one group, the lowest offset's the lowest."""
        if self._base is not None:
            changed = self._changed.get(group)
            return self._base._taken(group) if changed is None else changed
        return int.from_bytes(self._bits[group * _GROUP : (group + 1) * _GROUP], "little")

    def _put(self, group: int, taken: int) -> None:
        if self._base is not None:
            self._changed[group] = taken
        else:
            self._bits[group * _GROUP : (group + 1) * _GROUP] = taken.to_bytes(_GROUP, "little")

    def __sizeof__(self) -> int:
        """Bytes, those of the bitmap included; of a draft without the groups that it has changed."""
        return object.__sizeof__(self) + self._bits.__sizeof__() + self._open.__sizeof__()
