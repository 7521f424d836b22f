"""Who is in which group, and with which addresses: the plan's groups, the nodes' names and the ledgers' leases.

A node is in the group with which an operator has entered it, else in the first one with a pattern that it matches, as
for the Subnet Agent that gives it its address. A
lease says the group of that moment too, which counts for a client of which no name is known; of one that has a name it
may be old, since an IPv4 lease stays where it is when its node goes to another group.
"""

from __future__ import annotations

from typing import TypeVar

from dnms.domain.assignment import group_of
from dnms.domain.document import LEVEL
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.codec import UnknownToThisRelease
from dnms.events.commit import Stored
from dnms.events.ip import family
from dnms.events.node import NodeEntered, NodeForgotten, NodeIdentified
from dnms.events.recorded import Event, Personal
from dnms.subscribers.firewall.sets import GroupSet, Item, Member, OurTable

K = TypeVar("K")
V = TypeVar("V")


class Membership:
    """The fold of a site's log to sets and their elements. Implements `subscriber.Folding`."""

    def __init__(self, site: str) -> None:
        self._plan_subject = subjects.plan(site)
        self._plan = PlanState()
        self._nodes: dict[bytes, NodeIdentified] = {}  # by client id; those with a name that can be read
        self._entered: dict[bytes, str] = {}  # by client id: the group with which an operator has entered it
        self._leases: dict[str, dict[bytes, tuple[bytes, int]]] = {}  # by ledger and address: client id and group
        self._groups: dict[bytes, int] = {}  # of clients with names, by the present plan, as far as it was asked for

    def take(self, stored: Stored) -> bool:
        """Take in a commit; whether a set may have other elements now. UnknownToThisRelease."""
        if stored.subject == self._plan_subject:
            for event in stored.commit.events:
                self._plan.evolve(event, at=stored.commit.time, position=stored.sequence)
            if self._plan.level > LEVEL:
                raise UnknownToThisRelease(
                    f"the site is at level {self._plan.level}; this release knows {LEVEL}: upgrade it"
                )
            self._groups.clear()
            return True
        leases = self._leases.setdefault(stored.subject, {}) if ".ledger." in stored.subject else {}
        changes = [self._evolve(leases, event) for event in stored.commit.events]
        return any(changes)

    def wanted(self) -> frozenset[Item] | None:
        """The table, two sets a group, and the addresses of its members; None while there is no plan."""
        if not self._plan.position:
            return None
        names = {group.number: group.name for group in self._plan.groups.values()}
        items: set[Item] = {OurTable()}
        items.update(GroupSet(name, kind) for name in names.values() for kind in (4, 6))
        for leases in self._leases.values():
            for address, (client, given) in leases.items():
                name = names.get(self._group(client, given))
                if name is not None:
                    items.add(Member(GroupSet(name, family(address)), address))
        return frozenset(items)

    def _evolve(  # noqa: PLR0911  # one return an event
        self, leases: dict[bytes, tuple[bytes, int]], event: Event
    ) -> bool:
        match event:
            case OutageGranted() if event.contested:
                return False  # another keeps it
            case AddressAllocated() | OutageGranted():
                return _put(leases, event.address, (event.client, event.group))
            case AddressReleased() | AddressExpired() | AddressWithdrawn() | AddressDeclined():
                return leases.pop(event.address, None) is not None
            case NodeIdentified():
                self._groups.pop(event.client, None)
                if isinstance(event.name.value, str):
                    return _put(self._nodes, event.client, event)
                return self._nodes.pop(event.client, None) is not None  # sealed: nobody can read it any more
            case NodeEntered():
                self._groups.pop(event.client, None)
                return _put(self._entered, event.client, event.group)
            case NodeForgotten():
                self._groups.pop(event.client, None)
                known = self._nodes.pop(event.client, None)
                return self._entered.pop(event.client, None) is not None or known is not None
        return False

    def _group(self, client: bytes, given: int) -> int:
        node, entered = self._nodes.get(client), self._entered.get(client, "")
        if node is None and not entered:
            return given
        if client not in self._groups:
            self._groups[client] = group_of(
                self._plan,
                node.name.text if node is not None else "",
                duid=_bytes(node.duid) if node is not None else b"",
                hardware=[_bytes(each) for each in node.hardware] if node is not None else (),
                entered=entered,
            )
        return self._groups[client]


def _bytes(personal: Personal) -> bytes:
    value = personal.value
    return value if isinstance(value, bytes) else b""


def _put(table: dict[K, V], key: K, value: V) -> bool:
    """Whether that changes anything."""
    if table.get(key) == value:
        return False
    table[key] = value
    return True
