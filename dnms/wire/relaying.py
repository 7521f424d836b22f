"""What a relay says to a Subnet Agent before it passes a node's connection on, and what it is answered.

Theory of operation. A node's TLS goes through a relay and ends at the agent, so a relay reads and forges nothing. It
says beforehand, signed, on which link it was spoken to, and from which address; with that it signs the digest of the
node's first record, the ClientHello. TLS 1.3 proves to both ends that they saw the same ClientHello, and only who made
it has the key that goes on from it. So what was signed is worth something for that one connection: who replays it, or
takes the connection over on the way, has the words of the relay and cannot speak TLS after them. Neither a clock nor a
challenge is needed, and a connection through a relay takes no longer than one to it.

"DNMS" | version: 1 byte | kind: 1 byte | length: 2 bytes, big-endian | msgpack map. The relay is answered by TLS, or by
a message of the same form, which no record of TLS begins as.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from dnms.events.codec import decoder, encoder
from dnms.events.ip import Address, is_link_local
from dnms.events.plan import Name
from dnms.events.recorded import Part
from dnms.wire.datagrams import MAGIC
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import VERSION, Digest, Text

RELAYED, ASK, HERE, REFUSED = 3, 4, 5, 6
"""Kinds, beside those of datagrams: a relay passes a node on, or asks who is there; an agent says so, or refuses."""

HEAD = len(MAGIC) + 4  # bytes
MAX_BODY = 2_048  # bytes: a certificate is 500, and no text longer than 255
MAX_CERTIFICATE = 1_024
MAX_SAID = 1_024

RECORD_HEAD = 9  # bytes by which a ClientHello is known: the record's head (RFC 8446, 5.1), and the message's in it (4)
MAX_RECORD = 5 + (1 << 14)
_HANDSHAKE, _CLIENT_HELLO = 22, 1


class Head(msgspec.Struct, frozen=True):
    """What a message begins with."""

    kind: int
    length: int  # bytes of its body


class Signed(Part, frozen=True, kw_only=True):
    """What a relay sends, of either kind: `said` is encoded on its own, so that its very bytes are signed."""

    certificate: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE)]  # DER
    said: Annotated[bytes, msgspec.Meta(max_length=MAX_SAID)]
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]  # Ed25519, of `to_sign`


class Asking(Part, frozen=True, kw_only=True):
    """A relay asks who is there, to offer it to the nodes of its link."""

    subnet: Text


class Relayed(Part, frozen=True, kw_only=True):
    """A relay was spoken to by a node, on a link of this subnet."""

    subnet: Text
    node: Address  # link-local, so it was on the link
    interface: Text  # the relay's name of its own, towards the link
    hello: Digest  # of the record that the node began with


class Here(Part, frozen=True, kw_only=True):
    """An agent that takes nodes of this relay. As an offer it proves nothing, which TLS does later."""

    site: Name
    subnet: Name
    agent: Name
    load: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = 0  # open sessions
    preference: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    root: Annotated[bytes, msgspec.Meta(max_length=32)] = b""  # SHA-256 of the site's root certificate


class Refused(Part, frozen=True, kw_only=True):
    """An agent takes nothing of this relay."""

    code: Text
    text: Text = ""


T = TypeVar("T", bound=Part)

Said = Relayed | Asking
Answer = Here | Refused

_KINDS: dict[type[Said], int] = {Relayed: RELAYED, Asking: ASK}
_ANSWERS: dict[int, type[Answer]] = {HERE: Here, REFUSED: Refused}


def to_sign(kind: int, said: bytes) -> bytes:
    """The bytes that a relay signs: nothing else that its key may ever sign begins so."""
    return b"DNMS relay\0" + bytes((VERSION, kind)) + said


def encode_said(said: Said, *, certificate: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """What a relay sends. ValueError if it does not fit."""
    kind, data = _KINDS[type(said)], encoder.encode(said)
    signed = Signed(certificate=certificate, said=data, signature=sign(to_sign(kind, data)))
    return _message(kind, encoder.encode(signed))


def encode_answer(answer: Answer) -> bytes:
    """What an agent answers."""
    kind = HERE if isinstance(answer, Here) else REFUSED
    return _message(kind, encoder.encode(answer))


def decode_head(data: bytes) -> Head:
    """Of the first HEAD bytes. PeerError."""
    if len(data) < HEAD:
        raise PeerError(Code.TRUNCATED, f"{len(data)} bytes")
    if data[: len(MAGIC)] != MAGIC:
        raise PeerError(Code.MAGIC, "it does not begin as a relay")
    version, kind = data[len(MAGIC) : len(MAGIC) + 2]
    if version != VERSION:
        raise PeerError(Code.VERSION, f"version {version}; this program speaks {VERSION}")
    length = int.from_bytes(data[HEAD - 2 : HEAD])
    if length > MAX_BODY:
        raise PeerError(Code.OVERSIZED, f"{length} bytes")
    return Head(kind, length)


def decode_signed(head: Head, body: bytes) -> tuple[Signed, Said]:
    """What a relay has sent, before anybody looked at its signature. PeerError."""
    of_kind: dict[int, type[Said]] = {kind: each for each, kind in _KINDS.items()}
    if head.kind not in of_kind:
        raise PeerError(Code.KIND, f"kind {head.kind}")
    signed = _decoded(Signed, head, body)
    said = _decoded(of_kind[head.kind], Head(head.kind, len(signed.said)), signed.said)
    if isinstance(said, Relayed) and not is_link_local(said.node):
        raise PeerError(Code.NOT_ON_LINK, "the node's address is not link-local")
    return signed, said


def decode_answer(head: Head, body: bytes) -> Answer:
    """What an agent has answered. PeerError."""
    if head.kind not in _ANSWERS:
        raise PeerError(Code.KIND, f"kind {head.kind}")
    return _decoded(_ANSWERS[head.kind], head, body)


def is_answer(data: bytes) -> bool:
    """Whether what comes from an agent is no TLS, by its first byte or more."""
    return data[:1] == MAGIC[:1]


def record_length(data: bytes) -> int:
    """Of a ClientHello's record, with its head, by its first RECORD_HEAD bytes. PeerError.

    It has to have the whole ClientHello, since that alone is signed for. Every TLS library does it so.
    """
    if len(data) < RECORD_HEAD:
        raise PeerError(Code.TRUNCATED, f"{len(data)} bytes")
    length, message = int.from_bytes(data[3:5]), int.from_bytes(data[6:9])
    if data[0] != _HANDSHAKE or data[1] != 3 or data[5] != _CLIENT_HELLO or 5 + length > MAX_RECORD:
        raise PeerError(Code.NO_HELLO)
    if length != 4 + message:
        raise PeerError(Code.NO_HELLO, "a ClientHello that is not one record")
    return 5 + length


def digest(record: bytes) -> bytes:
    """By which a relay and an agent mean the same ClientHello."""
    return hashlib.sha256(record).digest()


def _message(kind: int, body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise ValueError(f"{len(body)} bytes are over the limit of {MAX_BODY}")
    return MAGIC + bytes((VERSION, kind)) + len(body).to_bytes(2) + body


def _decoded(kind: type[T], head: Head, body: bytes) -> T:
    if len(body) != head.length:
        raise PeerError(Code.TRUNCATED, f"{len(body)} bytes of {head.length}")
    try:
        return decoder(kind).decode(body)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise PeerError(Code.MALFORMED, str(error)) from error
