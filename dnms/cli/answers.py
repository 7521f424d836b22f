"""What questions are answered with, whether by the API or by the views themselves.

The forms are those of `dnms.api.answers`, but for the position; that module takes half a second to import.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import msgspec

from dnms.cli.histories import Histories
from dnms.projections.addresses.queries import AddressRow, NodeAddressRow, RegisteredRow
from dnms.projections.effects.queries import DeadRow, SubscriberRow
from dnms.projections.effects.standing import StandingRow
from dnms.projections.events.queries import EventRow
from dnms.projections.link.queries import AlarmRow, SightedRow
from dnms.projections.nodes.queries import DriftRow, NodeRow, SessionRow
from dnms.projections.pools.queries import PoolRow
from dnms.projections.pools.usage import PoolUsage
from dnms.projections.prefixes.queries import DelegationRow, LinkRow, UplinkRow
from dnms.projections.prefixes.tree import TreeRow
from dnms.projections.rollouts.queries import RolloutRow
from dnms.projections.why.steps import Step


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one node."""

    node: NodeRow
    addresses: list[NodeAddressRow]
    sessions: list[SessionRow]
    configuration: dict[str, Any] | None  # as it registered it last
    drifts: list[DriftRow] = []  # what somebody else changed last, on each subnet


class AddressAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one address now: its lease in each subnet that has it, who registered it, and who is seen with it."""

    address: str
    leases: list[AddressRow]
    registered: list[RegisteredRow]
    seen: list[SightedRow]  # who is seen with it on a link, and was not given it


class PrefixAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one prefix: its last delegation in each subnet, and where it is from above or a link's own."""

    prefix: str
    delegations: list[DelegationRow]
    uplinks: list[UplinkRow]
    links: list[LinkRow]
    tree: list[TreeRow]  # what it is cut from, and what is cut from it


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all, or those of a kind, of a node, about an address."""

    kind: str | None = None  # a name, or the family that names begin with
    node: str | None = None  # its name or its client id
    address: str | None = None


class Prefixes(Protocol):
    """Who answers questions about prefixes. What there is not is a Failure with code NO, whoever answers."""

    async def delegations(self, *, subnet: str | None, state: str | None) -> list[DelegationRow]:
        """Every delegation that is not over, or every one in a state."""
        ...

    async def uplinks(self, *, subnet: str | None, lost: bool) -> list[UplinkRow]:
        """Every prefix from above; `lost`: also those that are lost."""
        ...

    async def prefix(self, prefix: str) -> PrefixAnswer:
        """One prefix."""
        ...

    async def tree(self, *, within: str | None) -> list[TreeRow]:
        """What is cut from what."""
        ...

    async def why(self, of: str) -> list[Step]:
        """Why something is so."""
        ...


class Answers(Protocol):
    """Who answers questions. What there is not is a Failure with code NO, whoever answers."""

    @property
    def histories(self) -> Histories:
        """Who answers those about what was."""
        ...

    @property
    def prefixes(self) -> Prefixes:
        """Who answers those about prefixes."""
        ...

    async def nodes(self, *, subnet: str | None) -> list[NodeRow]:
        """Every node."""
        ...

    async def node(self, name_or_client: str) -> list[NodeAnswer]:
        """All about the nodes of this name, of which there can be several, or the one with this client id."""
        ...

    async def addresses(self, *, subnet: str | None) -> list[AddressRow]:
        """Every address that is leased or reserved, or rests after a decline."""
        ...

    async def address(self, address: str) -> AddressAnswer:
        """One address."""
        ...

    async def pools(self, *, subnet: str | None) -> list[PoolRow]:
        """Every pool."""
        ...

    async def pool(self, name: str) -> list[PoolUsage]:
        """All about the pool of this name; several where leases last in a subnet from which it was moved."""
        ...

    async def subscribers(self) -> list[SubscriberRow]:
        """Every instance of a subscriber that ever wrote to the log."""
        ...

    async def dead_letters(self, *, subscriber: str | None) -> list[DeadRow]:
        """The events for which a subscriber calls no more."""
        ...

    async def standing(self, entity: str, whats: Sequence[str], instances: Sequence[str]) -> list[StandingRow]:
        """Who has to apply the newest event of a node, an address or a prefix, and whether each did."""
        ...

    async def rollouts(self, *, subnet: str | None) -> list[RolloutRow]:
        """The newest rollout of each subnet that had one."""
        ...

    async def alarms(self, *, subnet: str | None, cleared: bool) -> list[AlarmRow]:
        """What is wrong on the links; `cleared`: and the last that is over."""
        ...

    async def sightings(self, *, subnet: str | None) -> list[SightedRow]:
        """Every address that is seen on a link and was given to nobody."""
        ...

    async def events(self, wanted: Wanted, *, limit: int) -> list[EventRow]:
        """The newest events that are wanted, in the log's order."""
        ...

    def tail(self, wanted: Wanted) -> AsyncGenerator[EventRow, None]:
        """The events that are wanted from now on, as they come."""
        ...
