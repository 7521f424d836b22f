"""Reconfigure, by which a server has a client ask again, and the key with which it proves that it is that server
(RFC 8415, 18.3.11, 20.4 and 21.11).

The key is told in clear when the client is served, so it keeps out who was not on the link then, and nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Message, encode
from dnms.wire.dhcp6.options import Options

FIRST_AGAIN = 2.0
"""REC_TIMEOUT: seconds until it is said again, twice as long after each time (RFC 8415, 7.6)."""

MOST = 8
"""REC_MAX_RC: how often it is said (RFC 8415, 7.6)."""

_KEY_BYTES = 16
_HEAD = struct.Struct("!BBBQB")  # protocol, algorithm, replay detection: method and counter; what follows
_PROTOCOL, _HMAC_MD5, _COUNTER = 3, 1, 0  # RFC 8415, 20.4
_KEY, _DIGEST = 1, 2  # RFC 8415, 20.4.1


def key_of(secret: bytes, *, server: bytes, client: bytes) -> bytes:
    """The key between two DUIDs, the same whenever it is asked for. `secret` is the site's."""
    said = len(server).to_bytes(2) + server + client
    return hashlib.blake2b(said, key=secret[:64], person=b"dhcp6 reconf", digest_size=_KEY_BYTES).digest()


def announced(key: bytes, *, counter: int) -> bytes:
    """The value of an authentication option that tells a client its key (RFC 8415, 20.4.2)."""
    return _HEAD.pack(_PROTOCOL, _HMAC_MD5, _COUNTER, counter, _KEY) + key


def reconfigure(kind: Kind, *, server: bytes, client: bytes, key: bytes, counter: int) -> bytes:
    """The message that has a client send one of this kind: RENEW, REBIND or INFORMATION_REQUEST. `counter` is greater
    than that of any before it.
    """
    head = _HEAD.pack(_PROTOCOL, _HMAC_MD5, _COUNTER, counter, _DIGEST)
    blank = bytes(_KEY_BYTES)  # in the place of the digest (RFC 8415, 20.4.3), at the end of the last option
    options = Options(client_id=client, server_id=server, reconfigure=int(kind), authentication=head + blank)
    data = encode(Message(int(Kind.RECONFIGURE), bytes(3), options))
    return data.removesuffix(blank) + hmac.digest(key, data, "md5")
