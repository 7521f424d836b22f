"""What of the firewall people are shown: its rules with their counters, who is in the groups, and what else drops."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from dnms.linux import nftables, ruleset
from dnms.linux.errors import KernelError
from dnms.subscribers.firewall.items import CHAIN, SWITCH, TABLE, AddressSet, Chain, Confirmed, Member, Rule
from dnms.subscribers.firewall.kernel import Kernel
from dnms.subscribers.firewall.options import Options
from dnms.subscribers.subscriber import ApplyError

FAMILIES = ("inet", "bridge")

_GROUP = re.compile(rf"{CHAIN}(in|out)_([a-z0-9-]+)")


class ShownRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that counts. Of one of the plan `rule` is its name there; another is what stands behind those."""

    table: str  # inet or bridge
    rule: str
    direction: str  # ingress, egress; empty: of the source guard
    group: str  # or, of the guard, the subnet
    peers: list[str]  # empty: in `match`, or anybody
    match: str  # in nft's language
    verdict: str
    packets: int
    bytes: int
    planned: bool


class ShownGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How many members' addresses and prefixes are in the sets of a group."""

    table: str
    group: str
    ipv4: int = 0
    ipv6: int = 0
    prefixes: int = 0


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The firewall of this machine."""

    rules: list[ShownRule]
    groups: list[ShownGroup]
    input: str  # none, unconfirmed, confirmed
    warnings: list[str]


async def shown() -> Shown | None:
    """What is there; None if nothing of ours is. ApplyError."""
    try:
        tables = {each["table"]["family"] for each in await nftables.list_json("tables") if _is_ours(each)}
        kernel = Kernel(Options(bridge=True))
        found = await kernel.actual()
        if not tables:
            return None
        rules = await kernel.rules()
        hooks = frozenset((item.table, item.hook) for item in found.ours if isinstance(item, Chain) and item.hook)
        dropping = await ruleset.dropping(hooks, but=TABLE)
    except KernelError as error:
        raise ApplyError(error.why, str(error)) from error
    warnings = [f"{each}: what is accepted here falls there all the same" for each in dropping]
    has_input = any(isinstance(item, Chain) and item.hook == "input" for item in found.ours)
    state = ("confirmed" if Confirmed() in found.ours else "unconfirmed") if has_input else "none"
    if state == "unconfirmed":
        warnings.append(f"the rules for input let all through: the bus was not reached with them (set {SWITCH})")
    return Shown(
        rules=list(_rules(rules)),
        groups=_groups(item for item in found.ours if isinstance(item, Member | AddressSet)),
        input=state,
        warnings=warnings,
    )


def _is_ours(entry: dict[str, dict[str, str]]) -> bool:
    return "table" in entry and entry["table"]["name"] == TABLE and entry["table"]["family"] in FAMILIES


def _rules(rules: list[tuple[str, Rule, nftables.Rule]]) -> Iterable[ShownRule]:
    """Those that count; to those in a chain of their own one comes from others, which say the peers."""
    callers: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    for table, ours, read in rules:
        _, jump, target = read.text.partition(f" jump {CHAIN}rule_")
        if jump:
            callers[table, f"{CHAIN}rule_{target.split()[0]}"].append(ours)
    for table, ours, read in rules:
        if read.packets is None:
            continue
        by = callers.get((table, ours.chain), [])
        match = _GROUP.fullmatch(by[0].chain if by else ours.chain)
        text = read.text.replace(" counter ", " ").removeprefix("counter ")
        what, _, verdict = text.rpartition(" ") if " goto " not in text else text.rpartition(" goto ")
        yield ShownRule(
            table=table,
            rule=ours.about,
            direction={"in": "ingress", "out": "egress"}[match[1]] if match else "",
            group=match[2] if match else ours.chain.removeprefix(f"{CHAIN}guard_"),
            peers=sorted({each.about for each in by}),
            match=what,
            verdict="drop" if verdict == "drop" else "accept",
            packets=read.packets,
            bytes=read.bytes or 0,
            planned=" " not in ours.about,
        )


def _groups(items: Iterable[Member | AddressSet]) -> list[ShownGroup]:
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for item in items:
        of = item.of if isinstance(item, Member) else item
        name, slash, length = of.name.partition("/")
        group = name.rpartition("-")[0]
        if of.name.startswith(("held_", "mac_", "net_")) or length == "80":
            continue
        count = counts.setdefault((of.table, group.removeprefix("_")), {"ipv4": 0, "ipv6": 0, "prefixes": 0})
        if isinstance(item, Member):
            count["prefixes" if slash else f"ipv{of.family}"] += 1
    return [ShownGroup(table=table, group=group, **count) for (table, group), count in sorted(counts.items())]
