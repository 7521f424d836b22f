"""A router's end of a link: who asks is heard, and what is said is heard as it was said."""

from __future__ import annotations

import asyncio
import socket

from dnms.events.ip import parse_address, parse_prefix
from dnms.linux.advertisements import Advertisements
from dnms.linux.advertiser import Advertiser
from dnms.linux.dad import link_local_ready
from dnms.linux.netlink import Netlink
from dnms.linux.solicitation import ALL_ROUTERS, ROUTER_SOLICITATION, solicit_routers
from dnms.wire.nd import PrefixInformation, RouterAdvertisement
from tests.netns.linux.conftest import Switch

PREFIX = PrefixInformation(
    prefix=parse_prefix("2001:db8:5::/64"), on_link=True, autonomous=True, valid=900, preferred=600
)
SAID = RouterAdvertisement(
    managed=True,
    lifetime=1_800,
    hop_limit=64,
    hardware=bytes.fromhex("020000000001"),
    mtu=1_400,
    prefixes=(PREFIX,),
    dns=((parse_address("2001:db8:5::53"), 600),),
    search=(("home.example", 600),),
)


def crossed_a_router(interface: int) -> None:
    """Ask with a hop limit that says so."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 254)
        sock.sendto(ROUTER_SOLICITATION, (ALL_ROUTERS, 0, 0, interface))


async def test_who_asks_is_heard_and_hears_all_that_is_said(switch: Switch) -> None:
    router, host = switch.node("router"), switch.node("host")
    host.namespace.set_sysctls({"ipv6.conf.eth0.accept_ra": 0})
    dropped: list[int] = []

    async def advertise(netlink: Netlink) -> bytes:
        address = await link_local_ready(netlink, "eth0")
        link = await netlink.link("eth0")
        asked = asyncio.Event()
        advertiser = Advertiser(link, address, asked.set)
        try:
            while not advertiser.dropped["off-link"]:  # noqa: ASYNC110  # what has crossed a router is not believed
                await asyncio.sleep(0.02)
            await asked.wait()
            dropped.append(advertiser.dropped["off-link"])
            assert not advertiser.forwards
            assert link.hardware is not None
            assert advertiser.hardware == link.hardware.value
            while not advertiser.send(SAID):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        finally:
            advertiser.close()
        return address

    async def ask(netlink: Netlink) -> tuple[bytes, RouterAdvertisement]:
        await link_local_ready(netlink, "eth0")
        index = (await netlink.link("eth0")).index
        heard: asyncio.Queue[tuple[bytes, RouterAdvertisement]] = asyncio.Queue()
        advertisements = Advertisements("eth0", lambda *told: heard.put_nowait(told))
        try:
            while heard.empty():
                crossed_a_router(index)
                solicit_routers(index)
                await asyncio.sleep(0.1)
            return await heard.get()
        finally:
            advertisements.close()

    address, told = await asyncio.gather(router.inside(advertise), host.inside(ask))
    assert told == (address, SAID)
    assert dropped and dropped[0] >= 1
