"""The tables in the kernel: what of them is ours, and changes to it in one transaction a table.

They are read again only if somebody has changed anything of nftables since: the kernel counts its transactions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager

import msgspec

from dnms.linux import nftables, ruleset
from dnms.linux.errors import KernelError
from dnms.subscribers.firewall.items import (
    CHAIN,
    MARK,
    SWITCH,
    TABLE,
    AddressSet,
    Chain,
    Confirmed,
    Item,
    Member,
    OurTable,
    Rule,
    digest_of,
    rule_of,
    set_of,
)
from dnms.subscribers.firewall.options import NOTHING, Options
from dnms.subscribers.firewall.planning import Found
from dnms.subscribers.subscriber import ApplyError, PartlyApplied, Plan

TRY_INPUT_AGAIN = 3_600.0
"""Seconds after rules for `input` with which the bus was not reached, until the same are tried again: each time they
cut off whoever is not let in, and most likely the operator who mends them."""

READS = 3  # attempts to read all tables while nobody changes them

Reaches = Callable[[float], Awaitable[bool]]
"""Whether the bus is reached anew, within so many seconds."""


class _Seen(msgspec.Struct, frozen=True):
    """All that was read, at one generation."""

    generation: int
    found: Found
    rules: dict[str, tuple[nftables.Rule, ...]]  # by table


class Kernel:
    """Our tables. Implements `subscriber.World`."""

    def __init__(self, options: Options = NOTHING, reaches: Reaches | None = None) -> None:
        """`reaches` is needed for `input`."""
        self._options = options
        self._reaches = reaches
        self._tables = {kind: nftables.Table(TABLE, kind) for kind in options.tables}
        self._seen: _Seen | None = None
        self._idle = asyncio.Event()  # not set while we change something: that is no news
        self._idle.set()
        self._looked = False
        self._cut_off: float | None = None  # when, on the loop's clock, rules for `input` did that to the bus
        self._printed: dict[tuple[str, str, str], str] = {}  # by table, chain and comment: how this nft writes it

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yields when somebody else has changed our tables since they were looked at. KernelError."""
        async with aclosing(ruleset.changes(TABLE)) as changes:
            async for _ in changes:
                await self._idle.wait()
                if self._looked and not self._is_known(ruleset.generation()):
                    yield

    async def actual(self) -> Found:
        """What of our tables is ours. ApplyError."""
        with _told():
            return (await self._look()).found

    async def rules(self) -> list[tuple[str, Rule, nftables.Rule]]:
        """Our rules with their tables and counters, as they are now. ApplyError."""
        self._seen = None
        with _told():
            seen = await self._look()
        found = []
        for table, read in seen.rules.items():
            for each in read:
                ours = self._ours(table, each)
                if ours is not None:
                    found.append((table, ours, each))
        return found

    async def apply(self, plan: Plan[Item]) -> None:
        """Each table in one transaction. ApplyError, and then nothing was changed of a table.

        PartlyApplied `not-confirmed`: the bus is not reached with new rules for `input`, which let all through then.
        """
        self._idle.clear()
        try:
            await self._apply(plan)
        finally:
            self._idle.set()

    async def _apply(self, plan: Plan[Item]) -> None:
        with _told():
            seen, transactions = await self._look(), 0
            waits = self._waits([*plan.add, *plan.drop])
            added, dropped = _by_table(plan.add - {Confirmed()} if waits else plan.add), _by_table(plan.drop)
            for kind, table in self._tables.items():
                add, drop = added.get(kind, []), dropped.get(kind, [])
                if not add and not drop:
                    continue
                arming = kind == "inet" and self._arms([*add, *drop])
                change = self._change(kind, add, drop, seen)
                if arming:
                    change = msgspec.structs.replace(change, first=tuple(_armed(self._options.confirm)))
                elif Confirmed() in drop:
                    change = msgspec.structs.replace(change, last=(f"delete set inet {TABLE} {SWITCH}",))
                self._seen = None
                await table.change(change)
                if arming:
                    await self._confirm(table)
                transactions += 1 + arming
            if waits:
                self._seen = None
                raise _not_confirmed()
            await self._remember(seen, plan, transactions)

    # --- reading

    async def _look(self) -> _Seen:
        generation = ruleset.generation()
        self._looked = True
        if self._seen is None or not self._is_known(generation):
            for _ in range(READS):
                read = {kind: await table.read() for kind, table in self._tables.items()}
                before, generation = generation, ruleset.generation()
                if before == generation:
                    break
            else:
                generation = -1  # somebody changes it all the time: read it again
            self._seen = self._made(generation, read)
        return self._seen

    def _is_known(self, generation: int) -> bool:
        return self._seen is not None and self._seen.generation == generation

    async def _remember(self, seen: _Seen, plan: Plan[Item], transactions: int) -> None:
        """What is there now is known, if nobody else has changed anything meanwhile; but for the handles of rules."""
        changed = {item.table for item in (*plan.add, *plan.drop) if isinstance(item, Rule | Chain)}
        rules = seen.rules | {table: (await self._tables[table].read_rules())[1] for table in changed}
        generation = seen.generation + transactions
        if ruleset.generation() == generation:
            self._learn(plan, rules)
            ours = seen.found.ours | plan.add if plan.add else seen.found.ours
            found = msgspec.structs.replace(seen.found, ours=ours - plan.drop if plan.drop else ours)
            self._seen = _Seen(generation, found, rules)

    def _learn(self, plan: Plan[Item], rules: dict[str, tuple[nftables.Rule, ...]]) -> None:
        """How this nft writes the rules that were added, where that is not how we do."""
        for table, read in rules.items():
            printed = {(each.chain, each.comment): each.text for each in read}
            for item in plan.add:
                if isinstance(item, Rule) and item.table == table:
                    key = item.chain, item.comment
                    if key in printed and printed[key] != item.text:
                        self._printed[table, *key] = printed[key]

    def _ours(self, table: str, read: nftables.Rule) -> Rule | None:
        """Which rule of ours it is; another one, if somebody has changed its text under its comment."""
        mine = rule_of(read.chain, read.comment, table)
        if mine is None:
            return None
        digest = digest_of(read.text)
        if digest == mine.digest or self._printed.get((table, read.chain, read.comment)) == read.text:
            return mine
        return msgspec.structs.replace(mine, digest=digest, text=read.text)

    def _made(self, generation: int, read: dict[str, nftables.Content | None]) -> _Seen:
        ours: set[Item] = set()
        others: set[tuple[str, str]] = set()
        referenced: set[tuple[str, str]] = set()
        rules: dict[str, tuple[nftables.Rule, ...]] = {}
        for table, content in read.items():
            if content is None:
                continue
            ours.add(OurTable(table))
            others.update((table, name) for name in content.others)
            rules[table] = content.rules
            for read_set in content.sets:
                name, comment, hardware = read_set.name, read_set.comment, read_set.hardware
                each = set_of(name, read_set.family, comment, hardware=hardware, table=table)
                if each is None:
                    others.add((table, name))
                    continue
                ours.add(each)
                ours.update(Member(each, element) for element in read_set.elements)
            ours.update(Chain(one.name, one.hook, table) for one in content.chains if one.name.startswith(CHAIN))
            if SWITCH in content.switched:
                ours.add(Confirmed())
            for rule in content.rules:
                mine = self._ours(table, rule)
                if mine is None:
                    referenced.update((table, name) for name in (*rule.sets, *rule.chains))
                else:
                    ours.add(mine)
        found = Found(ours=frozenset(ours), others=frozenset(others), referenced=frozenset(referenced))
        return _Seen(generation, found, rules)

    # --- changing

    def _change(self, table: str, add: list[Item], drop: list[Item], seen: _Seen) -> nftables.Change:
        gone_sets = {item for item in drop if isinstance(item, AddressSet)}  # with all that is in them
        gone_chains = {item.name for item in drop if isinstance(item, Chain)}
        gone = {item for item in drop if isinstance(item, Rule)}
        old = [
            each
            for each in seen.rules.get(table, ())
            if each.chain not in gone_chains and self._ours(table, each) in gone
        ]
        return nftables.Change(
            add_table=any(isinstance(item, OurTable) for item in add),
            add_sets=tuple(_made(item) for item in add if isinstance(item, AddressSet)),
            add_chains=[nftables.Chain(item.name, item.hook) for item in add if isinstance(item, Chain)],
            add_elements=_elements(item for item in add if isinstance(item, Member)),
            add_rules=list(_placed([item for item in add if isinstance(item, Rule)], seen.rules.get(table, ()), table)),
            delete_rules=old,
            delete_elements=_elements(item for item in drop if isinstance(item, Member) and item.of not in gone_sets),
            delete_chains=sorted(gone_chains),
            delete_sets=sorted(item.name for item in gone_sets),
        )

    def _arms(self, items: Iterable[Item]) -> bool:
        """Whether the bus has to be reached again with what these change."""
        return self._options.input and any(isinstance(item, Rule | Chain | Confirmed) for item in items)

    def _waits(self, items: Iterable[Item]) -> bool:
        """Whether the rules for `input` are those with which the bus was not reached, not long ago."""
        arming = [item for item in items if isinstance(item, Rule | Chain | Confirmed)]
        if self._cut_off is None or any(not isinstance(item, Confirmed) for item in arming):
            return False
        return bool(arming) and asyncio.get_running_loop().time() < self._cut_off + TRY_INPUT_AGAIN

    async def _confirm(self, table: nftables.Table) -> None:
        assert self._reaches is not None
        if not await self._reaches(self._options.confirm):
            self._cut_off = asyncio.get_running_loop().time()
            raise _not_confirmed()
        self._cut_off = None
        await table.change(nftables.Change(first=tuple(_armed(0))))


