"""What a kernel and another maker's program make of a Subnet Agent's Router Advertisements."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnms.linux.namespaces import Namespace
from tests.netns import debian
from tests.netns.agents.conftest import PLAN, Network, apply_plan

ADVERTISED = PLAN.replace(
    'dns = ["2001:db8:5::53"]',
    'dns = ["2001:db8:5::53"]\nsearch = ["home.example"]\nmtu = 1_400\n'
    "advertise = { lifetime = 1_800, managed = true, other = true, preferred = 600, valid = 900 }",
)


def until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def default_routes(machine: Namespace) -> list[str]:
    lines = machine.run("ip", "-6", "route", "show", "default", "proto", "ra").splitlines()
    return [line.split("via ")[1].split()[0] for line in lines]


def slaac(machine: Namespace) -> dict[str, tuple[int, int]]:
    """The addresses of advertised prefixes, each with the seconds for which it is preferred and valid."""
    shown = json.loads(machine.run("ip", "-j", "-6", "address", "show", "dev", "eth0", "scope", "global"))
    found = (each for link in shown if link for each in link["addr_info"] if each and each.get("dynamic"))
    return {each["local"]: (each["preferred_life_time"], each["valid_life_time"]) for each in found}


@pytest.fixture
def advertised(network: Network) -> Network:
    network.agents.set_sysctls({"ipv6.conf.all.forwarding": 1})
    network.plan = ADVERTISED
    return network


def test_a_host_gets_an_address_and_a_router_and_loses_the_router_with_the_agent(advertised: Network) -> None:
    host = advertised.another("host")
    agent = advertised.serve()
    until(lambda: default_routes(host) == ["fe80::1"])
    until(lambda: bool(slaac(host)))
    ((address, (preferred, valid)),) = slaac(host).items()
    assert address.startswith("2001:db8:5:")
    assert 590 <= preferred <= 600
    assert 890 <= valid <= 900
    assert "mtu 1400" in host.run("ip", "-6", "route", "show", "default")
    agent.stop()
    assert agent.failed is None
    until(lambda: default_routes(host) == [])
    assert list(slaac(host)) == [address]


def test_a_machine_that_does_not_forward_is_no_router(advertised: Network) -> None:
    advertised.agents.set_sysctls({"ipv6.conf.all.forwarding": 0})
    host = advertised.another("host")
    advertised.serve()
    until(lambda: bool(slaac(host)))
    assert default_routes(host) == []


@contextmanager
def radvdump(machine: Namespace, out: Path) -> Iterator[None]:
    with machine.entered(), out.open("wb") as file:
        process = subprocess.Popen(
            ["stdbuf", "-oL", debian.program("radvdump", "radvdump")],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.DEVNULL,
            env=debian.environment(),
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_radvdump_reads_what_was_said(advertised: Network, tmp_path: Path) -> None:
    host, out = advertised.another("host"), tmp_path / "dump"
    with radvdump(host, out):
        advertised.serve()
        until(lambda: "};\n}; # End" in out.read_text() or out.read_text().count("};") >= 4)
    said = re.sub(r"#.*", "", out.read_text())
    for line in (
        "AdvManagedFlag on;",
        "AdvOtherConfigFlag on;",
        "AdvCurHopLimit 64;",
        "AdvDefaultLifetime 1800;",
        "AdvDefaultPreference medium;",
        "AdvSourceLLAddress on;",
        "AdvLinkMTU 1400;",
        "prefix 2001:db8:5::/64",
        "AdvValidLifetime 900;",
        "AdvPreferredLifetime 600;",
        "AdvOnLink on;",
        "AdvAutonomous on;",
        "RDNSS 2001:db8:5::53",
        "AdvRDNSSLifetime 600;",
        "DNSSL home.example",
        "AdvDNSSLLifetime 600;",
    ):
        assert line in said, line


FURTHER = ADVERTISED.replace(
    "lifetime = 1_800, ",
    'lifetime = 1_800, preference = "high", delegated = true, nat64 = ["64:ff9b::/96"], '
    'routes = [{ destination = "2001:db8:f::/48", preference = "low", lifetime = 900 }], ',
)
BESIDE = ADVERTISED.replace("lifetime = 1_800, managed", "lifetime = 0, autonomous = false, managed")


def dumped(network: Network, out: Path) -> str:
    """What radvdump reads of the first advertisement of an agent that begins to serve."""
    with radvdump(network.another("host"), out):
        network.serve()
        until(lambda: "AdvDNSSLLifetime" in out.read_text())  # the last thing that it prints of one
    return re.sub(r"#.*", "", out.read_text())


def test_radvdump_reads_preference_and_routes(advertised: Network, tmp_path: Path) -> None:
    advertised.plan = FURTHER
    said = dumped(advertised, tmp_path / "dump")
    assert "AdvDefaultPreference high;" in said
    assert re.search(r"route 2001:db8:f::/48\s+{\s+AdvRoutePreference low;\s+AdvRouteLifetime 900;", said), said


def test_beside_a_router_that_is_another_box(advertised: Network, tmp_path: Path) -> None:
    """M and O set, A cleared, and no router: hosts have the other one, and ask for their addresses here."""
    advertised.plan = BESIDE
    said = dumped(advertised, tmp_path / "dump")
    for line in ("AdvDefaultLifetime 0;", "AdvManagedFlag on;", "AdvOtherConfigFlag on;", "AdvAutonomous off;"):
        assert line in said, line


def test_the_kernel_takes_a_route_and_the_better_router(advertised: Network) -> None:
    advertised.plan = FURTHER
    host = advertised.another("host")
    host.set_sysctls({"ipv6.conf.eth0.accept_ra_rt_info_max_plen": 64})
    agent = advertised.serve()
    until(lambda: "pref high" in host.run("ip", "-6", "route", "show", "default", "proto", "ra"))
    routes = ("ip", "-6", "route", "show", "2001:db8:f::/48")
    until(lambda: "via fe80::1" in host.run(*routes))
    assert "pref low" in host.run(*routes)
    agent.stop()
    until(lambda: host.run(*routes) == "")


async def test_a_prefix_that_the_plan_has_no_more_is_deprecated_at_once(advertised: Network) -> None:
    host = advertised.another("host")
    advertised.serve()
    await advertised.until(lambda: bool(slaac(host)))
    plan = ADVERTISED.replace("2001:db8:5::/64", "2001:db8:6::/64").replace("2001:db8:5::53", "2001:db8:6::53")
    await apply_plan(advertised.log, plan)
    await advertised.until(lambda: any(address.startswith("2001:db8:6:") for address in slaac(host)))
    (old,) = [lifetimes for address, lifetimes in slaac(host).items() if address.startswith("2001:db8:5:")]
    assert old[0] == 0
    assert 0 < old[1] <= 900
