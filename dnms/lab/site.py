"""The lab's site: the embedded bus, the plan, and the views, in the namespace of the lab itself."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from dnms.bus import jetstream
from dnms.bus.committer import Committer
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.port import Unavailable
from dnms.bus.reading import read
from dnms.disk.site import Site
from dnms.domain import document
from dnms.domain.aggregate import Fold, State
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.events.address import AddressAllocated, OutageGranted
from dnms.events.ip import format_address
from dnms.events.recorded import Request
from dnms.events.requests import MoveAddress
from dnms.kit.clock import MICROSECONDS, SystemClock
from dnms.lab.judge import Lease
from dnms.lab.lab import LabError
from dnms.lab.network import SUBNET
from dnms.lab.tables import Shown
from dnms.linux.namespaces import mount_tmpfs
from dnms.projections import comparison, naive
from dnms.projections.addresses import queries as addresses
from dnms.projections.addresses.queries import AddressRow
from dnms.projections.events import queries as events
from dnms.projections.events.queries import EventRow
from dnms.projections.history import queries as history
from dnms.projections.link import queries as link
from dnms.projections.link.queries import AlarmRow
from dnms.projections.naive import Naive
from dnms.projections.nodes import queries as nodes
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.pools import queries as pools
from dnms.projections.runner import Runner
from dnms.projections.verify import verify
from dnms.projections.views import Views

NAME = "lab"
FOLDING_DEADLINE = 15.0  # seconds for the views to come to the log's end
RESTART_DEADLINE = 30.0  # seconds; a bus that cannot run is tried again every 10 s, and may have a log to look through
POLL = 0.02

S = TypeVar("S", bound=State)


class LabSite:
    """A site with a bus that serves it and views that follow it."""

    def __init__(self, site: Site, log: JetStreamLog, server: EmbeddedServer) -> None:
        self.site = site
        self.server = server
        self.bus = server.url
        self._log = log
        self._views_path = site.views
        self._views = Views(site.views)

    @classmethod
    @asynccontextmanager
    async def started(
        cls, path: Path, *, host: str, plan: str, disk: int | None = None
    ) -> AsyncGenerator[LabSite, None]:
        """Make a site with this plan (TOML) in `path`, and serve its bus on `host`.

        The bus has a disk of its own of so many bytes; None: that of `path`.
        """
        async with AsyncExitStack() as stack:
            site = await asyncio.to_thread(Site.create, path, NAME)
            if disk is not None:
                site.log_directory.mkdir(mode=0o700)
                mount_tmpfs(site.log_directory, size=disk)
                stack.callback(shutil.copy, site.log_directory / "nats-server.log", path)  # the disk ends with the lab
            server = EmbeddedServer(site.log_directory, token=site.bus_token, host=host)
            await stack.enter_async_context(server)
            log = await jetstream.connect(server.url, NAME, token=site.bus_token)
            stack.push_async_callback(log.close)
            lab_site = cls(site, log, server)
            await lab_site.apply(plan)
            stop = asyncio.Event()
            folding = asyncio.ensure_future(Runner(log, site.views, site=NAME).run(stop))
            stack.push_async_callback(asyncio.wait_for, folding, FOLDING_DEADLINE)
            stack.callback(stop.set)
            stack.push_async_callback(lab_site._views.close)
            yield lab_site

    async def apply(self, plan: str) -> None:
        """As an operator does it: a request on the plan (TOML), decided on its fold, and committed."""
        await self._operate(subjects.plan(NAME), PlanState(), lambda _: document.from_toml(plan))

    async def move(self, address: bytes, to: bytes) -> None:
        """Who holds this address is to have the other one, as by `dnms address move`. Refused."""

        def asked(ledger: Ledger) -> Request:
            lease = ledger.leases[address]
            return MoveAddress(client=lease.client, iaid=lease.iaid, address=address, to=to)

        await self._operate(subjects.ledger(NAME, SUBNET), Ledger(self.site.secret), asked)

    async def _operate(self, subject: str, state: S, ask: Callable[[S], Request]) -> None:
        committer = Committer(
            self._log,
            subject,
            Fold(state),
            actor="operator/lab",
            now=SystemClock().now,
            random=secrets.token_bytes,
        )
        await committer.catch_up()
        running = asyncio.ensure_future(committer.run())
        try:
            await committer.submit(ask(committer.fold.state))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def wait_for_restart(self, *, after: int) -> None:
        """Wait until the bus was started again so often and once more, and the log answers. LabError."""
        try:
            async with asyncio.timeout(RESTART_DEADLINE):
                while True:
                    if self.server.restarts > after and await self._answers():
                        return
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise LabError(f"the bus is not back after {RESTART_DEADLINE:.0f} s") from None

    async def _answers(self) -> bool:
        try:
            await self.position()
        except Unavailable:
            return False
        return True

    async def position(self) -> int:
        """Where the log ends now."""
        return await self._log.end()

    async def nodes(self) -> list[NodeRow]:
        """All nodes, as the views have them at the end that the log has now."""
        await self._caught_up()
        async with self._views.read() as reading:
            return await nodes.nodes(reading.db, limit=nodes.MAX_NODES)

    async def open_sessions(self) -> dict[str, list[str]]:
        """The agents with which each node has a session, by the node's name, as the views have them."""
        known = await self.nodes()
        async with self._views.read() as reading:
            return {
                node.name or node.client: [
                    each.agent for each in await nodes.sessions(reading.db, bytes.fromhex(node.client)) if each.open
                ]
                for node in known
            }

    async def addresses(self) -> list[AddressRow]:
        """Leases and addresses that rest, as the views have them at the end that the log has now."""
        await self._caught_up()
        async with self._views.read() as reading:
            return await addresses.addresses(reading.db, limit=addresses.MAX_ADDRESSES)

    async def listed(self) -> dict[str, list[str]]:
        """Every address that anybody has now, by the views at the end that the log has, and which sources say so."""
        await self._caught_up()
        now, found = SystemClock().now(), dict[str, list[str]]()
        after: bytes | None = b""
        async with self._views.read() as reading:
            while after is not None:
                page, after = await history.holdings(reading.db, bytes(16), b"\xff" * 16, (now, now), after=after)
                for one in page:
                    found.setdefault(one.address, []).append(one.source)
        return found

    async def alarms(self) -> list[AlarmRow]:
        """What is wrong on the link, by the views at the end that the log has now."""
        await self._caught_up()
        async with self._views.read() as reading:
            return await link.alarms(reading.db)

    async def events(self, kind: str, *, after: int) -> list[EventRow]:
        """Events of a name or a family of names behind the commit at the position `after`, up to the log's end."""
        await self._caught_up()
        found: list[EventRow] = []
        cursor = events.after_commit(after)
        async with self._views.read() as reading:
            while page := await events.events(reading.db, after=cursor, kind=kind, limit=events.MAX_EVENTS):
                found += page
                cursor = events.after_event(page[-1].sequence, page[-1].index)
        return found

    async def shown(self, *, node_name: str) -> Shown:
        """What the views say once they are at the end that the log has now."""
        await self._caught_up()
        async with self._views.read() as reading:
            known = await nodes.nodes(reading.db, limit=nodes.MAX_NODES)
            clients = [bytes.fromhex(node.client) for node in known if node.name == node_name]
            return Shown(
                nodes=known,
                pools=await pools.pools(reading.db, at=SystemClock().now()),
                node=node_name,
                events=await events.events(reading.db, client=clients[0]) if clients else [],
            )

    async def differences(self) -> list[str]:
        """Where the views differ from the log, by their own folds and by a naive one; empty if they are equal."""
        end = await self._caught_up()
        async with self._views.read() as reading:
            if reading.position.sequence != end:
                return [f"the views are at {reading.position.sequence}, and the log ends at {end}"]
        verification = await verify(self._log, self._views_path)
        return [
            *(f"views, folded again: {one}" for one in verification.differences),
            *([] if verification.equal or verification.differences else ["views, folded again: not equal"]),
            *(f"views, folded naively: {one}" for one in await comparison.differences(self._log, self._views)),
        ]

    async def leases(self) -> dict[Lease, float]:
        """When the log first had each lease, or an agent's journal in an outage: seconds since 1970-01-01 UTC, by the
        bus's own clock.
        """
        first: dict[Lease, float] = {}
        async with aclosing(read(self._log, [subjects.ledger(NAME, SUBNET)])) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    for event in stored.commit.events:
                        if isinstance(event, AddressAllocated | OutageGranted):
                            lease = event.client.hex(), format_address(event.address)
                            at = event.happened if isinstance(event, OutageGranted) else stored.stored_at
                            first.setdefault(lease, at / MICROSECONDS)
                if batch.caught_up:
                    break
        return first

    async def folded(self) -> Naive:
        """The log as the naive fold has it."""
        return await naive.fold_log(self._log, NAME, until=await self._log.end())

    async def _caught_up(self) -> int:
        end = await self._log.end()
        await self._views.reached(end, within=FOLDING_DEADLINE)
        return end