def _not_confirmed() -> PartlyApplied:
    return PartlyApplied(
        "not-confirmed",
        "with the rules for input the bus was not reached in time: they let all through again, and are not tried again "
        "for an hour unless they change; see `dnms firewall show`",
    )


def _armed(seconds: int) -> Iterator[str]:
    """Have the rules for input work from now on; 0 seconds: for good."""
    name = f"inet {TABLE} {SWITCH}"
    timeout = f" timeout {seconds}s" if seconds else ""
    yield f"add set inet {TABLE} {SWITCH} {{ type nf_proto; flags timeout; }}"
    yield f"flush set {name}"
    yield f"add element {name} {{ ipv4{timeout}, ipv6{timeout} }}"


def _placed(rules: list[Rule], there: Iterable[nftables.Rule], table: str) -> Iterator[nftables.NewRule]:
    """In the order of their slots, each before those of ours in its chain that have higher ones."""
    slots: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # by chain: slot and handle, as they stand
    for each in there:
        ours = rule_of(each.chain, each.comment, table)
        if ours is not None:
            slots[each.chain].append((ours.slot, each.handle))
    for rule in sorted(rules, key=lambda one: (one.chain, one.slot, one.about, one.digest)):
        before = next((handle for slot, handle in slots[rule.chain] if slot > rule.slot), 0)
        yield nftables.NewRule(chain=rule.chain, text=rule.text, comment=rule.comment, before=before)


def _by_table(items: Iterable[Item]) -> dict[str, list[Item]]:
    found: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.of.table if isinstance(item, Member) else item.table].append(item)
    return found


def _made(item: AddressSet) -> nftables.AddressSet:
    return nftables.AddressSet(item.name, item.family, MARK, hardware=item.hardware)


def _elements(members: Iterator[Member]) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for member in members:
        found[member.of.name].append(member.element)
    return found


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        raise ApplyError(error.why, str(error)) from error
