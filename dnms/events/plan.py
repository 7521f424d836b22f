"""Family `plan`: what operators want. Subject `plan`, but for `plan.adopted`, by which a plan reaches a ledger."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dnms.events.configuration import AssignedRoute, ClientId, Drift, Mode, Rivals
from dnms.events.ip import Address, Prefix
from dnms.events.recorded import Event, Part, share_defaults

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
"""A name in subjects, files and on the command line: a DNS label in lower case (RFC 1035, 2.3.1)."""

Seconds = Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]


class Realm(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A space in which addresses are unique."""

    name: Name


class PolicyChoice(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of a `Policy`, item by item. What is None is as it is for everybody there."""

    mode: Mode | None = None
    keep: tuple[Prefix, ...] | None = None
    drain: int | None = None
    confirm: int | None = None
    probe: Address | None = None
    drift: Drift | None = None
    optimistic: bool | None = None
    rivals: Rivals | None = None


Family = Literal[4, 6]


class Boot(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What a machine is to boot (RFC 2131, 2 and RFC 4578; RFC 5970)."""

    architectures: tuple[int, ...] = ()  # of the processor and firmware, as IANA numbers them; none: of any
    server: Address | None = None  # of DHCPv4: that which has the file
    file: str = ""  # of DHCPv4
    url: str = ""  # of DHCPv6
    parameters: tuple[str, ...] = ()  # of DHCPv6


class RawOption(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An option of DHCP that nothing is known of here."""

    family: Family
    code: int
    value: bytes


class Dhcp(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What clients of DHCP are told that no Node Agent needs. What is None they are told as everybody is there."""

    ipv6_only: int | None = None  # seconds for which IPv6 alone will do (RFC 8925); 0: it will not
    boot: tuple[Boot, ...] | None = None  # the first that is for the client's architecture
    options: tuple[RawOption, ...] | None = None

    def __post_init__(self) -> None:
        share_defaults(self)


class Stateless(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What members of a group are told beside their addresses. What is None they are told as everybody is there."""

    gateways: tuple[Address, ...] | None = None
    routes: tuple[AssignedRoute, ...] | None = None
    dns: tuple[Address, ...] | None = None
    search: tuple[str, ...] | None = None
    ntp: tuple[Address, ...] | None = None
    mtu: int = 0  # 0: as everybody
    policy: PolicyChoice = PolicyChoice()
    dhcp: Dhcp = Dhcp()

    def __post_init__(self) -> None:
        share_defaults(self)


class Group(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A set of nodes with a number, which is a field of their addresses."""

    name: Name
    number: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)] = 0  # 0 in a request: draw one
    nodes: tuple[str, ...] = ()  # patterns, as fnmatch has them: of names, of `duid:` and of `hardware:` with theirs
    ranges: tuple[Prefix, ...] = ()  # which addresses are its members', in pools where the address does not say so
    stateless: Stateless = Stateless()  # in every subnet; gateways and routes are those of a link, and not set here

    def __post_init__(self) -> None:
        share_defaults(self)


Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Rollout(Part, frozen=True, kw_only=True, omit_defaults=True):
    """In which waves the nodes of a subnet are told what a new plan says."""

    canaries: int = 1  # nodes that are told first; 0: none
    waves: tuple[Percent, ...] = (10, 50, 100)  # of all nodes, growing
    pause: int = 60  # seconds without a complaint, between the proof of one wave and the next
    within: Seconds = 300  # in which a node has to say what became of it

    def __post_init__(self) -> None:
        share_defaults(self)


Preference = Annotated[int, msgspec.Meta(ge=-1, le=1)]
"""Of a router or a route before others (RFC 4191, 2.1): low, medium, high."""


class MoreSpecific(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A route that a router of the link has (RFC 4191, 2.3)."""

    destination: Prefix
    preference: Preference = 0
    lifetime: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)] = 1_800  # seconds

    def __post_init__(self) -> None:
        share_defaults(self)


class Advertise(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What the Router Advertisements of a link say (RFC 4861, 4.2)."""

    lifetime: Annotated[int, msgspec.Meta(ge=0, le=9_000)] = 1_800  # seconds as a default router; 0: it is none
    autonomous: bool = True  # A of each prefix: hosts make addresses of it (RFC 4862)
    managed: bool = False  # M: addresses by DHCPv6
    other: bool = False  # O: other configuration by DHCPv6
    preferred: Seconds = 2_700  # of the prefixes, never past what they come from
    valid: Seconds = 3_600
    preference: Preference = 0  # as a default router, before others
    delegated: bool = False  # P of each prefix: hosts had better ask for a prefix of their own (RFC 9762)
    routes: tuple[MoreSpecific, ...] = ()  # that it has, default router or not
    nat64: tuple[Prefix, ...] = ()  # by which hosts reach IPv4 (RFC 8781)

    def __post_init__(self) -> None:
        share_defaults(self)


class Downlink(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What a link has of its router and its servers, and of others who serve it. A part of its own, since of a Struct
    of 16 fields all old bytes would change.
    """

    uplink: str = ""  # from what comes there it has a /64 too; empty: it has its own prefixes alone
    nth: int = 0  # which /64 of what comes from the uplink
    routers: tuple[Name, ...] = ()  # instances of the subscriber `routes` that have a route before a delegate is told
    advertise: Advertise | None = None  # None: no Router Advertisements
    dhcp: Dhcp = Dhcp()  # of everybody there
    dhcp_servers: tuple[Address, ...] = ()  # that serve the link beside our agents, and are no strangers on it

    def __post_init__(self) -> None:
        share_defaults(self)


class Subnet(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A link: its prefixes and its stateless data."""

    name: Name
    realm: Name
    prefixes: tuple[Prefix, ...]
    gateways: tuple[Address, ...] = ()
    routes: tuple[AssignedRoute, ...] = ()
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[Address, ...] = ()
    mtu: int = 0
    strict: bool = False  # nothing is given, renewed or refused here that the log does not hold
    groups: dict[Name, Stateless] = {}  # by name, of those whose members are told something else here
    learn_gateways: bool = False  # from the routers that advertise themselves on the link, behind those above
    policy: PolicyChoice = PolicyChoice()
    rollout: Rollout | None = None  # None: all are told at once
    downlink: Downlink = Downlink()

    def __post_init__(self) -> None:
        share_defaults(self)


class Pool(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A range of a subnet's prefix, with the strategy that picks addresses from it."""

    name: Name
    subnet: Name
    first: Address
    last: Address
    strategy: str = "hash"
    preferred: Seconds = 2_700
    valid: Seconds = 3_600
    quarantine: Seconds = 86_400  # how long a declined address is left alone
    drain: Seconds = 3_600  # how long a client may still use an address that another one takes the place of
    prefix_per_host: bool = False  # every client has a /64 of its own, and all of its addresses in it (RFC 8273)
    outage: bool = True  # may be given from while the log is away, where it is such a pool: see domain.outage

    def __post_init__(self) -> None:
        share_defaults(self)


class Uplink(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Where a router is delegated prefixes from, of which subnets and delegations are cut."""

    name: Name
    protocol: Literal["dnms", "dhcpv6"] = "dnms"
    length: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # the hint for the length; 0: none

    def __post_init__(self) -> None:
        share_defaults(self)


class Delegation(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A pool of blocks that nodes of a link are delegated, with the strategy that picks them."""

    name: Name
    subnet: Name  # the link whose nodes may have one, and the ledger that holds them
    prefix: Prefix | None = None  # None: what comes from the subnet's uplink
    length: Annotated[int, msgspec.Meta(ge=1, le=64)]  # of a block, where a client says nothing of it
    shortest: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # the largest block that is given; 0: as `length`
    longest: Annotated[int, msgspec.Meta(ge=1, le=64)] = 64  # the smallest
    keep: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 1  # of what comes from an uplink, the first /64s stay here
    exclude: bool = False  # a block may have the link's own /64 in it, which is excluded then (RFC 6603)
    strategy: str = "hash"
    preferred: Seconds = 2_700
    valid: Seconds = 3_600
    drain: Seconds = 3_600  # how long a client may still use a prefix that another one takes the place of

    def __post_init__(self) -> None:
        share_defaults(self)


class Reservation(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An address that one interface of a client is given, and nobody else. An address is reserved once in a subnet."""

    subnet: Name
    address: Address
    client: ClientId
    interface: str  # its name, of which the IAID is made; `*`: under whichever IAID it asks first


class SiteDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The site has this name, and writers emit events and decide at this level."""

    NAME = "site.defined"
    name: Name
    level: int
    strict: bool = False  # every subnet is


class RealmDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this realm from now on."""

    NAME = "realm.defined"
    realm: Realm


class RealmWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The realm is no longer wanted."""

    NAME = "realm.withdrawn"
    name: Name


class GroupDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this group, or it has changed to this."""

    NAME = "group.defined"
    group: Group


class GroupWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The group is no longer wanted."""

    NAME = "group.withdrawn"
    name: Name


class SubnetDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this subnet, or it has changed to this."""

    NAME = "subnet.defined"
    subnet: Subnet


class SubnetWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The subnet is no longer wanted."""

    NAME = "subnet.withdrawn"
    name: Name


class PoolDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this pool, or it has changed to this."""

    NAME = "pool.defined"
    pool: Pool


class PoolWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The pool is no longer wanted: nothing more is given from it."""

    NAME = "pool.withdrawn"
    name: Name


class UplinkDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this uplink, or it has changed to this."""

    NAME = "uplink.defined"
    uplink: Uplink


class UplinkWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The uplink is no longer wanted."""

    NAME = "uplink.withdrawn"
    name: Name


class DelegationDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this delegation pool, or it has changed to this."""

    NAME = "delegation.defined"
    delegation: Delegation


class DelegationWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The delegation pool is no longer wanted: nothing more is given from it."""

    NAME = "delegation.withdrawn"
    name: Name


class ReservationDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The address is reserved, or for somebody else than before."""

    NAME = "reservation.defined"
    reservation: Reservation


class ReservationWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The address is no longer reserved."""

    NAME = "reservation.withdrawn"
    subnet: Name
    address: Address


class AdoptedPlan(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The part of the plan that one ledger decides by. Group names and numbers only: whom they hold is personal."""

    position: int  # sequence of the newest commit on `plan` that is in it
    level: int
    subnet: Subnet | None = None  # None: the plan has no such subnet, nothing is given
    pools: tuple[Pool, ...] = ()
    groups: dict[str, int] = {}
    ranges: dict[str, tuple[Prefix, ...]] = {}  # of the groups that have some
    stateless: dict[str, Stateless] = {}  # of the groups whose members are told something else in every subnet
    reservations: tuple[Reservation, ...] = ()
    uplink: Uplink | None = None  # the subnet's
    delegations: tuple[Delegation, ...] = ()
    cut: tuple[Prefix, ...] = ()  # those of the subnet's prefixes that come from the uplink: its first ones
    relative: tuple[Pool, ...] = ()  # the pools as they are planned, where some have their ranges in one of these


class PlanAdopted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """From here on this ledger decides by this plan. It carries what it adopts, so a ledger folds from itself alone."""

    NAME = "plan.adopted"
    plan: AdoptedPlan


EVENTS = (
    SiteDefined,
    RealmDefined,
    RealmWithdrawn,
    GroupDefined,
    GroupWithdrawn,
    SubnetDefined,
    SubnetWithdrawn,
    PoolDefined,
    PoolWithdrawn,
    UplinkDefined,
    UplinkWithdrawn,
    DelegationDefined,
    DelegationWithdrawn,
    ReservationDefined,
    ReservationWithdrawn,
    PlanAdopted,
)
