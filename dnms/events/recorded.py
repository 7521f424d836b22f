"""What may stand in the log: events and the requests that led to them, each with a wire name, a version and upcasts.

A wire name outlives the names of classes and modules. A new optional fact is a new field with a default, and a default
never changes afterwards: fields that hold their default are not written, so the bytes of an old event stay as they
were. A changed meaning is a new version, with an upcast from the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the fields of one version into those of the next."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Anything that is written to the log under a name of its own."""

    NAME: ClassVar[str]
    VERSION: ClassVar[int] = 1
    UPCASTS: ClassVar[Mapping[int, Upcast]] = {}
    """`UPCASTS[v]` turns version v into version v + 1, for every v that was ever published."""


class Event(Recorded, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. In the past tense, and for ever."""


class Request(Recorded, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody asked for, as it is recorded beside the events that it led to."""

    ENTROPY: ClassVar[int] = 0
    """How many random bytes a decision on it is given."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A piece of events, requests and messages; has no name of its own in the log."""


def share_defaults(value: msgspec.Struct) -> None:
    """Call it in `__post_init__` of a type with a default that is a number over 256, a text or a Struct.

    msgspec leaves a field out if it *is* its default, the same object. So where a field merely equals it, the default's
    own object is put there: equal values have equal bytes.
    """
    for name, default in zip(reversed(value.__struct_fields__), reversed(value.__struct_defaults__), strict=False):
        present = getattr(value, name)
        if present is not default and type(present) is type(default) and present == default:
            msgspec.structs.force_setattr(value, name, default)


FORGOTTEN = "(forgotten)"
"""Is shown to people in the place of a value that nobody can read any more."""


class Personal:
    """A value about a person or a machine of theirs: a name, a DUID, a hardware address.

    It is written as an extension type of its own, so that it can be found in any commit, sealed with a key a node, and
    forgotten by destroying the key. The first byte of the extension says how the rest is written: 0, in clear; 1,
    sealed (`sealing`). What is sealed, or written in another way, is kept as it is, and `value` is None.
    """

    EXTENSION: ClassVar[int] = 1
    CLEAR: ClassVar[int] = 0
    SEALED: ClassVar[int] = 1
    KEY_ID_BYTES: ClassVar[int] = 8
    __slots__ = ("payload",)

    def __init__(self, value: str | bytes) -> None:
        self.payload = bytes([self.CLEAR]) + msgspec.msgpack.encode(value)

    @classmethod
    def from_payload(cls, payload: bytes) -> Personal:
        """Take the extension's bytes as they were written; ValueError if they are broken."""
        personal = cls.__new__(cls)
        personal.payload = payload
        if not payload:
            raise ValueError("a personal value is empty")
        _ = personal.value
        return personal

    @property
    def value(self) -> str | bytes | None:
        """What was written, or None if this program cannot read it."""
        if self.payload[0] != self.CLEAR:
            return None
        try:
            value = msgspec.msgpack.decode(self.payload[1:])
        except RecursionError as error:
            raise ValueError("a personal value is nested") from error
        if not isinstance(value, str | bytes):
            raise ValueError("a personal value is neither a string nor bytes")
        return value

    @property
    def text(self) -> str:
        """The value for people: a string as it is, bytes in hex, `(forgotten)` for what cannot be read any more.

        `(sealed)` is what this program cannot read, but a newer one may.
        """
        value = self.value
        if value is None:
            return FORGOTTEN if self.key_id is not None else "(sealed)"
        return value if isinstance(value, str) else value.hex(":")

    @property
    def key_id(self) -> bytes | None:
        """Names the key with which it is sealed; None if it is not."""
        begin = 1 + self.KEY_ID_BYTES
        sealed = self.payload[0] == self.SEALED and len(self.payload) >= begin
        return self.payload[1:begin] if sealed else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Personal) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload)

    def __repr__(self) -> str:
        return "Personal(…)"  # never leaks into a log line by accident
