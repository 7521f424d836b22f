"""Logs, and the sets that they mean."""

from __future__ import annotations

from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressDeprecated,
    AddressExpired,
    AddressReleased,
    AddressRenewed,
    AddressWithdrawn,
)
from dnms.events.ip import family, parse_address, parse_prefix
from dnms.events.node import NodeEntered, NodeForgotten, NodeIdentified
from dnms.events.plan import Group, GroupDefined, GroupWithdrawn, Pool, PoolDefined, SiteDefined
from dnms.events.prefix import PrefixDelegated, PrefixDeprecated, PrefixReleased
from dnms.events.recorded import Event, Personal
from dnms.events.rule import Peer, Ports, Rule, RuleDefined, RuleWithdrawn
from dnms.events.seen import SessionOpened
from dnms.subscribers.firewall.items import Chain, Item, Member, OurTable, group_set, rule
from dnms.subscribers.subscriber import Example, Happened

DESK, PHONE, LAPTOP, NAMELESS = (bytes([number]) * 16 for number in (0xA, 0xB, 0xC, 0xD))
"""Clients."""

ROUTER = parse_address("fe80::a")
"""The link-local address of who has a prefix."""

SALES, VOIP = 0x5A1E, 0x0701
FIRST, LAST = 1, 2
"""An instant at which leases end, and a later one."""


def site() -> SiteDefined:
    """The first event of a plan."""
    return SiteDefined(name="example", level=1)


def group(name: str, number: int, *nodes: str) -> GroupDefined:
    """A group of the nodes with these names."""
    return GroupDefined(group=Group(name=name, number=number, nodes=nodes))


def named(client: bytes, name: str) -> Happened:
    """A node says its name."""
    event = NodeIdentified(client=client, duid=Personal(client), name=Personal(name))
    return Happened(f"node.{client[0]:02x}", (event,))


def entered(client: bytes, name: str, group: str) -> Happened:
    """An operator tells of a node."""
    event = NodeEntered(client=client, duid=Personal(client), name=Personal(name), iaid=1, group=group)
    return Happened(f"node.{client[0]:02x}", (event,))


def leased(client: bytes, address: str, *, group: int = 0, pool: str = "office") -> AddressAllocated:
    """A lease from the ledger."""
    return AddressAllocated(
        address=parse_address(address),
        client=client,
        iaid=1,
        pool=pool,
        group=group,
        valid_until=FIRST,
        horizon=LAST,
    )


def ledger(*events: Event, subnet: str = "office") -> Happened:
    """A commit on a ledger."""
    return Happened(f"ledger.{subnet}", events)


def sets(**groups: tuple[str, ...]) -> frozenset[Item]:
    """The table, two sets a group, and their elements; `_` in the place of a hyphen."""
    items: set[Item] = {OurTable()}
    for name, addresses in groups.items():
        group = name.replace("_", "-")
        items |= {group_set(group, 4), group_set(group, 6)}
        for address in map(parse_address, addresses):
            items.add(Member(group_set(group, family(address)), address))
    return frozenset(items)


def ended(kind: type[AddressReleased | AddressExpired | AddressWithdrawn], address: str) -> Event:
    """A lease ends."""
    return kind(address=parse_address(address), client=DESK, iaid=1)


def delegated(client: bytes, prefix: str, *, group: int = 0) -> PrefixDelegated:
    """A prefix that a ledger delegates."""
    return PrefixDelegated(
        prefix=parse_prefix(prefix),
        client=client,
        iaid=1,
        delegation="blocks",
        next_hop=ROUTER,
        group=group,
        valid_until=FIRST,
        horizon=LAST,
    )


def returned(client: bytes, prefix: str) -> PrefixReleased:
    """A prefix that is given back."""
    return PrefixReleased(prefix=parse_prefix(prefix), client=client, iaid=1, next_hop=ROUTER)


def pool(name: str, prefix: str, *, prefix_per_host: bool = False) -> PoolDefined:
    """A pool of the subnet `office`."""
    whole = parse_prefix(prefix)
    last = whole.last.to_bytes(16)
    return PoolDefined(
        pool=Pool(name=name, subnet="office", first=whole.network, last=last, prefix_per_host=prefix_per_host)
    )


