"""The chains and rules that security rules of the plan become, as nft writes them. Pure.

    dnms_forward (hook)   source guard; established; ICMPv6 errors; from a group with egress rules to its dnms_out_…
    dnms_out_GROUP        its egress rules, then drop; what is accepted goes on to dnms_ingress
    dnms_ingress          to a group with ingress rules to its dnms_in_…; the rest is accepted
    dnms_in_GROUP         its ingress rules, then drop
    dnms_rule_NAME        a rule whose other end is found in several ways: they all lead here, where it is written once
    dnms_guard_SUBNET     what its nodes hold returns, the rest is dropped
    dnms_input (hook)     if asked: as forward, without guard and egress

A group is found by its addresses first, then by prefixes, longest first: an address in a prefix that was delegated to a
member of one group may be of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from dnms.domain.rule_table import peer_text
from dnms.events.ip import MAPPED_BITS, Prefix, format_address
from dnms.events.rule import Peer, Ports
from dnms.events.rule import Rule as Security
from dnms.subscribers.firewall.items import (
    CHAIN,
    FULL,
    SWITCH,
    AddressSet,
    Chain,
    Item,
    Rule,
    group_set,
    hardware_set,
    held_set,
    net_set,
    rule,
)

FORWARD, INPUT, INGRESS = f"{CHAIN}forward", f"{CHAIN}input", f"{CHAIN}ingress"
FIELD = 80
"""Of an IPv6 address that says its group, so many bits are the subnet's prefix and the group's number."""

ERRORS = "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"
"""RFC 4890, 4.3.1: what must not be dropped; echo passes where a rule lets it."""

ON_LINK = (
    "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, nd-router-solicit, nd-router-advert, "
    "nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }"
)
"""RFC 4890, 4.4.1: neighbour discovery with DAD, and MLD, which are never routed."""

TRACKED = "ct state established,related accept"
UNTRACKED = "tcp flags != syn / syn,ack accept"
"""Where a bridge has no connection tracking: TCP that does not begin here."""

UNTRACKED_ERRORS = "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept"

GUARDS, ESTABLISHED, NEEDED, GROUPS, LAST = 0, 10, 20, 40, 900
"""Slots."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the rules depend on."""

    groups: tuple[str, ...] = ()
    rules: tuple[Security, ...] = ()
    by_field: bool = False  # a member's IPv6 address always says its group
    has_v4: bool = False
    has_prefixes: bool = False  # members may have prefixes beside addresses
    lengths: Mapping[str, tuple[int, ...]] = {}  # by group: of the prefixes (IPv6) that its members have
    nets: Mapping[str, tuple[tuple[int, int], ...]] = {}  # by subnet: family and length of its prefixes
    guard: Mapping[str, tuple[str, ...]] = {}  # by subnet: links
    held: Mapping[str, tuple[int, ...]] = {}  # by subnet: lengths of prefixes (IPv6) that its nodes hold
    tables: tuple[str, ...] = ("inet",)
    tracked: bool = True  # whether bridges have connection tracking here
    input: bool = False


def sets_of_group(facts: Facts, group: str) -> list[AddressSet]:
    """By which a member of it is found; those of addresses first, then of prefixes, longest first."""
    sets = [group_set(group, 6, FIELD if facts.by_field else 0)]
    if facts.has_v4:
        sets.append(group_set(group, 4))
    return sets + [group_set(group, 6, length) for length in sorted(facts.lengths.get(group, ()), reverse=True)]


def items(facts: Facts) -> Iterator[Item]:
    """Every chain and rule; none if the plan has no rules and nothing is guarded."""
    if not facts.rules and not facts.guard:
        return
    for table in facts.tables:
        builder = _Builder(facts, table)
        yield from builder.items()


