"""The lab's network: a switch, a router that advertises itself as real ones do, nodes, Subnet Agents, and the site.

    node-1 … node-N ─┐
    agent-1 … agent-K ┼─ switch ── router (fe80::1, radvd: SLAAC prefix, default route)
                 │
                 └─ management link ── site (bus, projections)

Each of them is a network namespace; the site is the one that the lab itself is in. Subnet Agents reach the bus over the
management link alone, so a scenario can cut them off without touching the subnet. There is no way out of it.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dnms.events.ip import family, format_address, parse_address
from dnms.linux.namespaces import Bridge, Namespace

SUBNET = "lab"
INTERFACE = "eth0"  # of nodes, Subnet Agents and router, on the subnet
MANAGEMENT = "mgmt0"  # of Subnet Agents, towards the bus
MAX_NODES = 900  # a Linux bridge has 1 023 ports
MAX_AGENTS = 100
SITE_ADDRESS = "10.255.0.1"  # on the management link

ROUTER_ADVERTISEMENTS: dict[str, str | int] = {
    f"ipv6.conf.{INTERFACE}.accept_ra": 1,
    f"ipv6.conf.{INTERFACE}.autoconf": 1,
    f"ipv6.conf.{INTERFACE}.use_tempaddr": 2,
}
"""How a desktop starts; addresses that change (RFC 8981) are what a take-over has to remove as well."""

_FORGETFUL: dict[str, str | int] = {
    f"ipv6.neigh.{INTERFACE}.base_reachable_time_ms": 3_000,
    f"ipv6.neigh.{INTERFACE}.delay_first_probe_time": 1,  # or two whom it takes longer keep each other's entries alive
}
"""All namespaces of a machine share one table of 1 024 neighbours (gc_thresh3), and only the machine's root can widen
it. Every agent offers to every node that searches: as long as entries usually last, 100 nodes and 5 agents fill it."""

_LISTENING, _FORWARDING = 1, 3
"""States of a bridge's port (BR_STATE_*). One that is listening passes nothing, and stays so where STP is off."""

_RADVD = """\
interface eth0 {
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    prefix 2001:db8:1ab::/64 { AdvOnLink on; AdvAutonomous on; };
    RDNSS 2001:db8:1ab::1 { };
};
"""


