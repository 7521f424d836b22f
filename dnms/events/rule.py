"""Family `rule`: what may pass to and from the members of groups. Subject `plan`.

The words are those of security groups elsewhere: a rule is of one direction and one group, and whoever has a rule of a
direction gets nothing else in it. Rules have no order: a `drop` wins over every `accept`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dnms.events.ip import Prefix
from dnms.events.plan import Name
from dnms.events.recorded import Event, Part, share_defaults

Port = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Direction = Literal["ingress", "egress"]
Protocol = Literal["any", "tcp", "udp", "icmp"]
Action = Literal["accept", "drop"]


class Ports(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Destination ports, both ends included."""

    first: Port
    last: Port


class Peer(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Who is at the other end: exactly one of these is given."""

    group: str = ""  # its members
    subnet: str = ""  # whatever is in its prefixes
    prefix: Prefix | None = None

    def __post_init__(self) -> None:
        share_defaults(self)


class Rule(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What the members of a group may be sent (`ingress`), or may send (`egress`)."""

    name: Name
    direction: Direction
    group: Name
    peers: tuple[Peer, ...] = ()  # any of them; none: whoever it is
    protocol: Protocol = "any"  # icmp: of either family
    ports: tuple[Ports, ...] = ()  # of tcp and udp; none: every one
    action: Action = "accept"

    def __post_init__(self) -> None:
        share_defaults(self)


class RuleDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is this rule, or it has changed to this."""

    NAME = "rule.defined"
    rule: Rule


class RuleWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The rule is no longer wanted."""

    NAME = "rule.withdrawn"
    name: Name


EVENTS = (RuleDefined, RuleWithdrawn)
