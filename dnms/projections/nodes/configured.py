"""What a node has, as people are shown it, and what differs between two moments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

Shown = dict[str, Any]
"""A configuration or a part of it, as `text.plain` has it."""

_KEYS: dict[str, tuple[str, ...]] = {
    "links": ("index",),
    "addresses": ("interface", "address", "prefix_length"),
    "routes": ("destination", "interface", "gateway", "metric", "protocol"),
    "routers": ("interface", "address"),
    "advertisements": ("interface", "router"),
}
"""By what two of a kind are the same one; what is left out of a thing holds its default."""

_ONE = {
    "links": "link",
    "addresses": "address",
    "routes": "route",
    "routers": "router",
    "advertisements": "advertisement",
}
_SINGLE = ("host", "kernel", "resolver", "routes_not_listed")
_LIFETIMES = frozenset({"preferred", "valid", "lifetime"})


class ConfigurationChange(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a node has otherwise than before."""

    what: str  # link, address, route, router, advertisement, resolver, setting, host, kernel, routes-not-listed
    change: str  # added, removed, changed
    before: Any  # None where it was added
    after: Any  # None where it was removed


def summary(change: Shown) -> str:
    """A `change` in few words: which things are new or otherwise (+), and which are gone (-)."""
    words = []
    for name, value in change.items():
        if name.endswith("_gone"):
            words.append(f"-{len(value)} {name.removesuffix('_gone')}")
        else:
            words.append(f"+{len(value)} {name}" if isinstance(value, list) else name.replace("_", " "))
    return ", ".join(words)


def differences(before: Shown, after: Shown) -> Iterator[ConfigurationChange]:
    """What is otherwise after, lifetimes apart: they run down by themselves."""
    for kind, key in _KEYS.items():
        yield from _between(
            _ONE[kind],
            {_key(each, key): each for each in before.get(kind, ())},
            {_key(each, key): each for each in after.get(kind, ())},
        )
    yield from _between("setting", _named(before.get("sysctls", {})), _named(after.get("sysctls", {})))
    for name in _SINGLE:
        one, other = before.get(name), after.get(name)
        if one != other:
            what = name.replace("_", "-")
            yield ConfigurationChange(what=what, change=_how(one, other), before=one, after=other)


def _between(what: str, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Iterator[ConfigurationChange]:
    for key in [*before, *(key for key in after if key not in before)]:
        one, other = before.get(key), after.get(key)
        if _lasting(one) != _lasting(other):
            yield ConfigurationChange(what=what, change=_how(one, other), before=one, after=other)


def _how(before: Any, after: Any) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def _key(each: Shown, key: Sequence[str]) -> tuple[Any, ...]:
    return tuple(each.get(name) for name in key)


def _lasting(each: Any) -> Any:
    if not isinstance(each, dict):
        return each
    return {
        name: [_lasting(one) for one in value] if isinstance(value, list) else value
        for name, value in each.items()
        if name not in _LIFETIMES
    }


def _named(settings: Mapping[str, str]) -> dict[str, Shown]:
    return {name: {"name": name, "value": value} for name, value in settings.items()}
