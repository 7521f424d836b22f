"""A link with Subnet Agents as processes, that serve it by DHCPv6, on a bus; and machines for other makers' clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from dnms.agents.subnet.newcomers import NEW_AT_ONCE
from dnms.domain.identity import duid_of_hardware, iaid_of_hardware, parse_hardware
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.events import subjects
from dnms.events.recorded import Personal
from dnms.events.requests import EnterNode, HoldAddress
from dnms.lab.network import INTERFACE, SITE_ADDRESS, SUBNET, Network
from dnms.lab.site import NAME, LabSite
from dnms.linux.namespaces import Bridge, Namespace
from dnms.projections.addresses import queries as addresses
from dnms.projections.addresses.queries import NodeAddressRow

PREFERRED, VALID = 12, 48  # seconds: it renews after 6 and rebinds after 9; what it has outlives a busy machine
FAST: dict[str, str | int] = {
    f"ipv6.neigh.{INTERFACE}.retrans_time_ms": 100,
    f"ipv6.conf.{INTERFACE}.router_solicitation_delay": 0,
}
"""DAD in 0.1 s instead of 1 to 2."""


class Has(msgspec.Struct, frozen=True):
    """An address of a machine."""

    address: str
    valid: int  # seconds that are left


class Served:
    """The link."""

    def __init__(self, network: Network, site: LabSite, folder: Path, plan: str) -> None:
        self.network = network
        self.plan = plan
        self.options: tuple[str, ...] = ("--dhcpv6",)  # of every agent that is started
        self.program = "dnms.agents.subnet"
        self.far: Bridge | None = None  # another link, where `relayed` has made one
        self.new_nodes = NEW_AT_ONCE  # of one address, as `--new-nodes` has it
        self.site = site
        self.folder = folder
        self._agents: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def client(self) -> Namespace:
        """The machine that is served."""
        return self.network.nodes[0]

    async def start(self, number: int, *, interface: str = INTERFACE) -> None:
        """Start an agent, and wait until it serves."""
        log = self.folder / f"agent-{number}.log"
        words = ["--interface", interface, "--subnet", SUBNET, "--name", f"a{number}", *self.options, "--verbose"]
        words += ["--new-nodes", str(self.new_nodes)]
        words += ["--site", str(self.site.site.path), "--state", str(self.folder / f"agent-{number}")]
        self._agents[number] = await asyncio.to_thread(self._spawn, number, words, log)
        await self.until(lambda: "serving" in log.read_text())

    def _spawn(self, number: int, words: list[str], log: Path) -> subprocess.Popen[bytes]:
        with self.network.agents[number].entered(), log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", self.program, *words, "--bus", self.site.bus],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def enter(self, hardware: str) -> str:
        """Enter a machine that was never here by its hardware address, as `dnms node add --mac` does; its address."""
        mac = parse_hardware(hardware)
        duid, iaid = duid_of_hardware(mac), iaid_of_hardware(mac)
        client = self.site.site.client_id(duid)
        entry = EnterNode(
            client=client, duid=Personal(duid), name=Personal("printer"), iaid=iaid, hardware=(Personal(mac),)
        )
        hold = HoldAddress(client=client, iaid=iaid, family=6)
        await self.site._operate(subjects.node(NAME, client), NodeShard(), lambda _: entry)
        await self.site._operate(subjects.ledger(NAME, SUBNET), Ledger(self.site.site.secret), lambda _: hold)
        (kept,) = await self.of("address.held")
        return kept

    async def reserve(self, address: str, hardware: str) -> None:
        """Have the plan reserve an address for a hardware address, and wait for the agent."""
        client = self.site.site.client_id(duid_of_hardware(parse_hardware(hardware)))
        text = f'[[reservation]]\naddress = "{address}"\nnode = "{client.hex()}"\ninterface = "*"\n'
        await self.site.apply(f"{self.plan}\n{text}")
        await self.until_ended("address.held", address)

    def said(self, words: str, *, number: int = 0) -> bool:
        """Whether an agent's log has these words."""
        return words in (self.folder / f"agent-{number}.log").read_text()

    def kill(self, number: int) -> None:
        """As a power cut would."""
        self._agents[number].send_signal(signal.SIGKILL)
        self._agents.pop(number).wait(5)

    def has(self, machine: Namespace | None = None, interface: str = INTERFACE) -> list[Has]:
        """The addresses of the client, or of another machine, that it uses, of those that are not link-local."""
        shown = (machine or self.client).run("ip", "-j", "-6", "address", "show", "dev", interface, "scope", "global")
        return [
            Has(each["local"], each["valid_life_time"])
            for link in json.loads(shown)
            if link
            for each in link["addr_info"]
            if each and not each.get("tentative")
        ]

    @property
    def hardware(self) -> str:
        """The hardware address of the client."""
        return str(json.loads(self.client.run("ip", "-j", "link", "show", "dev", INTERFACE))[0]["address"])

    async def set_up(self, machine: Namespace, interface: str) -> None:
        """Switch an interface on, and wait until its link-local address can be used."""
        machine.set_sysctls({f"ipv6.neigh.{interface}.retrans_time_ms": 100})
        machine.set_up(interface)
        shown = ("ip", "-6", "-o", "address", "show", "dev", interface, "scope", "link", "-tentative")
        await self.until(lambda: machine.run(*shown) != "")

    async def bound(self) -> Has:
        """Wait until the client has one address."""
        await self.until(lambda: len(self.has()) == 1)
        return self.has()[0]

    async def recorded(self, address: str) -> tuple[str, list[str]]:
        """The name and the hardware addresses of the node that has an address, as the views have it."""
        rows = [row for row in await self.site.addresses() if row.address == address]
        assert len(rows) == 1, rows
        (node,) = [each for each in await self.site.nodes() if each.client == rows[0].client]
        return node.name or "", list(node.hardware)

    async def all_of(self, duid: bytes) -> list[NodeAddressRow]:
        """All addresses of the node of a DUID, as the views have them."""
        return await self.all_of_client(self.site.site.client_id(duid).hex())

    async def all_of_client(self, client: str) -> list[NodeAddressRow]:
        """All addresses of a node by its client id."""
        await self.site._caught_up()
        async with self.site._views.read() as reading:
            return await addresses.of_node(reading.db, bytes.fromhex(client))

    async def of(self, kind: str) -> list[str]:
        """The addresses of all events of a kind."""
        return [str(event.fields["address"]) for event in await self.site.events(kind, after=0)]

    async def until(self, condition: Callable[[], bool], *, seconds: float = 40.0) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # of another namespace
                await asyncio.sleep(0.05)

    async def until_ended(self, kind: str, address: str, *, seconds: float = 20.0) -> None:
        """Wait until the log has an event of a kind about an address."""
        async with asyncio.timeout(seconds):
            while address not in await self.of(kind):  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.1)

    async def outlives_a_kill(self, has: Has) -> None:
        """Start a second agent, kill the first, and see the client rebind with the second, and keep what it has."""
        await self.start(1)
        self.kill(0)
        killed = time.monotonic()
        # Since nobody renews, what is left of its time falls under what any renewal would have left; then it is whole.
        await self.until(lambda: [each.address for each in self.has()] != [has.address] or self.left(has) <= VALID - 7)
        await self.until(lambda: self.left(has) >= VALID - 2)
        assert [each.address for each in self.has()] == [has.address]
        assert time.monotonic() - killed < VALID

    def left(self, has: Has, machine: Namespace | None = None, interface: str = INTERFACE) -> int:
        """Seconds that are left of an address; 0 if it is gone."""
        return max((each.valid for each in self.has(machine, interface) if each.address == has.address), default=0)

    def close(self) -> None:
        """End the agents."""
        for number in list(self._agents):
            self.kill(number)


