"""Questions about what is seen on the links: who is there without having asked, and what is wrong."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromQuery

from dnms.api import answers
from dnms.api.answers import Page
from dnms.api.cursors import cursor_of, key_of
from dnms.api.questions import At, AtSequence, Limit, TheViews, as_of, moment
from dnms.events.ip import parse_address
from dnms.projections.link import queries
from dnms.projections.link.queries import AlarmRow, SightedRow


@get("/alarms")
async def alarms(
    views: TheViews,
    *,
    subnet: FromQuery[str | None] = None,
    cleared: FromQuery[bool] = False,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[AlarmRow]]:
    """What is wrong on the links, the newest first; `cleared`: and the last of each kind and address that is over."""
    async with views.read(moment(at, at_sequence)) as reading:
        return answers.page(reading, await queries.alarms(reading.db, subnet=subnet, cleared=cleared))


@get("/sightings")
async def sightings(
    views: TheViews,
    *,
    subnet: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
    limit: Limit = 1_000,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[SightedRow]]:
    """Addresses that are seen on the links and that DNMS gave nobody. `cursor` is the `next` of the page before."""
    question = {"of": "sightings", "subnet": subnet, **as_of(at, at_sequence)}
    after = (b"", "") if cursor is None else key_of(cursor, question, tuple[bytes, str])
    async with views.read(moment(at, at_sequence)) as reading:
        rows = await queries.sighted(reading.db, subnet=subnet, after=after, limit=limit)
        behind = (parse_address(rows[-1].address), rows[-1].subnet) if len(rows) == limit else None
        return answers.page(reading, rows, None if behind is None else cursor_of(question, behind))


HANDLERS = (alarms, sightings)
