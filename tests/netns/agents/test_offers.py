from __future__ import annotations

import asyncio
import socket
import ssl
import struct

from dnms.agents.offers import UNANSWERABLE, Offers
from dnms.agents.subnet.linux import LinuxLink
from dnms.events.ip import parse_address
from dnms.linux import multicast
from dnms.linux.multicast import DatagramReader, Peer
from dnms.linux.namespaces import Namespace
from dnms.wire.datagrams import HOP_LIMIT, decode, encode_solicit
from dnms.wire.messages import GROUP, PORT, Endpoint, Offer, Solicit

OFFER = Offer(
    nonce=bytes(16),
    site="s",
    subnet="office",
    agent="a1",
    endpoints=(Endpoint(address=parse_address("fe80::5"), port=PORT),),
)


class Wired(LinuxLink):
    """A link of which only discovery is used."""

    def __init__(self, interface: int) -> None:
        super().__init__("eth0", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._index = interface


def send_from_port_zero(interface: int, data: bytes) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
        header = struct.pack("!4H", 0, PORT, 8 + len(data), 0)
        raw.sendto(header + data, (GROUP, 0, 0, interface))


async def test_a_solicit_from_where_no_answer_can_go_ends_nothing(machine: Namespace) -> None:
    with machine.entered():
        interface = socket.if_nametoindex("eth0")
        offers = Offers(Wired(interface), OFFER, lambda: 0)
        asking = multicast.unicast_socket(interface)
    answered: asyncio.Queue[bytes] = asyncio.Queue()

    def receive(data: bytes, peer: Peer, hop_limit: int) -> None:
        answered.put_nowait(data)

    reader = DatagramReader(asking, receive)
    running = asyncio.create_task(offers.run())
    try:
        solicit = encode_solicit(Solicit(nonce=b"n" * 16))
        with machine.entered():
            send_from_port_zero(interface, solicit)
        async with asyncio.timeout(10):
            while not offers._answering.dropped[UNANSWERABLE] and not running.done():  # noqa: ASYNC110  # a counter
                await asyncio.sleep(0.01)
            multicast.send(asking, solicit, (GROUP, PORT), interface=interface)
            getting = asyncio.create_task(answered.get())
            await asyncio.wait((getting, running), return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        offer = decode(getting.result(), hop_limit=HOP_LIMIT)
        assert isinstance(offer, Offer)
        assert offer.nonce == b"n" * 16
    finally:
        running.cancel()
        await asyncio.wait((running,))
        reader.close()