class Addressing(msgspec.Struct, frozen=True):
    """Who has which address on the subnet; all of them are documentation's (RFC 3849, RFC 5737), while they suffice."""

    prefix6: str
    prefix4: str
    pool4: str
    dns: tuple[str, ...]
    preferred: int = 2_700  # lifetimes in seconds
    valid: int = 3_600
    strict: bool = False  # nothing is given while the log is away
    drain: int = 3_600  # seconds in which an address may still be used that another one takes the place of
    gateways: tuple[str, str] | None = None  # that the plan names instead of the router's
    policy: str = ""  # of all nodes, as a plan's table has it
    rollout: str = ""  # likewise; empty: all are told at once
    advertise: str = ""  # what Subnet Agents say in Router Advertisements, likewise; empty: they send none

    @classmethod
    def for_nodes(cls, nodes: int) -> Addressing:
        """Big enough for twice as many nodes, so that a scenario can make the pool smaller."""
        if nodes <= 120:
            prefix4, pool4, router4 = "192.0.2.0/24", "192.0.2.10-192.0.2.254", "192.0.2.1"
        else:
            prefix4, pool4, router4 = "198.18.0.0/21", "198.18.0.10-198.18.7.254", "198.18.0.1"  # RFC 2544
        return cls("2001:db8:1ab::/64", prefix4, pool4, ("2001:db8:1ab::1", router4))

    @property
    def gateway6(self) -> bytes:
        """The router's link-local address."""
        return parse_address("fe80::1")

    @property
    def gateway4(self) -> bytes:
        """The router's IPv4 address."""
        return parse_address(str(ipaddress.ip_network(self.prefix4)[1]))

    def agent4(self, place: int) -> str:
        """An IPv4 address of the Subnet Agent at this place, with its length; DHCPv4 needs one (RFC 2131)."""
        network = ipaddress.ip_network(self.prefix4)
        return f"{network[2 + place]}/{network.prefixlen}"

    def in_pool(self, address: bytes) -> bool:
        """Whether the plan's pools have it."""
        parsed = ipaddress.ip_address(address)
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        if mapped is None:
            return parsed in ipaddress.ip_network(self.prefix6)
        first, last = map(ipaddress.IPv4Address, self.pool4.split("-"))
        return first <= mapped <= last

    def plan(self, site: str) -> str:
        """The plan of the lab, as an operator would write it."""
        rollout = f"rollout = {{ {self.rollout} }}" if self.rollout else ""
        advertise = f"advertise = {{ {self.advertise} }}" if self.advertise else ""
        gateway6, gateway4 = self.gateways or ("fe80::1", format_address(self.gateway4))
        return f"""\
[site]
name = "{site}"

[[subnet]]
name = "lab"
prefixes = ["{self.prefix6}", "{self.prefix4}"]
gateways = ["{gateway6}", "{gateway4}"]
policy = {{ {self.policy} }}
{rollout}
{advertise}
dns = [{", ".join(f'"{server}"' for server in self.dns)}]
search = ["lab.example"]
strict = {str(self.strict).lower()}

[[pool]]
name = "lab-v6"
subnet = "lab"
range = "{self.prefix6}"
preferred = {self.preferred}
valid = {self.valid}
drain = {self.drain}

[[pool]]
name = "lab-v4"
subnet = "lab"
range = "{self.pool4}"
preferred = {self.preferred}
valid = {self.valid}
drain = {self.drain}
"""


