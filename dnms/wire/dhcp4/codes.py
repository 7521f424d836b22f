"""The numbers of DHCPv4, as IANA keeps them (RFC 2131, RFC 2132)."""

from __future__ import annotations

from enum import IntEnum

SERVER_PORT, CLIENT_PORT = 67, 68
MAGIC = b"\x63\x82\x53\x63"
"""Begins the options (RFC 2131, 3)."""

ETHERNET = 1
"""Hardware type of RFC 1700."""

BROADCAST = 0x8000
"""Flag of a client that hears no unicast before it has an address (RFC 2131, 2)."""

INFINITE = 0xFFFFFFFF
"""Seconds of a lease that never ends (RFC 2131, 3.3)."""

SMALLEST = 576
"""Bytes of an IP datagram that every client takes (RFC 2131, 2)."""


class Op(IntEnum):
    """Who speaks (RFC 2131, 2)."""

    REQUEST = 1
    REPLY = 2


class Kind(IntEnum):
    """Types of messages (RFC 2132, 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """Codes of the options that are read here."""

    PAD = 0
    MASK = 1
    ROUTERS = 3
    DNS_SERVERS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = 26
    NTP_SERVERS = 42
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    KIND = 53
    SERVER_ID = 54
    REQUESTED = 55
    MESSAGE = 56
    MAX_SIZE = 57
    T1 = 58
    T2 = 59
    VENDOR_CLASS = 60
    CLIENT_ID = 61
    BOOT_SERVER = 66
    BOOT_FILE = 67
    RAPID_COMMIT = 80  # RFC 4039
    FQDN = 81  # RFC 4702
    AGENT = 82  # RFC 3046
    ARCHITECTURES = 93  # RFC 4578
    IPV6_ONLY = 108  # RFC 8925
    SEARCH = 119  # RFC 3397
    ROUTES = 121  # RFC 3442
    END = 255
