"""What comes through the kernel's filter on a real link, and how much of a flood."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from dnms.linux import watching
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from dnms.linux.watching import SO_ATTACH_FILTER, Watching, program
from tests.netns.linux.conftest import Node, Switch

SOURCE = "02:00:00:00:00:07"
LINK = "fe80::7"


def ether(packet: Packet) -> bytes:
    return bytes(Ether(src=SOURCE, dst="ff:ff:ff:ff:ff:ff") / packet)


def six(message: Packet, hops: int = 255) -> bytes:
    return ether(IPv6(src=LINK, dst="ff02::1", hlim=hops) / message)


def four(sport: int, dport: int, *, frag: int = 0) -> bytes:
    message = BOOTP(op=2) / DHCP(options=[("message-type", "offer"), "end"])
    return ether(IP(src="192.0.2.9", dst="255.255.255.255", frag=frag) / UDP(sport=sport, dport=dport) / message)


PASS = {
    "arp": ether(ARP(op=1, hwsrc=SOURCE, psrc="192.0.2.7", pdst="192.0.2.1")),
    "ns": six(ICMPv6ND_NS(tgt="fe80::8")),
    "ns to a group that nobody here is in": bytes(
        Ether(src=SOURCE, dst="33:33:ff:00:00:99") / IPv6(src=LINK, dst="ff02::1:ff00:99") / ICMPv6ND_NS(tgt="fe80::99")
    ),
    "na": six(ICMPv6ND_NA(tgt=LINK)),
    "rs": six(ICMPv6ND_RS()),
    "ra": six(ICMPv6ND_RA()),
    "dhcpv4 of a server": four(67, 68),
    "dhcpv4 of a client": four(68, 67),
    "dhcpv6 of a server": six(UDP(sport=547, dport=546) / Raw(b"\2abc")),
    "dhcpv6 of a client": six(UDP(sport=546, dport=547) / Raw(b"\1abc"), hops=1),
}
DROP = {
    "ipv4": ether(IP(src="192.0.2.7", dst="255.255.255.255") / UDP(sport=9, dport=9)),
    "a part of a datagram": four(67, 68, frag=100),
    "ipv6": six(UDP(sport=9, dport=9)),
    "echo": six(ICMPv6EchoRequest()),
    "redirect": six(ICMPv6ND_Redirect()),
    "mld": six(ICMPv6MLReport2()),
    "from off the link": six(ICMPv6ND_NS(tgt="fe80::8"), hops=64),
    "with a header between": six(IPv6ExtHdrHopByHop() / ICMPv6ND_NS(tgt="fe80::8")),
    "fragmented": six(IPv6ExtHdrFragment() / ICMPv6ND_NS(tgt="fe80::8")),
    "of another link": ether(Dot1Q(vlan=5) / ARP(op=1, hwsrc=SOURCE, psrc="192.0.2.7", pdst="192.0.2.1")),
    "another protocol": bytes(Ether(src=SOURCE, dst="ff:ff:ff:ff:ff:ff", type=0x88CC) / Raw(b"lldp")),
    "cut off": bytes.fromhex("ffffffffffff02000000000786dd99"),
}
FIRST, LAST = (ether(ARP(op=1, hwsrc=SOURCE, psrc="192.0.2.7", pdst=f"192.0.2.{n}")) for n in (249, 250))


def send(node: Node, *frames: bytes) -> None:
    with node.namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind(("eth0", 0))
        for frame in frames:
            sock.send(frame)


async def carries(node: Node, heard: asyncio.Event) -> None:
    """Wait until the link does: on a busy machine its carrier comes later than it is up, and what is sent is lost."""
    while not heard.is_set():  # as long as the node may take
        await asyncio.to_thread(send, node, FIRST)
        await asyncio.sleep(0.05)


async def test_what_says_who_is_there_comes_through_and_nothing_else(switch: Switch) -> None:
    hears, says = switch.node("hears"), switch.node("says")

    async def hear(_: Netlink) -> list[bytes]:
        heard: list[bytes] = []
        up, done = asyncio.Event(), asyncio.Event()

        def take(frame: bytes) -> None:
            if frame.startswith(FIRST):
                up.set()
            elif frame.startswith(LAST):
                done.set()
            elif frame[6:12] == bytes.fromhex(SOURCE.replace(":", "")):
                heard.append(frame)

        ear = Watching("eth0", take)
        try:
            attached = ear._socket.getsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, len(program()))
            assert program().startswith(attached)
            assert len(attached) == len(program()) // 8  # in instructions
            await carries(says, up)
            await asyncio.to_thread(send, says, *DROP.values(), *PASS.values(), LAST)
            await done.wait()
        finally:
            ear.close()
        return heard

    heard = await hears.inside(hear)
    for name, frame in PASS.items():
        assert any(each.startswith(frame) for each in heard), name
    for name, frame in DROP.items():
        assert not any(each.startswith(frame) for each in heard), name
    assert len(heard) == len(PASS)


async def test_of_a_flood_so_much_is_read_and_the_rest_counted(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "READS_AT_ONCE", 200)
    monkeypatch.setattr(watching, "READS_A_SECOND", 100)
    hears, says = switch.node("hears"), switch.node("says")

    async def hear(_: Netlink) -> tuple[int, float, int]:
        heard, up = 0, asyncio.Event()

        def take(_: bytes) -> None:
            nonlocal heard
            heard += 1
            up.set()

        began = time.monotonic()
        ear = Watching("eth0", take)
        try:
            await carries(says, up)
            await asyncio.to_thread(send, says, *[PASS["ns"]] * 20_000)
            while not ear.dropped["flood"]:
                await asyncio.sleep(0.01)
                ear.count()
            return heard, time.monotonic() - began, ear.dropped["flood"]
        finally:
            ear.close()

    heard, took, dropped = await hears.inside(hear)
    assert heard <= 200 + 100 * took + 1
    assert dropped > 10_000


async def test_what_is_no_ethernet_is_not_watched(switch: Switch) -> None:
    node = switch.node("node")

    async def hear(_: Netlink) -> None:
        with pytest.raises(KernelError, match="not Ethernet"):
            Watching("lo", lambda _: None)
        with pytest.raises(KernelError):
            Watching("eth9", lambda _: None)

    await node.inside(hear)
