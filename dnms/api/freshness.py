"""Reading one's own writes: answers that have at least what the log has at a sequence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from litestar.params import QueryParameter

from dnms.api.problems import Problem
from dnms.projections.views import Views

PATIENCE = 5.0  # seconds; views at the log's end need a tenth of one

MAX_SEQUENCE = 2**53 - 1  # as far as the numbers of every JSON reader go (RFC 8259, 6)

MinSeq = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=MAX_SEQUENCE,
        schema_extra={"minimum": 0},  # Litestar 2.25 describes no bound of 0
        description="Answer only once the commit at this sequence is folded, such as the `position` of a change.",
    ),
]


def views_at_least(views: Views) -> Callable[[MinSeq], Awaitable[Views]]:
    """The views for a handler, as soon as they have the commit at `min_seq`: 409 if they do not within PATIENCE."""

    async def awaited(min_seq: MinSeq = None) -> Views:
        if min_seq is not None and not await views.reached(min_seq, within=PATIENCE):
            status = await views.status()
            at = "nothing" if status.position is None else f"the commit at {status.position.sequence}"
            raise Problem(
                HTTPStatus.CONFLICT,
                "not-folded",
                f"after {PATIENCE:.0f} s the views have {at}, not yet {min_seq}; they are {status.state}"
                + (f": {status.explanation}" if status.explanation else ""),
            )
        return views

    return awaited
