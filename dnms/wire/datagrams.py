"""Datagrams of discovery: `"DNMS" | version | kind | msgpack map`, at most MAX_DATAGRAM bytes.

They prove nothing: what they carry is believed when TLS has proven the agent. A solicit is padded to the full size,
so that no answer is larger than its question.
"""

from __future__ import annotations

from dnms.events.codec import decoder, encoder
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import VERSION, Offer, Solicit

MAGIC = b"DNMS"
SOLICIT = 1
OFFER = 2

MAX_DATAGRAM = 1_232  # bytes: what fits IPv6's least MTU of 1 280 without a fragment
HOP_LIMIT = 255  # on both ways; a packet from off the link has less (RFC 5082)

_HEAD = len(MAGIC) + 2


class _Padded(Solicit, frozen=True, kw_only=True, omit_defaults=True):
    """A solicit as it is sent; whoever reads it ignores the key `padding`."""

    padding: bytes


_solicit = decoder(Solicit)
_offer = decoder(Offer)


def _datagram(kind: int, body: Solicit | Offer) -> bytes:
    return MAGIC + bytes((VERSION, kind)) + encoder.encode(body)


def encode_solicit(solicit: Solicit) -> bytes:
    """Exactly MAX_DATAGRAM bytes."""
    full = _datagram(SOLICIT, _Padded(nonce=solicit.nonce, padding=bytes(MAX_DATAGRAM)))
    surplus = len(full) - MAX_DATAGRAM
    return _datagram(SOLICIT, _Padded(nonce=solicit.nonce, padding=bytes(MAX_DATAGRAM - surplus)))


def encode_offer(offer: Offer) -> bytes:
    """At most MAX_DATAGRAM bytes; ValueError if the agent has more to say than fits."""
    datagram = _datagram(OFFER, offer)
    if len(datagram) > MAX_DATAGRAM:
        raise ValueError(f"an offer of {len(datagram)} bytes is over the limit of {MAX_DATAGRAM}; name fewer endpoints")
    return datagram


def decode(data: bytes, *, hop_limit: int) -> Solicit | Offer:
    """What a datagram says that came with this hop limit; PeerError."""
    if hop_limit != HOP_LIMIT:
        raise PeerError(Code.HOP_LIMIT, f"hop limit {hop_limit}: not from this link")
    if len(data) < _HEAD:
        raise PeerError(Code.TOO_SHORT, f"{len(data)} bytes")
    if len(data) > MAX_DATAGRAM:
        raise PeerError(Code.OVERSIZED, f"{len(data)} bytes")
    if data[: len(MAGIC)] != MAGIC:
        raise PeerError(Code.MAGIC)
    version, kind = data[len(MAGIC) : _HEAD]
    if version != VERSION:
        raise PeerError(Code.VERSION, f"version {version}; this program speaks {VERSION}")
    if kind not in (SOLICIT, OFFER):
        raise PeerError(Code.KIND, f"kind {kind}")
    if kind == SOLICIT and len(data) < MAX_DATAGRAM:
        raise PeerError(Code.UNPADDED, f"a solicit of {len(data)} bytes")
    try:
        return _solicit.decode(data[_HEAD:]) if kind == SOLICIT else _offer.decode(data[_HEAD:])
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise PeerError(Code.MALFORMED, str(error)) from error
