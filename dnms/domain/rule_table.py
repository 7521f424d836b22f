"""Security rules, as people write them in a plan, and what has to be right in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from dnms.domain.written import Table
from dnms.events.ip import Prefix, parse_prefix
from dnms.events.plan import Name
from dnms.events.requests import ApplyPlan
from dnms.events.rule import Action, Direction, Peer, Ports, Protocol, Rule

ANY = "any"
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


class RuleTable(Table, kw_only=True):
    """`[[rule]]`. Of an ingress rule `to` is its group, of an egress rule `from`."""

    name: Name
    direction: Direction
    from_: list[str] | str = msgspec.field(name="from", default=ANY)
    to: list[str] | str = ANY
    protocol: Protocol = "any"
    ports: list[str | int] = []
    action: Action = "accept"


class RuleError(ValueError):
    """What is wrong; `field` is where, in the table."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def rule_of(table: RuleTable) -> Rule:
    """As the plan has it. RuleError."""
    own, other = ("to", "from") if table.direction == "ingress" else ("from", "to")
    ends = {"from": _listed(table.from_), "to": _listed(table.to)}
    if len(ends[own]) != 1 or not ends[own][0].startswith("group:"):
        raise RuleError(own, f'of an {table.direction} rule, expected one group, such as "group:sales"')
    return Rule(
        name=table.name,
        direction=table.direction,
        group=ends[own][0].removeprefix("group:"),
        peers=_peers(ends[other], other),
        protocol=table.protocol,
        ports=tuple(_ports(text, f"ports[{index}]") for index, text in enumerate(table.ports)),
        action=table.action,
    )


def table_of(rule: Rule) -> dict[str, Any]:
    """As it is written."""
    peers = [peer_text(peer) for peer in rule.peers] or [ANY]
    own = [f"group:{rule.group}"]
    source, destination = (peers, own) if rule.direction == "ingress" else (own, peers)
    return (
        {"name": rule.name, "direction": rule.direction, "from": source, "to": destination, "protocol": rule.protocol}
        | ({"ports": list(map(ports_text, rule.ports))} if rule.ports else {})
        | {"action": rule.action}
    )


def peer_text(peer: Peer) -> str:
    """As it is written."""
    if peer.prefix is not None:
        return str(peer.prefix)
    return f"group:{peer.group}" if peer.group else f"subnet:{peer.subnet}"


def ports_text(ports: Ports) -> str:
    """As it is written."""
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def problems(request: ApplyPlan) -> Iterator[str]:
    """What of the rules does not fit to the rest of the plan, each with its place."""
    groups = {group.name for group in request.groups}
    subnets = {subnet.name for subnet in request.subnets}
    for index, rule in enumerate(request.rules):
        place = f"$.rule[{index}]"
        own, other = ("to", "from") if rule.direction == "ingress" else ("from", "to")
        if rule.group not in groups:
            yield f"{place}.{own}: there is no group {rule.group!r}; expected one of {sorted(groups)}"
        for nth, peer in enumerate(rule.peers):
            if peer.group and peer.group not in groups:
                yield f"{place}.{other}[{nth}]: there is no group {peer.group!r}; expected one of {sorted(groups)}"
            if peer.subnet and peer.subnet not in subnets:
                yield f"{place}.{other}[{nth}]: there is no subnet {peer.subnet!r}; expected one of {sorted(subnets)}"
            if (bool(peer.group), bool(peer.subnet), peer.prefix is not None).count(True) != 1:
                yield f"{place}.{other}[{nth}]: expected a group, a subnet or a prefix, and one of them alone"
        if rule.ports and rule.protocol not in ("tcp", "udp"):
            yield f"{place}.ports: {rule.protocol} has no ports; expected protocol tcp or udp, or leave them out"
        for nth, ports in enumerate(rule.ports):
            if ports.first > ports.last:
                yield f"{place}.ports[{nth}]: {ports_text(ports)} ends before it begins"


def _listed(said: list[str] | str) -> list[str]:
    return [said] if isinstance(said, str) else said


def _peers(texts: list[str], field: str) -> tuple[Peer, ...]:
    if texts == [ANY]:
        return ()
    if not texts:
        raise RuleError(field, 'expected "any", "group:NAME", "subnet:NAME" or a prefix')
    return tuple(_peer(text, f"{field}[{index}]") for index, text in enumerate(texts))


def _peer(text: str, field: str) -> Peer:
    kind, colon, name = text.partition(":")
    if colon and kind in ("group", "subnet"):
        return Peer(group=name) if kind == "group" else Peer(subnet=name)
    if text == ANY:
        raise RuleError(field, '"any" stands alone')
    return Peer(prefix=_prefix(text, field))


def _prefix(text: str, field: str) -> Prefix:
    try:
        return parse_prefix(text)
    except ValueError as error:
        raise RuleError(field, f'expected "any", "group:NAME", "subnet:NAME" or a prefix: {error}') from error


def _ports(said: str | int, field: str) -> Ports:
    match = _PORTS.fullmatch(str(said))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not 0 <= first <= last < 1 << 16:
        raise RuleError(
            field, f'expected a port or a range of ports, such as "5060" or "10000-20000", and not {said!r}'
        )
    return Ports(first=first, last=last)
