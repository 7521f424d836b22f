"""What an Ethernet frame says of who is on the link: ARP (RFC 826, RFC 5227), Neighbor Discovery (RFC 4861), and which
DHCP servers there are.

Theory of operation. A frame is read into facts, each of them one thing that somebody said. What is said is not believed
here: anybody on the link can send any of it. What comes from off the link is left out (a hop limit below 255), and so
is what no host can be: an address of a group, a hardware address of one. Checksums are not looked at, since a frame
that comes from this machine, or from a guest of it, has none yet.

On a switched link not everything is heard: what one host tells another alone is not. Requests for an address, probes
for one that is to be used (DAD) and what is told to all are; an answer of a DHCP server mostly is not, but the client
names its server when it asks it, to all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from dnms.events.ip import MAPPED, family, is_link_local
from dnms.wire import nd
from dnms.wire.dhcp4 import codes as codes4
from dnms.wire.dhcp4 import messages as messages4
from dnms.wire.dhcp6 import codes as codes6
from dnms.wire.dhcp6 import messages as messages6
from dnms.wire.errors import Code, PeerError

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
"""Types of Ethernet frames."""

HEADER = 14  # bytes of an Ethernet frame before what it carries
MAX_FRAME = 2_048
"""Bytes of a frame that are looked at: more than a link of 1 500 bytes has. A longer one is a broken one, or of a
server that nobody here asks."""

NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT = 135, 136
ICMP6, UDP = 58, 17

NOBODY = bytes(16)

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_NEIGHBOR = struct.Struct("!BBHI16s")  # type, code, checksum, flags, target
_UDP = struct.Struct("!HHHH")
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2


class Claim(msgspec.Struct, frozen=True):
    """A machine says that it has an address."""

    address: bytes
    hardware: bytes


class Probe(msgspec.Struct, frozen=True):
    """A machine asks whether anybody has an address, since it wants to use it (RFC 4862, 5.4; RFC 5227, 2.1)."""

    address: bytes
    hardware: bytes


class Wanted(msgspec.Struct, frozen=True):
    """A machine asks for the hardware address of another's address."""

    address: bytes
    hardware: bytes  # of who asks
    source: bytes  # and its address


class Router(msgspec.Struct, frozen=True):
    """A router advertises itself."""

    address: bytes
    hardware: bytes
    advertisement: nd.RouterAdvertisement


class DhcpServer(msgspec.Struct, frozen=True):
    """A DHCP server answers a client, or a client names the one that it asks."""

    family: int  # 4 or 6
    address: bytes  # of the server; `::` where a client names it by its DUID
    hardware: bytes = b""  # of the server, or of the relay between; empty: a client names it
    duid: bytes = b""  # of a server of DHCPv6


Fact = Claim | Probe | Wanted | Router | DhcpServer


def facts(frame: bytes) -> tuple[Fact, ...]:
    """What an Ethernet frame says; nothing, if it is about something else. PeerError for what is broken."""
    if len(frame) < HEADER:
        raise PeerError(Code.TOO_SHORT, "a frame is cut off")
    source, kind = frame[6:12], int.from_bytes(frame[12:14])
    if source[0] & 1 or not any(source):
        raise PeerError(Code.MALFORMED, "a frame that no interface can send")
    packet = frame[HEADER:]
    if kind == ARP:
        return tuple(_arp(packet))
    if kind == IPV6:
        return tuple(_ipv6(packet, source))
    if kind == IPV4:
        return tuple(_ipv4(packet, source))
    return ()


def is_host(address: bytes) -> bool:
    """Whether one interface can have this address: no group's, no loopback, and not none at all."""
    if family(address) == 4:
        return 0 < address[12] < 224 and address[12] != 127
    return address[0] != 0xFF and any(address[:15]) and address[:12] != MAPPED


def _is_interface(hardware: bytes) -> bool:
    return not hardware[0] & 1 and any(hardware)


def _arp(packet: bytes) -> Iterator[Fact]:
    """RFC 826, and what RFC 5227, 1.1 calls a probe."""
    if len(packet) < _ARP.size:
        raise PeerError(Code.TOO_SHORT, "ARP is cut off")
    kind, protocol, hardware_size, size, operation, hardware, sender, _, target = _ARP.unpack_from(packet)
    if (kind, protocol, hardware_size, size) != (1, IPV4, 6, 4) or operation not in (1, 2):
        return  # of another kind of link, or RARP
    if not _is_interface(hardware):
        raise PeerError(Code.MALFORMED, "ARP of what is no interface")
    source, asked = MAPPED + sender, MAPPED + target
    if any(sender):
        if not is_host(source):
            raise PeerError(Code.MALFORMED, "ARP of an address that nobody can have")
        yield Claim(source, hardware)
    if operation == 1 and asked != source and is_host(asked):
        yield Wanted(asked, hardware, source) if any(sender) else Probe(asked, hardware)


def _ipv6(packet: bytes, hardware: bytes) -> Iterator[Fact]:
    if len(packet) < _IPV6.size:
        raise PeerError(Code.TOO_SHORT, "an IPv6 header is cut off")
    version, length, following, hops, source, _ = _IPV6.unpack_from(packet)
    payload = packet[_IPV6.size : _IPV6.size + length]
    if version >> 28 != 6 or len(payload) < length:
        raise PeerError(Code.MALFORMED, "no IPv6, or cut off")
    if any(source) and not is_host(source):
        raise PeerError(Code.MALFORMED, "IPv6 from what is no host")
    if following == ICMP6 and payload[:1] in _DISCOVERY:
        if hops != nd.HOPS:
            raise PeerError(Code.HOP_LIMIT, "Neighbor Discovery from off the link")
        yield from _discovery(payload, source, hardware)
    elif following == UDP:
        yield from _dhcp6(payload, source, hardware)


