"""A branch with a relay on its link, and its Subnet Agents two routers away from that; each a process of its own.

node -- edge (the relay) -- core-1 -- core-2 -- home (agents and bus)
"""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dnms.agents import node, relay, subnet
from dnms.agents.usage import endpoint
from dnms.disk.relay_credentials import store
from dnms.disk.site import Site
from dnms.lab.nursery import AgentProcess, Nursery, resolv_conf
from dnms.lab.site import NAME, LabSite
from dnms.linux.namespaces import Namespace
from dnms.projections.events.queries import EventRow
from dnms.wire.messages import GROUP
from tests.netns.agents.conftest import FAST

WITHIN = 25.0
SUBNET = "branch"
PORTS = {"one": 61_047, "two": 61_048}
"""Of the agents, by name."""
HOME = "2001:db8:c::1"
PLAN = f"""
[site]
name = "{NAME}"
[[subnet]]
name = "{SUBNET}"
prefixes = ["2001:db8:5::/64", "192.0.2.0/24"]
gateways = ["fe80::1", "192.0.2.1"]
[[pool]]
name = "hosts"
subnet = "{SUBNET}"
range = "2001:db8:5::/64"
[[pool]]
name = "old-hosts"
subnet = "{SUBNET}"
range = "192.0.2.128/25"
"""

CHAIN = ("node", "edge", "core-1", "core-2", "home")
CABLES = (
    # the one who has the side towards the node, and its address there; the other, and its own
    ("edge", "lan", "2001:db8:5::1/64", "node", "eth0", ""),
    ("core-1", "south", "2001:db8:a::1/64", "edge", "north", "2001:db8:a::2/64"),
    ("core-2", "south", "2001:db8:b::1/64", "core-1", "north", "2001:db8:b::2/64"),
    ("home", "south", f"{HOME}/64", "core-2", "north", "2001:db8:c::2/64"),
)
ROUTES = {
    "edge": ("::/0 via 2001:db8:a::1",),
    "core-1": ("::/0 via 2001:db8:b::1", "2001:db8:5::/64 via 2001:db8:a::2"),
    "core-2": ("::/0 via 2001:db8:c::1", "2001:db8:5::/64 via 2001:db8:b::2", "2001:db8:a::/64 via 2001:db8:b::2"),
    "home": ("::/0 via 2001:db8:c::2",),
}


