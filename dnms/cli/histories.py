"""Questions about what was and what happened, whether the API answers them or the views themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from dnms.projections.activity.queries import ActivityRow, By, Each
from dnms.projections.events.searching import AuditRow
from dnms.projections.history.holding import Holding

PAGE = 1_000  # events, or addresses, in one answer of the API


class Times(msgspec.Struct, frozen=True):
    """From when to when, both included; None: without a bound."""

    since: datetime | None = None
    until: datetime | None = None
    sequence: int | None = None
    """In the place of both: after the commit at this sequence. Only holdings are asked for so."""


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What an event has to be, all of it."""

    kind: str | None = None
    actor: str | None = None
    entity: str | None = None
    cause: str | None = None
    texts: tuple[str, ...] = ()


class Histories(Protocol):
    """Who answers. What there is not is a Failure with code NO, whoever answers.

    Holdings are those of one address after the other; events are the newest `limit`, in the log's order.
    """

    async def who_had(self, address_or_prefix: str, times: Times) -> list[Holding]:
        """Who had an address, or those of a prefix, in a time."""
        ...

    async def of_node(self, name_or_client: str, times: Times) -> list[Holding]:
        """Which addresses a node had in a time."""
        ...

    async def of_addresses(self, address_or_prefix: str, times: Times, *, limit: int) -> list[AuditRow]:
        """What happened to an address, or to those of a prefix and what holds some of them."""
        ...

    async def of_subnet(self, subnet: str, times: Times, *, limit: int) -> list[AuditRow]:
        """What changed in a subnet."""
        ...

    async def audit(self, sought: Sought, times: Times, *, limit: int) -> list[AuditRow]:
        """Events that are all of what is sought."""
        ...

    async def activity(
        self, times: Times, *, by: Sequence[By], each: Each, kind: str | None, subnet: str | None
    ) -> list[ActivityRow]:
        """How many events there were in each hour or day."""
        ...
