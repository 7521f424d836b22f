"""The forms of answers. Rows are those of the projections' queries."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
from litestar import Response

from dnms.domain.forecast import SubnetForecast
from dnms.domain.plan_difference import PartChange
from dnms.projections.addresses.queries import AddressRow, NodeAddressRow, RegisteredRow
from dnms.projections.effects.queries import DeadRow
from dnms.projections.files import ViewsError
from dnms.projections.link.queries import SightedRow
from dnms.projections.nodes.queries import DriftRow, NodeRow, SessionRow
from dnms.projections.pools.queries import SiteRow
from dnms.projections.views import Reading, Status, Views

FOLD_PATIENCE = 2.0  # seconds for the views to have what was changed, so that who changed it sees it

POSITION = "DNMS-Position"
"""The header with the watermark of an answer from the views, or the position of what was changed."""

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A list, or as much of it as was asked for; `next` is the `cursor` of the page behind it (of events: `after`)."""

    watermark: int  # sequence of the last commit that is folded in it
    items: list[T]
    next: str | None = None


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one node."""

    node: NodeRow
    addresses: list[NodeAddressRow]
    sessions: list[SessionRow]
    configuration: dict[str, Any] | None  # as it registered it last
    drifts: list[DriftRow] = []  # what somebody else changed last, on each subnet


class AddressAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All about one address now: its lease in each subnet that has it, who registered it, and who is seen with it."""

    watermark: int
    address: str
    leases: list[AddressRow]
    registered: list[RegisteredRow]
    seen: list[SightedRow]  # who is seen with it on a link, and was not given it


class SiteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The site, its log, and how much is in it."""

    watermark: int
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


class LedgerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed in the ledger of a subnet."""

    position: int  # of the ledger now
    folded: bool  # the views have it
    subnet: str
    client: str  # hex; whom it concerns
    events: list[dict[str, Any]]  # `name` and `fields` of each; none: it was so already


class KeptRow(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is kept for a node."""

    subnet: str
    address: str


class EnteredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was entered, and what it will have before it ever boots."""

    position: int  # of the node's last event
    folded: bool  # the views have it
    client: str  # hex
    name: str
    addresses: list[KeptRow]


class BulkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of several nodes that were entered."""

    client: str  # hex
    name: str
    ready: bool  # it has addresses wherever it was entered for
    addresses: list[KeptRow]
    detail: str = ""  # why it is not ready


class BulkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Several nodes that were entered together, in the order in which they were given."""

    position: int  # of the last commit that entered them
    folded: bool  # the views have it
    nodes: list[BulkRow]


class ForgottenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is no more, and what has ended with it."""

    position: int
    folded: bool
    client: str
    unheld: list[str]  # addresses that were kept for it
    withdrawn: list[str]  # its leases
    personal: bool  # what is personal of it is forgotten too
    in_clear: int  # of the events that said who it is: those that were written before anything was sealed, and stay


class IdentityAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A node that another one was joined into, or is no more."""

    position: int
    folded: bool  # the views have it
    client: str  # hex; the node
    other: str  # hex; what is it too now, or is a node of its own
    moved: list[str]  # addresses that were kept for the other one, and are for this
    kept: list[KeptRow] = []  # for the other one, where that is an entry that waits for its machine again


class SteeredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator brought about of a rollout."""

    position: int
    folded: bool  # the views have it
    subnet: str
    events: list[str]


class AskedAgainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters that a subscriber is asked to call for again."""

    position: int
    folded: bool  # the views have it
    subscriber: str
    letters: list[DeadRow]


class DiffAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan would change, and what it would do to the leases of the subnets that it touches."""

    position: int  # of the plan that it was compared with
    changes: list[PartChange]  # none: it is so already
    subnets: list[SubnetForecast]


def answer(content: T, position: int, *, etag: bool = False) -> Response[T]:
    """An answer that says what it is true for; `etag`: also as the tag that `If-Match` takes (RFC 9110, 8.8.3)."""
    return Response(content, headers={POSITION: str(position)} | ({"ETag": f'"{position}"'} if etag else {}))


async def folded(views: Views, position: int) -> bool:
    """Wait a moment for the views to have what is in the log at a position; whether they have."""
    try:
        return await views.reached(position, within=FOLD_PATIENCE)
    except ViewsError:
        return False  # it is in the log all the same


def page(reading: Reading, items: list[T], next_: str | None = None) -> Response[Page[T]]:
    """A page of what was read."""
    sequence = reading.position.sequence
    return answer(Page(watermark=sequence, items=items, next=next_), sequence)
