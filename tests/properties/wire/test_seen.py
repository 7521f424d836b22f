"""Frames as scapy makes them, what they say, every cut of them, and hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Advertise,
    DHCP6_RelayReply,
    DHCP6_Renew,
    DHCP6_Reply,
    DHCP6_Solicit,
    DHCP6OptClientId,
    DHCP6OptRelayMsg,
    DHCP6OptServerId,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from dnms.events.ip import parse_address
from dnms.wire.errors import PeerError
from dnms.wire.seen import NOBODY, Claim, DhcpServer, Fact, Probe, Router, Wanted, facts

ONE, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
A, B = (bytes.fromhex(each.replace(":", "")) for each in (ONE, OTHER))
FOUR, SIX, LINK = "192.0.2.7", "2001:db8::7", "fe80::7"
IP4, IP6, LL = map(parse_address, (FOUR, SIX, LINK))
GATE4, GATE6 = parse_address("192.0.2.1"), parse_address("2001:db8::1")
DUID = bytes(DUID_LL(lladdr=OTHER))


def ether(packet: Packet, source: str = ONE) -> bytes:
    return bytes(Ether(src=source, dst="ff:ff:ff:ff:ff:ff") / packet)


def nd(message: Packet, source: str, hops: int = 255) -> bytes:
    return ether(IPv6(src=source, dst="ff02::1", hlim=hops) / message)


def dhcp4(kind: str, op: int, ports: tuple[int, int], *, source: str = "192.0.2.9", server: str = "192.0.2.9") -> bytes:
    udp = UDP(sport=ports[0], dport=ports[1])
    options = [("message-type", kind), *([("server_id", server)] if server else []), "end"]
    return ether(IP(src=source, dst="255.255.255.255") / udp / BOOTP(op=op, chaddr=A) / DHCP(options=options))


def dhcp6(message: Packet, source: str, ports: tuple[int, int]) -> bytes:
    return ether(IPv6(src=source, dst="ff02::1:2") / UDP(sport=ports[0], dport=ports[1]) / message)


RELAYED = DHCP6_RelayReply(linkaddr=SIX, peeraddr=LINK) / DHCP6OptRelayMsg(
    message=DHCP6_Reply(trid=1) / DHCP6OptServerId(duid=DUID_LL(lladdr=OTHER))
)
NAMED = DHCP6OptClientId(duid=DUID_LL(lladdr=ONE)) / DHCP6OptServerId(duid=DUID_LL(lladdr=OTHER))

SAID: dict[str, tuple[bytes, tuple[Fact, ...]]] = {
    "arp request": (
        ether(ARP(op=1, hwsrc=ONE, psrc=FOUR, pdst="192.0.2.1")),
        (Claim(IP4, A), Wanted(GATE4, A, IP4)),
    ),
    "arp reply": (ether(ARP(op=2, hwsrc=ONE, psrc=FOUR, hwdst=OTHER, pdst="192.0.2.1")), (Claim(IP4, A),)),
    "arp probe": (ether(ARP(op=1, hwsrc=ONE, psrc="0.0.0.0", pdst=FOUR)), (Probe(IP4, A),)),
    "arp announcement": (ether(ARP(op=1, hwsrc=ONE, psrc=FOUR, pdst=FOUR)), (Claim(IP4, A),)),
    "gratuitous reply": (ether(ARP(op=2, hwsrc=ONE, psrc=FOUR, pdst=FOUR)), (Claim(IP4, A),)),
    "dad": (nd(ICMPv6ND_NS(tgt=SIX), "::"), (Probe(IP6, A),)),
    "solicitation": (
        nd(ICMPv6ND_NS(tgt="2001:db8::1") / ICMPv6NDOptSrcLLAddr(lladdr=OTHER), SIX),
        (Claim(IP6, B), Wanted(GATE6, B, IP6)),
    ),
    "solicitation without an option": (nd(ICMPv6ND_NS(tgt=SIX), SIX), (Claim(IP6, A),)),
    "advertisement": (nd(ICMPv6ND_NA(tgt=SIX) / ICMPv6NDOptDstLLAddr(lladdr=OTHER), LINK), (Claim(IP6, B),)),
    "advertisement without an option": (nd(ICMPv6ND_NA(tgt=SIX), LINK), (Claim(IP6, A),)),
    "router solicitation": (nd(ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=ONE), LINK), (Claim(LL, A),)),
    "router solicitation of nobody": (nd(ICMPv6ND_RS(), "::"), ()),
    "offer": (dhcp4("offer", 2, (67, 68)), (DhcpServer(4, parse_address("192.0.2.9"), A),)),
    "ack without a server": (dhcp4("ack", 2, (67, 68), server=""), (DhcpServer(4, parse_address("192.0.2.9"), A),)),
    "request": (dhcp4("request", 1, (68, 67), source="0.0.0.0"), (DhcpServer(4, parse_address("192.0.2.9")),)),
    "discover": (dhcp4("discover", 1, (68, 67), source="0.0.0.0", server=""), ()),
    "advertise": (dhcp6(DHCP6_Advertise(trid=1) / NAMED, LINK, (547, 546)), (DhcpServer(6, LL, A, DUID),)),
    "reply": (dhcp6(DHCP6_Reply(trid=1) / NAMED, LINK, (547, 546)), (DhcpServer(6, LL, A, DUID),)),
    "renew": (dhcp6(DHCP6_Renew(trid=1) / NAMED, LINK, (546, 547)), (DhcpServer(6, NOBODY, b"", DUID),)),
    "solicit": (dhcp6(DHCP6_Solicit(trid=1) / DHCP6OptClientId(duid=DUID_LL(lladdr=ONE)), LINK, (546, 547)), ()),
    "to a relay": (dhcp6(RELAYED, LINK, (547, 547)), ()),
    "something else": (ether(IPv6(src=LINK, dst="ff02::1") / ICMPv6EchoRequest(), ONE), ()),
}
BROKEN = {
    "from off the link": nd(ICMPv6ND_NA(tgt=SIX), LINK, hops=64),
    "a group's address": nd(ICMPv6ND_NA(tgt="ff02::1"), LINK),
    "a group's hardware address": nd(ICMPv6ND_NA(tgt=SIX) / ICMPv6NDOptDstLLAddr(lladdr="33:33:00:00:00:01"), LINK),
    "a probe that tells one": nd(ICMPv6ND_NS(tgt=SIX) / ICMPv6NDOptSrcLLAddr(lladdr=ONE), "::"),
    "a router that is not link-local": nd(ICMPv6ND_RA(), SIX),
    "from a group": ether(ARP(op=1, hwsrc=ONE, psrc=FOUR, pdst="192.0.2.1"), source="01:00:5e:00:00:01"),
    "arp of a group": ether(ARP(op=1, hwsrc="ff:ff:ff:ff:ff:ff", psrc=FOUR, pdst="192.0.2.1")),
    "arp of loopback": ether(ARP(op=2, hwsrc=ONE, psrc="127.0.0.1", pdst="192.0.2.1")),
    "arp of multicast": ether(ARP(op=2, hwsrc=ONE, psrc="224.0.0.1", pdst="192.0.2.1")),
}


@pytest.mark.parametrize("name", SAID)
def test_a_frame_says_what_scapy_put_into_it(name: str) -> None:
    frame, expected = SAID[name]
    assert facts(frame) == expected


def test_a_router_says_what_it_is() -> None:
    prefix = ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64, L=1, A=1, validlifetime=60, preferredlifetime=30)
    claim, router = facts(nd(ICMPv6ND_RA(routerlifetime=600) / prefix / ICMPv6NDOptSrcLLAddr(lladdr=OTHER), LINK))
    assert claim == Claim(LL, B)
    assert isinstance(router, Router)
    assert (router.address, router.hardware, router.advertisement.lifetime) == (LL, B, 600)
    assert [str(each.prefix) for each in router.advertisement.prefixes] == ["2001:db8::/64"]


@pytest.mark.parametrize("name", BROKEN)
def test_what_nobody_can_say_is_broken(name: str) -> None:
    with pytest.raises(PeerError):
        facts(BROKEN[name])


@pytest.mark.parametrize("name", SAID)
def test_a_cut_of_a_frame_is_broken_or_says_nothing_that_the_whole_does_not(name: str) -> None:
    frame, expected = SAID[name]
    for end in range(len(frame)):
        try:
            said = facts(frame[:end])
        except PeerError:
            continue
        assert set(said) <= set(expected)


@given(st.binary(max_size=200))
def test_hostile_bytes_are_broken_or_say_what_hosts_can_be(data: bytes) -> None:
    _take(data)


@given(st.sampled_from(sorted(SAID)), st.data())
def test_a_frame_with_flipped_bits_is_broken_or_says_what_hosts_can_be(name: str, data: st.DataObject) -> None:
    frame = bytearray(SAID[name][0])
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(12, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    _take(bytes(frame))


@given(st.sampled_from(sorted(SAID)), st.binary(max_size=64))
def test_what_stands_behind_a_packet_changes_nothing(name: str, padding: bytes) -> None:
    """A link pads its short frames."""
    frame, expected = SAID[name]
    assert facts(frame + padding) == expected


def _take(frame: bytes) -> None:
    try:
        said = facts(frame)
    except PeerError:
        return
    for each in said:
        if isinstance(each, Claim | Probe | Wanted):
            assert len(each.address) == 16
            assert each.address[0] != 0xFF
            assert len(each.hardware) == 6
            assert not each.hardware[0] & 1
