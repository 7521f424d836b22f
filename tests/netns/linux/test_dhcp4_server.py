"""The sockets of a DHCPv4 server on a real link, and the frames that it writes itself as scapy has them."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from dnms.events.ip import MAPPED, parse_address
from dnms.linux.dad import link_local_ready
from dnms.linux.dhcp4_server import Dhcp4ServerSockets, datagram
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from dnms.wire.dhcp4.codes import CLIENT_PORT, SERVER_PORT
from tests.netns.linux.conftest import Switch

SERVER = parse_address("192.0.2.1")


@given(
    st.binary(max_size=1_472), st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 9)
)
def test_a_frame_is_as_scapy_has_it(data: bytes, source: bytes, to: bytes, port: int) -> None:
    ip = IP(src=socket.inet_ntoa(source), dst=socket.inet_ntoa(to), id=0, ttl=64)
    theirs = bytes(ip / UDP(sport=SERVER_PORT, dport=port) / Raw(data))
    assert datagram(data, MAPPED + source, MAPPED + to, port) == theirs


@pytest.mark.parametrize("way", ["frame", "broadcast", "unicast"])
async def test_who_has_no_address_is_heard_and_answered_and_who_has_one_too(switch: Switch, way: str) -> None:
    server, client = switch.node("server"), switch.node("client")
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    answered = threading.Event()
    address = parse_address("192.0.2.7")
    server.namespace.ip(["address add 192.0.2.1/24 dev eth0", "address add 192.0.2.99/24 dev eth0"])
    if way == "unicast":
        client.namespace.ip(["address add 192.0.2.7/24 dev eth0"])
    shown = client.namespace.run("ip", "-o", "link", "show", "dev", "eth0").split("link/ether ")[1].split()[0]
    hardware = {"frame": bytes.fromhex(shown.replace(":", "")), "broadcast": b"\xff" * 6, "unicast": b""}[way]

    async def serve(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")

        def answer(data: bytes) -> None:
            to = address if way != "broadcast" else parse_address("255.255.255.255")
            assert sockets.send(b"answer to " + data, to, CLIENT_PORT, hardware)

        sockets = Dhcp4ServerSockets("eth0", (await netlink.link("eth0")).index, SERVER, answer)
        try:
            loop.call_soon_threadsafe(ready.set)
            await asyncio.to_thread(answered.wait, 20)
        finally:
            sockets.close()

    async def ask(netlink: Netlink) -> tuple[bytes, str, int]:
        await link_local_ready(netlink, "eth0")
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ready.wait(), loop))
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as sock:
            sock.bind(("eth0", 0x0800))
            sock.settimeout(10)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                asking.bind(("", CLIENT_PORT))
                asking.sendto(b"question", ("255.255.255.255", SERVER_PORT))
                while True:
                    packet, kind = await asyncio.to_thread(sock.recvfrom, 2_000)
                    if kind[2] != socket.PACKET_OUTGOING and packet.endswith(b"answer to question"):
                        answered.set()
                        return packet[28:], socket.inet_ntoa(packet[12:16]), int.from_bytes(packet[22:24])

    _, heard = await asyncio.gather(server.inside(serve), client.inside(ask))
    assert heard == (b"answer to question", "192.0.2.1", CLIENT_PORT)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (SERVER, "another DHCPv4 server has port 67 of this link"),
        (bytes(16), "eth0 has no IPv4 address: give it one of the subnet's"),
    ],
)
async def test_where_it_cannot_serve_it_says_why(switch: Switch, address: bytes, says: str) -> None:
    node = switch.node("node")

    async def serve(netlink: Netlink) -> None:
        await link_local_ready(netlink, "eth0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", SERVER_PORT))
            with pytest.raises(KernelError, match=says):
                Dhcp4ServerSockets("eth0", (await netlink.link("eth0")).index, address, lambda data: None)

    await node.inside(serve)
