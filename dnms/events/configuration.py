"""The words for a node's network configuration: what a node has (a snapshot) and what it should have (an assignment).

Nodes, agents and the log speak of the same things, so they share these types: a snapshot is registered over the wire
and recorded as it came; an assignment is decided by the domain, carried by the wire and applied by the node.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dnms.events.ip import Address, Prefix
from dnms.events.recorded import Part, Personal, share_defaults

Iaid = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
"""Identity of one interface of a client (RFC 8415, 4.2)."""

ClientId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
"""A keyed hash of a client's DUID; what stands for a client everywhere but in `node.*`."""

Mode = Literal["observe", "manage", "manage-ra-gateway"]
"""Touch nothing; SLAAC off, Router Advertisements ignored and the gateway from DNMS; SLAAC off and gateways from Router
Advertisements."""

Drift = Literal["leave", "report", "restore"]
"""What becomes of what somebody else changed on a managed interface."""

Rivals = Literal["report", "configure"]
"""What becomes of another program that manages the interface: what to configure there is told, or it is done."""

MAX_LINKS = 1_024
MAX_ADDRESSES = 4_096
MAX_ROUTES = 4_096
MAX_ROUTERS = 64
"""A registration holds at most so many of each; routes of routing daemons are counted, not listed."""


class Link(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One network interface."""

    index: int
    name: str
    kind: str = ""  # as the kernel calls it: veth, bridge, vlan, …; empty for a plain device
    hardware: Personal | None = None
    mtu: int = 0
    up: bool = False
    carrier: bool = False
    master: int = 0  # index of the bridge or bond that it belongs to
    state: str = ""  # RFC 2863's, as the kernel has it: up, down, dormant, lower-layer-down, …; empty: not known


class InterfaceAddress(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One address on one interface, as the kernel has it."""

    interface: int  # index of the link
    address: Address
    prefix_length: int  # of 128
    origin: str  # link-local, slaac, temporary, dhcp, managed, loopback, other; registered: told by DHCPv6 (RFC 9686)
    flags: int = 0  # IFA_F_*
    preferred: int | None = None  # seconds left; None: for ever
    valid: int | None = None  # seconds left; None: for ever


class Route(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One unicast route of the main table."""

    destination: Prefix
    interface: int
    gateway: Address | None = None
    metric: int = 0
    protocol: int = 0  # RTPROT_*


class Resolver(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Where names are looked up."""

    servers: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()


class Router(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A neighbour that says that it is a router (RFC 4861, 4.4)."""

    interface: int  # index of the link
    address: Address


class AdvertisedPrefix(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A prefix that a router advertises (RFC 4861, 4.6.2)."""

    prefix: Prefix
    on_link: bool = False
    autonomous: bool = False
    valid: int = 0  # seconds
    preferred: int = 0


class Advertisement(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What a router advertises on a link of the node, whether its kernel heeds that or not."""

    interface: int  # index of the link
    router: Address
    lifetime: int = 0  # seconds; 0: it is no default router
    managed: bool = False  # M
    other: bool = False  # O
    preference: int = 0  # -1 low, 0 medium, 1 high (RFC 4191, 2.2)
    mtu: int = 0  # 0: not said
    prefixes: tuple[AdvertisedPrefix, ...] = ()
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()


class Snapshot(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The whole network configuration of a node at one moment."""

    links: Annotated[tuple[Link, ...], msgspec.Meta(max_length=MAX_LINKS)] = ()
    addresses: Annotated[tuple[InterfaceAddress, ...], msgspec.Meta(max_length=MAX_ADDRESSES)] = ()
    routes: Annotated[tuple[Route, ...], msgspec.Meta(max_length=MAX_ROUTES)] = ()
    routes_not_listed: int = 0
    resolver: Resolver = Resolver()
    sysctls: dict[str, str] = {}
    kernel: str = ""
    host: Personal | None = None  # its host name
    routers: Annotated[tuple[Router, ...], msgspec.Meta(max_length=MAX_ROUTERS)] = ()
    advertisements: Annotated[tuple[Advertisement, ...], msgspec.Meta(max_length=MAX_ROUTERS)] = ()

    def __post_init__(self) -> None:
        share_defaults(self)


class Difference(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a configuration: what is new or otherwise, and what is gone. None: as it was.

    A link is known by its index, an address by its link, itself and its prefix length, an advertisement by its link and
    router.
    """

    links: tuple[Link, ...] = ()
    links_gone: tuple[int, ...] = ()
    addresses: tuple[InterfaceAddress, ...] = ()
    addresses_gone: tuple[InterfaceAddress, ...] = ()  # as they were
    routes: tuple[Route, ...] = ()
    routes_gone: tuple[Route, ...] = ()
    routes_not_listed: int | None = None
    resolver: Resolver | None = None
    sysctls: dict[str, str] = {}  # empty: there is no such setting any more, with its interface
    kernel: str | None = None
    host: Personal | None = None
    routers: tuple[Router, ...] = ()
    routers_gone: tuple[Router, ...] = ()
    advertisements: tuple[Advertisement, ...] = ()
    advertisements_gone: tuple[Router, ...] = ()


class Generation(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """Which assignment is the newer one: the log's epoch, then the positions of the plan and of the ledger."""

    epoch: int = 0
    plan: int = 0
    ledger: int = 0


class AssignedAddress(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One address that a node is to hold."""

    address: Address
    prefix_length: int  # of 128: the prefix that is on the link
    iaid: Iaid
    preferred: int  # seconds from the moment of sending
    valid: int  # seconds from the moment of sending
    permanent: bool = False  # may be applied again without an agent, past `valid`


class AssignedPrefix(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A prefix that a node is delegated, and what it is cut from: its own nodes are given addresses of it."""

    prefix: Prefix
    iaid: Iaid
    preferred: int  # seconds from the moment of sending
    valid: int  # seconds from the moment of sending
    exclude: Prefix | None = None  # of it, what the delegating link has itself (RFC 6603)
    position: int = 0  # sequence of the commit that delegated it


class AssignedRoute(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A route beside the default ones."""

    destination: Prefix
    gateway: Address
    metric: int = 0


class Policy(Part, frozen=True, kw_only=True, omit_defaults=True):
    """How the interface of a node is managed, and how a change is made to it."""

    mode: Mode = "manage"
    keep: tuple[Prefix, ...] = ()  # what the node has in these stays, though nobody gave it
    drain: int = 300  # seconds that a stray address, deprecated, is left to the sockets that use it
    confirm: int = 30  # seconds in which a change has to be proven, else the node rolls back; 0: it is not proven
    probe: Address | None = None  # off the link; has to answer after a change if it did before
    drift: Drift = "restore"
    optimistic: bool = False  # addresses are used while DAD goes on (RFC 4429)
    rivals: Rivals = "report"

    def __post_init__(self) -> None:
        share_defaults(self)


class Assignment(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The complete wanted configuration of a node on one link. It is declarative: the node works out the difference."""

    generation: Generation
    addresses: tuple[AssignedAddress, ...] = ()
    gateways: tuple[Address, ...] = ()  # in order of preference
    routes: tuple[AssignedRoute, ...] = ()
    resolver: Resolver = Resolver()
    ntp: tuple[Address, ...] = ()
    mtu: int = 0  # 0: leave it
    policy: Policy = Policy()
    prefixes: tuple[AssignedPrefix, ...] = ()
    log: str = ""  # the id of the log that the positions are of, where a prefix is delegated

    def __post_init__(self) -> None:
        share_defaults(self)
