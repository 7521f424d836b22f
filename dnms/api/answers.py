"""The forms of answers. Rows are those of the projections' queries."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
from litestar import Response

from dnms.projections.addresses.queries import AddressRow, NodeAddressRow, RegisteredRow
from dnms.projections.nodes.queries import NodeRow, SessionRow
from dnms.projections.pools.queries import SiteRow
from dnms.projections.views import Reading, Status

POSITION = "DNMS-Position"
"""The header with the sequence of the last commit that is folded in the answer."""

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A list, or as much of it as was asked for; `next` is the `after` of the page behind it."""

    position: int
    items: list[T]
    next: str | None = None


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one node."""

    node: NodeRow
    addresses: list[NodeAddressRow]
    sessions: list[SessionRow]
    configuration: dict[str, Any] | None  # as it registered it last


class AddressAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one address now: its lease in each subnet that has it, and the nodes that registered it."""

    position: int
    address: str
    leases: list[AddressRow]
    registered: list[RegisteredRow]


class SiteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The site, its log, and how much is in it."""

    position: int
    name: str
    log_id: str
    commits: int
    events: int
    plan: SiteRow | None  # None until a plan is applied


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the views are, and how far the log is ahead of them."""

    views: Status
    log_end: int | None  # None: the log cannot be reached
    behind: int | None  # commits


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The plan as a document, and the position of the newest change in it."""

    position: int
    plan: dict[str, Any]


class AppliedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a new plan changed."""

    position: int  # of the plan now
    folded: bool  # the views have it
    events: list[dict[str, Any]]  # `name` and `fields` of each; none: it was so already


def answer(content: T, position: int) -> Response[T]:
    """An answer that says what it is true for."""
    return Response(content, headers={POSITION: str(position)})


def page(reading: Reading, items: list[T], next_: str | None = None) -> Response[Page[T]]:
    """A page of what was read."""
    sequence = reading.position.sequence
    return answer(Page(position=sequence, items=items, next=next_), sequence)
