"""Who is in which group, with which addresses and prefixes: the plan's groups, the nodes' names and the ledgers.

A node is in the group with which an operator has entered it, else in the first one with a pattern that it matches, as
for the Subnet Agent that gives it its address. A
lease says the group of that moment too, which counts for a client of which no name is known; of one that has a name it
may be old, since an IPv4 lease stays where it is when its node goes to another group.

What is wanted is kept as it changes, and is not worked out of everything at each event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from dnms.domain.assignment import group_of
from dnms.domain.blocks import block_of
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
from dnms.events.ip import MAPPED_BITS, Prefix, family
from dnms.events.node import NodeEntered, NodeForgotten, NodeIdentified
from dnms.events.plan import AdoptedPlan, GroupDefined, PlanAdopted, Pool
from dnms.events.prefix import PrefixDelegated, PrefixExpired, PrefixReleased, PrefixRenewed, PrefixWithdrawn
from dnms.events.recorded import Event, Personal
from dnms.events.rule import RuleDefined
from dnms.subscribers.firewall import structure
from dnms.subscribers.firewall.items import AddressSet, Item, Member, Rule, group_set, hardware_set, held_set
from dnms.subscribers.firewall.options import NOTHING, Options

K = TypeVar("K")
V = TypeVar("V")

HARDWARE_BYTES = 6
BLOCK = 64  # the length of the prefix that a host has of its own


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What a client holds by a ledger: an address, or a prefix."""

    client: bytes
    group: int  # that it had then
    pool: str
    sequence: int  # of the commit


Key = bytes | Prefix


