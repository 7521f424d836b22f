"""A whole configuration on its way to the agent: encoded, cut into chunks, and put together again."""

from __future__ import annotations

import hashlib

import msgspec

from dnms.events.codec import decoder, encoder
from dnms.events.configuration import Snapshot
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import MAX_CHUNKS, MAX_REGISTRATION, Register

CHUNK = 32 * 1024  # bytes; small beside a frame, so that a slow node's pings get through between

_snapshot = decoder(Snapshot)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """At most MAX_REGISTRATION bytes: routes that do not fit are counted, not listed. ValueError if more is left."""
    data = encoder.encode(snapshot)
    while len(data) > MAX_REGISTRATION and snapshot.routes:
        kept = len(snapshot.routes) // 2
        snapshot = msgspec.structs.replace(
            snapshot,
            routes=snapshot.routes[:kept],
            routes_not_listed=snapshot.routes_not_listed + len(snapshot.routes) - kept,
        )
        data = encoder.encode(snapshot)
    if len(data) > MAX_REGISTRATION:
        raise ValueError(f"a configuration of {len(data)} bytes without routes is over the limit of {MAX_REGISTRATION}")
    return data


def decode_snapshot(data: bytes, digest: bytes) -> Snapshot:
    """PeerError if the bytes have another digest, or are no snapshot."""
    if digest_of(data) != digest:
        raise PeerError(Code.MALFORMED, "the digest is of something else")
    try:
        return _snapshot.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise PeerError(Code.MALFORMED, str(error)) from error


def digest_of(data: bytes) -> bytes:
    """SHA-256 of an encoded snapshot."""
    return hashlib.sha256(data).digest()


def cut(data: bytes, *, follows: bytes = b"") -> list[Register]:
    """The messages that carry an encoded snapshot; `follows` is the digest of the one that an agent has confirmed."""
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    assert len(pieces) <= MAX_CHUNKS
    digest = digest_of(data)
    return [
        Register(digest=digest, chunk=chunk, chunks=len(pieces), data=piece, follows=follows)
        for chunk, piece in enumerate(pieces)
    ]


class Collector:
    """Puts the chunks of one registration together; the first chunk begins anew."""

    def __init__(self) -> None:
        self._first: Register | None = None
        self._id = 0
        self._data = bytearray()
        self._next = 0

    def take(self, register: Register, frame_id: int) -> bytes | None:
        """The whole, when this is its last chunk; PeerError if chunks do not belong together or are too much."""
        if register.chunk == 0:
            self._first, self._id, self._next = register, frame_id, 0
            self._data.clear()
        first = self._first
        if first is None or (self._id, self._next) != (frame_id, register.chunk):
            raise PeerError(Code.UNEXPECTED, f"chunk {register.chunk} does not follow")
        if (register.digest, register.chunks) != (first.digest, first.chunks) or register.chunk >= register.chunks:
            raise PeerError(Code.MALFORMED, "chunks of different registrations")
        if len(self._data) + len(register.data) > MAX_REGISTRATION:
            raise PeerError(Code.OVERSIZED, f"a registration is over the limit of {MAX_REGISTRATION} bytes")
        self._data += register.data
        self._next += 1
        if self._next < register.chunks:
            return None
        whole = bytes(self._data)
        self._first = None
        self._data.clear()
        return whole
