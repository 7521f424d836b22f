"""What a node has beside what it was given, told apart in the log, with a router that advertises a prefix."""

from __future__ import annotations

from pathlib import Path

from dnms.events.configuration import InterfaceAddress
from dnms.events.ip import format_address, parse_address, parse_prefix
from dnms.linux.namespaces import Bridge, Namespace
from tests.netns.agents.conftest import Network, configurations
from tests.netns.agents.test_gateways import link_local
from tests.netns.programs import radvd

SLAAC = parse_prefix("2001:db8:6::/64")
ADVERTISES = """
interface eth0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600;
  prefix 2001:db8:6::/64 { AdvOnLink on; AdvAutonomous on; };
  RDNSS 2001:db8:6::53 { };
};
"""
FAST: dict[str, str | int] = {"ipv6.neigh.eth1.retrans_time_ms": 100, "ipv6.conf.eth1.router_solicitation_delay": 0}


def plug_another(network: Network) -> Namespace:
    """A second link of the node, which nobody manages, with a router on it."""
    router = Namespace.create("upstream")
    network.others.append(router)
    Bridge.create(router, "eth0").plug([network.node], "eth1")
    network.node.set_sysctls({**FAST, "ipv6.conf.eth1.use_tempaddr": 2})
    network.node.set_up("eth1")
    return router


def advertised(router: Namespace) -> int:
    """How many Router Advertisements it has sent."""
    counts = router.run("cat", "/proc/net/snmp6").split()
    return int(counts[counts.index("Icmp6OutRouterAdvertisements") + 1])


async def test_slaac_temporary_manual_and_managed_addresses_are_told_apart(network: Network, tmp_path: Path) -> None:
    router = plug_another(network)
    network.node.ip(
        [
            "address add 192.0.2.77/24 dev eth1",
            "address add 192.0.2.78/24 dev eth1 valid_lft 300 preferred_lft 200",
            "address add 2001:db8:6::77/64 dev eth1 nodad",
        ]
    )
    network.serve()
    network.live()
    with radvd(router, tmp_path, ADVERTISES):

        def origins() -> dict[str, str]:
            found = configurations(network)
            return {format_address(each.address): each.origin for each in found[-1].addresses} if found else {}

        wanted = {"loopback", "link-local", "managed", "slaac", "temporary", "other", "dhcp"}
        await network.until(lambda: wanted <= set(origins().values()), seconds=30)
        told = origins()
        assert told["192.0.2.77"] == told["2001:db8:6::77"] == "other"
        assert told["192.0.2.78"] == "dhcp"
        made = [address for address, origin in told.items() if parse_address(address) in SLAAC and origin != "other"]
        assert sorted(told[address] for address in made) == ["slaac", "temporary"]
        given = [address for address, origin in told.items() if origin == "managed"]
        assert all(address.startswith(("2001:db8:5:", "192.0.2.")) for address in given)
        await network.until(lambda: bool(configurations(network)[-1].routers))
        snapshot = configurations(network)[-1]
        assert [format_address(each.address) for each in snapshot.routers] == [link_local(router)]
        assert snapshot.host is not None
        assert {link.name: link.state for link in snapshot.links if link.name != "lo"} == {"eth0": "up", "eth1": "up"}


async def test_what_a_router_says_is_known_though_the_kernel_heeds_none_of_it(network: Network, tmp_path: Path) -> None:
    network.serve()
    network.live()
    await network.until(lambda: network.has("2001:db8:5:"))
    router = network.another("router")
    with radvd(router, tmp_path, ADVERTISES):
        await network.until(lambda: bool(configurations(network)[-1].advertisements))
        (said,) = configurations(network)[-1].advertisements
        assert format_address(said.router) == link_local(router)
        assert (said.lifetime, said.managed, said.other) == (600, False, False)
        assert [(each.prefix, each.autonomous, each.on_link) for each in said.prefixes] == [(SLAAC, True, True)]
        assert said.dns == (parse_address("2001:db8:6::53"),)
        before, sent = len(configurations(network)), advertised(router)
        await network.until(lambda: advertised(router) >= sent + 2)
        assert len(configurations(network)) == before  # it says the same again and again
    await network.until(lambda: not configurations(network)[-1].advertisements[0].lifetime)  # and takes leave


async def test_a_change_by_hand_is_in_the_log_in_a_second(network: Network) -> None:
    network.serve()
    network.live()
    await network.until(
        lambda: sum(each.origin == "managed" for found in configurations(network)[-1:] for each in found.addresses) == 2
    )
    network.node.ip(["link add name eth9 type veth peer name far", "link set dev eth9 mtu 1400 up"])

    def seen() -> bool:
        links = {link.name: link for link in configurations(network)[-1].links}
        return "eth9" in links and links["eth9"].mtu == 1400

    await network.until(seen, seconds=1.0)
    network.node.ip(["address add 203.0.113.9/24 dev eth9"])

    def held() -> list[InterfaceAddress]:
        return [each for each in configurations(network)[-1].addresses if each.address == parse_address("203.0.113.9")]

    await network.until(lambda: bool(held()), seconds=1.0)
    network.node.ip(["link delete eth9"])
    await network.until(lambda: not held() and not seen(), seconds=1.0)
