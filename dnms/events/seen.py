"""Family `seen`: what one Subnet Agent saw. Subject `seen.<subnet>.<agent>`, written by that agent alone."""

from __future__ import annotations

from dnms.events.configuration import ClientId, Difference, Generation, Snapshot
from dnms.events.ip import Address
from dnms.events.recorded import Event, Part


class SessionOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node opened a session with the agent, from this address; as a relay on its link says, where it came by one."""

    NAME = "session.opened"
    client: ClientId
    peer: Address
    relay: str = ""  # the relay by its certificate


class SessionClosed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A session ended; `why` is a stable word."""

    NAME = "session.closed"
    client: ClientId
    why: str


class IdentityContested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A second machine came with the DUID of one that has a session, and was refused: one is a copy of the other."""

    NAME = "identity.contested"
    client: ClientId
    holder: Address  # where the session that stays comes from
    contender: Address


class HardwareContested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node has the hardware address of an entry by which another one was recognised, and gets nothing of what is
    kept: one of the two claims what is not its own, or the machine was installed anew.
    """

    NAME = "hardware.contested"
    client: ClientId  # who came
    entered: ClientId  # the entry
    contender: Address  # where the node comes from


class ConfigurationRegistered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node told its whole configuration."""

    NAME = "configuration.registered"
    client: ClientId
    digest: bytes  # SHA-256 of the snapshot's bytes as they came
    snapshot: Snapshot


class ConfigurationChanged(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node's configuration is otherwise than it was registered, or changed, last."""

    NAME = "configuration.changed"
    client: ClientId
    change: Difference


class ConfigurationFlapped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node's configuration changed more often than is recorded one by one; where it came to follows."""

    NAME = "configuration.flapped"
    client: ClientId
    changes: int  # that are not recorded
    began: int  # the first of them; microseconds since 1970-01-01 UTC


class AppliedItem(Part, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one assigned address."""

    address: Address
    outcome: str  # usable, duplicate, refused, rolled-back; of a time server that nothing there uses: no-time-service


class ConfigurationApplied(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node has applied an assignment, with this outcome.

    Or it has gone back to what it had before, since the assignment did not prove itself in the time that its policy
    gives it (`confirm`): then it says `why`, and all its items are `rolled-back`.
    """

    NAME = "configuration.applied"
    client: ClientId
    generation: Generation
    items: tuple[AppliedItem, ...] = ()
    unproven: bool = False  # it is still to prove itself, and the node may go back; the outcome of that comes after it
    why: str = (
        ""  # it went back: what did not answer any more (session, gateway, probe); or `rival-` and who manages it
    )


class DriftItem(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One thing of a node's link that somebody else than DNMS changed."""

    kind: str  # address, route, sysctl, mtu, link, resolver
    name: str = ""  # which: 2001:db8::5/64, ::/0 via fe80::1 metric 512, net/ipv6/conf/eth0/accept_ra
    change: str  # added, removed, changed
    was: str = ""  # what DNMS had set, where it is changed
    now: str = ""  # what stands there instead


class ConfigurationDrifted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody else changed what DNMS had configured on a node, and this was done about it."""

    NAME = "configuration.drifted"
    client: ClientId
    generation: Generation  # of the assignment that it departs from
    items: tuple[DriftItem, ...]
    action: str  # left, reported, restored
    rival: str = ""  # who manages the link beside DNMS, where that was recognised: dhcpcd, systemd-networkd, …
    more: int = 0  # items that are not listed, of this change and of changes that were too many to be told


class ConfigurationContested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node gave these up for a while: somebody else changed them again each time that they were put back."""

    NAME = "configuration.contested"
    client: ClientId
    generation: Generation
    items: tuple[DriftItem, ...]
    rival: str = ""  # as in `configuration.drifted`
    restored: int  # times that each was put back
    within: int  # seconds
    hold: int  # seconds until it is tried again, if nothing is assigned anew before


class OutageEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The agent could not use the log for a while, and can again: this is the first that it stored there. What it
    gave meanwhile is in its subnet's ledger (`outage.granted`).
    """

    NAME = "outage.ended"
    began: int  # microseconds since 1970-01-01 UTC, by the log's clock as the agent carried it on


EVENTS = (
    SessionOpened,
    SessionClosed,
    IdentityContested,
    HardwareContested,
    ConfigurationRegistered,
    ConfigurationChanged,
    ConfigurationFlapped,
    ConfigurationApplied,
    ConfigurationDrifted,
    ConfigurationContested,
    OutageEnded,
)
