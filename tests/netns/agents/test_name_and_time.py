"""A Node Agent on machines with systemd-resolved, resolvconf, openresolv and chrony, which really run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest

from dnms.events.ip import format_address, parse_address
from dnms.events.seen import ConfigurationDrifted
from tests.netns import services
from tests.netns.agents.conftest import PLAN, Mounted, Network, configurations
from tests.netns.agents.test_confirm import applied, settled
from tests.netns.agents.test_drift import SEEN_WITHIN, told
from tests.netns.agents.test_takeover import change

NAMES = PLAN.replace("dns =", 'policy = { confirm = 3 }\nsearch = ["Lab.example."]\ndns =', 1)
WRONG = NAMES.replace('"fe80::1", "192.0.2.1"', '"fe80::77", "192.0.2.77"').replace("5::53", "5::54")
TIMES = PLAN.replace("dns =", 'ntp = ["2001:db8:5::123", "192.0.2.123"]\ndns =', 1)


class Machine(msgspec.Struct, frozen=True):
    """One of those that are tried."""

    make: Callable[[Path], AbstractContextManager[object]]
    show: tuple[str, ...]  # prints the servers
    spoil: tuple[str, ...]  # is what somebody else does


@contextmanager
def debians_resolvconf(folder: Path) -> Iterator[None]:
    services.debians_resolvconf(folder)
    services.resolvconf("-a", "eth9.dhcp", stdin="nameserver 192.0.2.66\n")
    yield


@contextmanager
def openresolv(folder: Path) -> Iterator[None]:
    services.openresolv(folder)
    yield


@contextmanager
def resolved(folder: Path) -> Iterator[None]:
    with services.systemd_resolved(folder):
        services.resolvectl("dns", "eth0", "192.0.2.66")
        yield


@contextmanager
def chrony(folder: Path) -> Iterator[None]:
    services.have_chrony(folder)
    services.link("/nowhere")
    with services.chronyd():
        yield


SHOW_FILE = ("cat", "/etc/resolv.conf")
MACHINES = {
    "systemd-resolved": Machine(resolved, ("resolvectl", "dns", "eth0"), ("resolvectl", "revert", "eth0")),
    "resolvconf": Machine(debians_resolvconf, SHOW_FILE, ("resolvconf", "-d", "eth0.dnms")),
    "openresolv": Machine(openresolv, SHOW_FILE, ("resolvconf", "-d", "eth0.dnms")),
}


@pytest.mark.parametrize("name", MACHINES)
async def test_dns_is_set_kept_put_back_rolled_back_and_given_back(network: Network, name: str) -> None:
    machine = MACHINES[name]
    network.plan = NAMES
    network.serve()
    mounted = network.live_on(machine.make)
    await settled(network)
    assert "2001:db8:5::53" in mounted.run(*machine.show)
    await network.until(lambda: configurations(network)[-1].resolver != configurations(network)[0].resolver)
    found = configurations(network)[0].resolver, configurations(network)[-1].resolver
    assert [[format_address(each) for each in said.servers] for said in found] == [["192.0.2.66"], ["2001:db8:5::53"]]
    assert [each.rstrip(".") for each in found[1].search] == ["Lab.example"]
    assert not told(network)  # though it is said without the dot

    mounted.run(*machine.spoil)
    await network.until(lambda: bool(told(network)), seconds=SEEN_WITHIN)
    await network.until(lambda: "2001:db8:5::53" in mounted.run(*machine.show))
    (event,) = told(network)
    assert isinstance(event, ConfigurationDrifted)
    assert (event.action, [item.kind for item in event.items]) == ("restored", ["resolver"])

    await change(network, WRONG)
    await network.until(lambda: "2001:db8:5::54" in mounted.run(*machine.show))
    await network.until(lambda: bool(applied(network)[-1].why))
    shown = mounted.run(*machine.show)
    assert ("2001:db8:5::53" in shown, "2001:db8:5::54" in shown) == (True, False)

    mounted.leave()
    shown = mounted.run(*machine.show)
    assert ("192.0.2.66" in shown, "2001:db8:5" in shown) == (True, False)


async def test_time_servers_are_set_for_chrony_and_go_with_the_plan_and_when_dnms_leaves(network: Network) -> None:
    network.plan = TIMES
    network.serve()
    mounted = network.live_on(chrony)
    await settled(network)
    await network.until(lambda: asked(mounted) == {"2001:db8:5::123", "192.0.2.123"})
    assert {item.outcome for item in applied(network)[-1].items} == {"usable"}
    await change(network, PLAN)
    await network.until(lambda: asked(mounted) == set())
    await change(network, TIMES)
    await network.until(lambda: asked(mounted) == {"2001:db8:5::123", "192.0.2.123"})
    mounted.leave()
    await network.until(lambda: asked(mounted) == set())


async def test_time_servers_that_nothing_uses_are_told(network: Network) -> None:
    network.plan = TIMES
    network.serve()
    network.live_on(resolved)
    await settled(network)
    outcomes = {item.address: item.outcome for item in applied(network)[-1].items}
    assert {outcomes[parse_address(each)] for each in ("2001:db8:5::123", "192.0.2.123")} == {"no-time-service"}
    assert sorted(outcomes.values()) == ["no-time-service", "no-time-service", "usable", "usable"]


def asked(mounted: Mounted) -> set[str] | None:
    """The servers that chrony asks; None if one of them went while they were listed."""
    try:
        listed = mounted.run("chronyc", "-c", "-n", "sources")
    except subprocess.CalledProcessError:
        return None
    return {line.split(",")[2] for line in listed.splitlines()}
