"""Family `seen`: what one Subnet Agent saw. Subject `seen.<subnet>.<agent>`, written by that agent alone."""

from __future__ import annotations

from dnms.events.configuration import ClientId, Difference, Generation, Snapshot
from dnms.events.ip import Address
from dnms.events.recorded import Event, Part


class SessionOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node opened a session with the agent, from this address."""

    NAME = "session.opened"
    client: ClientId
    peer: Address


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
    outcome: str  # usable, duplicate, refused, rolled-back


class ConfigurationApplied(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node has applied an assignment, with this outcome."""

    NAME = "configuration.applied"
    client: ClientId
    generation: Generation
    items: tuple[AppliedItem, ...] = ()


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
    OutageEnded,
)