class Branch:
    """The machines, and what runs on them."""

    def __init__(self, nursery: Nursery, folder: Path, machines: dict[str, Namespace], site: LabSite) -> None:
        self.machines = machines
        self.folder = folder
        self.site = site
        self._nursery = nursery
        self._running: dict[str, AgentProcess] = {}

    async def start_agent(self, name: str = "one", *, relays: tuple[str, ...] = ("edge",)) -> None:
        settings = subnet.SubnetSettings(
            interface="",
            relays=relays,
            subnet=SUBNET,
            name=name,
            site=self.site.site.path,
            bus=self.site.bus,
            port=PORTS[name],
        )
        await self._start(name, subnet.run, settings, on="home")

    async def start_relay(
        self, name: str = "edge", *, agents: tuple[str, ...] = ("one",), site: Site | None = None
    ) -> None:
        directory = self.folder / f"relay-{name}"
        if not directory.exists():
            store((site or self.site.site).issue_relay(name, at=datetime.datetime.now(datetime.UTC)), directory)
        settings = relay.RelaySettings(
            interface="lan",
            subnet=SUBNET,
            agents=tuple(endpoint(f"[{HOME}]:{PORTS[each]}") for each in agents),
            directory=directory,
        )
        await self._start(name, relay.run, settings, on="edge")

    async def start_node(self) -> None:
        settings = node.NodeSettings(
            interface="eth0",
            state=self.folder / "node",
            root_certificate=self.site.site.root_certificate,
            name="desk",
            resolv_conf=resolv_conf(self.folder, "desk"),
        )
        await self._start("desk", node.run, settings, on="node")

    async def _start(self, name: str, program: object, settings: object, *, on: str) -> None:
        self._running[name] = await self._nursery.fork(
            name,
            program,  # type: ignore[arg-type]  # each is a program of its own settings
            settings,
            namespace=self.machines[on],
            folder=self.folder,
            loop_factory=subnet.new_event_loop if on == "home" else asyncio.new_event_loop,
        )

    async def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.signal(signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), WITHIN) == -signal.SIGKILL

    async def terminate(self, name: str) -> None:
        process = self._running.pop(name)
        process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), WITHIN) == 0

    def said(self, name: str) -> str:
        """The lines of a program's log."""
        return (self.folder / f"{name}.log").read_text()

    def addresses(self) -> list[str]:
        """The global ones that the node can use."""
        shown = self.machines["node"].run("ip", "-o", "address", "show", "dev", "eth0")
        lines = [line.split() for line in shown.splitlines() if "tentative" not in line]
        return sorted(words[3] for words in lines if words[3].startswith(("2001:", "192.")))

    def fe80(self) -> str:
        shown = self.machines["node"].run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
        return shown.split()[3].partition("/")[0]

    def is_offering(self) -> bool:
        """Whether the relay hears who asks for an agent."""
        return GROUP in self.machines["edge"].run("ip", "-6", "maddress", "show", "dev", "lan")

    async def sessions(self) -> list[EventRow]:
        """Those that were opened."""
        return await self.site.events("session.opened", after=0)

    async def until(self, what: str, done: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until it is so; meanwhile nobody ends."""
        end = asyncio.get_running_loop().time() + WITHIN
        while True:
            is_so = done()
            if is_so if isinstance(is_so, bool) else await is_so:
                return
            for name, process in self._running.items():
                assert process.exit_code is None, f"{name}: {process.last_line()}"
            assert asyncio.get_running_loop().time() < end, f"{what}: not within {WITHIN:.0f} s"
            await asyncio.sleep(0.05)

    async def until_configured(self) -> list[str]:
        """Wait until the node has an address of either family."""
        await self.until("the node is not configured", lambda: len(self.addresses()) == 2)
        return self.addresses()

    async def until_sessions(self, number: int) -> EventRow:
        """Wait until so many have been opened; the newest."""

        async def are_there() -> bool:
            return len(await self.sessions()) >= number

        await self.until(f"there were never {number} sessions", are_there)
        return (await self.sessions())[number - 1]


@pytest.fixture
def machines() -> Iterator[dict[str, Namespace]]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    made: dict[str, Namespace] = {}
    try:
        for name in CHAIN:
            made[name] = Namespace.create(name)
            if name != "node":
                made[name].set_sysctls({"ipv6.conf.all.forwarding": 1})
                made[name].ip(["link set dev lo up"])
        for one, here, address, other, there, its in CABLES:
            one_end, other_end = made[one], made[other]
            one_end.ip(
                [
                    f"link add {here} type veth peer name {there} netns /proc/self/fd/{other_end.fileno()}",
                    f"link set dev {here} addrgenmode none up",
                    f"address add fe80::1/64 dev {here} nodad",
                    f"address add {address} dev {here} nodad",
                ],
                pass_fds=[other_end.fileno()],
            )
            if its:
                other_end.ip([f"link set dev {there} up", f"address add {its} dev {there} nodad"])
        for name, routes in ROUTES.items():
            made[name].ip([f"route add {route}" for route in routes])
        made["node"].set_sysctls(FAST)
        made["node"].set_up("eth0")
        yield made
    finally:
        for namespace in made.values():
            namespace.close()


@pytest.fixture
async def branch(machines: dict[str, Namespace], tmp_path: Path) -> AsyncIterator[Branch]:
    """Only the bus runs."""
    nursery = Nursery()
    try:
        with machines["home"].entered():  # the bus is reached on its loopback
            async with LabSite.started(tmp_path / "site", host="127.0.0.1", plan=PLAN) as site:
                made = Branch(nursery, tmp_path, machines, site)
                yield made
                assert not await nursery.stop_all(deadline=WITHIN)
    finally:
        nursery.close()
