"""What the domain is asked for. Recorded in each commit beside its events, so their form is for ever too."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dnms.events.configuration import ClientId, Iaid
from dnms.events.ip import Address, Prefix
from dnms.events.plan import (
    AdoptedPlan,
    Delegation,
    Family,
    Group,
    Name,
    Pool,
    Realm,
    Reservation,
    Subnet,
    Uplink,
)
from dnms.events.recorded import Part, Personal, Request, share_defaults
from dnms.events.rollout import Clients, Failed
from dnms.events.rule import Rule
from dnms.events.uplink import Source

MAX_EXPIRIES = 1_000  # in one request; a commit stays far under 5 000 events


class ApplyPlan(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An operator wants exactly this; what the plan has beside it is withdrawn."""

    NAME = "plan.apply"
    ENTROPY = 32  # group numbers are drawn from it
    site: Name
    level: int
    realms: tuple[Realm, ...] = ()
    groups: tuple[Group, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    pools: tuple[Pool, ...] = ()
    strict: bool = False  # every subnet is
    reservations: tuple[Reservation, ...] = ()
    uplinks: tuple[Uplink, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    rules: tuple[Rule, ...] = ()
    based_on: int | None = None  # position of the plan that it was compared with; None: whatever the plan is now


class AdoptPlan(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A Subnet Agent has folded a newer plan."""

    NAME = "plan.adopt"
    plan: AdoptedPlan


class AllocateAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client wants an address of this family for this interface. It keeps the one that it has."""

    NAME = "address.allocate"
    ENTROPY = 16  # a random strategy draws from it
    client: ClientId
    iaid: Iaid
    family: Family
    group: int = 0
    offered: Address | None = None  # to the client, which is given it if it is free


class RenewAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client wants to keep its address."""

    NAME = "address.renew"
    client: ClientId
    iaid: Iaid
    address: Address


class ReleaseAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client gives its address back."""

    NAME = "address.release"
    client: ClientId
    iaid: Iaid
    address: Address


class DeclineAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client found its address in use by another (DAD, RFC 4862, 5.4; ACD, RFC 5227)."""

    NAME = "address.decline"
    client: ClientId
    iaid: Iaid
    address: Address


class HoldAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An address is to be this client's alone: `address`, or else the one of this family that it would be given."""

    NAME = "address.hold"
    ENTROPY = 16
    client: ClientId
    iaid: Iaid
    family: Family
    address: Address | None = None
    group: int = 0


class UnholdAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An address is no longer to be kept for this client."""

    NAME = "address.unhold"
    client: ClientId
    iaid: Iaid
    address: Address


class JoinAddresses(Request, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept for a client on one interface is to be kept for another one: both are the same machine."""

    NAME = "address.join"
    client: ClientId
    iaid: Iaid
    into: ClientId
    into_iaid: Iaid


class ClaimReserved(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client has come under this IAID, or another one by the hardware address that is `reserved_for`: what the plan
    reserves for that on any interface is to be kept for this one.
    """

    NAME = "address.claim"
    client: ClientId
    iaid: Iaid
    family: Family
    reserved_for: ClientId


class MoveAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client is to have another address instead of this one: `to`, or else the next one that is free."""

    NAME = "address.move"
    ENTROPY = 16
    client: ClientId
    iaid: Iaid
    address: Address
    to: Address | None = None


class WithdrawAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An operator ends a client's lease."""

    NAME = "address.withdraw"
    client: ClientId
    iaid: Iaid
    address: Address


class DelegatePrefix(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client wants a prefix for this association, or to keep the one that it has."""

    NAME = "prefix.delegate"
    ENTROPY = 16
    client: ClientId
    iaid: Iaid
    length: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # the hint (RFC 8415, 18.2.4); 0: none
    group: int = 0
    next_hop: Address
    interface: str = ""
    excludes: bool = False  # the client understands an excluded prefix (RFC 6603, 4.1)


class ReleasePrefix(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client gives its prefix back."""

    NAME = "prefix.release"
    client: ClientId
    iaid: Iaid
    prefix: Prefix


class ExpirePrefixes(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The horizons of these prefixes seem to have passed, or the time for which they were drained."""

    NAME = "prefix.expire"
    prefixes: Annotated[tuple[Prefix, ...], msgspec.Meta(max_length=MAX_EXPIRIES)]


class UplinkPrefix(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A prefix that a router has from above. Instants are microseconds since 1970-01-01 UTC."""

    prefix: Prefix
    preferred_until: int
    valid_until: int
    exclude: Prefix | None = None
    position: int = 0  # sequence of the commit that delegated it, where it is another one than its source says


class ReportUplink(Request, frozen=True, kw_only=True, omit_defaults=True):
    """What a router has from above now, all of it."""

    NAME = "uplink.report"
    uplink: Name
    prefixes: Annotated[tuple[UplinkPrefix, ...], msgspec.Meta(max_length=16)] = ()
    source: Source
    agent: str = ""  # who reports it: what other agents have is theirs
    why: str = "cut"  # of those that it had and has no more: a stable word

    def __post_init__(self) -> None:
        share_defaults(self)


class BlockAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client was seen with an address that it was not given."""

    NAME = "address.block"
    client: ClientId
    address: Address
    cause: int  # sequence of the commit on `seen` in which that was seen
    holder: ClientId | None = None  # whose it is in the log, and who is not the one that the link answers for it


class ImportAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Another server has leased this address, and its client is to keep it here."""

    NAME = "address.import"
    client: ClientId
    iaid: Iaid
    address: Address
    group: int = 0
    valid_until: int  # as the client was told
    origin: Name  # the kind of that server


class ImportPrefix(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Another server has delegated this prefix, and its client is to keep it here."""

    NAME = "prefix.import"
    client: ClientId
    iaid: Iaid
    prefix: Prefix
    group: int = 0
    next_hop: Address = bytes(16)  # unspecified: that server does not know it
    valid_until: int
    origin: Name

    def __post_init__(self) -> None:
        share_defaults(self)


class MergeOutage(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent is back on the log, and tells what it gave while the log was away."""

    NAME = "outage.merge"
    ENTROPY = 16
    client: ClientId
    iaid: Iaid
    address: Address
    pool: Name
    group: int = 0
    counter: int = 0
    valid_until: int
    horizon: int
    happened: int


class ExpireAddresses(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The horizons of these have passed by the clock of who asks."""

    NAME = "address.expire"
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_EXPIRIES)]


class ReportGateway(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent has seen something of a router on its link."""

    NAME = "gateway.report"
    address: Address
    seen: Literal["advertised", "answers", "silent", "farewell", "expired"]
    preference: int = 0  # of an advertised one: -1 low, 0 medium, 1 high (RFC 4191, 2.1)


class SightAddress(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent has seen a machine with an address on its link."""

    NAME = "address.sight"
    address: Address
    client: ClientId
    form: Literal["eui-64", "low", "link-local", "random", "ipv4"]
    lasting: Literal["stable", "temporary", "unknown"] = "unknown"
    sure: Literal["certain", "likely", "guess"] = "guess"

    def __post_init__(self) -> None:
        share_defaults(self)


class Unseen(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An address that an agent has not seen for long."""

    address: Address
    last_seen: int = 0  # microseconds since 1970-01-01 UTC; 0: not since the agent began


class LoseAddresses(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent has not seen these for long, and nobody answered for them; or none watches the link any more."""

    NAME = "address.lose"
    unseen: Annotated[tuple[Unseen, ...], msgspec.Meta(max_length=MAX_EXPIRIES)]


Alarms = Literal["duplicate", "moved", "dhcp-server", "router", "scan"]


class RaiseAlarm(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent finds that something is wrong on its link; see `alarm.raised`."""

    NAME = "alarm.raise"
    alarm: Alarms
    address: Address
    client: ClientId
    other: ClientId | None = None
    prefix: Prefix | None = None
    why: str = ""


class ClearAlarm(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent finds that it is over."""

    NAME = "alarm.clear"
    alarm: Alarms
    address: Address
    client: ClientId
    why: Literal["over", "planned"] = "over"

    def __post_init__(self) -> None:
        share_defaults(self)


class AnnounceAgent(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent says by what it is known on the link."""

    NAME = "agent.announce"
    agent: Name
    addresses: tuple[Address, ...]
    servers: tuple[ClientId, ...] = ()


class TellRollout(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent has sessions with these nodes, and may tell those what the plan says whose turn it is."""

    NAME = "rollout.tell"
    position: int  # of the plan
    clients: Clients


class ProveRollout(Request, frozen=True, kw_only=True, omit_defaults=True):
    """These nodes have said that they have what they were told."""

    NAME = "rollout.prove"
    position: int
    clients: Clients


class StopRollout(Request, frozen=True, kw_only=True, omit_defaults=True):
    """This node could not take what it was told."""

    NAME = "rollout.stop"
    position: int
    client: ClientId
    why: Failed


class AdvanceRollout(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An agent finds that this wave is proven."""

    NAME = "rollout.advance"
    position: int
    wave: int


class SteerRollout(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An operator wants the rollout of a subnet to wait, to go on, or to be undone."""

    NAME = "rollout.steer"
    to: Literal["pause", "resume", "abort"]


class IdentifyNode(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A node said who and where it is."""

    NAME = "node.identify"
    client: ClientId
    duid: Personal
    name: Personal
    subnet: Name
    hardware: tuple[Personal, ...] = ()
    kernel: str = ""


class EnterNode(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An operator tells of a node before it is here."""

    NAME = "node.enter"
    client: ClientId
    duid: Personal
    name: Personal
    iaid: Iaid
    hardware: tuple[Personal, ...] = ()
    group: str = ""
    subnets: tuple[Name, ...] = ()


class CompleteNode(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The addresses of a node that was entered are kept for it."""

    NAME = "node.complete"
    client: ClientId


class JoinNode(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client is the same machine as another one, and is to be known as that."""

    NAME = "node.join"
    client: ClientId
    into: ClientId
    hardware: Personal | None = None  # the node has this address, and `client` was entered by it; None: an operator


class PartNode(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A client is to be a node of its own again."""

    NAME = "node.part"
    client: ClientId


class ForgetNode(Request, frozen=True, kw_only=True, omit_defaults=True):
    """There is to be no such node any more."""

    NAME = "node.forget"
    client: ClientId
    personal: bool = False  # what is personal of it too
    key: bytes = b""  # with `personal`: the id of the key that its client has; empty: none


REQUESTS = (
    ApplyPlan,
    AdoptPlan,
    AllocateAddress,
    RenewAddress,
    ReleaseAddress,
    DeclineAddress,
    HoldAddress,
    UnholdAddress,
    JoinAddresses,
    ClaimReserved,
    MoveAddress,
    WithdrawAddress,
    DelegatePrefix,
    ReleasePrefix,
    ExpirePrefixes,
    ReportUplink,
    BlockAddress,
    ImportAddress,
    ImportPrefix,
    MergeOutage,
    ExpireAddresses,
    ReportGateway,
    SightAddress,
    LoseAddresses,
    RaiseAlarm,
    ClearAlarm,
    AnnounceAgent,
    TellRollout,
    ProveRollout,
    StopRollout,
    AdvanceRollout,
    SteerRollout,
    IdentifyNode,
    EnterNode,
    CompleteNode,
    JoinNode,
    PartNode,
    ForgetNode,
)
