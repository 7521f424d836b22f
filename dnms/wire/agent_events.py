"""What an agent's session tells its shell. An event with an `id` is a request, to be answered once with that id."""

from __future__ import annotations

import msgspec

from dnms.events.configuration import Generation, Snapshot
from dnms.events.seen import AppliedItem
from dnms.wire.channel import Closed
from dnms.wire.messages import Association, Binding, Drifted, PrefixAssociation


class Greeted(msgspec.Struct, frozen=True):
    """A node said who it is. Call `welcome` or `refuse`."""

    duid: bytes
    name: str
    interface: str
    capabilities: tuple[str, ...]
    prefixes: tuple[PrefixAssociation, ...] = ()


class Registered(msgspec.Struct, frozen=True):
    """The whole configuration of the node. Call `registered` when it is in the log, or `error`."""

    id: int
    snapshot: Snapshot
    digest: bytes
    follows: bytes  # digest of what some agent has confirmed to the node last; empty: none


class Observed(msgspec.Struct, frozen=True):
    """The configuration changed; this is the whole new one. Call `registered` when it is in the log, or `error`."""

    id: int
    snapshot: Snapshot
    digest: bytes
    follows: bytes  # digest of what this agent has confirmed to the node last


class Requested(msgspec.Struct, frozen=True):
    """The node wants these. Catch up to its generation, then call `assign` or `error`."""

    id: int
    associations: tuple[Association, ...]
    generation: Generation | None


class Renewed(msgspec.Struct, frozen=True):
    """T1: the node wants to keep these, and have `wanted` as well. Call `assign`, `extended` or `error`."""

    id: int
    bindings: tuple[Binding, ...]
    wanted: tuple[Association, ...]
    generation: Generation | None


class Rebound(msgspec.Struct, frozen=True):
    """T2: as `Renewed`, of bindings that another agent may have given."""

    id: int
    bindings: tuple[Binding, ...]
    wanted: tuple[Association, ...]
    generation: Generation | None


class Confirmed(msgspec.Struct, frozen=True):
    """Are these right on this link? Call `assign` or `extended`, or `error` with `not-on-link` or `no-binding`."""

    id: int
    bindings: tuple[Binding, ...]
    wanted: tuple[Association, ...]
    generation: Generation | None


class Released(msgspec.Struct, frozen=True):
    """The node gives these back and leaves. Call `bye` with `released` when that is in the log."""

    id: int
    bindings: tuple[Binding, ...]


class Declined(msgspec.Struct, frozen=True):
    """The node found these in use by another, and wants `wanted` as well. Call `assign` with others, or `error`."""

    id: int
    bindings: tuple[Binding, ...]
    wanted: tuple[Association, ...] = ()


class AppliedReport(msgspec.Struct, frozen=True):
    """What became of an assignment. Needs no answer."""

    generation: Generation
    items: tuple[AppliedItem, ...]
    unproven: bool = False  # the outcome of its proof comes after it
    why: str = ""  # it was rolled back; a stable word of the node


class DriftReport(msgspec.Struct, frozen=True):
    """What somebody else changed on the node. Needs no answer."""

    drifted: Drifted


AgentEvent = (
    Greeted
    | Registered
    | Observed
    | Requested
    | Renewed
    | Rebound
    | Confirmed
    | Released
    | Declined
    | AppliedReport
    | DriftReport
    | Closed
)
