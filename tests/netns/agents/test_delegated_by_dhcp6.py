"""Other makers' requesting routers below a Subnet Agent: what they are delegated, and what the log says of that."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.events import codec
from dnms.events.ip import format_address, parse_prefix
from dnms.events.prefix import PrefixDelegated, PrefixReleased
from dnms.events.recorded import Event
from dnms.linux.namespaces import Namespace
from tests.netns.agents.conftest import PLAN, Network
from tests.netns.programs import dhcp6c, dhcpcd

DELEGATING = f"""{PLAN}
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:f000::/48"
length = 56
longest = 62
preferred = 8
valid = 40
"""
WHOLE = parse_prefix("2001:db8:f000::/48")

DHCPCD = """
duid
noipv6rs
noipv4
interface eth0
  ia_pd 1/::/60 down0/0
"""
DHCP6C = """
interface eth0 { send ia-pd 1; };
id-assoc pd 1 { prefix-interface down0 { sla-id 1; sla-len 8; ifid 7; }; };
"""


@pytest.fixture
def router(network: Network) -> Namespace:
    """A machine with a link of its own below, which another maker's client is to run on."""
    network.plan, network.has_dhcp6 = DELEGATING, True
    router = network.another("router")
    router.ip(["link add name down0 type bridge", "link set dev down0 up"])
    router.set_sysctls({"ipv6.conf.down0.accept_dad": 0})
    network.serve()
    return router


def events(network: Network, kind: type[Event]) -> list[Event]:
    return [
        event for record in network.log.records for event in codec.decode(record.data).events if isinstance(event, kind)
    ]


def link_local(machine: Namespace) -> str:
    shown = json.loads(machine.run("ip", "-j", "-6", "address", "show", "dev", "eth0", "scope", "link"))
    return str(next(each["local"] for link in shown if link for each in link["addr_info"] if each))


def has_of(machine: Namespace, prefix: str) -> Callable[[], bool]:
    return lambda: f" {prefix}" in machine.run("ip", "-6", "-o", "address", "show", "dev", "down0")


def server(network: Network) -> Dhcp6Server:
    assert network.dhcp6 is not None
    return network.dhcp6


async def check(network: Network, router: Namespace, *, length: int) -> PrefixDelegated:
    """It has what the log says, and renews."""
    await network.until(lambda: bool(events(network, PrefixDelegated)))
    (given,) = events(network, PrefixDelegated)
    assert isinstance(given, PrefixDelegated)
    assert given.prefix.length == length
    assert WHOLE.covers(given.prefix)
    assert format_address(given.next_hop) == link_local(router)
    assert given.interface == "net"
    await network.until(has_of(router, format_address(given.prefix.network).split("::")[0].rstrip("0").rstrip(":")))
    await network.until(lambda: server(network).answered["renew"] >= 1, seconds=30)  # T1 is 4 s; of wide-dhcpv6 18 s
    assert len(events(network, PrefixDelegated)) == 1
    return given


async def test_dhcpcd(network: Network, router: Namespace, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "dhcpcd.conf").write_text(DHCPCD)
    with dhcpcd(router, tmp_path, "eth0") as client:
        given = await check(network, router, length=60)
        client.send_signal(signal.SIGALRM)  # it gives back what it has, and ends
        await network.until(lambda: bool(events(network, PrefixReleased)))
    (released,) = events(network, PrefixReleased)
    assert isinstance(released, PrefixReleased)
    assert (released.prefix, released.next_hop) == (given.prefix, given.next_hop)
    await network.until(lambda: server(network).answered["release"] == 1)


async def test_wide(network: Network, router: Namespace, tmp_path: Path) -> None:
    with dhcp6c(router, tmp_path, DHCP6C, "eth0"):
        given = await check(network, router, length=56)
    await network.until(lambda: bool(events(network, PrefixReleased)))
    (released,) = events(network, PrefixReleased)
    assert isinstance(released, PrefixReleased)
    assert released.prefix == given.prefix
