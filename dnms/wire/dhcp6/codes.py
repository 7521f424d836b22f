"""The numbers of DHCPv6, as IANA keeps them (RFC 8415, 24)."""

from __future__ import annotations

from enum import IntEnum

CLIENT_PORT, SERVER_PORT = 546, 547
ALL_SERVERS_AND_RELAYS = "ff02::1:2"
"""All_DHCP_Relay_Agents_and_Servers (RFC 8415, 7.1)."""

ALL_SERVERS = "ff05::1:3"
"""All_DHCP_Servers, to which relays send (RFC 8415, 7.1)."""

INFINITE = 0xFFFFFFFF
"""Seconds of a lifetime that never ends (RFC 8415, 7.7)."""


class Kind(IntEnum):
    """Types of messages (RFC 8415, 7.3; the registration is RFC 9686's)."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11
    RELAY_FORW = 12
    RELAY_REPL = 13
    ADDR_REG_INFORM = 36
    ADDR_REG_REPLY = 37


class Status(IntEnum):
    """Codes of a status option (RFC 8415, 21.13)."""

    SUCCESS = 0
    UNSPEC_FAIL = 1
    NO_ADDRS_AVAIL = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5
    NO_PREFIX_AVAIL = 6


class Option(IntEnum):
    """Codes of the options that are read here."""

    CLIENT_ID = 1
    SERVER_ID = 2
    IA_NA = 3
    IA_TA = 4
    IA_ADDRESS = 5
    REQUESTED = 6
    PREFERENCE = 7
    ELAPSED_TIME = 8
    RELAY_MESSAGE = 9
    AUTHENTICATION = 11
    UNICAST = 12
    STATUS = 13
    RAPID_COMMIT = 14
    USER_CLASS = 15
    VENDOR_CLASS = 16
    INTERFACE_ID = 18
    RECONFIGURE_MESSAGE = 19
    RECONFIGURE_ACCEPT = 20
    DNS_SERVERS = 23  # RFC 3646
    DOMAIN_LIST = 24
    IA_PD = 25
    IA_PREFIX = 26
    INFORMATION_REFRESH_TIME = 32
    REMOTE_ID = 37  # RFC 4649
    CLIENT_FQDN = 39  # RFC 4704
    NTP_SERVER = 56  # RFC 5908
    BOOT_FILE_URL = 59  # RFC 5970
    BOOT_FILE_PARAMETERS = 60
    CLIENT_ARCHITECTURE = 61
    PD_EXCLUDE = 67  # RFC 6603
    CLIENT_LINK_LAYER = 79  # RFC 6939
    SOL_MAX_RT = 82
    INF_MAX_RT = 83
    ADDR_REG_ENABLE = 148  # RFC 9686
