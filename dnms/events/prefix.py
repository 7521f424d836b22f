"""Family `prefix`: what a ledger holds of delegated prefixes (RFC 8415, 6.3). Subject `ledger.<subnet>`.

Each of them says the prefix and the delegate's address, at the end of its life too, so that a route or a rule needs no
other event. Instants are microseconds since 1970-01-01 UTC; `horizon` is until when the log promises the prefix.
"""

from __future__ import annotations

from dnms.events.configuration import ClientId, Iaid
from dnms.events.ip import Address, Prefix
from dnms.events.plan import Name
from dnms.events.recorded import Event


class PrefixDelegated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A delegation pool gave one prefix to one client."""

    NAME = "prefix.delegated"
    prefix: Prefix
    client: ClientId
    iaid: Iaid
    delegation: Name  # the pool
    next_hop: Address  # the client's on the link, link-local as a rule; unspecified: it is not known yet
    interface: str = ""  # of the agent that answered it, towards the link
    group: int = 0
    counter: int = 0  # which candidate of the strategy it is
    exclude: Prefix | None = None  # of it, what the delegating link has itself (RFC 6603)
    valid_until: int
    horizon: int
    origin: str = ""  # the kind of the server that had delegated it before; empty: it is first given here


class PrefixRenewed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The client keeps its prefix for longer, or is to be reached by another address."""

    NAME = "prefix.renewed"
    prefix: Prefix
    client: ClientId
    iaid: Iaid
    next_hop: Address
    interface: str = ""
    group: int = 0
    valid_until: int
    horizon: int


class PrefixReleased(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The client gave its prefix back."""

    NAME = "prefix.released"
    prefix: Prefix
    client: ClientId
    iaid: Iaid
    next_hop: Address


class PrefixExpired(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The horizon passed and nobody had renewed."""

    NAME = "prefix.expired"
    prefix: Prefix
    client: ClientId
    iaid: Iaid
    next_hop: Address


class PrefixDeprecated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Another prefix takes its place: the client may use it until `valid_until`, and is not given more of it."""

    NAME = "prefix.deprecated"
    prefix: Prefix
    client: ClientId
    iaid: Iaid
    next_hop: Address
    valid_until: int


class PrefixWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The delegation ended before its time: what it was cut from is gone, or the plan has no place for it any more."""

    NAME = "prefix.withdrawn"
    prefix: Prefix
    client: ClientId
    iaid: Iaid
    next_hop: Address


EVENTS = (
    PrefixDelegated,
    PrefixRenewed,
    PrefixReleased,
    PrefixExpired,
    PrefixDeprecated,
    PrefixWithdrawn,
)
