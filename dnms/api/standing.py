"""Whether what was decided has arrived."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromQuery

from dnms.api import answers
from dnms.api.answers import Page
from dnms.api.problems import Invalid, NotThere
from dnms.api.questions import TheViews, one_node
from dnms.projections.effects.standing import CONFIGURED, Entity, Nothing, StandingRow, addressed, standing
from dnms.projections.nodes.queries import joined_into


@get("/standing")
async def shown(
    views: TheViews, entity: FromQuery[str], what: FromQuery[str] = CONFIGURED, instance: FromQuery[str | None] = None
) -> Response[Page[StandingRow]]:
    """Who has to apply the newest event of a node, an address or a prefix, and whether each said that it did.

    `what`: `configured` (the node), or names of subscribers, with commas between; `instance`: of these alone, likewise.
    For `routes` they are else those that the plan names as the subnet's routers. 404 where nothing was ever decided.
    """
    whats = [word for word in what.split(",") if word]
    if not whats:
        raise Invalid("what", "expected words such as configured,routes,firewall")
    async with views.read() as reading:
        found = addressed(entity)
        if found is None:
            client = await one_node(reading, entity)
            found = Entity(entity, (client, *await joined_into(reading.db, client)))
        try:
            rows = await standing(reading.db, found, whats, [word for word in (instance or "").split(",") if word])
        except Nothing as error:
            raise NotThere(str(error)) from None
        return answers.page(reading, rows)


HANDLERS = (shown,)
