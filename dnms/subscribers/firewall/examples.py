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
from dnms.events.ip import family, parse_address
from dnms.events.node import NodeEntered, NodeForgotten, NodeIdentified
from dnms.events.plan import Group, GroupDefined, GroupWithdrawn, SiteDefined
from dnms.events.recorded import Event, Personal
from dnms.events.seen import SessionOpened
from dnms.subscribers.firewall.sets import GroupSet, Item, Member, OurTable
from dnms.subscribers.subscriber import Example, Happened

DESK, PHONE, LAPTOP, NAMELESS = (bytes([number]) * 16 for number in (0xA, 0xB, 0xC, 0xD))
"""Clients."""

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


def leased(client: bytes, address: str, *, group: int = 0) -> AddressAllocated:
    """A lease from the ledger."""
    return AddressAllocated(
        address=parse_address(address),
        client=client,
        iaid=1,
        pool="office",
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
        items |= {GroupSet(group, 4), GroupSet(group, 6)}
        for address in map(parse_address, addresses):
            items.add(Member(GroupSet(group, family(address)), address))
    return frozenset(items)


def ended(kind: type[AddressReleased | AddressExpired | AddressWithdrawn], address: str) -> Event:
    """A lease ends."""
    return kind(address=parse_address(address), client=DESK, iaid=1)


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
]
