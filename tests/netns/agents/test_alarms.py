"""What two agents, processes on a bus, say of one link: each thing once, and when one is killed the other goes on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnms.lab.network import INTERFACE
from dnms.linux.namespaces import Namespace
from dnms.projections.events.queries import EventRow
from tests.netns.dhcp6.kea import SERVER_DUID, kea
from tests.netns.dhcp6.served import FAST, VALID, Served, inside, relayed, served
from tests.netns.programs import dhclient, dhcrelay, radvd
from tests.netns.programs4 import udhcpc, udhcpd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

WITHIN = 60.0  # seconds; a loaded machine

RADVD = """
interface eth0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600;
  prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous off; };
};
"""
ROUTER6, ROUTER4 = "2001:db8:1ab::1", "192.0.2.1"
SAME6, SAME4, MOVES = "2001:db8:1ab::66", "192.0.2.66", "192.0.2.77"
SERVER4 = "198.51.100.1"


def another(link: Served, name: str, *addresses: str) -> Namespace:
    """A machine of somebody else's on the link."""
    machine = link.network.plug(name)
    machine.set_sysctls(FAST)
    machine.set_up(INTERFACE)
    machine.ip([f"address add {each} dev {INTERFACE} {'nodad' if ':' in each else ''}" for each in addresses])
    return machine


def ask(machine: Namespace, *others: str) -> None:
    """Have a machine ask its link who has these addresses, since it has something to send there."""
    with machine.entered():
        for each in others:
            with socket.socket(socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"", (each, 9))


async def alarms(link: Served, kind: str) -> list[tuple[str, str]]:
    """Those that were raised, or cleared."""
    return [(each.fields["alarm"], each.fields["address"]) for each in await link.site.events(kind, after=0)]


async def until_said(
    link: Served,
    name: str,
    alarm: str,
    address: str = "",
    *,
    after: int = 0,
    meanwhile: Callable[[], object] = lambda: None,
) -> EventRow:
    """Wait until the log has an event of an alarm; it. `meanwhile` is done again and again: a frame may be lost."""
    async with asyncio.timeout(WITHIN):
        while True:
            meanwhile()
            for each in await link.site.events(name, after=after):
                if each.fields.get("alarm", "") == alarm and address in ("", each.fields["address"]):
                    return each
            await asyncio.sleep(0.2)


def test_what_two_agents_see_is_told_once_and_what_one_has_told_the_other_ends(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path, watch=True) as link:
            await link.start(1)
            same = [another(link, name, f"{SAME4}/24", f"{SAME6}/64") for name in ("one", "other")]
            old, new = another(link, "old", f"{MOVES}/24"), another(link, "new")
            server, client = another(link, "server", f"{SERVER4}/24"), another(link, "client")
            scanner, router = another(link, "scanner", "192.0.2.55/24"), another(link, "strange-router")
            (tmp_path / "server").mkdir()

            def both_speak() -> None:
                for each in same:
                    ask(each, ROUTER4, ROUTER6)

            with radvd(router, tmp_path, RADVD):
                told = await until_said(link, "alarm.raised", "router")
                for address in (SAME4, SAME6):
                    await until_said(link, "alarm.raised", "duplicate", address, meanwhile=both_speak)
                await until_said(link, "address.sighted", "", MOVES, meanwhile=lambda: ask(old, ROUTER4))
                old.ip([f"link set dev {INTERFACE} down"])
                new.ip([f"address add {MOVES}/24 dev {INTERFACE}"])
                await until_said(link, "alarm.raised", "moved", MOVES, meanwhile=lambda: ask(new, ROUTER4))
                with (
                    udhcpd(server, tmp_path / "server", INTERFACE, "198.51.100.10", "198.51.100.20"),
                    udhcpc(client, tmp_path, INTERFACE, "-A", "1"),
                ):
                    await until_said(link, "alarm.raised", "dhcp-server", SERVER4)
                dark = [f"192.0.2.{host}" for host in range(100, 180)]
                await until_said(link, "alarm.raised", "scan", meanwhile=lambda: ask(scanner, *dark))
                first = int(told.actor[-1])
                link.kill(first)
                same[0].ip([f"address del {SAME4}/24 dev {INTERFACE}", f"address del {SAME6}/64 dev {INTERFACE}"])
            for alarm, address in await alarms(link, "alarm.raised"):
                over = await until_said(link, "alarm.cleared", alarm, address)
                assert over.fields["why"] == "over"
                if alarm in ("router", "duplicate"):  # which lasted until it was alone
                    assert over.actor == f"agent/a{1 - first}"
            with radvd(router, tmp_path, RADVD):
                again = await until_said(link, "alarm.raised", "router", after=told.sequence)
            assert again.actor == f"agent/a{1 - first}"
            times = Counter(await alarms(link, "alarm.raised"))
            for address in (SAME4, SAME6):  # it is another's now who had it too, if that one was heard of later
                times.pop(("moved", address), None)
            assert times == {
                ("router", told.fields["address"]): 2,
                ("duplicate", SAME4): 1,
                ("duplicate", SAME6): 1,
                ("moved", MOVES): 1,
                ("dhcp-server", SERVER4): 1,
                ("scan", "192.0.2.0"): 1,
            }

    inside(work)


