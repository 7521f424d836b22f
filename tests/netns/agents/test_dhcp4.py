"""Other makers' DHCPv4 clients on the link of a Subnet Agent: what they have, and what the log says of that."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.domain.identity import duid_of_hardware, parse_hardware
from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressDeclined, AddressReleased, AddressRenewed
from dnms.events.ip import format_address
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Event
from dnms.linux.namespaces import Bridge, Namespace
from tests.netns.agents.conftest import PLAN, Network
from tests.netns.programs import dhcpcd, dnsmasq_relay
from tests.netns.programs4 import dhclient, dhclient_release, dhclient_server, dhcrelay, udhcpc

PREFERRED, VALID = 8, 24
RENEWS = 4  # seconds after an answer; it rebinds after 6
SERVED = PLAN.replace(
    'range = "192.0.2.0/24"', f'range = "192.0.2.128/25"\npreferred = {PREFERRED}\nvalid = {VALID}'
).replace('dns = ["2001:db8:5::53"]', 'dns = ["2001:db8:5::53", "192.0.2.53"]\nsearch = ["home.example"]')
DHCPCD = """
{identity}
hostname printer
noipv6
option domain_name_servers, domain_name, domain_search, classless_static_routes, ntp_servers, interface_mtu
interface eth0
"""
DHCLIENT = 'send host-name "printer"; request subnet-mask, routers, domain-name-servers; timeout 20; retry 2;'

Running = subprocess.Popen[bytes]
Client = Callable[[Namespace, Path], AbstractContextManager[Running]]


@contextmanager
def _dhcpcd(machine: Namespace, root: Path, identity: str = "duid") -> Iterator[Running]:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "dhcpcd.conf").write_text(DHCPCD.format(identity=identity))
    with dhcpcd(machine, root, "eth0") as process:
        yield process


def _udhcpc(machine: Namespace, root: Path) -> AbstractContextManager[Running]:
    return udhcpc(machine, root, "eth0", "-x", "hostname:printer", "-T", "1", "-A", "1", "-a100")


def _dhclient(machine: Namespace, root: Path) -> AbstractContextManager[Running]:
    return dhclient(machine, root, "eth0", DHCLIENT)


def _by_hardware(machine: Namespace, root: Path) -> AbstractContextManager[Running]:
    """dhcpcd that draws no DUID at each start."""
    return _dhcpcd(machine, root, "clientid")


CLIENTS: dict[str, Client] = {"dhcpcd": _dhcpcd, "udhcpc": _udhcpc, "dhclient": _dhclient}


async def release(network: Network, name: str, machine: Namespace, root: Path, client: Running, *, agent: str) -> None:
    """Have a client give back what it has of an agent."""
    match name:
        case "dhcpcd":
            # It releases to who answered last, so it must have that answer: a rebinding begins with less than this.
            await network.until(lambda: left(machine) >= VALID - RENEWS)
            client.send_signal(signal.SIGALRM)
        case "udhcpc":
            client.send_signal(signal.SIGUSR2)
        case "dhclient":
            # It releases to whom its file names, which it writes after its script has run, and every 15 s at most.
            await network.until(lambda: dhclient_server(root) == agent)
            dhclient_release(machine, root, "eth0")


@pytest.fixture
def client(network: Network) -> Namespace:
    """A machine on which another maker's client is to run."""
    network.plan, network.has_dhcp4 = SERVED, True
    return network.another("client")


def events(network: Network, kind: type[Event]) -> list[Event]:
    return [
        event for record in network.log.records for event in codec.decode(record.data).events if isinstance(event, kind)
    ]


def given(network: Network) -> list[str]:
    """The addresses that were given, in order."""
    return [format_address(each.address) for each in events(network, AddressAllocated) if hasattr(each, "address")]


def server(network: Network) -> Dhcp4Server:
    assert network.dhcp4 is not None
    return network.dhcp4


def left(machine: Namespace) -> int:
    """Seconds that are left of the client's address."""
    (link,) = json.loads(machine.run("ip", "-4", "-j", "address", "show", "dev", "eth0"))
    return max((int(each["valid_life_time"]) for each in link["addr_info"]), default=0)


