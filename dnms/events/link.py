"""Family `link`: what is seen on a link, of whoever is there. Subject `ledger.<subnet>`.

Several Subnet Agents see the same; the ledger makes one fact of it. A machine stands in it by its client id alone: of
one that never asked DNMS for anything, that of the DUID-LL of its hardware address (RFC 8415, 11.4). The hardware
address itself is personal, and in its `node.identified`. Instants are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from dnms.events.configuration import ClientId
from dnms.events.ip import Address, Prefix
from dnms.events.plan import Name
from dnms.events.recorded import Event, share_defaults


class AddressSighted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A machine is seen on the link with an address that no ledger gave it; or is still, after half of the time for
    which that counts, or more can be said of the address.

    How the address came about is told from its interface identifier (RFC 4291, 2.5.1), and how long it lasts mostly
    cannot be known: `sure` says which it is.
    """

    NAME = "address.sighted"
    address: Address
    client: ClientId
    form: str  # eui-64, low, link-local, random; ipv4
    lasting: str = "unknown"  # stable, temporary (RFC 8981), unknown
    sure: str = "guess"  # certain, likely, guess
    since: int  # when it was sighted first, this time
    until: int  # it is kept from others until then, if nobody sees it again

    def __post_init__(self) -> None:
        share_defaults(self)


class AddressVanished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The address was not seen for long, and nobody answered for it; or another machine has it now."""

    NAME = "address.vanished"
    address: Address
    client: ClientId
    last_seen: int  # as far as is known


class AlarmRaised(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something is wrong on the link; it is until `alarm.cleared` says that it is over."""

    NAME = "alarm.raised"
    alarm: str  # duplicate, moved, dhcp-server, router, scan
    address: Address
    """That two claim, that moved; of the router; of the server, `::` where its clients alone say that there is one; of
    a scan the first of its prefix."""
    client: ClientId  # who claims it too, who has it now; the server, the router; who scans. All zero: not known
    other: ClientId | None = None  # who has it as well, who had it before
    prefix: Prefix | None = None  # whose dark space is scanned; the foreign one that a router advertises
    why: str = ""  # of a router: not-planned, foreign-prefix


class AlarmCleared(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What an alarm said is so no more."""

    NAME = "alarm.cleared"
    alarm: str
    address: Address
    client: ClientId  # as it was raised
    why: str  # over: it is not seen any more; planned: it is as the plan has it now


class AgentAnnounced(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A Subnet Agent says by what it is known on the link, so that no other one takes it for a stranger."""

    NAME = "agent.announced"
    agent: Name
    addresses: tuple[Address, ...]  # of its interface
    servers: tuple[ClientId, ...] = ()  # client ids of the DUIDs by which it serves (RFC 8415, 11)


EVENTS = (AddressSighted, AddressVanished, AlarmRaised, AlarmCleared, AgentAnnounced)
