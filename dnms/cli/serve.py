"""`dnms serve`: a site's bus, its views and its API in one process."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import uvloop
from cyclopts import Parameter

from dnms.api import Ledgers, PortInUse, create_app, resume, serve_api
from dnms.bus import jetstream
from dnms.bus.committer import Committer
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.port import Log
from dnms.bus.reading import read
from dnms.cli.exits import MACHINE, OK, Failure
from dnms.cli.options import API_PORT, BUS_PORT, HOST, SITE, BusText, Endpoint, EndpointText, SiteDirectory
from dnms.cli.rendering import Output, answer, facts
from dnms.disk.extensions import load_strategies
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.kit import logging
from dnms.kit.clock import SystemClock
from dnms.projections.files import ViewsError
from dnms.projections.runner import Runner
from dnms.projections.views import Views

ACTOR = "operator/api"
"""Who changes the plan and reserves addresses, in the log: whoever has the API's token."""

VIEWS_PATIENCE = 10.0
"""Seconds for the first views of a log, so that who is told that the API listens is answered. Of a long log they take
longer; until then the API says that they are being folded."""

API_LISTENS, BUS_LISTENS = Endpoint(HOST, API_PORT), Endpoint(HOST, BUS_PORT)


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` is told."""

    site: Path
    api: Endpoint = API_LISTENS
    bus: str | None = None  # None: the embedded one
    bus_listen: Endpoint = BUS_LISTENS  # of the embedded one


class Serving(msgspec.Struct, frozen=True):
    """What is served, and where."""

    site: str
    directory: str
    api: str
    bus: str


async def serve(settings: ServeSettings, *, stop: asyncio.Event, ready: Callable[[Serving], None]) -> None:
    """Serve a site until `stop` is set. `ready` is called once callers are answered.

    SiteError, EmbeddedServerError, PortInUse, ViewsError; LogError where the log cannot be reached or trusted.
    """
    load_strategies()
    site = Site.load(settings.site)
    async with AsyncExitStack() as stack:
        bus = settings.bus
        if bus is None:
            server = EmbeddedServer(
                site.log_directory,
                token=site.bus_token,
                host=settings.bus_listen.host,
                port=settings.bus_listen.port,
            )
            bus = (await stack.enter_async_context(server)).url
        log = await jetstream.connect(bus, site.name, token=site.bus_token)
        stack.push_async_callback(log.close)
        views = Views(site.views)
        stack.push_async_callback(views.close)
        plan = Committer(
            log,
            subjects.plan(site.name),
            Fold(PlanState(site.name)),
            actor=ACTOR,
            now=SystemClock().now,
            random=secrets.token_bytes,
        )
        await plan.catch_up()
        ledgers = Ledgers(
            log,
            site=site.name,
            secret=site.secret,
            client_id=site.client_id,
            actor=ACTOR,
            now=SystemClock().now,
            random=secrets.token_bytes,
        )
        app = create_app(
            site=site.name,
            views=views,
            log=log,
            plan_committer=plan,
            ledgers=ledgers,
            token=site.api_token,
            signer=site.signer,
            root=site.root_certificate.read_bytes(),
        )

        ending = asyncio.Event()
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def announce() -> None:
            url = f"http://{Endpoint(settings.api.host, await listening)}"
            with suppress(ViewsError):  # the API says so to whoever asks, and the runner may yet mend it
                await views.reached(0, within=VIEWS_PATIENCE)
            ready(Serving(site.name, str(site.path.absolute()), url, bus))

        await _together(
            # These end by themselves once `ending` is set: answers that are under way, the views' last transaction.
            [
                serve_api(app, settings.api.host, settings.api.port, ending, ready=listening.set_result),
                Runner(log, site.views, site=site.name).run(ending),
            ],
            [plan.run(), ledgers.run(), _follow(log, plan), announce(), resume(log, views, plan, ledgers)],
            stop=stop,
            ending=ending,
        )


def command(
    *,
    site: SiteDirectory = SITE,
    listen: Annotated[EndpointText, Parameter(help="Where the API listens, as HOST:PORT.")] = API_LISTENS,
    bus: Annotated[
        BusText | None, Parameter(help="A NATS server of your own, nats://HOST:PORT; no embedded one.")
    ] = None,
    bus_listen: Annotated[EndpointText, Parameter(help="Where the embedded bus listens.")] = BUS_LISTENS,
    output: Output = "table",
) -> int:
    """Run a site: its bus (an embedded one unless --bus is given), its views and its API, until SIGINT or SIGTERM.

    Says where they listen once callers are answered; its log goes to stderr.
    """
    logging.configure()
    settings = ServeSettings(site=site, api=listen, bus=bus, bus_listen=bus_listen)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_until_signalled(settings, output))
        except PortInUse as error:
            raise Failure(MACHINE, str(error)) from error
    return OK


async def _until_signalled(settings: ServeSettings, output: Literal["table", "json"]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready(serving: Serving) -> None:
        named = [("site", serving.site), ("directory", serving.directory), ("API", serving.api), ("bus", serving.bus)]
        answer(serving, lambda: [facts(named)], output)

    await serve(settings, stop=stop, ready=ready)


async def _follow(log: Log, plan: Committer[PlanState]) -> None:
    """Fold what others commit to the plan."""
    async with aclosing(read(log, (plan.subject,), after=plan.fold.sequence)) as batches:
        async for batch in batches:
            for stored in batch.stored:
                plan.take(stored)


async def _together(
    graceful: Sequence[Coroutine[Any, Any, None]],
    others: Sequence[Coroutine[Any, Any, None]],
    *,
    stop: asyncio.Event,
    ending: asyncio.Event,
) -> None:
    """Run all until `stop` is set or one fails; then let the graceful ones end, and cancel the others.

    One may end well before: the views do, and stay as they are, when the log cannot be trusted.
    """
    first, second = ([asyncio.create_task(one) for one in some] for some in (graceful, others))
    stopping = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[Any]] = {stopping, *first, *second}
    try:
        while not stopping.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        ending.set()
        await asyncio.gather(*first, return_exceptions=True)
        for task in (stopping, *second):
            task.cancel()
        await asyncio.gather(stopping, *second, return_exceptions=True)