def has(machine: Namespace, address: str) -> bool:
    return f" {address}/24 " in machine.run("ip", "-4", "-o", "address", "show", "dev", "eth0")


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_from_its_first_message_to_its_last(
    network: Network, client: Namespace, tmp_path: Path, name: str
) -> None:
    agent = network.serve()
    with CLIENTS[name](client, tmp_path) as process:
        await network.until(lambda: bool(given(network)) and has(client, given(network)[0]), seconds=30)
        (address,) = given(network)
        await network.until(lambda: bool(events(network, NodeIdentified)))
        (node,) = [network.log.keys.open(each) for each in events(network, NodeIdentified)]
        assert isinstance(node, NodeIdentified)
        assert node.name.value == "printer"
        mac = client.run("ip", "-o", "link", "show", "dev", "eth0").split("link/ether ")[1].split()[0]
        assert [each.value for each in node.hardware] == [bytes.fromhex(mac.replace(":", ""))]
        await network.until(lambda: bool(events(network, AddressRenewed)), seconds=20)
        # The agent is gone, and another one there, with an address of its own and nothing but the log.
        agent.stop()
        renewed = len(events(network, AddressRenewed))
        network.agents.ip(["address del 192.0.2.1/24 dev net", "address add 192.0.2.2/24 dev net"])
        network.succeed("a2")
        await network.until(lambda: len(events(network, AddressRenewed)) > renewed, seconds=30)
        await network.until(lambda: server(network).answered["ack"] >= 1)
        assert has(client, address)
        if name != "udhcpc":  # which names for ever who offered, and that one is gone
            await release(network, name, client, tmp_path, process, agent="192.0.2.2")
            await network.until(lambda: bool(events(network, AddressReleased)))
    assert given(network) == [address]
    assert len(events(network, NodeIdentified)) == 1
    released = [each.address for each in events(network, AddressReleased) if isinstance(each, AddressReleased)]
    assert list(map(format_address, released)) == ([] if name == "udhcpc" else [address])


@pytest.mark.parametrize("name", CLIENTS)
async def test_who_finds_its_address_in_use_is_given_another(
    network: Network, client: Namespace, tmp_path: Path, name: str
) -> None:
    network.serve()
    start = _by_hardware if name == "dhcpcd" else CLIENTS[name]
    with start(client, tmp_path) as process:
        await network.until(lambda: bool(given(network)) and has(client, given(network)[0]), seconds=30)
        await release(network, name, client, tmp_path, process, agent="192.0.2.1")
        await network.until(lambda: bool(events(network, AddressReleased)))
    (first,) = given(network)
    network.another("printer").ip([f"address add {first}/24 dev eth0"])
    (tmp_path / "declines").touch()  # dhclient has its script look, which says no once
    with start(client, tmp_path):
        await network.until(lambda: bool(events(network, AddressDeclined)), seconds=30)
        await network.until(lambda: has(client, given(network)[-1]), seconds=40)
    (declined,) = events(network, AddressDeclined)
    assert isinstance(declined, AddressDeclined)
    assert format_address(declined.address) == first
    assert given(network) == [first, first, given(network)[-1]]
    assert given(network)[-1] != first


async def test_of_a_pool_that_gives_one_after_the_other_the_link_is_asked_first(
    network: Network, client: Namespace, tmp_path: Path
) -> None:
    network.plan = SERVED.replace("valid = 24", 'valid = 24\nstrategy = "sequential"')
    network.another("printer").ip(["address add 192.0.2.128/24 dev eth0"])
    network.serve()
    with dhclient(client, tmp_path, "eth0", DHCLIENT):
        await network.until(lambda: len(given(network)) == 2 and has(client, given(network)[1]), seconds=30)
    assert given(network)[0] == "192.0.2.128"
    (declined,) = events(network, AddressDeclined)
    assert isinstance(declined, AddressDeclined)
    assert format_address(declined.address) == "192.0.2.128"


async def test_one_identity_for_both_families_and_the_options_that_a_client_asks_for(
    network: Network, client: Namespace, tmp_path: Path
) -> None:
    network.serve()
    with _dhcpcd(client, tmp_path):
        await network.until(lambda: bool(events(network, NodeIdentified)), seconds=30)
    (node,) = [network.log.keys.open(each) for each in events(network, NodeIdentified)]
    assert isinstance(node, NodeIdentified)
    assert isinstance(node.duid.value, bytes)
    assert node.duid.value[:2] in (b"\x00\x01", b"\x00\x03", b"\x00\x04")  # its own DUID (RFC 4361), and none of ours
    assert network.site.client_id(node.duid.value) == node.client


