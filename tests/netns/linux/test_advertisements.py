"""What radvd, as a router, says on a link where the kernel heeds nothing of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dnms.events.ip import is_link_local, parse_address, parse_prefix
from dnms.linux.advertisements import Advertisements
from dnms.linux.dad import link_local_ready
from dnms.linux.netlink import Netlink
from dnms.linux.solicitation import solicit_routers
from dnms.wire.nd import PrefixInformation, RouteInformation, RouterAdvertisement
from tests.netns.linux.conftest import Switch
from tests.netns.programs import radvd

RADVD = """
interface net {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600; AdvDefaultPreference high;
  AdvManagedFlag on; AdvOtherConfigFlag on; AdvLinkMTU 1400; AdvSourceLLAddress off;
  prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous off; AdvValidLifetime 600; AdvPreferredLifetime 300; };
  route 2001:db8:ff::/48 { AdvRoutePreference low; AdvRouteLifetime 700; };
  RDNSS 2001:db8:5::53 { AdvRDNSSLifetime 120; };
  DNSSL home.example { AdvDNSSLLifetime 120; };
};
"""


async def test_all_that_radvd_says(switch: Switch, tmp_path: Path) -> None:
    node = switch.node("node")
    node.namespace.set_sysctls({"ipv6.conf.eth0.accept_ra": 0})

    async def work(netlink: Netlink) -> tuple[bytes, RouterAdvertisement]:
        await link_local_ready(netlink, "eth0")
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[tuple[bytes, RouterAdvertisement]] = loop.create_future()
        index = (await netlink.link("eth0")).index
        advertisements = Advertisements("eth0", lambda *told: None if heard.done() else heard.set_result(told))
        try:
            solicit_routers(index)
            return await heard
        finally:
            advertisements.close()

    with radvd(switch.namespace, tmp_path, RADVD):
        router, advertisement = await node.inside(work)
    assert is_link_local(router)
    assert advertisement == RouterAdvertisement(
        managed=True,
        other=True,
        preference=1,
        lifetime=600,
        hop_limit=64,
        mtu=1400,
        prefixes=(
            PrefixInformation(
                prefix=parse_prefix("2001:db8:5::/64"), on_link=True, autonomous=False, valid=600, preferred=300
            ),
        ),
        routes=(RouteInformation(prefix=parse_prefix("2001:db8:ff::/48"), preference=-1, lifetime=700),),
        dns=((parse_address("2001:db8:5::53"), 120),),
        search=(("home.example", 120),),
    )
