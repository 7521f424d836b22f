"""The Reconfigure of a server, as a client has to check it (RFC 8415, 16.11 and 20.4), with scapy's reader."""

from __future__ import annotations

import hashlib
import hmac
import struct

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import dhcp6 as scapy

from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import decode
from dnms.wire.dhcp6.reconfigure import announced, key_of, reconfigure

DUID = st.binary(min_size=3, max_size=130)
KEY = st.binary(min_size=16, max_size=16)
COUNTER = st.integers(1, (1 << 64) - 1)


@given(DUID, DUID, KEY, COUNTER, st.sampled_from([Kind.RENEW, Kind.REBIND, Kind.INFORMATION_REQUEST]))
def test_a_client_that_has_the_key_takes_it_and_no_other(
    server: bytes, client: bytes, key: bytes, counter: int, kind: Kind
) -> None:
    data = reconfigure(kind, server=server, client=client, key=key, counter=counter)
    message = decode(data).message
    assert (message.kind, message.transaction) == (Kind.RECONFIGURE, bytes(3))
    assert (message.options.client_id, message.options.server_id) == (client, server)
    assert message.options.reconfigure == kind
    assert digest_of(data, key) == message.options.authentication[-16:]
    other = bytes([key[0] ^ 1]) + key[1:]
    assert digest_of(data, other) != message.options.authentication[-16:]


def digest_of(data: bytes, key: bytes) -> bytes:
    """As RFC 2104 has it, and RFC 8415, 20.4.3 what it is of."""
    blank = data[:-16] + bytes(16)
    block = key.ljust(64, b"\0")
    inner = hashlib.md5(bytes(byte ^ 0x36 for byte in block) + blank).digest()
    return hashlib.md5(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def test_scapy_reads_it() -> None:
    key, duid = bytes(range(16)), bytes.fromhex("00030001020000000001")
    data = reconfigure(Kind.RENEW, server=duid, client=duid, key=key, counter=7)
    message = scapy.DHCP6_Reconf(data)
    assert message.msgtype == 10
    assert message[scapy.DHCP6OptReconfMsg].msgtype == 5
    option = message[scapy.DHCP6OptAuth]
    assert (option.proto, option.alg, option.rdm) == (3, 1, 0)
    assert bytes(option)[4:] == struct.pack("!BBBQB", 3, 1, 0, 7, 2) + hmac.digest(key, data[:-16] + bytes(16), "md5")


@given(KEY, COUNTER)
def test_the_key_is_told_as_rfc_8415_has_it(key: bytes, counter: int) -> None:
    assert announced(key, counter=counter) == struct.pack("!BBBQB", 3, 1, 0, counter, 1) + key


@given(st.binary(min_size=32, max_size=32), DUID, DUID)
def test_each_pair_has_a_key_of_its_own(secret: bytes, server: bytes, client: bytes) -> None:
    key = key_of(secret, server=server, client=client)
    assert len(key) == 16
    assert key == key_of(secret, server=server, client=client)
    assert key != key_of(secret, server=server + client[:1], client=client[1:])
    assert key != key_of(secret[:-1] + bytes([secret[-1] ^ 1]), server=server, client=client)