class Membership:
    """The fold of a site's log to what is wanted. Implements `subscriber.Folding`."""

    def __init__(self, site: str, options: Options = NOTHING, *, tracked: bool = True) -> None:
        """`tracked`: whether this machine's kernel tracks connections on bridges."""
        self._options = options
        self._tracked = tracked
        self._plan_subject = subjects.plan(site)
        self._plan = PlanState()
        self._positions: dict[str, int] = {}  # sequences of the commits that defined groups and rules, by kind and name
        self._adopted: dict[str, AdoptedPlan] = {}  # by ledger
        self._pools_of: dict[str, dict[str, Pool]] = {}  # by ledger and name
        self._nodes: dict[bytes, NodeIdentified] = {}  # by client id; those with a name that can be read
        self._entered: dict[bytes, str] = {}  # by client id: the group with which an operator has entered it
        self._holdings: dict[str, dict[Key, Holding]] = {}  # by ledger
        self._of_client: defaultdict[bytes, set[tuple[str, Key]]] = defaultdict(set)
        self._groups: dict[bytes, int] = {}  # of clients with names, by the present plan, as far as it was asked for
        self._names: dict[int, str] = {}  # of groups, by number
        # An address may be in several ledgers, of different realms. A set is made of a dict without hashing anew.
        self._counts: dict[Member, int] = {}
        self._causes: dict[Member, int] = {}
        self._prefix_sets: Counter[AddressSet] = Counter()  # how many members each set of prefixes has
        self._odd = 0  # IPv6 leases whose address does not say their group
        self._structure: frozenset[Item] | None = None  # all but those members; None: it has to be made anew

    def take(self, stored: Stored) -> bool:
        """Take in a commit; whether something else is wanted now. UnknownToThisRelease."""
        if stored.subject == self._plan_subject:
            self._take_plan(stored)
            return True
        if ".ledger." in stored.subject:
            holdings = self._holdings.setdefault(stored.subject, {})
            changes = [self._hold(stored, holdings, event) for event in stored.commit.events]
        else:
            changes = [self._name(event) for event in stored.commit.events]
        return any(changes)

    def wanted(self) -> frozenset[Item] | None:
        """Tables, sets, members, chains and rules; None while there is no plan."""
        if not self._plan.position:
            return None
        if self._structure is None:
            self._structure = frozenset(
                structure.items(
                    self._plan,
                    tuple(self._adopted.values()),
                    self._options,
                    sets=[each for each, count in self._prefix_sets.items() if count],
                    by_field=not self._odd,
                    tracked=self._tracked,
                )
            )
        return self._structure.union(self._counts)

    def cause(self, item: Item) -> int:
        """The sequence of the commit by which it is wanted; 0 for what is so by no event, or is not wanted."""
        if isinstance(item, Member):
            return self._causes.get(item, self._plan.position)
        if isinstance(item, Rule):
            return self._positions.get(f"rule/{item.about}", self._plan.position)
        if isinstance(item, AddressSet):
            return self._positions.get(f"group/{item.name.lstrip('_').rpartition('-')[0]}", self._plan.position)
        return self._plan.position

    # --- the plan

    def _take_plan(self, stored: Stored) -> None:
        for event in stored.commit.events:
            self._plan.evolve(event, at=stored.commit.time, position=stored.sequence)
            if isinstance(event, GroupDefined):
                self._positions[f"group/{event.group.name}"] = stored.sequence
            elif isinstance(event, RuleDefined):
                self._positions[f"rule/{event.rule.name}"] = stored.sequence
        if self._plan.level > LEVEL:
            raise UnknownToThisRelease(
                f"the site is at level {self._plan.level}; this release knows {LEVEL}: upgrade it"
            )
        self._groups.clear()
        self._recount()

    def _recount(self) -> None:
        """All members anew: they may be in other groups, and their pools others."""
        self._counts.clear()
        self._prefix_sets.clear()
        self._odd = 0
        self._structure = None
        self._names = {group.number: group.name for group in self._plan.groups.values()}
        for ledger, holdings in self._holdings.items():
            for key, holding in holdings.items():
                self._add(ledger, key, holding)

    # --- ledgers

    def _hold(self, stored: Stored, holdings: dict[Key, Holding], event: Event) -> bool:  # noqa: PLR0911
        match event:
            case OutageGranted() if event.contested:
                return False  # another keeps it
            case AddressAllocated() | OutageGranted():
                holding = Holding(event.client, event.group, event.pool, stored.sequence)
                return self._put(stored.subject, holdings, event.address, holding)
            case AddressReleased() | AddressExpired() | AddressWithdrawn() | AddressDeclined():
                return self._drop(stored.subject, holdings, event.address)
            case PrefixDelegated():
                holding = Holding(event.client, event.group, event.delegation, stored.sequence)
                return self._put(stored.subject, holdings, event.prefix, holding)
            case PrefixRenewed():
                had = holdings.get(event.prefix)
                pool = had.pool if had is not None else ""
                holding = Holding(event.client, event.group, pool, stored.sequence)
                return self._put(stored.subject, holdings, event.prefix, holding)
            case PrefixReleased() | PrefixExpired() | PrefixWithdrawn():
                return self._drop(stored.subject, holdings, event.prefix)
            case PlanAdopted(plan=plan):
                had_plan = self._adopted.get(stored.subject)
                self._adopted[stored.subject] = plan
                if had_plan is not None and (had_plan.subnet, had_plan.pools) == (plan.subnet, plan.pools):
                    return False
                self._adopt(stored.subject, holdings, {pool.name: pool for pool in plan.pools})
                return True
        return False

    def _adopt(self, ledger: str, holdings: dict[Key, Holding], pools: dict[str, Pool]) -> None:
        """Other pools: of these alone that give a host a prefix of its own, or do no more, the members are others.

        Every prefix that comes from above is a plan that is adopted, and most have nothing to do with what is held.
        """
        names = {holding.pool for holding in holdings.values()}
        before = {name for name in names if _gives_prefixes(self._pool(ledger, name))}
        moved = before ^ {name for name in names if _gives_prefixes(pools.get(name))}
        places = [(ledger, key, holding) for key, holding in holdings.items() if holding.pool in moved]
        for place in places:
            self._subtract(*place)
        self._pools_of[ledger] = pools
        for place in places:
            self._add(*place)
        self._structure = None

    def _put(self, ledger: str, holdings: dict[Key, Holding], key: Key, holding: Holding) -> bool:
        had = holdings.get(key)
        if had is not None:
            if (had.client, had.group, had.pool) == (holding.client, holding.group, holding.pool):
                return False
            self._drop(ledger, holdings, key)
        holdings[key] = holding
        self._of_client[holding.client].add((ledger, key))
        self._add(ledger, key, holding)
        return True

    def _drop(self, ledger: str, holdings: dict[Key, Holding], key: Key) -> bool:
        had = holdings.pop(key, None)
        if had is None:
            return False
        self._subtract(ledger, key, had)
        places = self._of_client[had.client]
        places.discard((ledger, key))
        if not places:
            del self._of_client[had.client]
        return True

    def _note_field(self, key: Key, holding: Holding, change: int) -> None:
        """The rules are others when the first address comes that does not say its group, and when the last one goes.

        It may have said it until the plan, or the node's name, brought its node to another group: until it is drained
        the rules of that group hold for it too.
        """
        if _is_odd(key, self._group(holding.client, holding.group)):
            self._odd += change
            if self._odd == (change > 0):
                self._structure = None

    def _add(self, ledger: str, key: Key, holding: Holding) -> None:
        self._note_field(key, holding, 1)
        for member in self._members(ledger, key, holding):
            count = self._counts.get(member, 0)
            self._counts[member] = count + 1
            self._causes[member] = holding.sequence
            if not count:
                self._note_set(member.of, 1)

    def _subtract(self, ledger: str, key: Key, holding: Holding) -> None:
        self._note_field(key, holding, -1)
        for member in self._members(ledger, key, holding):
            count = self._counts[member] - 1
            self._counts[member] = count
            if not count:
                del self._counts[member]
                self._causes.pop(member, None)
                self._note_set(member.of, -1)

    def _note_set(self, of: AddressSet, change: int) -> None:
        """Sets of prefixes are there as long as they have members, since each costs a look-up."""
        if of.family == 6 and of.length < 128 and not of.hardware:
            before = self._prefix_sets[of]
            self._prefix_sets[of] = before + change
            if not before or not before + change:
                self._structure = None

    def _members(self, ledger: str, key: Key, holding: Holding) -> Iterator[Member]:
        """What is wanted in sets, since somebody holds this."""
        subnet = ledger.rpartition(".ledger.")[2]
        group = self._names.get(self._group(holding.client, holding.group))
        pool = self._pool(ledger, holding.pool)
        block = block_of(key) if isinstance(key, bytes) and _gives_prefixes(pool) else None
        for table in self._options.tables:
            if group is not None:
                yield _member(group_set(group, *_shape(key)), key, table)
                if block is not None:
                    yield _member(group_set(group, 6, BLOCK), block, table)
            if subnet in self._options.guarded:
                if isinstance(key, Prefix):
                    yield _member(held_set(subnet, *_shape(key)), key, table)
                elif block is not None:
                    yield _member(held_set(subnet, 6, BLOCK), block, table)
                elif hardware := self._hardware(holding.client):
                    for each in hardware:
                        yield _member(hardware_set(subnet, family(key)), each + key, table)
                else:
                    yield _member(held_set(subnet, family(key)), key, table)

    def _pool(self, ledger: str, name: str) -> Pool | None:
        pools = self._pools_of.get(ledger)
        return (self._plan.pools if pools is None else pools).get(name)

    # --- nodes

    def _name(self, event: Event) -> bool:
        match event:
            case NodeIdentified():
                if isinstance(event.name.value, str):
                    return self._change(event.client, lambda: _put(self._nodes, event.client, event))
                # Sealed: nobody can read it any more.
                return self._change(event.client, lambda: self._nodes.pop(event.client, None) is not None)
            case NodeEntered():
                return self._change(event.client, lambda: _put(self._entered, event.client, event.group))
            case NodeForgotten():
                return self._change(event.client, lambda: self._forget(event.client))
        return False

    def _forget(self, client: bytes) -> bool:
        known = self._nodes.pop(client, None)
        return self._entered.pop(client, None) is not None or known is not None

    def _change(self, client: bytes, change: Callable[[], bool]) -> bool:
        """Change what is known of a client, and with it what it holds; whether anything is changed."""
        places = [(ledger, key, self._holdings[ledger][key]) for ledger, key in self._of_client.get(client, ())]
        for place in places:
            self._subtract(*place)
        self._groups.pop(client, None)
        changed = change()
        for place in places:
            self._add(*place)
        return changed

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

    def _hardware(self, client: bytes) -> list[bytes]:
        node = self._nodes.get(client)
        known = [_bytes(each) for each in node.hardware] if node is not None else []
        return [each for each in known if len(each) == HARDWARE_BYTES]


def _gives_prefixes(pool: Pool | None) -> bool:
    return pool is not None and pool.prefix_per_host


def _is_odd(key: Key, group: int) -> bool:
    """Whether an IPv6 address does not say the group of who holds it."""
    return isinstance(key, bytes) and family(key) == 6 and key[8:10] != group.to_bytes(2)


def _member(of: AddressSet, key: Key, table: str) -> Member:
    element = key.network if isinstance(key, Prefix) else key
    return Member(of if table == of.table else msgspec.structs.replace(of, table=table), element)


def _shape(key: Key) -> tuple[int, int]:
    """Family, and the length of a prefix; 0 for an address."""
    if isinstance(key, bytes):
        return family(key), 0
    return key.family, key.length - (MAPPED_BITS if key.family == 4 else 0)


def _bytes(personal: Personal) -> bytes:
    value = personal.value
    return value if isinstance(value, bytes) else b""


def _put(table: dict[K, V], key: K, value: V) -> bool:
    """Whether that changes anything."""
    if table.get(key) == value:
        return False
    table[key] = value
    return True