CALLS = Rule(
    name="voip-to-sales",
    direction="ingress",
    group="sales",
    peers=(Peer(group="voip"),),
    protocol="udp",
    ports=(Ports(first=5060, last=5060), Ports(first=10_000, last=20_000)),
)
"""VoIP in to sales."""

BY_FIELD = "ffff:ffff:ffff:ffff:ffff::"
ERRORS = "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept"

_OPEN: frozenset[Item] = frozenset(
    {
        Chain("dnms_forward", "forward"),
        Chain("dnms_ingress"),
        Chain("dnms_in_sales"),
        rule("dnms_forward", 10, "established connections", "ct state established,related accept", "inet"),
        rule("dnms_forward", 20, "ICMPv6 errors, RFC 4890", ERRORS, "inet"),
        rule("dnms_forward", 900, "on to ingress", "goto dnms_ingress", "inet"),
        rule("dnms_ingress", 900, "the rest", "accept", "inet"),
        rule("dnms_in_sales", 900, "nothing else to sales", "counter drop", "inet"),
    }
)
"""What that becomes, but for how its groups are found."""


def _called(slot: int, sales: str, voip: str) -> frozenset[Item]:
    to = rule("dnms_ingress", slot, "to members of sales", f"ip6 daddr {sales} jump dnms_in_sales", "inet")
    accept = f"ip6 saddr {voip} udp dport {{ 5060, 10000-20000 }} counter accept"
    return _OPEN | {to, rule("dnms_in_sales", 20, "voip-to-sales", accept, "inet")}


CALLED = _called(88, f"& {BY_FIELD} == @sales-6/80", f"& {BY_FIELD} == @voip-6/80")
"""What that becomes where addresses say their group: one rule, however many members and subnets there are."""

CALLED_BY_SETS = _called(40, "@sales-6", "@voip-6")
"""Likewise where one of them does not."""


def fields(*subnets: str, **groups: int) -> frozenset[Item]:
    """Where groups are found in these /64s."""
    items: set[Item] = set()
    for name, number in groups.items():
        of = group_set(name, 6, 80)
        items.add(of)
        items |= {Member(of, parse_address(f"{each}:{number:x}::")) for each in subnets}
    return frozenset(items)


def prefixes(**groups: tuple[str, ...]) -> frozenset[Item]:
    """Sets of prefixes, and what is in them."""
    items: set[Item] = set()
    for name, texts in groups.items():
        for prefix in map(parse_prefix, texts):
            of = group_set(name, 6, prefix.length)
            items |= {of, Member(of, prefix.network)}
    return frozenset(items)


def deprecated(client: bytes, address: str) -> Event:
    """Another address takes the place of this one."""
    return AddressDeprecated(address=parse_address(address), client=client, iaid=1, valid_until=FIRST)