@asynccontextmanager
async def served(
    folder: Path,
    *,
    agents: int = 2,
    nodes: int = 1,
    subnet: str = "",
    accept_ra: bool = False,
    lifetimes: tuple[int, int] = (PREFERRED, VALID),
    dhcpv4: bool = False,
    watch: bool = False,
    new_nodes: int = NEW_AT_ONCE,
) -> AsyncIterator[Served]:
    """The link, in whose namespace `inside` has put this; the first agent serves. `subnet` is more of the plan's.

    `watch`: its agents see who is there too, and what they see is over soon.
    """
    preferred, valid = lifetimes
    network = Network(nodes=nodes, agents=agents, folder=folder)
    addressing = msgspec.structs.replace(network.addressing, preferred=preferred, valid=valid)
    plan = addressing.plan("lab").replace("strict = ", f"{subnet}\nstrict = ")
    try:
        async with LabSite.started(folder / "site", host=SITE_ADDRESS, plan=plan) as site:
            for node in network.nodes:
                node.set_sysctls({**FAST, f"ipv6.conf.{INTERFACE}.accept_ra": int(accept_ra)})
            network.start_nodes()
            link = Served(network, site, folder, plan)
            link.new_nodes = new_nodes
            if dhcpv4:
                link.options += ("--dhcpv4",)
                network.agents[0].ip([f"address add {addressing.agent4(0)} dev {INTERFACE}"])
            if watch:
                link.options += ("--watch",)
                link.program = "tests.netns.dhcp6.soon_over"
            try:
                await link.start(0)
                yield link
            finally:
                link.close()
    finally:
        network.close()


@asynccontextmanager
async def relayed(
    folder: Path, *, agents: int = 1, watch: bool = False
) -> AsyncIterator[tuple[Served, Namespace, Namespace]]:
    """The link of an agent; a machine that is on it and, by eth1, on another one; and a client there.

    Any other agent's machine is by eth1 on that one too.
    """
    async with served(folder, agents=agents, watch=watch) as link:
        relay, client = link.client, Namespace.create("client")
        try:
            link.far = Bridge.create(link.network.switch, "far")
            link.far.plug([client, relay, *link.network.agents[1:]], "eth1")
            link.network.agents[0].ip(["address add 2001:db8:99::a/64 dev eth0 nodad"])
            relay.ip(
                [
                    "address add 2001:db8:99::9/64 dev eth0 nodad",
                    "address add 2001:db8:1ab::9/64 dev eth1 nodad",
                ]
            )
            for machine in (client, relay, *link.network.agents[1:]):
                await link.set_up(machine, "eth1")
            yield link, relay, client
        finally:
            client.close()


def inside(work: Callable[[], Awaitable[None]]) -> None:
    """Run this in a thread and in a network namespace of its own."""

    def run(namespace: Namespace) -> None:
        namespace.enter()
        asyncio.run(_whole(work))

    with Namespace.create("site") as namespace, ThreadPoolExecutor(1) as threads:
        threads.submit(run, namespace).result()


async def _whole(work: Callable[[], Awaitable[None]]) -> None:
    await work()
