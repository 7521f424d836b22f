"""The sets of groups in `table inet dnms`: which of them are ours, what to change, and how.

A set of ours is named after its group, has `-4` or `-6` behind that, and the comment `dnms`. Whoever wants his rules
loaded before DNMS has started declares the set himself, with that comment, and has it filled later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from dnms.events.ip import format_address
from dnms.linux import nftables
from dnms.linux.errors import KernelError
from dnms.subscribers.subscriber import Actual, ApplyError, Plan

TABLE = "dnms"
MARK = "dnms"
"""The comment of a set that is ours."""


class OurTable(msgspec.Struct, frozen=True):
    """The table. It is always wanted, so it is never dropped."""

    name: str = TABLE

    def __str__(self) -> str:
        return f"table inet {self.name}"


class GroupSet(msgspec.Struct, frozen=True):
    """The set of one group and family."""

    group: str
    family: int  # 4 or 6

    @property
    def name(self) -> str:
        """Its name in the kernel. A group's name may begin with a digit, and a set's may not; no group's has a `_`."""
        return f"{'_' if self.group[0].isdecimal() else ''}{self.group}-{self.family}"

    def __str__(self) -> str:
        return f"set {self.name}"


class Member(msgspec.Struct, frozen=True):
    """An address in the set of its group."""

    of: GroupSet
    address: bytes

    def __str__(self) -> str:
        return f"{format_address(self.address)} in {self.of.name}"


Item = OurTable | GroupSet | Member


class Sets(Actual[Item], frozen=True, kw_only=True):
    """The table as it is."""

    others: frozenset[str] = frozenset()  # names of sets that are not ours
    referenced: frozenset[str] = frozenset()  # names of sets that rules use


def plan(wanted: frozenset[Item], actual: Sets) -> Plan[Item]:
    """Wanted minus actual, but for names that others have; actual minus wanted, but for sets that rules refer to."""
    add = wanted - actual.ours
    drop = actual.ours - wanted
    taken = {item.name for item in add if isinstance(item, GroupSet) and item.name in actual.others}
    kept = {item for item in drop if isinstance(item, GroupSet) and item.name in actual.referenced}
    notes = [f"set {name} in table inet {TABLE} is not ours, and is left as it is" for name in sorted(taken)]
    notes += [
        f"set {name} has no group any more, and a rule refers to it: it is emptied and kept"
        for name in sorted(item.name for item in kept)
    ]
    return Plan(
        add=frozenset(item for item in add if not _is_in(item, taken)) if taken else add,
        drop=drop - kept - {OurTable()},
        notes=tuple(notes),
    )


def _is_in(item: Item, names: set[str]) -> bool:
    group_set = item.of if isinstance(item, Member) else item
    return isinstance(group_set, GroupSet) and group_set.name in names


class Kernel:
    """The table in the kernel. Implements `subscriber.World`."""

    def __init__(self) -> None:
        self._table = nftables.Table(TABLE)

    async def actual(self) -> Sets:
        """The table, our sets and their elements. ApplyError."""
        with _told():
            content = await self._table.read()
        if content is None:
            return Sets(ours=frozenset())
        ours: set[Item] = {OurTable()}
        others = set(content.others)
        for found in content.sets:
            group_set = _ours(found)
            if group_set is None:
                others.add(found.name)
                continue
            ours.add(group_set)
            ours.update(Member(group_set, address) for address in found.elements)
        return Sets(ours=frozenset(ours), others=frozenset(others), referenced=content.referenced)

    async def apply(self, plan: Plan[Item]) -> None:
        """All of it in one transaction. ApplyError, and then nothing was changed."""
        dropped = {item for item in plan.drop if isinstance(item, GroupSet)}  # with all that is in them
        change = nftables.Change(
            add_table=OurTable() in plan.add,
            add_sets=tuple(
                nftables.AddressSet(item.name, item.family, MARK) for item in plan.add if isinstance(item, GroupSet)
            ),
            add_elements=_elements(item for item in plan.add if isinstance(item, Member)),
            delete_elements=_elements(
                item for item in plan.drop if isinstance(item, Member) and item.of not in dropped
            ),
            delete_sets=[item.name for item in dropped],
        )
        with _told():
            await self._table.change(change)


def _ours(found: nftables.AddressSet) -> GroupSet | None:
    """The set of which group this is; None if it is not ours."""
    stem, hyphen, family = found.name.rpartition("-")
    group = stem.removeprefix("_")
    if found.comment != MARK or not (hyphen and group and family == str(found.family)):
        return None
    ours = GroupSet(group, found.family)
    return ours if ours.name == found.name else None


def _elements(members: Iterator[Member]) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for member in members:
        found[member.of.name].append(member.address)
    return found


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        raise ApplyError(error.why, str(error)) from error
