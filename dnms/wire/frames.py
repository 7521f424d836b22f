"""Frames of a session: a 4-byte big-endian length and a msgpack array `[kind, id, body]`.

A frame of an unknown kind is no error: a newer peer may have sent it, and hears `unknown-kind`. A broken one is, since
nothing after it can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from dnms.events.codec import decoder, encoder
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import MESSAGES, Message

MAX_FRAME = 1 << 20  # bytes after the length; the largest message is a quarter of it
MAX_KIND = 32  # characters; the longest known one has 10
MAX_ID = 0xFFFF_FFFF

NOT_A_REQUEST = 0
"""The id of a frame that neither asks nor answers."""

_LENGTH = 4


class Frame(msgspec.Struct, frozen=True):
    """A message that came; an answer repeats the id of its request."""

    id: int
    message: Message


class Unknown(msgspec.Struct, frozen=True):
    """A frame of a kind that this release does not know."""

    id: int
    kind: str


class _Frame(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    kind: Annotated[str, msgspec.Meta(max_length=MAX_KIND)]
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
    body: msgspec.Raw


_frame = msgspec.msgpack.Decoder(_Frame)
_bodies = {kind.KIND: decoder(kind) for kind in MESSAGES}


def encode(message: Message, frame_id: int = NOT_A_REQUEST) -> bytes:
    """The bytes of a frame; ValueError if it passes MAX_FRAME."""
    payload = encoder.encode((message.KIND, frame_id, message))
    if len(payload) > MAX_FRAME:
        raise ValueError(f"a {message.KIND} of {len(payload)} bytes is over the limit of {MAX_FRAME}")
    return len(payload).to_bytes(_LENGTH) + payload


def decode(payload: bytes) -> Frame | Unknown:
    """A frame without its length; PeerError."""
    try:
        frame = _frame.decode(payload)
        body = _bodies.get(frame.kind)
        if body is None:
            return Unknown(frame.id, frame.kind)
        return Frame(frame.id, body.decode(frame.body))
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise PeerError(Code.MALFORMED, str(error)) from error


class FrameReader:
    """Cuts a stream into frames, however it comes.

    It holds one frame that is not whole yet, so at most `limit` bytes and the piece that was received last. A session
    lowers `limit` while it does not know its peer.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Take a piece of the stream; read `frames` before the next one."""
        self._buffer += data

    def frames(self) -> Iterator[Frame | Unknown]:
        """The frames that are whole; PeerError at the first that is broken or over the limit, after those before it."""
        while len(self._buffer) >= _LENGTH:
            length = int.from_bytes(self._buffer[:_LENGTH])
            if length > self.limit:
                raise PeerError(Code.OVERSIZED, f"a frame of {length} bytes is over the limit of {self.limit}")
            if len(self._buffer) < _LENGTH + length:
                return
            payload = bytes(self._buffer[_LENGTH : _LENGTH + length])
            del self._buffer[: _LENGTH + length]
            yield decode(payload)

    @property
    def within_a_frame(self) -> bool:
        """Whether the stream would end in the middle of a frame if it ended now."""
        return bool(self._buffer)
