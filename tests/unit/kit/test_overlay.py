"""An overlay behaves as a dict that was copied from its base, and the base stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnms.kit.overlay import Overlay

KEYS = st.integers(0, 6)
VALUES = st.none() | st.integers(0, 3)


class OverlayMachine(RuleBasedStateMachine):
    """Does the same to an overlay and to a copy of its base."""

    base: dict[int, int | None]
    copy: dict[int, int | None]
    overlay: Overlay[int, int | None]

    @initialize(base=st.dictionaries(KEYS, VALUES), nested=st.booleans())
    def begin(self, base: dict[int, int | None], nested: bool) -> None:
        self.base, self.copy = base, dict(base)
        self.before = dict(base)
        self.overlay = Overlay(Overlay(base) if nested else base)

    @rule(key=KEYS, value=VALUES)
    def set(self, key: int, value: int | None) -> None:
        self.overlay[key] = value
        self.copy[key] = value

    @rule(key=KEYS)
    def delete(self, key: int) -> None:
        if key in self.copy:
            del self.copy[key]
            del self.overlay[key]
        else:
            with pytest.raises(KeyError):
                del self.overlay[key]

    @rule(key=KEYS, default=st.just("none"))
    def pop(self, key: int, default: str) -> None:
        assert self.overlay.pop(key, default) == self.copy.pop(key, default)

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: int, value: int | None) -> None:
        assert self.overlay.setdefault(key, value) == self.copy.setdefault(key, value)

    @rule(entries=st.dictionaries(KEYS, VALUES))
    def update(self, entries: dict[int, int | None]) -> None:
        self.overlay.update(entries)
        self.copy.update(entries)

    @rule()
    def clear(self) -> None:
        self.overlay.clear()
        self.copy.clear()

    @invariant()
    def they_are_alike(self) -> None:
        assert dict(self.overlay) == self.copy
        assert len(self.overlay) == len(self.copy)
        assert len(list(self.overlay)) == len(self.copy)
        for key in range(7):
            assert (key in self.overlay) == (key in self.copy)
            assert self.overlay.get(key, -1) == self.copy.get(key, -1)
            if key not in self.copy:
                with pytest.raises(KeyError):
                    self.overlay[key]

    @invariant()
    def the_base_is_as_it_was(self) -> None:
        assert self.base == self.before
        assert list(self.base) == list(self.before)


TestOverlay = OverlayMachine.TestCase


def test_it_costs_no_look_at_the_whole_base() -> None:
    class Base(dict[int, int]):
        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("the base was walked through")

        __len__ = __iter__  # type: ignore[assignment]

    base = Base({1: 1, 2: 2})
    overlay = Overlay(base)
    overlay[3] = 3
    del overlay[1]
    assert (1 in overlay, overlay[2], overlay.get(3), overlay.get(1)) == (False, 2, 3, None)


def test_it_sees_what_its_base_learns_later() -> None:
    base = {1: 1}
    overlay = Overlay(base)
    base[2] = 2
    assert overlay[2] == 2
