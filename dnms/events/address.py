"""Family `address`: what a ledger holds of leases. Subject `ledger.<subnet>`.

Instants are microseconds since 1970-01-01 UTC. `valid_until` is what the client was told; `horizon` is until when the
log promises the address to it, never earlier: a renewal that ends before the horizon needs no event.
"""

from __future__ import annotations

from dnms.events.configuration import ClientId, Iaid
from dnms.events.ip import Address, Prefix
from dnms.events.plan import Name
from dnms.events.recorded import Event


class AddressAllocated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A pool gave one address to one client."""

    NAME = "address.allocated"
    address: Address
    client: ClientId
    iaid: Iaid
    pool: Name
    group: int = 0
    counter: int = 0  # which candidate of the strategy it is
    valid_until: int
    horizon: int
    origin: str = ""  # the kind of the server that had leased it before; empty: it is first given here


class AddressRenewed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The client keeps its address for longer."""

    NAME = "address.renewed"
    address: Address
    client: ClientId
    iaid: Iaid
    valid_until: int
    horizon: int


class AddressReleased(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The client gave its address back."""

    NAME = "address.released"
    address: Address
    client: ClientId
    iaid: Iaid


class AddressExpired(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The horizon passed and nobody had renewed."""

    NAME = "address.expired"
    address: Address
    client: ClientId
    iaid: Iaid


class AddressDeclined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The client found the address in use by another, and nobody gets it until `quarantined_until`."""

    NAME = "address.declined"
    address: Address
    client: ClientId
    iaid: Iaid
    quarantined_until: int


class AddressWithdrawn(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The lease ended before its time: the adopted plan has no place for it any more, or an operator ended it.

    It is kept from others until its horizon, since the client may not have heard of that.
    """

    NAME = "address.withdrawn"
    address: Address
    client: ClientId
    iaid: Iaid


class AddressDeprecated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Another address takes its place: the client may use it until `valid_until`, and is not given more of it.

    It is kept from others until its horizon, since the client may not have heard of that.
    """

    NAME = "address.deprecated"
    address: Address
    client: ClientId
    iaid: Iaid
    valid_until: int


class AddressHeld(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The address is this client's alone, whether it is there or not; it is given it when it asks."""

    NAME = "address.held"
    address: Address
    client: ClientId
    iaid: Iaid
    planned: bool = False  # the plan reserves it, and ends that too
    reserved_for: ClientId | None = None  # in the plan, where that is not this client on this interface by name


class AddressUnheld(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The address is no longer kept for the client; a lease of it goes on."""

    NAME = "address.unheld"
    address: Address
    client: ClientId
    iaid: Iaid


class AddressBlocked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody uses the address who was not given it: nobody else gets it until `blocked_until`."""

    NAME = "address.blocked"
    address: Address
    client: ClientId  # who uses it
    blocked_until: int
    cause: int = 0  # sequence of the commit on `seen` in which that was seen


class OutageGranted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """While the log was away an agent gave this address to this client: a fact, whoever else has it meanwhile.

    Where that is `contested`, the other one is in the log already and keeps it.
    """

    NAME = "outage.granted"
    address: Address
    client: ClientId
    iaid: Iaid
    pool: Name
    group: int = 0
    counter: int = 0
    valid_until: int
    horizon: int
    happened: int  # by the agent's reckoning of the log's clock
    contested: bool = False


class HashMoved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """From now on this client's candidates in this prefix begin at `counter`: an exception to the hash (RFC 7943)."""

    NAME = "hash.moved"
    client: ClientId
    iaid: Iaid
    prefix: Prefix
    counter: int


EVENTS = (
    AddressAllocated,
    AddressRenewed,
    AddressReleased,
    AddressExpired,
    AddressDeclined,
    AddressWithdrawn,
    AddressDeprecated,
    AddressHeld,
    AddressUnheld,
    AddressBlocked,
    OutageGranted,
    HashMoved,
)
