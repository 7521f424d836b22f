"""The log's values as people read them: addresses as text, client ids in hex, instants as dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple

from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, family, format_address
from dnms.events.recorded import Personal

INSTANTS = frozenset(
    {
        "valid_until",
        "preferred_until",
        "horizon",
        "quarantined_until",
        "blocked_until",
        "happened",
        "began",
        "drained_at",
        "since",
        "until",
        "last_seen",
        "recorded",
    }
)
"""Fields of what the log records and leaves behind that hold microseconds since 1970-01-01 UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_AS_THEY_ARE = frozenset({str, int, bool, float, type(None)})
_ADDRESS = re.compile(r"\bAddress\b")

S = TypeVar("S", bound=msgspec.Struct)


def instant(microseconds: int) -> datetime:
    """The date of an instant of the log; what lies past the year 9999 is shown as its last moment."""
    return _EPOCH + timedelta(microseconds=max(_EARLIEST, min(microseconds, _LATEST)))


def instant_or_none(microseconds: int | None) -> datetime | None:
    """As `instant`, for what may be unknown or for ever."""
    return None if microseconds is None else instant(microseconds)


def microseconds(moment: datetime) -> int:
    """The instant of a date; one without a zone is in UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def position(sequence: int, index: int) -> str:
    """An event's position: the commit's sequence in the log, and which of its events it is."""
    return f"{sequence}.{index}"


def prefix_length(address: bytes, length: int) -> int:
    """A prefix length as it is written behind an address: of 32 for IPv4, where the log has all of 128."""
    return max(0, length - MAPPED_BITS) if family(address) == 4 else length  # what a node told may be nonsense


def plain(value: Any, *, whole: bool = False) -> Any:
    """A recorded value as JSON can hold it: fields that hold their default are left out, as in the log.

    With `whole` those are there too.
    """
    kind: Any = type(value)
    return value if kind in _AS_THEY_ARE else _how(kind)(value, whole)


def to_json(value: Any) -> str:
    """`plain`, as JSON text."""
    return msgspec.json.encode(plain(value)).decode()


# Every event comes through here when the views are folded, so nothing is asked twice of a type.
@cache
def _how(kind: type) -> Callable[[Any, bool], Any]:  # noqa: PLR0911  # one kind of value a line
    """How a value of this type is shown; the second argument is `whole`."""
    if issubclass(kind, Prefix):
        return lambda value, whole: _prefix(value.network, value.length)
    if issubclass(kind, msgspec.Struct):
        return _how_struct(kind)
    if issubclass(kind, Personal):
        return lambda value, whole: value.text
    if issubclass(kind, bytes):
        return lambda value, whole: value.hex()
    if issubclass(kind, tuple | list):
        return lambda value, whole: [plain(one, whole=whole) for one in value]
    if issubclass(kind, dict):
        return lambda value, whole: {key: plain(one, whole=whole) for key, one in value.items()}
    return lambda value, whole: value


def _how_struct(kind: type[msgspec.Struct]) -> Callable[[Any, bool], dict[str, Any]]:
    fields = fields_of(kind)
    is_prefix = any(name == "prefix_length" for name, _, _ in fields)

    def struct(value: Any, whole: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for (name, default, is_address), held in zip(fields, astuple(value), strict=True):
            if not whole and (held is default or held == default):
                continue
            held_kind: Any = type(held)
            if held_kind in _AS_THEY_ARE:
                shown[name] = held
            else:
                shown[name] = format_addresses(held) if is_address else _how(held_kind)(held, whole)
        if is_prefix and "prefix_length" in shown:
            shown["prefix_length"] = prefix_length(value.address, value.prefix_length)
        return shown

    return struct


def format_addresses(value: bytes | Iterable[bytes]) -> Any:
    """The text of an address, or a list of those of several."""
    return _formatted(value) if isinstance(value, bytes) else [_formatted(one) for one in value]


_LOW = bytes(12)
"""Of such an address the C library shows the end as IPv4 (RFC 4291, 2.2), and RFC 5952 (5) does not ask for it."""


def _formatted(address: bytes) -> str:
    """As `format_address`, in a twentieth of the time: whatever is folded comes through here."""
    if len(address) != 16 or address.startswith(_LOW):
        return format_address(address)
    if address.startswith(MAPPED):
        return inet_ntop(AF_INET, address[len(MAPPED) :])
    return inet_ntop(AF_INET6, address)


@lru_cache(maxsize=8_192)
def _prefix(network: bytes, length: int) -> str:
    return str(Prefix(network, length))


def fields_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any, bool], ...]:
    """Of each field: its name, its default, and whether it holds addresses."""
    addresses = _addresses(kind)
    found: list[tuple[str, Any, bool]] = []
    for field in msgspec.structs.fields(kind):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found.append((field.name, default, field.name in addresses))
    return tuple(found)


def _addresses(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that hold addresses. Other bytes look the same, so it is read from the annotation."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, annotation in getattr(base, "__annotations__", {}).items()
        if isinstance(annotation, str) and _ADDRESS.search(annotation)
    )
