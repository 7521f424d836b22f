"""What is asked of a ledger that delegates, and a plan of a link that has its prefix from above."""

from __future__ import annotations

from collections.abc import Iterable

from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.prefix import PrefixDelegated
from dnms.events.recorded import Event
from dnms.events.requests import DelegatePrefix, ReportUplink, UplinkPrefix
from dnms.events.uplink import Source
from tests.unit.domain.clerk import SECOND, client

HOP, OTHER_HOP = parse_address("fe80::1"), parse_address("fe80::2")
SOURCE = Source(name="dhcpv6 00:01")
OLD, NEW = parse_prefix("2001:db8:1:100::/56"), parse_prefix("2001:db8:2:200::/56")

CUT = """
[site]
name = "s"
[[uplink]]
name = "wan"
protocol = "dhcpv6"
[[subnet]]
name = "office"
uplink = "wan"
[[pool]]
name = "hosts"
subnet = "office"
range = "::/64"
valid = 100
preferred = 60
drain = 40
[[delegation]]
name = "blocks"
subnet = "office"
length = 60
valid = 100
preferred = 60
drain = 40
"""


def wants(number: int, *, length: int = 0, hop: bytes = HOP, excludes: bool = False) -> DelegatePrefix:
    return DelegatePrefix(client=client(number), iaid=1, length=length, next_hop=hop, interface="e", excludes=excludes)


def above(*prefixes: tuple[Prefix, int, int], exclude: Prefix | None = None, why: str = "cut") -> ReportUplink:
    """Each with the seconds since 1970 until which it is preferred and valid."""
    several = tuple(
        UplinkPrefix(prefix=p, preferred_until=preferred * SECOND, valid_until=valid * SECOND, exclude=exclude)
        for p, preferred, valid in prefixes
    )
    return ReportUplink(uplink="wan", prefixes=several, source=SOURCE, why=why)


def given_to(events: Iterable[Event]) -> Prefix:
    [found] = [event.prefix for event in events if isinstance(event, PrefixDelegated)]
    return found


def kinds(events: Iterable[Event]) -> list[type[Event]]:
    return [type(event) for event in events]
