"""A node is taken over while a router advertises all the while, and whoever is logged in stays so."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnms.agents.node import configuring
from tests.netns.agents.conftest import PLAN, Network, apply_plan, configurations
from tests.netns.programs import radvd

ADVERTISES = """
interface net {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600;
  prefix 2001:db8:6::/64 { AdvOnLink on; AdvAutonomous on; AdvValidLifetime 600; AdvPreferredLifetime 500; };
};
"""
OBSERVE = PLAN.replace("prefixes", 'policy = { mode = "observe" }\nprefixes', 1)
SOFT = PLAN.replace("prefixes", 'policy = { mode = "manage-ra-gateway" }\nprefixes', 1)
MANAGED = ("2001:db8:5:", "192.0.2.")


@pytest.fixture
def advertised(network: Network, tmp_path: Path) -> Iterator[Network]:
    """With a router that advertises another prefix, and a node that has made itself addresses."""
    network.agents.ip(["address add 2001:db8:6::1/64 dev net nodad"])
    network.node.set_sysctls({"ipv6.conf.eth0.use_tempaddr": 2})
    network.node.ip(["address add 198.51.100.7/24 dev eth0", "address add 2001:db8:7::7/64 dev eth0 nodad"])
    with radvd(network.agents, tmp_path, ADVERTISES):
        yield network


def shown(network: Network, *words: str) -> str:
    return network.node.run("ip", "-6", "address", "show", "dev", "eth0", *words)


def slaac(network: Network) -> str:
    """The stable address that the kernel made itself."""
    lines = [line for line in shown(network, "scope", "global", "-temporary").splitlines() if "2001:db8:6:" in line]
    return lines[0].split("inet6 ")[1].split("/")[0] if lines else ""


class Session:
    """A connection from the router to the node, over an address that is to go."""

    def __init__(self, network: Network, address: str) -> None:
        self._network = network
        self._node, self._router = self._connected(address)

    def _connected(self, address: str) -> tuple[socket.socket, socket.socket]:
        with self._network.node.entered():
            listening = socket.create_server((address, 0), family=socket.AF_INET6)
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(listening.accept()[0]))
        thread.start()
        with self._network.agents.entered():
            router = socket.create_connection((address, listening.getsockname()[1]), timeout=10)
        thread.join(10)
        listening.close()
        return accepted[0], router

    def lives(self) -> bool:
        self._router.settimeout(10)
        self._node.sendall(b"still here")
        return self._router.recv(100) == b"still here"

    def close(self) -> None:
        self._router.close()
        self._node.close()


async def test_who_is_logged_in_over_an_address_that_goes_stays_so_until_he_leaves(
    advertised: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = advertised
    monkeypatch.setattr(configuring, "DRAIN_LOOK", 0.5)
    await network.until(lambda: bool(slaac(network)) and "tentative" not in shown(network))
    old = slaac(network)
    session = await asyncio.to_thread(Session, network, old)
    network.serve()
    network.live()
    await network.until(lambda: network.has(*MANAGED) and "2001:db8:7::7" not in shown(network))
    assert old in shown(network, "deprecated")
    assert "198.51.100.7" not in network.node.run("ip", "address", "show", "dev", "eth0")
    assert session.lives()
    assert " 2001:db8:5:" in network.node.run(
        "ip", "-6", "route", "get", "2001:db8:ffff::1"
    )  # the source of what is new
    session.close()
    await network.until(lambda: "2001:db8:6:" not in shown(network))
    routes = network.node.run("ip", "-6", "route")
    assert "proto ra" not in routes
    assert "2001:db8:6::/64" not in routes


async def test_modes_change_at_once_and_what_was_there_comes_back(advertised: Network) -> None:
    network = advertised
    network.plan = OBSERVE
    await network.until(lambda: bool(slaac(network)) and "tentative" not in shown(network))
    before = network.node.run("ip", "-6", "route", "show", "default")
    network.serve()
    network.live()
    await network.until(lambda: bool(configurations(network)))
    assert {each.origin for each in configurations(network)[-1].addresses} >= {"slaac", "temporary", "other"}
    assert not network.has("192.0.2.")
    assert network.node.run("ip", "-6", "route", "show", "default").split("expires")[0] == before.split("expires")[0]

    await change(network, PLAN)
    await network.until(lambda: network.has(*MANAGED) and "2001:db8:6:" not in shown(network))
    assert "proto 200" in network.node.run("ip", "-6", "route", "show", "default")

    await change(network, SOFT)
    await network.until(lambda: "proto ra" in network.node.run("ip", "-6", "route", "show", "default"), seconds=30)
    await network.until(lambda: "proto 200" not in network.node.run("ip", "-6", "route", "show", "default"), seconds=40)
    assert network.has(*MANAGED)
    assert "2001:db8:6:" not in shown(network)

    await change(network, OBSERVE)
    await network.until(lambda: bool(slaac(network)) and network.has("2001:db8:7::7"), seconds=30)
    assert not network.has("192.0.2.")
    assert "198.51.100.7" in network.node.run("ip", "address", "show", "dev", "eth0")
    assert "proto 200" not in network.node.run("ip", "-6", "route")


async def change(network: Network, plan: str) -> None:
    """Have this plan applied."""
    await apply_plan(network.log, plan)


@pytest.mark.parametrize("duplicate", [False, True])
async def test_an_optimistic_address_is_used_during_dad_and_a_duplicate_is_found_all_the_same(
    network: Network, duplicate: bool
) -> None:
    """With the kernel's own pace: a second or two of DAD."""
    network.plan = PLAN.replace("prefixes", "policy = { optimistic = true }\nprefixes", 1)
    network.node.set_sysctls({"ipv6.neigh.eth0.retrans_time_ms": 1_000, "ipv6.conf.eth0.dad_transmits": 3})
    network.serve()
    network.live()
    await network.until(lambda: "optimistic" in shown(network, "scope", "global"))
    address = shown(network, "scope", "global").split("inet6 ")[1].split("/")[0]
    network.agents.ip(["address add 2001:db8:5::1/64 dev net nodad"])
    if duplicate:
        network.agents.ip([f"address add {address}/128 dev net nodad"])
        await network.until(lambda: address not in shown(network, "scope", "global"))
        await network.until(lambda: network.has("2001:db8:5:"))  # another one
        assert address not in shown(network, "scope", "global")
    else:
        source = network.node.run("ip", "-6", "route", "get", "2001:db8:5::1")
        assert f" src {address}" in source
        assert "tentative" in shown(network, "scope", "global") or "optimistic" in shown(network, "scope", "global")
        await network.until(lambda: network.has("2001:db8:5:"))