_DISCOVERY = frozenset(
    bytes([kind]) for kind in (nd.SOLICITATION, nd.ADVERTISEMENT, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT)
)


def _discovery(message: bytes, source: bytes, hardware: bytes) -> Iterator[Fact]:
    """RFC 4861, 4. Each message is checked as 6.1 and 7.1 have it."""
    kind = message[0]
    if kind == nd.SOLICITATION:
        nd.check_solicitation(message, nameless=not any(source))
        if any(source):
            yield Claim(source, hardware)
    elif kind == nd.ADVERTISEMENT:
        if not is_link_local(source):
            raise PeerError(Code.MALFORMED, "a Router Advertisement that is not from fe80::/10")
        advertisement = nd.router_advertisement(message)
        owner = advertisement.hardware if _is_hardware(advertisement.hardware) else hardware
        yield Claim(source, owner)
        yield Router(source, owner, advertisement)
    else:
        yield from _neighbor(kind, message, source, hardware)


def _neighbor(kind: int, message: bytes, source: bytes, hardware: bytes) -> Iterator[Fact]:
    if len(message) < _NEIGHBOR.size:
        raise PeerError(Code.TOO_SHORT, "Neighbor Discovery is cut off")
    _, code, _, _, target = _NEIGHBOR.unpack_from(message)
    if code or not is_host(target):
        raise PeerError(Code.MALFORMED, "Neighbor Discovery of what is no host")
    told = _link_layer(message[_NEIGHBOR.size :])
    if kind == NEIGHBOR_ADVERTISEMENT:
        yield Claim(target, told.get(_TARGET_LINK_LAYER, hardware))
        return
    if not any(source):
        if told:
            raise PeerError(Code.MALFORMED, "a probe with a hardware address")  # RFC 4861, 7.1.1
        yield Probe(target, hardware)
        return
    own = told.get(_SOURCE_LINK_LAYER, hardware)
    yield Claim(source, own)
    if target != source:
        yield Wanted(target, own, source)


def _link_layer(options: bytes) -> dict[int, bytes]:
    """By the type of the option the hardware addresses that are told."""
    told: dict[int, bytes] = {}
    while options:
        size = 8 * options[1] if len(options) >= 2 else 0
        if not size or size > len(options):
            raise PeerError(Code.MALFORMED, "an option of Neighbor Discovery is cut off")
        if options[0] in (_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER) and size == 8:
            if not _is_interface(options[2:8]):
                raise PeerError(Code.MALFORMED, "Neighbor Discovery of what is no interface")
            told.setdefault(options[0], options[2:8])
        options = options[size:]
    return told


def _is_hardware(address: bytes) -> bool:
    return len(address) == 6 and _is_interface(address)


def _dhcp6(datagram: bytes, source: bytes, hardware: bytes) -> Iterator[Fact]:
    """RFC 8415. What a server tells a relay is not of this link."""
    here, there, message = _udp(datagram)
    if codes6.SERVER_PORT not in (here, there) or not message:
        return
    relayed = messages6.decode(message)
    kind, duid = relayed.message.kind, relayed.message.options.server_id
    if relayed.relays or not duid:
        return
    if kind in _SERVERS6 and there == codes6.CLIENT_PORT:
        yield DhcpServer(6, source, hardware, duid)
    elif kind in _CLIENTS6 and there == codes6.SERVER_PORT:
        yield DhcpServer(6, NOBODY, b"", duid)


_SERVERS6 = frozenset({codes6.Kind.ADVERTISE, codes6.Kind.REPLY, codes6.Kind.RECONFIGURE, codes6.Kind.ADDR_REG_REPLY})
_CLIENTS6 = frozenset({codes6.Kind.REQUEST, codes6.Kind.RENEW, codes6.Kind.RELEASE, codes6.Kind.DECLINE})


def _ipv4(packet: bytes, hardware: bytes) -> Iterator[Fact]:
    """DHCPv4 (RFC 2131): of IPv4 nothing else says who is there."""
    if len(packet) < 20:
        raise PeerError(Code.TOO_SHORT, "an IPv4 header is cut off")
    size, length = 4 * (packet[0] & 0x0F), int.from_bytes(packet[2:4])
    if packet[0] >> 4 != 4 or not 20 <= size <= length <= len(packet):
        raise PeerError(Code.MALFORMED, "no IPv4, or cut off")
    if packet[9] != UDP or int.from_bytes(packet[6:8]) & 0x3FFF:
        return  # a part of a datagram cannot be read
    here, there, datagram = _udp(packet[size:length])
    if codes4.SERVER_PORT not in (here, there):
        return
    message = messages4.decode(datagram)
    server = message.options.server_id
    if message.op == codes4.Op.REPLY:
        if message.kind in _SERVERS4:
            yield DhcpServer(4, server or MAPPED + packet[12:16], hardware)
    elif server is not None and message.kind in _CLIENTS4:
        yield DhcpServer(4, server)


_SERVERS4 = frozenset({codes4.Kind.OFFER, codes4.Kind.ACK, codes4.Kind.NAK})
_CLIENTS4 = frozenset({codes4.Kind.REQUEST, codes4.Kind.DECLINE, codes4.Kind.RELEASE})


def _udp(datagram: bytes) -> tuple[int, int, bytes]:
    """Both ports, and what is carried (RFC 768)."""
    if len(datagram) < _UDP.size:
        raise PeerError(Code.TOO_SHORT, "a UDP header is cut off")
    here, there, length, _ = _UDP.unpack_from(datagram)
    if not _UDP.size <= length <= len(datagram):
        raise PeerError(Code.MALFORMED, "a UDP datagram is cut off")
    return here, there, datagram[_UDP.size : length]