class _Builder:
    """Of one table."""

    def __init__(self, facts: Facts, table: str) -> None:
        self._facts = facts
        self._table = table

    def items(self) -> Iterator[Item]:
        yield Chain(FORWARD, "forward", self._table)
        yield Chain(INGRESS, "", self._table)
        for subnet in self._facts.guard:
            yield from self._guard(subnet)
        yield from self._needed(FORWARD)
        yield from self._dispatch("egress", FORWARD)
        yield self._rule(FORWARD, LAST, "on to ingress", f"goto {INGRESS}")
        yield from self._dispatch("ingress", INGRESS)
        yield self._rule(INGRESS, LAST, "the rest", "accept")
        if self._facts.input and self._table == "inet":
            yield Chain(INPUT, "input", self._table)
            yield self._rule(INPUT, GUARDS, "all passes until it is confirmed", f"meta nfproto != @{SWITCH} accept")
            yield self._rule(INPUT, GUARDS + 1, "this machine's own", 'iifname "lo" accept')
            yield from self._needed(INPUT)
            yield self._rule(INPUT, LAST, "on to ingress", f"goto {INGRESS}")

    def _rule(self, chain: str, slot: int, about: str, text: str) -> Rule:
        return rule(chain, slot, about, text, self._table)

    def _needed(self, chain: str) -> Iterator[Item]:
        tracked = self._table == "inet" or self._facts.tracked
        yield self._rule(chain, ESTABLISHED, "established connections", TRACKED if tracked else UNTRACKED)
        if not tracked:
            yield self._rule(chain, NEEDED, "ICMP errors", UNTRACKED_ERRORS)
        yield self._rule(chain, NEEDED, "ICMPv6 errors, RFC 4890", f"{ERRORS} accept")
        if self._table == "bridge" or chain == INPUT:
            yield self._rule(chain, NEEDED, "neighbour discovery and MLD", f"{ON_LINK} accept")

    def _guard(self, subnet: str) -> Iterator[Item]:
        chain = f"{CHAIN}guard_{subnet}"
        yield Chain(chain, "", self._table)
        for link in self._facts.guard[subnet]:
            yield self._rule(FORWARD, GUARDS, f"source guard of {subnet}", f'iifname "{link}" jump {chain}')
        yield self._rule(chain, 0, "DAD and MLD", "ip6 saddr :: meta l4proto ipv6-icmp return")
        yield self._rule(chain, 0, "link-local", "ip6 saddr fe80::/10 return")
        yield self._rule(chain, 0, "DHCPv4", "ip saddr 0.0.0.0 meta l4proto udp return")
        for family, field in ((6, "ip6"), (4, "ip")):
            held, pairs = held_set(subnet, family).name, hardware_set(subnet, family).name
            yield self._rule(chain, 1, f"held in {subnet}", f"{field} saddr @{held} return")
            yield self._rule(chain, 1, f"held in {subnet}", f"ether saddr . {field} saddr @{pairs} return")
        for length in self._facts.held.get(subnet, ()):
            text = _match(held_set(subnet, 6, length), "saddr")
            yield self._rule(chain, 2, f"delegated in {subnet}", f"{text} return")
        yield self._rule(chain, LAST, f"not held in {subnet}", "meta protocol { ip, ip6 } counter drop")

    def _dispatch(self, direction: str, chain: str) -> Iterator[Item]:
        """To the chain of each group that has rules of this direction, and those chains."""
        side, verdict = ("saddr", f"goto {INGRESS}") if direction == "egress" else ("daddr", "accept")
        word, preposition = ("out", "from") if direction == "egress" else ("in", "to")
        ruled = {each.group for each in self._facts.rules if each.direction == direction}
        if not ruled:
            return
        for group in self._facts.groups:
            own = f"{CHAIN}{word}_{group}"
            if group in ruled:
                yield Chain(own, "", self._table)
                for each in self._facts.rules:
                    if (each.direction, each.group) == (direction, group):
                        yield from self._security(each, own, verdict)
                yield self._rule(own, LAST, f"nothing else {preposition} {group}", "counter drop")
            elif not self._facts.has_prefixes:
                continue
            for each_set in sets_of_group(self._facts, group):
                slot = GROUPS + 128 - (each_set.length if each_set.family == 6 else 128)
                action = f"jump {own}" if group in ruled else verdict
                text = f"{_match(each_set, side)} {action}"
                yield self._rule(chain, slot, f"{preposition} members of {group}", text)

    def _security(self, security: Security, chain: str, accept: str) -> Iterator[Item]:
        side = "saddr" if security.direction == "ingress" else "daddr"
        slot = 10 if security.action == "drop" else 20
        what = _what(security)
        verdict = f"counter {'drop' if security.action == 'drop' else accept}"
        ways = [(peer, way) for peer in security.peers for way in self._ways(peer, side)]
        if not security.peers or (len(ways) == 1 and self._is_steady(security.peers)):
            text = " ".join(filter(None, (*(way for _, way in ways), what, verdict)))
            yield self._rule(chain, slot, security.name, text)
            return
        own = f"{CHAIN}rule_{security.name}"
        yield Chain(own, "", self._table)
        for peer, way in ways:
            yield self._rule(chain, slot, peer_text(peer), f"{way} jump {own}")
        yield self._rule(own, 0, security.name, " ".join(filter(None, (what, verdict))))

    def _is_steady(self, peers: Sequence[Peer]) -> bool:
        """Whether they are found in one way, whatever members are given: else the rule would move, with its counter."""
        return all(peer.prefix is not None or (peer.group and not self._facts.has_prefixes) for peer in peers)

    def _ways(self, peer: Peer, side: str) -> list[str]:
        if peer.prefix is not None:
            return [_prefix(peer.prefix, side)]
        if peer.group:
            return [_match(each, side) for each in sets_of_group(self._facts, peer.group)]
        return [_match(net_set(peer.subnet, *net), side) for net in self._facts.nets.get(peer.subnet, ())]


def _match(each: AddressSet, side: str) -> str:
    field = "ip6" if each.family == 6 else "ip"
    mask = "" if each.length == FULL[each.family] else f" & {each.mask} =="
    return f"{field} {side}{mask} @{each.name}"


def _prefix(prefix: Prefix, side: str) -> str:
    bits = prefix.length - MAPPED_BITS if prefix.family == 4 else prefix.length
    field = "ip6" if prefix.family == 6 else "ip"
    if not bits:
        return f"meta protocol {field}"
    return f"{field} {side} {prefix if bits < FULL[prefix.family] else format_address(prefix.network)}"


def _what(security: Security) -> str:
    match security.protocol:
        case "any":
            return ""
        case "icmp":
            return "meta l4proto { icmp, ipv6-icmp }"
    if not security.ports:
        return f"meta l4proto {security.protocol}"
    ports = list(_merged(security.ports))
    listed = ports[0] if len(ports) == 1 else f"{{ {', '.join(ports)} }}"
    return f"{security.protocol} dport {listed}"


def _merged(ports: Sequence[Ports]) -> Iterator[str]:
    """In their order, without overlap, which nft refuses."""
    found: list[tuple[int, int]] = []
    for each in sorted(ports, key=lambda one: (one.first, one.last)):
        if found and each.first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], each.last)
        else:
            found.append((each.first, each.last))
    for first, last in found:
        yield str(first) if first == last else f"{first}-{last}"