DHCLIENT = "send host-name pc-3;\n"


def on(interface: str) -> dict[str, Any]:
    """What Kea is told to give addresses on an interface, to whoever has the choice."""
    subnet = {
        "id": 1,
        "interface": interface,
        "subnet": "2001:db8:1ab::/64",
        "pools": [{"pool": "2001:db8:1ab:0:1::/80"}],
        "option-data": [{"name": "preference", "data": "255"}],
    }
    return {"interfaces-config": {"interfaces": [interface]}, "subnet6": [subnet]}


def test_a_strange_server_of_dhcpv6_is_told_of_and_ours_behind_a_relay_is_not(tmp_path: Path) -> None:
    async def work() -> None:
        async with relayed(tmp_path, agents=2, watch=True) as (link, relay, client):
            link.options = ("--watch",)
            await link.start(1, interface="eth1")  # where no agent serves, and a relay passes on to the first
            (folder := tmp_path / "first").mkdir()
            with (
                dhcrelay(relay, tmp_path, "-l", "eth1", "-u", "eth0"),
                dhclient(client, folder, DHCLIENT, "eth1", "-D", "LL"),
            ):
                await link.until(lambda: len(link.has(client, "eth1")) == 1)
                (has,) = link.has(client, "eth1")
                await link.until(lambda: link.left(has, client, "eth1") <= VALID - 5)
                await link.until(lambda: link.left(has, client, "eth1") >= VALID - 2)  # it has named it again
            # What the second agent has heard of ours it has judged when it tells of another's.
            stranger = Namespace.create("stranger")
            link.network.strangers.append(stranger)
            assert link.far is not None
            link.far.plug([stranger], "eth1")
            await link.set_up(stranger, "eth1")
            (folder := tmp_path / "second").mkdir()
            with (
                kea(stranger, tmp_path, **on("eth1")),
                dhclient(client, folder, DHCLIENT, "eth1", "-D", "LL"),
            ):
                raised = await until_said(link, "alarm.raised", "dhcp-server")
                assert raised.actor == "agent/a1"
                assert await alarms(link, "alarm.raised") == [("dhcp-server", raised.fields["address"])]
                nodes = {each.client: each.duid for each in await link.site.nodes()}
                assert nodes[raised.fields["client"]] == SERVER_DUID
                [row] = await link.site.alarms()
                assert row.node == SERVER_DUID
            over = await until_said(link, "alarm.cleared", "dhcp-server")
            assert (over.fields["client"], over.fields["why"]) == (raised.fields["client"], "over")

    inside(work)