class Network:
    """The namespaces and what connects them."""

    def __init__(self, *, nodes: int, agents: int, folder: Path) -> None:
        """Build it, with all interfaces up but the nodes'. NamespaceError."""
        self.addressing = Addressing.for_nodes(nodes)
        self.site = Namespace.current("site")
        self.switch = Namespace.create("switch")
        self.router = Namespace.create("router")
        self.agents = [Namespace.create(f"agent-{number + 1}") for number in range(agents)]
        self.nodes = [Namespace.create(f"node-{number + 1}") for number in range(nodes)]
        self.strangers: list[Namespace] = []
        self._folder = folder
        self._radvd: subprocess.Popen[bytes] | None = None
        self._connect()

    def _connect(self) -> None:
        self.site.set_up("lo")
        # IPv6 of the switch's own would only make noise on the link
        self.switch.set_sysctls({"ipv6.conf.default.disable_ipv6": 1, "ipv6.conf.all.disable_ipv6": 1})
        self._link = Bridge.create(self.switch, "link")
        ends = [self.router, *self.agents, *self.nodes]
        self._ports = dict(zip((end.name for end in ends), self._link.plug(ends, INTERFACE), strict=True))
        management = Bridge.create(self.site, "mgmt", addresses=[f"{SITE_ADDRESS}/16"])
        self._management_ports = management.plug(self.agents, MANAGEMENT)
        for number, agent in enumerate(self.agents):
            agent.ip(
                [
                    f"address add 10.255.1.{number + 1}/16 dev {MANAGEMENT}",
                    f"link set dev {MANAGEMENT} addrgenmode none up",
                    f"link set dev {INTERFACE} up",
                ]
            )
        for node in self.nodes:
            node.set_sysctls(ROUTER_ADVERTISEMENTS)
        for end in (self.router, *self.agents, *self.nodes):
            end.set_sysctls(_FORGETFUL)

    def start_router(self) -> None:
        """Give the router its addresses, and have radvd advertise it. NamespaceError; OSError if there is no radvd."""
        network4 = ipaddress.ip_network(self.addressing.prefix4)
        self.router.set_sysctls({"ipv6.conf.all.forwarding": 1, "ipv4.conf.all.forwarding": 1})
        self.router.ip(
            [
                f"link set dev {INTERFACE} addrgenmode none",
                f"link set dev {INTERFACE} up",
                f"address add fe80::1/64 dev {INTERFACE} nodad",
                f"address add 2001:db8:1ab::1/64 dev {INTERFACE} nodad",
                f"address add {network4[1]}/{network4.prefixlen} dev {INTERFACE}",
            ]
        )
        configuration = self._folder / "radvd.conf"
        configuration.write_text(_RADVD)
        configuration.chmod(0o644)
        program = shutil.which("radvd")
        if program is None:
            raise FileNotFoundError("radvd is not installed")
        with self.router.entered(), (self._folder / "radvd.log").open("wb") as log:
            self._radvd = subprocess.Popen(
                [program, "-n", "-C", str(configuration), "-p", str(self._folder / "radvd.pid"), "-m", "stderr"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_nodes(self) -> None:
        """Switch the nodes' interfaces on, as a power strip would."""
        for node in self.nodes:
            node.set_up(INTERFACE)

    def plug(self, name: str) -> Namespace:
        """Plug in a machine that DNMS does not know, with its interface down. NamespaceError."""
        stranger = Namespace.create(name)
        self.strangers.append(stranger)
        self._link.plug([stranger], INTERFACE)
        stranger.set_sysctls(_FORGETFUL)
        return stranger

    def add_stranger(self, address: bytes) -> Namespace:
        """Plug in a machine that DNMS does not know and that uses this address. NamespaceError."""
        stranger = self.plug(f"stranger-{len(self.strangers) + 1}")
        six = family(address) == 6
        length = ipaddress.ip_network(self.addressing.prefix6 if six else self.addressing.prefix4).prefixlen
        stranger.set_up(INTERFACE)
        stranger.ip([f"address add {format_address(address)}/{length} dev {INTERFACE} {'nodad' if six else ''}"])
        return stranger

    @contextmanager
    def parted(self, far: Iterable[Namespace]) -> Iterator[None]:
        """These are on a switch of their own meanwhile, and no packet passes between them and the others.

        Their links stay up, as when a cable between two switches breaks.
        """
        ports = [self._ports[each.name] for each in far]
        Bridge.create(self.switch, "far")
        self.switch.ip([f"link set dev {port} master far" for port in ports])
        try:
            yield
        finally:
            self.switch.ip([*(f"link set dev {port} master {self._link.name}" for port in ports), "link del dev far"])

    @contextmanager
    def management_cut(self, which: Iterable[Namespace] | None = None) -> Iterator[None]:
        """None of these agents, or of all, reaches the site: the first, the third, … since a switch drops all in
        silence, the others as their cables are pulled.
        """
        names = {agent.name for agent in (self.agents if which is None else which)}
        ports = [
            port if agent.name in names else None
            for agent, port in zip(self.agents, self._management_ports, strict=True)
        ]
        silent, pulled = list(filter(None, ports[0::2])), list(filter(None, ports[1::2]))

        def set_ports(state: int, carrier: str) -> None:
            self.site.ip(
                [f"link set dev {port} type bridge_slave state {state}" for port in silent]
                + [f"link set dev {port} {carrier}" for port in pulled]
            )

        set_ports(_LISTENING, "down")
        try:
            yield
        finally:
            set_ports(_FORWARDING, "up")

    @property
    def router_lives(self) -> bool:
        """Whether radvd runs."""
        return self._radvd is not None and self._radvd.poll() is None

    def close(self) -> None:
        """Stop the router and let the namespaces go."""
        if self._radvd is not None:
            self._radvd.kill()
            self._radvd.wait()
        for namespace in self._namespaces():
            namespace.close()

    def _namespaces(self) -> Iterator[Namespace]:
        yield from (self.site, self.switch, self.router, *self.agents, *self.nodes, *self.strangers)