async def test_an_address_that_the_plan_reserves_for_a_hardware_address(
    network: Network, client: Namespace, tmp_path: Path
) -> None:
    """Of a client that says a DUID (RFC 4361), and then of one that says nothing but its hardware address."""
    mac = client.run("ip", "-o", "link", "show", "dev", "eth0").split("link/ether ")[1].split()[0]
    whose = network.site.client_id(duid_of_hardware(parse_hardware(mac)))
    network.plan += f'[[reservation]]\naddress = "192.0.2.150"\nnode = "{whose.hex()}"\ninterface = "*"\n'
    network.serve()
    for start in (_dhcpcd, _udhcpc):
        with start(client, tmp_path):
            await network.until(lambda: has(client, "192.0.2.150"), seconds=30)
        client.run("ip", "-4", "address", "flush", "dev", "eth0")
    assert given(network) == ["192.0.2.150"] * 2


async def test_what_a_client_is_told(network: Network, client: Namespace, tmp_path: Path) -> None:
    network.serve()
    with udhcpc(client, tmp_path, "eth0", "-O", "search", "-O", "dns"):
        await network.until(lambda: "bound" in said(tmp_path), seconds=30)
        await network.until(lambda: has(client, given(network)[0]))
    assert f"{given(network)[0]} 192.0.2.53 home.example" in said(tmp_path)


async def test_what_a_machine_is_told_to_boot_and_that_ipv6_alone_will_do(
    network: Network, client: Namespace, tmp_path: Path
) -> None:
    boot = '[{ architectures = [7], server = "192.0.2.9", file = "x64.efi" }, { file = "pxelinux.0" }]'
    network.plan = SERVED.replace("[[pool]]", f"dhcp = {{ ipv6_only = 1800, boot = {boot} }}\n[[pool]]", 1)
    network.serve()
    script = tmp_path / "tells"
    script.write_text(f'#!/bin/sh\necho "$1 $siaddr $boot_file $tftp $bootfile $opt108" >> {tmp_path}/said\n')
    script.chmod(0o755)
    words = ("-s", str(script), "-O", "tftp", "-O", "bootfile", "-O", "108", "-x", "0x5d:0007")
    with udhcpc(client, tmp_path, "eth0", *words):
        await network.until(lambda: "bound" in said(tmp_path), seconds=30)
    assert "bound 192.0.2.9 x64.efi 192.0.2.9 x64.efi 00000708\n" in said(tmp_path)


def relayed(network: Network) -> tuple[Namespace, Namespace]:
    """A machine that is on the link of the agent and, by down0, on another one; and a client there."""
    network.plan, network.has_dhcp4 = SERVED, True
    relay, client = network.another("relay"), Namespace.create("client")
    network.others.append(client)
    network.agents.ip(
        [
            "address del 192.0.2.1/24 dev net",
            "address add 198.51.100.1/24 dev net",
            "route add 192.0.2.0/24 via 198.51.100.2",
        ]
    )
    Bridge.create(relay, "down0", addresses=("192.0.2.1/24",)).plug([client], "eth0")
    relay.ip(["address add 198.51.100.2/24 dev eth0"])
    relay.set_sysctls({"ipv4.ip_forward": 1})
    client.set_up("eth0")
    network.serve()
    return relay, client


async def test_through_another_makers_relay(network: Network, tmp_path: Path) -> None:
    """The agent is a router away: it is asked through the relay, and, by who renews, by unicast."""
    relay, client = relayed(network)
    (tmp_path / "relay").mkdir()
    words = ("-a", "-id", "down0", "-iu", "eth0", "198.51.100.1")
    with dhcrelay(relay, tmp_path / "relay", *words), udhcpc(client, tmp_path, "eth0", "-T", "1", "-A", "1"):
        await network.until(lambda: bool(given(network)) and has(client, given(network)[0]), seconds=30)
        client.ip(["route add default via 192.0.2.1"])
        await network.until(lambda: bool(events(network, AddressRenewed)), seconds=30)
    assert server(network).answered["ack"] >= 2
    assert server(network).dropped.keys() <= {"repeated"}  # what is routed to the agent the relay sends on too


async def test_through_dnsmasq_as_a_relay(network: Network, tmp_path: Path) -> None:
    relay, client = relayed(network)
    (tmp_path / "relay").mkdir()
    to = ("192.0.2.1", "198.51.100.1")
    with (
        dnsmasq_relay(relay, tmp_path / "relay", *to, "down0", "eth0"),
        udhcpc(client, tmp_path, "eth0", "-T", "1", "-A", "1"),
    ):
        await network.until(lambda: bool(given(network)) and has(client, given(network)[0]), seconds=30)
    assert server(network).dropped.keys() <= {"repeated"}


def said(root: Path) -> str:
    """What the script of a client was told."""
    path = root / "said"
    return path.read_text() if path.exists() else ""
