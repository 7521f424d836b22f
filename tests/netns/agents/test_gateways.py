"""Routers of a real link come and go, and a node that heeds no Router Advertisement has the route that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.agents.subnet import gateways
from dnms.linux.namespaces import Namespace
from tests.netns.agents.conftest import PLAN, Network
from tests.netns.programs import radvd

RADVD = """
interface eth0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600;
  prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous on; };
};
"""


def link_local(machine: Namespace) -> str:
    shown = machine.run("ip", "-o", "-6", "address", "show", "dev", "eth0", "scope", "link")
    return shown.split("inet6 ")[1].split("/")[0]


def defaults(network: Network) -> list[str]:
    """The node's default routes, the best first."""
    lines = network.node.run("ip", "-6", "route", "show", "default").splitlines()
    return [line.split("via ")[1].split()[0] for line in sorted(lines, key=lambda line: line.split("metric ")[1])]


async def test_a_router_that_advertises_itself_is_the_nodes_gateway_until_it_takes_leave(
    network: Network, tmp_path: Path
) -> None:
    network.plan = PLAN.replace('gateways = ["fe80::1", "192.0.2.1"]', "learn_gateways = true")
    network.serve()
    network.live()
    await network.until(lambda: network.has("2001:db8:5:"))
    assert defaults(network) == []
    router = network.another("router")
    with radvd(router, tmp_path, RADVD):
        await network.until(lambda: defaults(network) == [link_local(router)])
        shown = network.node.run("ip", "-6", "route", "show", "default")
        assert "proto 200" in shown
        assert "ra" not in shown.split()
    await network.until(lambda: defaults(network) == [])


async def test_a_gateway_that_dies_gives_way_to_the_other(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "LOOK", 0.5)
    monkeypatch.setattr(gateways, "AT_MOST", 0.5)
    network.plan = PLAN.replace('"fe80::1"', '"fe80::2", "fe80::1"')
    router = network.another("router")
    router.ip(["address add fe80::2/64 dev eth0 nodad"])
    network.serve()
    network.live()
    await network.until(lambda: defaults(network) == ["fe80::2", "fe80::1"])
    router.ip(["link set dev eth0 down"])
    await network.until(lambda: defaults(network) == ["fe80::1", "fe80::2"])
    router.ip(["link set dev eth0 up", "address replace fe80::2/64 dev eth0 nodad"])
    await network.until(lambda: defaults(network) == ["fe80::2", "fe80::1"])
