"""Family `uplink`: prefixes that a router was delegated from above. Subject `ledger.<subnet>`, of each that is cut from
them.

No lifetime below exceeds the one above. Instants are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from dnms.events.ip import Prefix
from dnms.events.plan import Name
from dnms.events.recorded import Event, Part


class Source(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Who delegated a prefix, and by which entry of which log, where that was DNMS."""

    name: str  # as people read it: `dhcpv6` and the server's DUID, or `dnms` with site and subnet
    log: str = ""  # the id of the log that has the delegation; empty: none that is known
    position: int = 0  # sequence of the commit that delegated it


class UplinkReceived(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A prefix was delegated to this router, or lasts for longer, or is deprecated no more."""

    NAME = "uplink.received"
    uplink: Name
    prefix: Prefix
    preferred_until: int
    valid_until: int
    source: Source
    exclude: Prefix | None = None  # of it, what stays with the link towards the delegating router (RFC 6603)
    agent: str = ""  # the Subnet Agent whose machine has it: a link may have several routers, each with its own uplink


class UplinkDeprecated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The prefix may be used until `valid_until`, and nothing new is to begin with it."""

    NAME = "uplink.deprecated"
    uplink: Name
    prefix: Prefix
    valid_until: int
    source: Source
    agent: str = ""


class UplinkLost(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The router has the prefix no longer."""

    NAME = "uplink.lost"
    uplink: Name
    prefix: Prefix
    why: str  # a stable word: expired, cut, withdrawn, released, not-planned


EVENTS = (UplinkReceived, UplinkDeprecated, UplinkLost)
