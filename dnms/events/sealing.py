"""Personal values sealed with a key a node, so that whoever destroys the key forgets them wherever they are copied.

A sealed value is written as `1, the key's id (8 bytes), AES-SIV(key, value)` (RFC 5297) where a clear one is written as
`0, value`. The value is padded before, so that names, DUIDs and hardware addresses of the usual lengths are as long as
each other.

AES-SIV without a nonce is deterministic: with one key equal values are equal when they are sealed. So decisions compare
sealed values, and come out alike for who has the key, for who has not, and after it was destroyed. What is learned from
it is which values of one node are the same, and that is what the events of the node say anyway.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from dnms.events.recorded import Personal, Recorded
from dnms.events.seen import ConfigurationRegistered

SECRET_BYTES: Final = 64  # two keys of AES-256, as SIV wants them
BLOCK: Final = 32  # bytes to a multiple of which values are padded

_PURPOSE: Final = [b"dnms personal 1"]  # the associated data: the same key is used for nothing else
_PADDING: Final = b"\x80"

T = TypeVar("T")
R = TypeVar("R", bound=Recorded)


class Key(msgspec.Struct, frozen=True, array_like=True):
    """What the personal values of one client are sealed with."""

    client: bytes  # 16 bytes
    id: bytes  # KEY_ID_BYTES, drawn with the key: a client that is forgotten and comes again has another
    secret: bytes  # SECRET_BYTES

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"  # never leaks into a log line by accident


def seal(value: Personal, key: Key) -> Personal:
    """The value sealed; as it is if it is sealed already."""
    if value.key_id is not None or value.value is None:
        return value
    clear = value.payload[1:] + _PADDING
    clear += bytes(-len(clear) % BLOCK)
    sealed = AESSIV(key.secret).encrypt(clear, _PURPOSE)
    return Personal.from_payload(bytes([Personal.SEALED]) + key.id + sealed)


def unseal(value: Personal, key: Key) -> Personal:
    """The value in clear; as it is if it is not sealed with this key, or was changed."""
    if value.key_id != key.id:
        return value
    try:
        clear = AESSIV(key.secret).decrypt(value.payload[1 + len(key.id) :], _PURPOSE)
        return Personal.from_payload(bytes([Personal.CLEAR]) + clear.rstrip(b"\0")[: -len(_PADDING)])
    except (InvalidTag, ValueError):
        return value


def sealed(recorded: R, key: Key) -> R:
    """An event or a request with all personal values of its client sealed."""
    if isinstance(recorded, ConfigurationRegistered) and any(link.hardware for link in recorded.snapshot.links):
        if all(link.hardware is None or link.hardware.key_id is not None for link in recorded.snapshot.links):
            return recorded
        # All else that is digested stands beside it, so the hardware address could be guessed until the digest fits.
        digest = hmac.digest(key.secret, b"digest" + recorded.digest, hashlib.sha256)
        recorded = msgspec.structs.replace(recorded, digest=digest)
    return changed(recorded, lambda value: seal(value, key))


def changed(value: T, change: Callable[[Personal], Personal]) -> T:
    """The value with every personal value in it changed; the same object if none is."""
    after: Any = value
    if isinstance(value, Personal):
        after = change(value)
    elif isinstance(value, tuple):
        items = tuple(changed(item, change) for item in value)
        after = value if all(map(_same, items, value)) else items
    elif isinstance(value, msgspec.Struct):
        fields = {}
        for name in holders(type(value)):
            before = getattr(value, name)
            if (now := changed(before, change)) is not before:
                fields[name] = now
        after = msgspec.structs.replace(value, **fields) if fields else value
    result: T = after
    return result


def _same(one: object, other: object) -> bool:
    return one is other


def is_in_clear(value: Any) -> bool:
    """Whether something personal in it was not sealed."""
    found: list[Personal] = []

    def note(personal: Personal) -> Personal:
        if personal.value is not None:
            found.append(personal)
        return personal

    changed(value, note)
    return bool(found)


def key_ids(value: Any) -> set[bytes]:
    """The ids of the keys with which something in it is sealed."""
    found: set[bytes] = set()

    def note(personal: Personal) -> Personal:
        if (key_id := personal.key_id) is not None:
            found.add(key_id)
        return personal

    changed(value, note)
    return found


@cache
def holders(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a type that are personal, or in which something is."""
    described = msgspec.inspect.type_info(kind)
    assert isinstance(described, msgspec.inspect.StructType)
    return tuple(field.name for field in described.fields if _holds(field.type))


def _holds(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.CustomType(cls=cls):
            return cls is Personal
        case msgspec.inspect.StructType(cls=cls):
            return bool(holders(cls))
        case msgspec.inspect.UnionType(types=types):
            return any(map(_holds, types))
        case msgspec.inspect.VarTupleType(item_type=item):
            return _holds(item)
    return False


def is_personal(recorded: Recorded) -> bool:
    """Whether some field of it is. All that is personal has the `client` that it is about."""
    return bool(holders(type(recorded)))


def client_of(recorded: Recorded) -> bytes:
    """Of whom something personal is."""
    client: bytes = recorded.client  # type: ignore[attr-defined]  # of all that is personal: see `is_personal`
    return client


@cache
def personal_kinds(kinds: tuple[type[R], ...]) -> tuple[type[R], ...]:
    """Those that have a field that is. Looked for when it is asked, as it takes a while."""
    return tuple(kind for kind in kinds if holders(kind))


FORGOTTEN: Final = Personal.from_payload(bytes([Personal.SEALED]) + bytes(Personal.KEY_ID_BYTES))
"""Stands for any value that cannot be read any more."""
