"""What Prometheus scrapes: how the views and the log are, what is in them, and how requests are answered."""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Iterable, Iterator

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.params import SkipValidation
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

import dnms
from dnms.api.answers import StatusAnswer
from dnms.api.events import Streams
from dnms.api.questions import TheLog, TheViews, looked_at
from dnms.kit.clock import SystemClock
from dnms.projections.files import ViewsError
from dnms.projections.link import queries as link
from dnms.projections.link.queries import AlarmRow
from dnms.projections.nodes import queries as nodes
from dnms.projections.nodes.queries import SessionCount
from dnms.projections.pools import queries as pools
from dnms.projections.pools.queries import PoolRow

STATES = ("following", "folding", "stopped", "rebuilding", "missing", "outdated")


class Requests(ASGIMiddleware):
    """Counts the requests of one server, by the routes that it has, and how long each waits for its answer to begin."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answered = Counter(
            "dnms_http_requests", "Requests that were answered.", ("method", "path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "dnms_http_request_duration_seconds",
            "From a request to the beginning of its answer.",
            ("method", "path"),
            registry=self.registry,
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Count one request."""
        now = asyncio.get_running_loop().time
        path, method, began = scope["path_template"], str(scope.get("method")), now()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered.labels(method, path, message["status"]).inc()
                self._seconds.labels(method, path).observe(now() - began)
            await send(message)

        await next_app(scope, receive, counted)


class _Once(Collector):
    """What was found for one scrape."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


@get("/metrics", media_type="text/plain")
async def metrics(
    views: TheViews,
    log: TheLog,
    streams: NamedDependency[SkipValidation[Streams]],
    requests: NamedDependency[SkipValidation[Requests]],
) -> Response[bytes]:
    """All metrics, in Prometheus' text format; without those that the views cannot say, if they are away."""
    found = [*_of_server(streams), *_of_views(await looked_at(views, log))]
    try:
        async with views.read() as reading:
            found += _of_pools(await pools.pools(reading.db, at=SystemClock().now()))
            found += _of_alarms(await link.alarms(reading.db))
            found += _of_nodes(await nodes.count(reading.db), await nodes.open_sessions(reading.db))
    except ViewsError:
        pass  # dnms_views_state says so
    registry = CollectorRegistry()
    registry.register(_Once(found))
    text = generate_latest(requests.registry) + generate_latest(registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _of_server(streams: Streams) -> Iterator[Metric]:
    yield InfoMetricFamily("dnms_build", "The release that serves.", {"version": dnms.__version__})
    yield GaugeMetricFamily("dnms_event_streams", "Streams of live events that are open.", streams.open)


def _of_views(status: StatusAnswer) -> Iterator[Metric]:
    states = GaugeMetricFamily("dnms_views_state", "1 for the state that the views are in.", labels=["state"])
    for state in sorted({*STATES, status.views.state}):
        states.add_metric([state], float(state == status.views.state))
    yield states
    yield GaugeMetricFamily("dnms_views_kept_up", "1 if a process keeps the views up.", float(status.views.running))
    yield GaugeMetricFamily("dnms_log_reachable", "1 if the log says where it ends.", float(status.log_end is not None))
    if status.log_end is not None:
        yield GaugeMetricFamily("dnms_log_end", "Sequence of the last commit in the log.", status.log_end)
    if status.behind is not None:
        yield GaugeMetricFamily("dnms_views_behind", "Commits in the log that are not folded.", status.behind)
    if (position := status.views.position) is not None:
        yield GaugeMetricFamily("dnms_views_watermark", "Sequence of the last commit folded.", position.sequence)
        yield GaugeMetricFamily("dnms_views_time_seconds", "When that was committed.", position.time.timestamp())
        yield CounterMetricFamily("dnms_commits", "Commits that are folded.", position.commits)
        yield CounterMetricFamily("dnms_events", "Events that are folded.", position.events)


def _of_pools(rows: Iterable[PoolRow]) -> Iterator[Metric]:
    size = GaugeMetricFamily("dnms_pool_size", "Addresses, or /64s, that can be given.", labels=["subnet", "pool"])
    used = GaugeMetricFamily("dnms_pool_addresses", "Addresses that are not free.", labels=["subnet", "pool", "state"])
    for row in rows:
        size.add_metric([row.subnet, row.pool], row.size)
        for state, count in (("held", row.held), ("resting", row.resting), ("reserved", row.reserved)):
            used.add_metric([row.subnet, row.pool, state], count)
    yield size
    yield used


def _of_alarms(rows: Iterable[AlarmRow]) -> Iterator[Metric]:
    alarms = GaugeMetricFamily("dnms_alarms", "Alarms of links that are open.", labels=["subnet", "alarm"])
    for (subnet, alarm), count in sorted(Counts((row.subnet, row.alarm) for row in rows).items()):
        alarms.add_metric([subnet, alarm], count)
    yield alarms


def _of_nodes(known: int, sessions: Iterable[SessionCount]) -> Iterator[Metric]:
    yield GaugeMetricFamily("dnms_nodes", "Nodes that are known.", known)
    opened = GaugeMetricFamily("dnms_sessions_open", "Sessions that are open.", labels=["subnet", "agent"])
    for each in sessions:
        opened.add_metric([each.subnet, each.agent], each.open)
    yield opened


HANDLERS = (metrics,)
