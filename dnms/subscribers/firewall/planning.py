"""What to change of what is there. Pure."""

from __future__ import annotations

from dnms.subscribers.firewall.items import TABLE, AddressSet, Chain, Confirmed, Item, Member, OurTable, Rule
from dnms.subscribers.subscriber import Actual, Plan


class Found(Actual[Item], frozen=True, kw_only=True):
    """Our tables as they are."""

    others: frozenset[tuple[str, str]] = frozenset()  # sets that are not ours: table and name
    referenced: frozenset[tuple[str, str]] = frozenset()  # sets and chains that rules of others use: table and name


def plan(wanted: frozenset[Item], actual: Found) -> Plan[Item]:
    """Wanted minus actual, but for names that others have; actual minus wanted, but for sets that rules refer to."""
    add = wanted - actual.ours
    drop = actual.ours - wanted
    taken = {_key(item) for item in add if isinstance(item, AddressSet) and _key(item) in actual.others}
    kept = {item for item in drop if isinstance(item, AddressSet | Chain) and _key(item) in actual.referenced}
    notes = [f"set {name} in table {table} {TABLE} is not ours, and is left as it is" for table, name in sorted(taken)]
    notes += [
        f"set {item.name} has no group any more, and a rule refers to it: it is emptied and kept"
        if isinstance(item, AddressSet)
        else f"{item} is not needed any more, and a rule of yours leads there: it is emptied and kept"
        for item in sorted(kept, key=str)
    ]
    if taken:
        add = frozenset(item for item in add if not _is_in(item, taken))
    return Plan(
        add=add,
        late=frozenset(item for item in add if isinstance(item, Chain | Rule | Confirmed)),
        drop=frozenset(item for item in drop - kept if not isinstance(item, OurTable)),
        notes=tuple(notes),
    )


def _key(item: AddressSet | Chain) -> tuple[str, str]:
    return item.table, item.name


def _is_in(item: Item, keys: set[tuple[str, str]]) -> bool:
    of = item.of if isinstance(item, Member) else item
    return isinstance(of, AddressSet) and _key(of) in keys
