"""The application: every route of the API, with what its handlers ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide

from dnms.api import (
    addresses,
    bulk,
    description,
    discovery,
    events,
    evidence,
    health,
    histories,
    identities,
    importing,
    inventory,
    link,
    metrics,
    node_plan,
    plan,
    prefixes,
    problems,
    questions,
    rollouts,
    standing,
    subscribers,
)
from dnms.api.access import bearer
from dnms.api.freshness import views_at_least
from dnms.api.ledgers import Ledgers
from dnms.api.parameters import known, no_null, parameters
from dnms.bus.committer import Committer
from dnms.bus.port import Log
from dnms.disk.signing import Signer
from dnms.domain.document import MAX_DOCUMENT
from dnms.domain.plan import PlanState
from dnms.projections.views import Views


def create_app(  # all that it asks
    *,
    site: str,
    views: Views,
    log: Log,
    plan_committer: Committer[PlanState],
    ledgers: Ledgers,
    token: str,
    signer: Callable[[], Signer] | None = None,
    root: bytes | None = None,
) -> Litestar:
    """The API of a site, under `/api/v1`, with its metrics and its health at the root.

    Its description is at `/api/v1/schema/openapi.json`. `signer`: who signs for the site; without it, no evidence.
    `root`: its root certificate (PEM), by which evidence is checked.
    The caller runs the committer and the ledgers, follows the plan, and closes the views.
    """
    streams, requests = events.Streams(asyncio.Event()), metrics.Requests()
    notary = evidence.Notary(site, signer, root, asyncio.Lock())
    api = Router(
        "/api/v1",
        route_handlers=[
            *questions.HANDLERS,
            *histories.HANDLERS,
            *prefixes.HANDLERS,
            *evidence.HANDLERS,
            *events.HANDLERS,
            *plan.HANDLERS,
            *addresses.HANDLERS,
            *inventory.HANDLERS,
            *bulk.HANDLERS,
            *importing.HANDLERS,
            *rollouts.HANDLERS,
            *link.HANDLERS,
            *subscribers.HANDLERS,
            *standing.HANDLERS,
            *identities.HANDLERS,
            *node_plan.HANDLERS,
            *discovery.HANDLERS,
        ],
        guards=[bearer(token)],
    )
    scraped = Router("/", route_handlers=[*metrics.HANDLERS], guards=[bearer(token)])
    app = Litestar(
        [api, scraped, *health.HANDLERS],
        dependencies={
            "views": Provide(views_at_least(views)),
            "log": Provide(lambda: log, sync_to_thread=False),
            "ledgers": Provide(lambda: ledgers, sync_to_thread=False),
            "plans": Provide(lambda: plan_committer, sync_to_thread=False),
            "streams": Provide(lambda: streams, sync_to_thread=False),
            "requests": Provide(lambda: requests, sync_to_thread=False),
            "wanted": Provide(events.wanted, sync_to_thread=False),
            "times": Provide(histories.times, sync_to_thread=False),
            "page": Provide(histories.page, sync_to_thread=False),
            "which": Provide(discovery.which, sync_to_thread=False),
            "notary": Provide(lambda: notary, sync_to_thread=False),
        },
        guards=[no_null, known],
        middleware=[requests],
        exception_handlers=problems.HANDLERS,
        openapi_config=description.config("/api/v1/schema"),
        request_max_body_size=MAX_DOCUMENT,
        logging_config=None,
        state=State({"stopping": streams.stopping}),
    )
    app.state.parameters = parameters(app)
    return app