EXAMPLES: list[Example[Item]] = [
    Example(
        title="groups with members in two subnets and of both families, and what was meanwhile",
        log=(
            Happened("plan", (site(), group("sales", SALES, "desk-*", "laptop-*"), group("voip", VOIP, "phone-*"))),
            named(DESK, "desk-1"),
            named(PHONE, "phone-1"),
            ledger(
                leased(DESK, "2001:db8:1:1:5a1e::1", group=SALES),
                leased(DESK, "192.0.2.1", group=SALES),
            ),
            ledger(
                leased(PHONE, "2001:db8:1:1:701::2", group=VOIP),
                leased(PHONE, "192.0.2.2", group=VOIP),
            ),
            Happened("seen.office.east", (SessionOpened(client=DESK, peer=parse_address("fe80::a")),)),
            named(LAPTOP, "laptop-1"),
            ledger(leased(LAPTOP, "2001:db8:1:2:5a1e::3", group=SALES), subnet="lab"),
            ledger(
                AddressRenewed(address=parse_address("192.0.2.1"), client=DESK, iaid=1, valid_until=LAST, horizon=LAST)
            ),
            ledger(AddressReleased(address=parse_address("192.0.2.2"), client=PHONE, iaid=1)),
            Happened("plan", (group("7-guests", 7),)),
        ),
        wanted=sets(
            sales=("2001:db8:1:1:5a1e::1", "192.0.2.1", "2001:db8:1:2:5a1e::3"),
            voip=("2001:db8:1:1:701::2",),
            **{"7_guests": ()},
        ),
    ),
    Example(title="nothing", log=(), wanted=None),
    Example(
        title="leases, and no plan",
        log=(named(DESK, "desk-1"), ledger(leased(DESK, "192.0.2.1", group=SALES))),
        wanted=None,
    ),
    Example(
        title="a plan without groups",
        log=(Happened("plan", (site(),)), ledger(leased(DESK, "192.0.2.1"))),
        wanted=sets(),
    ),
    Example(
        title="a node goes to another group, by the plan and by its name, and its lease says the old one",
        log=(
            Happened("plan", (site(), group("sales", SALES, "desk-*"), group("voip", VOIP))),
            named(DESK, "desk-1"),
            named(PHONE, "desk-2"),
            ledger(leased(DESK, "192.0.2.1", group=SALES), leased(PHONE, "192.0.2.2", group=SALES)),
            Happened("plan", (group("voip", VOIP, "desk-1"), group("sales", SALES, "desk-2"))),
            named(PHONE, "phone-2"),
        ),
        wanted=sets(voip=("192.0.2.1",), sales=()),
    ),
    Example(
        title="a client of which no name is known is in the group that its lease says",
        log=(
            Happened("plan", (site(), group("sales", SALES, "desk-*"))),
            ledger(leased(NAMELESS, "192.0.2.9", group=SALES), leased(DESK, "192.0.2.8")),
        ),
        wanted=sets(sales=("192.0.2.9",)),
    ),
    Example(
        title="leases end in four ways",
        log=(
            Happened("plan", (site(), group("sales", SALES, "*"))),
            named(DESK, "desk-1"),
            ledger(*(leased(DESK, f"2001:db8:1:1:5a1e::{number}", group=SALES) for number in range(1, 6))),
            ledger(
                ended(AddressReleased, "2001:db8:1:1:5a1e::1"),
                ended(AddressExpired, "2001:db8:1:1:5a1e::2"),
                ended(AddressWithdrawn, "2001:db8:1:1:5a1e::3"),
                AddressDeclined(
                    address=parse_address("2001:db8:1:1:5a1e::4"), client=DESK, iaid=1, quarantined_until=LAST
                ),
            ),
        ),
        wanted=sets(sales=("2001:db8:1:1:5a1e::5",)),
    ),
    Example(
        title="a node is renumbered: both addresses are in the set until the old one is drained",
        log=(
            Happened("plan", (site(), group("sales", SALES, "*"))),
            named(DESK, "desk-1"),
            named(PHONE, "phone-1"),
            ledger(leased(DESK, "192.0.2.1"), leased(PHONE, "192.0.2.2")),
            ledger(deprecated(DESK, "192.0.2.1"), deprecated(PHONE, "192.0.2.2")),
            ledger(leased(DESK, "198.51.100.1"), leased(PHONE, "198.51.100.2")),
            ledger(ended(AddressWithdrawn, "192.0.2.1")),
        ),
        wanted=sets(sales=("198.51.100.1", "198.51.100.2", "192.0.2.2")),
    ),
    Example(
        title="a group is withdrawn and another one gets its number",
        log=(
            Happened("plan", (site(), group("sales", SALES, "desk-*"))),
            named(DESK, "desk-1"),
            ledger(leased(DESK, "192.0.2.1", group=SALES)),
            Happened("plan", (GroupWithdrawn(name="sales"), group("staff", SALES, "desk-*"))),
        ),
        wanted=sets(staff=("192.0.2.1",)),
    ),
    Example(
        title="one address in two subnets of different realms, and one of the two ends",
        log=(
            Happened("plan", (site(), group("sales", SALES, "*"))),
            named(DESK, "desk-1"),
            named(PHONE, "phone-1"),
            ledger(leased(DESK, "192.0.2.1", group=SALES)),
            ledger(leased(PHONE, "192.0.2.1", group=SALES), subnet="lab"),
            ledger(ended(AddressReleased, "192.0.2.1")),
        ),
        wanted=sets(sales=("192.0.2.1",)),
    ),
    Example(
        title="an operator has entered a node with a group, which wins over the patterns, and another is forgotten",
        log=(
            Happened("plan", (site(), group("sales", SALES, "*"), group("voip", VOIP))),
            entered(DESK, "desk-1", "voip"),
            named(DESK, "desk-1"),
            entered(PHONE, "phone-1", "voip"),
            ledger(leased(DESK, "192.0.2.1"), leased(PHONE, "192.0.2.2"), leased(LAPTOP, "192.0.2.3")),
            Happened(f"node.{PHONE[0]:02x}", (NodeForgotten(client=PHONE),)),
        ),
        wanted=sets(sales=(), voip=("192.0.2.1",)),
    ),
    Example(
        title="a rule of the plan is one rule in the kernel, and a new subnet is one more element",
        log=(
            Happened(
                "plan",
                (
                    site(),
                    group("sales", SALES, "desk-*"),
                    group("voip", VOIP, "phone-*"),
                    pool("six", "2001:db8:1:1::/64"),
                    RuleDefined(rule=CALLS),
                ),
            ),
            ledger(leased(DESK, "2001:db8:1:1:5a1e::1", group=SALES)),
            Happened("plan", (pool("seven", "2001:db8:1:2::/64"),)),
        ),
        wanted=sets(sales=("2001:db8:1:1:5a1e::1",), voip=())
        | CALLED
        | fields("2001:db8:1:1", "2001:db8:1:2", sales=SALES, voip=VOIP),
    ),
    Example(
        title="a plan brings a node to another group: rules hold for its old address too until it is drained, by sets",
        log=(
            Happened("plan", (site(), group("voip", VOIP), pool("six", "2001:db8:1:1::/64"), RuleDefined(rule=CALLS))),
            named(DESK, "desk-1"),
            ledger(leased(DESK, "2001:db8:1:1::1")),
            Happened("plan", (group("sales", SALES, "desk-*"),)),
            ledger(deprecated(DESK, "2001:db8:1:1::1"), leased(DESK, "2001:db8:1:1:5a1e::1", group=SALES)),
        ),
        wanted=sets(sales=("2001:db8:1:1::1", "2001:db8:1:1:5a1e::1"), voip=()) | CALLED_BY_SETS,
    ),
    Example(
        title="and when it is drained they find all by what addresses say",
        log=(
            Happened("plan", (site(), group("voip", VOIP), pool("six", "2001:db8:1:1::/64"), RuleDefined(rule=CALLS))),
            named(DESK, "desk-1"),
            ledger(leased(DESK, "2001:db8:1:1::1")),
            Happened("plan", (group("sales", SALES, "desk-*"),)),
            ledger(deprecated(DESK, "2001:db8:1:1::1"), leased(DESK, "2001:db8:1:1:5a1e::1", group=SALES)),
            ledger(ended(AddressWithdrawn, "2001:db8:1:1::1")),
        ),
        wanted=sets(sales=("2001:db8:1:1:5a1e::1",), voip=()) | CALLED | fields("2001:db8:1:1", sales=SALES, voip=VOIP),
    ),
    Example(
        title="a rule is withdrawn, and its chains go with it",
        log=(
            Happened("plan", (site(), group("sales", SALES), group("voip", VOIP), RuleDefined(rule=CALLS))),
            Happened("plan", (RuleWithdrawn(name="voip-to-sales"),)),
        ),
        wanted=sets(sales=(), voip=()),
    ),
    Example(
        title="delegated prefixes of a member join its group, and leave it when they are released",
        log=(
            Happened("plan", (site(), group("sales", SALES, "desk-*"))),
            named(DESK, "desk-1"),
            ledger(delegated(DESK, "2001:db8:2:10::/60"), delegated(DESK, "2001:db8:2:20::/60")),
            ledger(delegated(DESK, "2001:db8:2:30::/64"), delegated(PHONE, "2001:db8:2:31::/64")),
            ledger(
                returned(DESK, "2001:db8:2:20::/60"),
                PrefixDeprecated(
                    prefix=parse_prefix("2001:db8:2:30::/64"), client=DESK, iaid=1, next_hop=ROUTER, valid_until=LAST
                ),
            ),
        ),
        wanted=sets(sales=()) | prefixes(sales=("2001:db8:2:10::/60", "2001:db8:2:30::/64")),
    ),
    Example(
        title="a host that has a /64 of its own is in its group with all of it",
        log=(
            Happened(
                "plan", (site(), group("sales", SALES, "*"), pool("own", "2001:db8:3::/48", prefix_per_host=True))
            ),
            named(DESK, "desk-1"),
            ledger(leased(DESK, "2001:db8:3:7::1", pool="own")),
        ),
        wanted=sets(sales=("2001:db8:3:7::1",)) | prefixes(sales=("2001:db8:3:7::/64",)),
    ),
]
