"""Where the next page of a list begins: opaque to callers, and bound to the question that it was given for.

A cursor is base64url (RFC 4648, 5) of a version, a digest of the question, and the key of the last row of the page
before. It is not signed, since it leads to nothing that its bearer could not ask for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from dnms.api.problems import Invalid

VERSION = 1
"""Raised when what a cursor holds changes its meaning: those of a former release are refused then."""

MAX_CURSOR = 2_048  # characters; the longest key is a name, which a node may make up

T = TypeVar("T")


def cursor_of(question: Mapping[str, object], key: object) -> str:
    """The cursor behind the row with this key, for the same question: its filters and its order, without the limit."""
    packed = msgspec.json.encode((VERSION, _digest(question), key))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def key_of(cursor: str, question: Mapping[str, object], kind: type[T]) -> T:
    """The key in a cursor. Invalid if it is none, another release's, or one of another question."""
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError("too long")
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, digest, key = msgspec.json.decode(packed, type=tuple[int, str, msgspec.Raw])
        if version == VERSION and digest != _digest(question):
            raise Invalid("cursor", "it is of another question; a cursor goes on with the filters and the order it had")
        if version != VERSION:
            raise ValueError("of another release")
        return msgspec.json.decode(key, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise Invalid(
            "cursor", "expected the `next` of a page that this release gave; begin again without it"
        ) from None


def _digest(question: Mapping[str, object]) -> str:
    return hashlib.blake2b(msgspec.json.encode(question, order="deterministic"), digest_size=9).hexdigest()
