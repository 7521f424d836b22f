"""The lab's tree: an ISP, three routers below it, and containers on the last.

    beyond ── isp (Kea, radvd) ── border ── laptop ── vm ── container-1, container-2
                                    └─────────┴────────┴─ management link ── site (bus, projections)

Each is a network namespace that routes by its own kernel. On the three in the middle run a Subnet Agent, the subscriber
`routes`, and towards the one above a Node Agent; the border asks the ISP by DHCPv6, and has the subscriber `firewall`,
which lets into the laptop's prefix what the plan says, and out of it what is its own. The containers have no agent.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from dnms.agents import node, subnet
from dnms.bus import jetstream
from dnms.disk.site import Site
from dnms.disk.subscriber_state import SubscriberState
from dnms.kit.clock import SystemClock
from dnms.lab import isp
from dnms.lab.isp import Isp
from dnms.lab.lab import Lab, LabError
from dnms.lab.network import MANAGEMENT, SITE_ADDRESS
from dnms.lab.nursery import AgentProcess, Program, resolv_conf
from dnms.lab.site import NAME, LabSite
from dnms.lab.steps import give_back
from dnms.linux.namespaces import Bridge, Namespace
from dnms.linux.routes import PROTOCOL
from dnms.subscribers import firewall, routes
from dnms.subscribers.effects import Effects
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import Local, Subscriber

UP, DOWN = "up0", "down0"  # of a router
LEAVING_DEADLINE = 10.0  # seconds
BORDER = "fe80::b"  # on the ISP's link

PLAN = f"""\
[site]
name = "{NAME}"

[[uplink]]
name = "isp"
protocol = "dhcpv6"
length = 56

[[uplink]]
name = "border"

[[uplink]]
name = "laptop"

[[group]]
name = "laptops"
nodes = ["laptop"]

[[rule]]
name = "ping"
direction = "ingress"
from = ["any"]
to = "group:laptops"
protocol = "icmp"

[[subnet]]
name = "home"
uplink = "isp"
gateways = ["fe80::1"]
routers = ["border"]

[[subnet]]
name = "desk"
uplink = "border"
gateways = ["fe80::1"]
routers = ["laptop"]

[[subnet]]
name = "containers"
uplink = "laptop"
advertise = {{ lifetime = 1800 }}

[[pool]]
name = "home"
subnet = "home"
range = "::/64"

[[pool]]
name = "desk"
subnet = "desk"
range = "::/64"

[[delegation]]
name = "to-laptops"
subnet = "home"
length = 60

