"""What an agent sees of real hosts, routers and servers that asked it for nothing, and what the log says of it."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from dnms.agents.subnet import seeing, seeing_alarms, seeing_table
from dnms.domain import sightings
from dnms.domain.identity import duid_of_hardware
from dnms.events import codec
from dnms.events.ip import format_address, parse_address
from dnms.events.link import AddressSighted, AddressVanished, AlarmCleared, AlarmRaised
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Event
from dnms.linux.namespaces import Namespace
from tests.netns.agents.conftest import PLAN, Network, apply_plan
from tests.netns.programs import radvd
from tests.netns.programs4 import udhcpc, udhcpd

GATEWAY = ("192.0.2.1",)

E = TypeVar("E", bound=Event)

RADVD = """
interface eth0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600;
  prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous on; };
};
"""


@pytest.fixture
def watched(network: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    """Its agents watch the link, and take little time for it."""
    for module, name, value in (
        (seeing, "LOOK", 0.1),
        (seeing_table, "SETTLE", 0.5),
        (seeing_table, "AGAIN", 0.5),
        (seeing_alarms, "RECHECK", 0.5),
    ):
        monkeypatch.setattr(module, name, value)
    network.watches = True
    return network


def events(network: Network, kind: type[E]) -> list[E]:
    commits = (codec.decode(record.data) for record in list(network.log.records))
    return [event for commit in commits for event in commit.events if isinstance(event, kind)]


def hardware(machine: Namespace) -> bytes:
    [link] = json.loads(machine.run("ip", "-j", "link", "show", "dev", "eth0"))
    return bytes.fromhex(link["address"].replace(":", ""))


def client_of(network: Network, machine: Namespace) -> bytes:
    return network.site.client_id(duid_of_hardware(hardware(machine)))


def addresses(machine: Namespace) -> set[str]:
    [link] = [each for each in json.loads(machine.run("ip", "-j", "address", "show", "dev", "eth0")) if each]
    return {each["local"] for each in link["addr_info"] if not each.get("tentative")}


def seen_with(network: Network, machine: Namespace) -> dict[str, AddressSighted]:
    """What a machine is seen with."""
    found = (event for event in events(network, AddressSighted) if event.client == client_of(network, machine))
    return {format_address(event.address): event for event in found}


def ask(machine: Namespace, *others: str) -> None:
    """Have a machine ask its link who has these addresses, since it has something to send there."""
    with machine.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for each in others:
            sock.sendto(b"", (each, 9))


async def until(
    network: Network, condition: Callable[[], bool], *asking: Namespace, of: Sequence[str] = GATEWAY
) -> None:
    """Wait for a condition; meanwhile these ask again and again: a link that has just come up loses some of it."""

    def asked() -> bool:
        for machine in asking:
            ask(machine, *of)
        return condition()

    await network.until(asked)


def alarms(network: Network) -> list[tuple[str, str]]:
    return [(event.alarm, format_address(event.address)) for event in events(network, AlarmRaised)]


def cleared(network: Network) -> list[tuple[str, str, str]]:
    return [(event.alarm, format_address(event.address), event.why) for event in events(network, AlarmCleared)]


async def watching(network: Network) -> None:
    """Start an agent, and wait until it hears the link (packet(7): protocol 3 is all of them)."""
    network.serve()
    await network.until(lambda: " 0003 " in network.agents.run("cat", "/proc/net/packet"))


async def test_a_host_that_makes_its_addresses_itself_is_seen_with_all_of_them(
    watched: Network, tmp_path: Path
) -> None:
    watched.plan = PLAN.replace('"fe80::1"', '"fe80::9"')
    router = watched.another("router")
    router.ip(["address add fe80::9/64 dev eth0 nodad"])
    await watching(watched)
    phone = Namespace.create("phone")
    watched.others.append(phone)
    watched.bridge.plug([phone], "eth0")
    phone.set_sysctls({"ipv6.neigh.eth0.retrans_time_ms": 100, "ipv6.conf.eth0.use_tempaddr": 2})
    phone.set_sysctls({"ipv6.conf.eth0.addr_gen_mode": 3})
    with radvd(router, tmp_path, RADVD):
        phone.set_up("eth0")
        phone.ip(["address add 192.0.2.77/24 dev eth0"])
        await watched.until(lambda: len(addresses(phone)) == 4)
        await until(watched, lambda: seen_with(watched, phone).keys() == addresses(phone), phone)
        shown = json.loads(phone.run("ip", "-j", "-6", "address", "show", "dev", "eth0"))
        for each in next(link for link in shown if link)["addr_info"]:
            said = seen_with(watched, phone)[each["local"]]
            if each["scope"] == "link":
                assert (said.form, said.lasting, said.sure) == ("link-local", "stable", "likely")
            else:
                assert (said.form, said.lasting, said.sure) == ("random", "unknown", "guess")
    assert ("router", format_address(parse_address("fe80::9"))) not in alarms(watched)
    times = Counter(event.address for event in events(watched, AddressSighted))
    assert set(times.values()) == {1}


async def test_a_strange_router_is_told_of_once_and_no_more_when_it_takes_leave(
    watched: Network, tmp_path: Path
) -> None:
    await watching(watched)
    stranger = watched.another("stranger")
    with radvd(stranger, tmp_path, RADVD):
        await watched.until(lambda: bool(alarms(watched)))
        [raised] = events(watched, AlarmRaised)
        assert (raised.alarm, raised.why) == ("router", "not-planned")
        assert format_address(raised.address) in addresses(stranger)
        assert raised.client == client_of(watched, stranger)
        [known] = [event for event in events(watched, NodeIdentified) if event.client == raised.client]
        assert [watched.log.keys.open(each).value for each in known.hardware] == [hardware(stranger)]
        assert not cleared(watched)
    await watched.until(lambda: bool(cleared(watched)))
    assert cleared(watched) == [("router", format_address(raised.address), "over")]
    assert len(alarms(watched)) == 1


async def test_a_router_that_the_plan_comes_to_name_is_no_stranger_any_more(watched: Network, tmp_path: Path) -> None:
    await watching(watched)
    stranger = watched.another("stranger")
    stranger.ip(["address add fe80::9/64 dev eth0 nodad"])
    with radvd(stranger, tmp_path, RADVD):
        await watched.until(lambda: bool(alarms(watched)))
        [(_, address)] = alarms(watched)
        await apply_plan(watched.log, PLAN.replace('"fe80::1"', f'"fe80::1", "{address}"'))
        await watched.until(lambda: bool(cleared(watched)))
        assert cleared(watched) == [("router", address, "planned")]


async def test_two_that_have_one_address_are_told_of_until_one_lets_it_go(watched: Network) -> None:
    await watching(watched)
    one, other = watched.another("one"), watched.another("other")
    for machine in (one, other):
        machine.ip(["address add 192.0.2.77/24 dev eth0", "address add 2001:db8:5::77/64 dev eth0 nodad"])
    await until(watched, lambda: ("duplicate", "192.0.2.77") in alarms(watched), one, other)
    [raised] = [event for event in events(watched, AlarmRaised) if event.address == parse_address("192.0.2.77")]
    assert {raised.client, raised.other} == {client_of(watched, one), client_of(watched, other)}
    other.ip(["address del 192.0.2.77/24 dev eth0"])
    await watched.until(lambda: ("duplicate", "192.0.2.77", "over") in cleared(watched))
    assert Counter(alarms(watched))["duplicate", "192.0.2.77"] == 1


async def test_an_address_that_goes_to_another_machine_has_moved(watched: Network) -> None:
    await watching(watched)
    one, other = watched.another("one"), watched.another("other")
    one.ip(["address add 192.0.2.77/24 dev eth0"])
    await until(watched, lambda: "192.0.2.77" in seen_with(watched, one), one)
    one.ip(["link set dev eth0 down"])
    other.ip(["address add 192.0.2.77/24 dev eth0"])
    await until(watched, lambda: "192.0.2.77" in seen_with(watched, other), other)
    await watched.until(lambda: bool(alarms(watched)))
    [raised] = events(watched, AlarmRaised)
    assert (raised.alarm, raised.client, raised.other) == (
        "moved",
        client_of(watched, other),
        client_of(watched, one),
    )
    [gone] = events(watched, AddressVanished)
    assert gone.client == client_of(watched, one)


async def test_a_dhcp_server_of_somebody_else_is_told_of_by_what_its_clients_ask_it(
    watched: Network, tmp_path: Path
) -> None:
    await watching(watched)
    stranger, client = watched.another("stranger"), watched.another("client")
    stranger.ip(["address add 198.51.100.1/24 dev eth0"])
    (server_root := tmp_path / "server").mkdir()
    with (
        udhcpd(stranger, server_root, "eth0", "198.51.100.10", "198.51.100.20"),
        udhcpc(client, tmp_path, "eth0", "-A", "1"),
    ):
        await watched.until(lambda: bool(alarms(watched)))
    assert alarms(watched) == [("dhcp-server", "198.51.100.1")]
    [raised] = events(watched, AlarmRaised)
    assert raised.client == client_of(watched, stranger)


async def test_who_looks_through_the_addresses_that_nobody_has_is_told_of(watched: Network) -> None:
    await watching(watched)
    scanner = watched.another("scanner")
    scanner.ip(["address add 192.0.2.66/24 dev eth0"])
    await until(watched, lambda: bool(alarms(watched)), scanner, of=[f"192.0.2.{host}" for host in range(100, 180)])
    assert alarms(watched) == [("scan", "192.0.2.0")]
    assert events(watched, AlarmRaised)[0].client == client_of(watched, scanner)
    assert seen_with(watched, scanner).keys() <= addresses(scanner)
    assert "192.0.2.100" not in {format_address(event.address) for event in events(watched, AddressSighted)}


async def test_what_answers_no_more_has_vanished(watched: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "UNSEEN", 1)
    monkeypatch.setattr(seeing, "LOSE", 0.2)
    await watching(watched)
    stays, leaves = watched.another("stays"), watched.another("leaves")
    for machine, address in ((stays, "192.0.2.77"), (leaves, "192.0.2.78")):
        machine.ip([f"address add {address}/24 dev eth0"])
    await until(watched, lambda: "192.0.2.77" in seen_with(watched, stays), stays)
    await until(watched, lambda: "192.0.2.78" in seen_with(watched, leaves), leaves)
    leaves.ip(["link set dev eth0 down"])
    await watched.until(
        lambda: any(event.client == client_of(watched, leaves) for event in events(watched, AddressVanished))
    )
    gone = {format_address(event.address) for event in events(watched, AddressVanished)}
    assert "192.0.2.78" in gone
    assert "192.0.2.77" not in gone
