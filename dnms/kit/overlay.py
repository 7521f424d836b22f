"""A dict seen through changes that may yet be thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_GONE = object()


class Overlay(MutableMapping[K, V]):
    """A mutable view over `base` that leaves `base` as it is.

    A decision is made on a state to which earlier decisions of the same commit were already applied, before anyone
    knows whether the log accepts that commit. So they are applied to overlays, and to the state itself once it is
    acknowledged. Reading and writing cost a constant, whatever the size of `base`.
    """

    def __init__(self, base: Mapping[K, V]) -> None:
        self._base = base
        self._changes: dict[K, object] = {}

    def __getitem__(self, key: K) -> V:
        value = self._changes.get(key, self)
        if value is self:
            return self._base[key]
        if value is _GONE:
            raise KeyError(key)
        return value  # type: ignore[return-value]  # the dict holds V, or the two marks that were handled

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V, /) -> V: ...
    @overload
    def get(self, key: K, default: D, /) -> V | D: ...

    def get(self, key: K, default: object = None, /) -> object:
        """The value, or `default`; without the KeyError by which Mapping finds that a key is missing."""
        value = self._changes.get(key, self)
        if value is self:
            return self._base.get(key, default)
        return default if value is _GONE else value

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: D) -> V | D: ...

    def pop(self, key: K, /, default: object = _GONE) -> object:
        """Remove the key and return its value, or `default`; KeyError without one."""
        value = self.get(key, _GONE)
        if value is not _GONE:
            self._changes[key] = _GONE
        elif default is _GONE:
            raise KeyError(key)
        else:
            value = default
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._changes[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._changes[key] = _GONE

    def __contains__(self, key: object) -> bool:
        if key in self._changes:
            return self._changes[key] is not _GONE
        return key in self._base

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._base if key not in self._changes)
        yield from (key for key, value in self._changes.items() if value is not _GONE)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(True for _ in self)


def overlaid(base: Mapping[K, V]) -> MutableMapping[K, V]:
    """A view over `base` as long as that stays as it is; where there is nothing to see, a dict, which is faster."""
    return Overlay(base) if base else {}