[[delegation]]
name = "to-vms"
subnet = "desk"
length = 64
"""


class RouterRole(msgspec.Struct, frozen=True):
    """One of the three in the middle."""

    name: str
    subnet: str  # of its downlink
    prefix: int | None  # the length that its Node Agent asks for; None: it asks an ISP
    uplink: str = UP


BORDER_ROLE = RouterRole("border", "home", None)
LAPTOP = RouterRole("laptop", "desk", 60)
VM = RouterRole("vm", "containers", 64)
ROLES = (BORDER_ROLE, LAPTOP, VM)


class ActingSettings(msgspec.Struct, frozen=True):
    """What a subscriber on one router is told."""

    subscriber: str
    site: Path
    bus: str
    state: Path
    local: Local


async def act(settings: ActingSettings, *, stop: asyncio.Event) -> None:
    """Run a subscriber until `stop` is set, as `dnms subscriber run` does."""
    subscriber: Subscriber[Any, Any] = routes.SUBSCRIBER if settings.subscriber == "routes" else firewall.SUBSCRIBER
    site = await asyncio.to_thread(Site.load, settings.site)
    log = await jetstream.connect(settings.bus, site.name, token=site.bus_token)
    try:
        state = SubscriberState(settings.state, subscriber.name)
        effects = Effects(log, subscriber.name, settings.local.instance, site=site.name, now=SystemClock().now)
        await Runner(log, subscriber, state, local=settings.local, effects=effects).run(stop)
    finally:
        await log.close()


class Tree:
    """The namespaces, and what runs in them."""

    def __init__(self, lab: Lab) -> None:
        """Lay the cables. NamespaceError."""
        self.lab = lab
        self.beyond, self.isp_host = Namespace.create("beyond"), Namespace.create("isp")
        self.routers = {role.name: Namespace.create(role.name) for role in ROLES}
        self.containers = [Namespace.create("container-1"), Namespace.create("container-2")]
        self.running: dict[str, AgentProcess] = {}
        self.wrong: list[str] = []
        self.site: LabSite
        self.site_namespace = Namespace.current("site")
        self.site_namespace.set_up("lo")
        _cable(self.isp_host, isp.CORE, self.beyond, "eth0")
        border, laptop, vm = (self.routers[role.name] for role in ROLES)
        _cable(self.isp_host, isp.CUSTOMER, border, UP)
        _cable(border, DOWN, laptop, UP)
        _cable(laptop, DOWN, vm, UP)
        Bridge.create(vm, DOWN).plug(self.containers, "eth0")
        management = Bridge.create(self.site_namespace, "mgmt", addresses=[f"{SITE_ADDRESS}/16"])
        management.plug(list(self.routers.values()), MANAGEMENT)
        for number, router in enumerate(self.routers.values()):
            router.set_sysctls({"ipv6.conf.all.forwarding": 1, f"ipv6.conf.{UP}.accept_ra": 2})
            router.ip(
                [
                    f"address add 10.255.1.{number + 1}/16 dev {MANAGEMENT}",
                    f"link set dev {MANAGEMENT} addrgenmode none up",
                    f"link set dev {DOWN} addrgenmode none up",
                    f"address add fe80::1/64 dev {DOWN} nodad",
                ]
            )
        border.ip([f"link set dev {UP} addrgenmode none up", f"address add {BORDER}/64 dev {UP} nodad"])
        for name in (LAPTOP.name, VM.name):
            self.routers[name].set_up(UP)
        for container in self.containers:
            container.set_up("eth0")
        self.isp = Isp(self.isp_host, self.beyond, folder=lab.folder, customer=BORDER)

    @classmethod
    @asynccontextmanager
    async def built(cls, lab: Lab) -> AsyncGenerator[Tree, None]:
        """With the site, and no agent yet."""
        async with AsyncExitStack() as stack:
            with lab.display.phase("building the tree"):
                tree = cls(lab)
                stack.callback(tree._close)
            with lab.display.phase("starting the bus"):
                tree.site = await stack.enter_async_context(
                    LabSite.started(lab.folder / "site", host=SITE_ADDRESS, plan=PLAN)
                )
            tree.isp.advertise()
            yield tree

    async def start(self, roles: Iterable[RouterRole] = ROLES) -> None:
        """Start all that runs on these routers."""
        for role in roles:
            await self._start(f"{role.name}-routes", role, act, self._acting(role, "routes"))
            if role is BORDER_ROLE:
                await self._start(f"{role.name}-firewall", role, act, self._acting(role, "firewall"))
            await self._start(f"{role.name}-subnet", role, subnet.run, self._subnet(role))
            await self.start_node(role)

    async def start_node(self, role: RouterRole) -> None:
        """Start the Node Agent of a router that has one."""
        if role.prefix is not None:
            await self._start(f"{role.name}-node", role, node.run, self._node(role))

    async def kill(self, role: RouterRole) -> None:
        """End all that runs on a router as a power cut does, and what its kernel was told."""
        names = [name for name in self.running if name.startswith(f"{role.name}-")]
        for name in names:
            process = self.running.pop(name)
            process.signal(signal.SIGKILL)
            await process.wait()
        router = self.routers[role.name]
        router.run("ip", "-6", "route", "flush", "proto", str(PROTOCOL))
        router.ip(
            [
                f"link set dev {UP} down",
                f"link set dev {DOWN} down",
                f"link set dev {DOWN} up",
                f"link set dev {UP} up",
                f"address add fe80::1/64 dev {DOWN} nodad",
            ]
        )

    async def release(self, role: RouterRole) -> None:
        """Take DNMS off the uplink of a router, which gives back what it was delegated with that."""
        process = self.running.pop(f"{role.name}-node")
        process.signal(signal.SIGTERM)
        await self._ended(process)
        await self._start(f"{role.name}-release", role, give_back, self._node(role))
        await self._ended(self.running.pop(f"{role.name}-release"))

    def check_alive(self) -> None:
        """LabError if something has ended that nobody has ended."""
        ended = [each for each in self.running.values() if each.exit_code is not None]
        if ended:
            raise LabError("\n".join(f"{one.name} ended with {one.exit_code}: {one.last_line()}" for one in ended))

    def routes(self, role: RouterRole) -> list[str]:
        """The routes that DNMS has set on a router."""
        shown = self.routers[role.name].run("ip", "-6", "route", "show", "proto", str(PROTOCOL))
        return [line.strip() for line in shown.splitlines() if line.strip()]

    def let_through(self, prefix: str) -> list[str]:
        """The elements of the border's firewall that are of a prefix, by its first groups of digits."""
        shown = self.routers[BORDER_ROLE.name].run("nft", "list", "ruleset")
        return [line.strip() for line in shown.splitlines() if prefix in line]

    async def _ended(self, process: AgentProcess) -> None:
        try:
            async with asyncio.timeout(LEAVING_DEADLINE):
                code = await process.wait()
        except TimeoutError:
            process.signal(signal.SIGKILL)
            self.wrong.append(f"{process.name} did not leave in time; see {process.log}")
            return
        if code:
            self.wrong.append(f"{process.name} ended with {code}: {process.last_line()}; see {process.log}")

    async def _start(self, name: str, role: RouterRole, program: Program, settings: object) -> None:
        self.running[name] = await self.lab.nursery.fork(
            name,
            program,
            settings,
            namespace=self.routers[role.name],
            folder=self.lab.folder,
            loop_factory=subnet.new_event_loop if program is subnet.run else asyncio.new_event_loop,
        )

    def _state(self, role: RouterRole) -> Path:
        return self.lab.folder / role.name

    def _node(self, role: RouterRole) -> node.NodeSettings:
        return node.NodeSettings(
            interface=UP,
            state=self._state(role),
            root_certificate=self.site.site.root_certificate,
            name=role.name,
            resolv_conf=resolv_conf(self.lab.folder, f"{role.name}-node"),
            prefix=role.prefix,
        )

    def _subnet(self, role: RouterRole) -> subnet.SubnetSettings:
        return subnet.SubnetSettings(
            interface=DOWN,
            subnet=role.subnet,
            name=role.name,
            site=self.site.site.path,
            bus=self.site.bus,
            uplink=UP,
            node_state=self._state(role),
        )

    def _acting(self, role: RouterRole, subscriber: str) -> ActingSettings:
        config = self.lab.folder / "firewall.toml"
        config.write_text("[firewall]\nguard = true\n")
        local = Local(site=NAME, instance=role.name, interfaces={role.subnet: DOWN}, config=config, bus=self.site.bus)
        state = self._state(role) / "subscribers"
        return ActingSettings(subscriber, self.site.site.path, self.site.bus, state, local)

    def _close(self) -> None:
        self.isp.close()
        for each in (self.beyond, self.isp_host, *self.routers.values(), *self.containers):
            each.close()


def _cable(one: Namespace, its: str, other: Namespace, others: str) -> None:
    one.ip(
        [f"link add {its} type veth peer name {others} netns /proc/self/fd/{other.fileno()}"],
        pass_fds=[other.fileno()],
    )
