"""Other makers' DHCPv6 clients on a link with two Subnet Agents, of which the first is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from dnms.domain.identity import duid_of_hardware, parse_hardware
from dnms.events.ip import parse_address
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Message, decode, encode
from dnms.wire.dhcp6.options import Options
from tests.netns.dhcp6.served import VALID, inside, relayed, served
from tests.netns.programs import dhclient, dhclient_server, dhcpcd, dhcrelay, dnsmasq_relay, networkd
from tests.netns.programs4 import udhcpc

DHCPCD = """
duid ll
noipv6rs
noipv4
hostname pc-1
option domain_name_servers, domain_search
interface eth0
  ia_na 1
"""
DHCLIENT = """
send fqdn.fqdn "pc-2.lab.example.";
also request dhcp6.name-servers, dhcp6.domain-search;
"""
NETWORKD = """
[Match]
Name=eth0
[Network]
DHCP=ipv6
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
[DHCPv6]
WithoutRA=solicit
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")


def test_dhclient(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as link:
            with dhclient(link.client, tmp_path, DHCLIENT, "eth0", "-D", "LL"):
                has = await link.bound()
                assert await link.recorded(has.address) == ("pc-2.lab.example", [link.hardware])
                await link.until(lambda: "search lab.example" in (tmp_path / "resolv.conf").read_text())
                await link.until(lambda: dhclient_server(tmp_path) != "")
                first = dhclient_server(tmp_path)
                await link.outlives_a_kill(has)
                await link.until(lambda: dhclient_server(tmp_path) != first)  # to whom it releases
            with dhclient(link.client, tmp_path, DHCLIENT, "eth0", "-D", "LL", "-r"):
                await link.until_ended("address.released", has.address)
            # It would be given the same one again, and finds that another uses it.
            link.network.add_stranger(parse_address(has.address))
            with dhclient(link.client, tmp_path, DHCLIENT, "eth0", "-D", "LL"):
                await link.until_ended("address.declined", has.address)
                assert (await link.bound()).address != has.address

    inside(work)


def test_what_another_uses_of_a_sequential_pool_is_not_given(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path, agents=1) as link:
            link.network.add_stranger(parse_address("2001:db8:1ab::10"))
            pool = '"2001:db8:1ab::10-2001:db8:1ab::1f"\nstrategy = "sequential"'
            await link.site.apply(link.plan.replace('range = "2001:db8:1ab::/64"', f"range = {pool}"))
            with dhclient(link.client, tmp_path, DHCLIENT, "eth0", "-D", "LL"):
                assert "2001:db8:1ab::11" <= (await link.bound()).address <= "2001:db8:1ab::1f"
            assert await link.of("address.declined") == ["2001:db8:1ab::10"]

    inside(work)


def test_dhcpcd(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as link:
            (tmp_path / "etc").mkdir()
            (tmp_path / "etc" / "dhcpcd.conf").write_text(DHCPCD)
            with dhcpcd(link.client, tmp_path, "eth0") as client:
                has = await link.bound()
                name, hardware = await link.recorded(has.address)
                assert (name, hardware) == ("pc-1", [link.hardware])
                await link.outlives_a_kill(has)
                client.send_signal(signal.SIGALRM)  # it gives back what it has, and ends
                await link.until(lambda: client.poll() is not None and not link.has())
            await link.until_ended("address.released", has.address)

    inside(work)


def test_networkd(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as link:
            with networkd(link.client, tmp_path, NETWORKD):
                has = await link.bound()
                _, hardware = await link.recorded(has.address)
                assert hardware == [link.hardware]  # which the link has told: its DUID is made of the machine's id
                await link.outlives_a_kill(has)

    inside(work)


def test_a_machine_that_was_entered_before_it_came_has_the_address_that_was_known_then(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path, agents=1) as link:
            kept = await link.enter(link.hardware)
            with dhclient(link.client, tmp_path, DHCLIENT, "eth0", "-D", "LLT"):  # another DUID than the entry's
                assert (await link.bound()).address == kept
                rows = [row for row in await link.site.addresses() if row.address == kept]
                assert [row.node for row in rows] == ["pc-2.lab.example"]

    inside(work)


def test_an_address_that_the_plan_reserves_for_a_hardware_address(tmp_path: Path) -> None:
    """Of a client whose DUID says nothing of that, and then of another one on the same machine."""

    async def work() -> None:
        async with served(tmp_path, agents=1) as link:
            await link.reserve("2001:db8:1ab::beef", link.hardware)
            with networkd(link.client, tmp_path, NETWORKD):
                assert (await link.bound()).address == "2001:db8:1ab::beef"
            link.client.run("ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
            with dhclient(link.client, tmp_path, DHCLIENT, "eth0", "-D", "LLT"):
                assert (await link.bound()).address == "2001:db8:1ab::beef"

    inside(work)


def test_dhcpcd_hears_of_another_address_at_once(tmp_path: Path) -> None:
    """It takes a Reconfigure, and one that has the key alone."""

    async def work() -> None:
        async with served(tmp_path, agents=1, lifetimes=(3_600, 7_200)) as link:
            (tmp_path / "etc").mkdir()
            accepts = DHCPCD.replace("option domain", "option dhcp6_reconfigure_accept, domain")
            (tmp_path / "etc" / "dhcpcd.conf").write_text(accepts)
            with dhcpcd(link.client, tmp_path, "eth0"):
                has = await link.bound()
                await link.site.move(parse_address(has.address), parse_address("2001:db8:1ab::beef"))
                await link.until(lambda: "2001:db8:1ab::beef" in [each.address for each in link.has()])

    inside(work)


def answer(sock: socket.socket, inform: bytes, index: int) -> Message | None:
    """What is answered to a registration within a second."""
    sock.sendto(inform, ("ff02::1:2", 547, 0, index))
    try:
        return decode(sock.recv(1_500)).message
    except TimeoutError:
        return None


def test_a_machine_registers_an_address_that_it_has_made(tmp_path: Path) -> None:
    """RFC 9686; by hand, since no client of Debian's does. The address is in the view of all, with its source."""

    async def work() -> None:
        async with served(tmp_path, agents=1) as link:
            address = "2001:db8:1ab:0:1234:5678:9abc:def0"
            link.client.ip([f"address add {address}/64 dev eth0 valid_lft 3600 preferred_lft 1800 nodad"])
            link.network.agents[0].ip(["route replace 2001:db8:1ab::/64 dev eth0"])
            packed = parse_address(address)
            value = packed + (1_800).to_bytes(4) + (3_600).to_bytes(4)
            options = Options(client_id=duid_of_hardware(parse_hardware(link.hardware)), registered=(value,))
            await link.until(lambda: link.has() != [])
            inform = encode(Message(int(Kind.ADDR_REG_INFORM), b"abc", options))
            with link.client.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                index = socket.if_nametoindex("eth0")
                sock.bind((address, 546))
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                sock.settimeout(1)
                async with asyncio.timeout(20):
                    while (reply := await asyncio.to_thread(answer, sock, inform, index)) is None:
                        pass  # said again (RFC 9686, 4.5): the agent may not have adopted the plan yet
            assert (reply.kind, reply.options) == (Kind.ADDR_REG_REPLY, Options(registered=(value,)))
            rows = {row.address: (row.origin, row.leased) for row in await link.all_of(options.client_id)}
            assert rows == {address: ("registered", False)}

    inside(work)


def test_one_machine_by_dhcpv4_and_by_dhcpv6_is_one_node(tmp_path: Path) -> None:
    """By its hardware address there, and here by a DUID that says nothing of that."""

    async def work() -> None:
        async with served(tmp_path, agents=1, dhcpv4=True) as link:
            (tmp_path / "v4").mkdir()
            with udhcpc(link.client, tmp_path / "v4", "eth0"):
                shown = ("ip", "-4", "-o", "address", "show", "dev", "eth0")
                await link.until(lambda: "inet " in link.client.run(*shown))
                with networkd(link.client, tmp_path, NETWORKD):
                    has = await link.bound()
                    await link.until_ended("address.allocated", has.address)
                    row = next(each for each in await link.site.addresses() if each.address == has.address)
                    async with asyncio.timeout(20):
                        while len(rows := await link.all_of_client(row.client)) < 2:  # noqa: ASYNC110  # of a process
                            await asyncio.sleep(0.1)
            four = link.client.run(*shown).split("inet ")[1].split("/")[0]
            assert {each.address for each in rows} == {has.address, four}

    inside(work)


def test_networkd_follows_m(tmp_path: Path) -> None:
    """As it is by default: it asks where an agent's Router Advertisements say so, and makes no address of its own."""

    async def work() -> None:
        advertise = "advertise = { managed = true, autonomous = false }"
        says = "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=ipv6\n"
        async with served(tmp_path, agents=1, subnet=advertise, accept_ra=True) as link:
            with networkd(link.client, tmp_path, says):
                has = await link.bound()
                await link.recorded(has.address)

    inside(work)


@pytest.mark.parametrize("above", ["", "2001:db8:99::a%"])
def test_through_a_relay(tmp_path: Path, above: str) -> None:
    """ISC's, to the group of all servers and to the agent's own address, from a link where no agent is."""

    async def work() -> None:
        async with relayed(tmp_path) as (link, relay, client):
            with (
                dhcrelay(relay, tmp_path, "-l", "eth1", "-u", f"{above}eth0"),
                dhclient(client, tmp_path, DHCLIENT, "eth1", "-D", "LL"),
            ):
                await link.until(lambda: len(link.has(client, "eth1")) == 1)
                (has,) = link.has(client, "eth1")
                await link.until(lambda: link.left(has, client, "eth1") <= VALID - 5)
                await link.until(lambda: link.left(has, client, "eth1") >= VALID - 2)  # renewed
            with (
                dhcrelay(relay, tmp_path, "-l", "eth1", "-u", f"{above}eth0"),
                dhclient(client, tmp_path, DHCLIENT, "eth1", "-D", "LL", "-r"),
            ):
                await link.until_ended("address.released", has.address)

    inside(work)


def test_through_dnsmasq_as_a_relay(tmp_path: Path) -> None:
    async def work() -> None:
        async with relayed(tmp_path) as (link, relay, client):
            with (
                dnsmasq_relay(relay, tmp_path, "2001:db8:1ab::9", "ff05::1:3,eth0", "eth0", "eth1"),
                dhclient(client, tmp_path, DHCLIENT, "eth1", "-D", "LL"),
            ):
                await link.until(lambda: len(link.has(client, "eth1")) == 1)
                (has,) = link.has(client, "eth1")
                await link.recorded(has.address)

    inside(work)
