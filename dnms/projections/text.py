"""The log's values as people read them: addresses as text, client ids in hex, instants as dates."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

import msgspec

from dnms.events.ip import MAPPED_BITS, Prefix, family, format_address
from dnms.events.recorded import Personal

INSTANTS = frozenset(
    {"valid_until", "horizon", "quarantined_until", "blocked_until", "happened", "began", "drained_at"}
)
"""Fields of what the log records and leaves behind that hold microseconds since 1970-01-01 UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
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


def plain(value: Any, *, whole: bool = False) -> Any:  # noqa: PLR0911  # one kind of value a line
    """A recorded value as JSON can hold it: fields that hold their default are left out, as in the log.

    With `whole` those are there too.
    """
    if isinstance(value, Prefix):
        return str(value)
    if isinstance(value, msgspec.Struct):
        addresses = _addresses(type(value))
        shown = {
            field: _address(held) if field in addresses else plain(held, whole=whole)
            for field, held, default in _fields(value)
            if whole or held != default
        }
        if "prefix_length" in shown:
            shown["prefix_length"] = prefix_length(value.address, value.prefix_length)  # type: ignore[attr-defined]
        return shown
    if isinstance(value, Personal):
        return value.text
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [plain(one, whole=whole) for one in value]
    if isinstance(value, dict):
        return {key: plain(one, whole=whole) for key, one in value.items()}
    return value


def to_json(value: Any) -> str:
    """`plain`, as JSON text."""
    return msgspec.json.encode(plain(value)).decode()


def _address(value: Any) -> Any:
    if isinstance(value, bytes):
        return format_address(value)
    return None if value is None else [format_address(one) for one in value]


def _fields(value: msgspec.Struct) -> list[tuple[str, Any, Any]]:
    return [(name, getattr(value, name), default) for name, default in _defaults(type(value))]


@cache
def _defaults(kind: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    defaults: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(kind):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        defaults.append((field.name, default))
    return defaults


@cache
def _addresses(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that hold addresses. Other bytes look the same, so it is read from the annotation."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, annotation in getattr(base, "__annotations__", {}).items()
        if isinstance(annotation, str) and _ADDRESS.search(annotation)
    )
