"""Histories from the views on this machine, without the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from dnms.cli.exits import NO, USAGE, Failure
from dnms.cli.histories import PAGE, Sought, Times
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.projections.activity import queries as activity
from dnms.projections.activity.queries import ActivityRow, By, Each
from dnms.projections.events import audit
from dnms.projections.events.queries import after_event
from dnms.projections.events.searching import AuditRow
from dnms.projections.history import queries as history
from dnms.projections.history.holding import Holding
from dnms.projections.nodes import queries as nodes
from dnms.projections.text import microseconds
from dnms.projections.views import Reading, Views

Ask = Callable[[Reading, audit.Page], Awaitable[list[AuditRow]]]
"""A page of events."""


class ViewHistories:
    """Implements `histories.Histories` over open views."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def who_had(self, address_or_prefix: str, times: Times) -> list[Holding]:
        """Who had an address, or those of a prefix, in a time."""
        asked = _prefix(address_or_prefix)
        first, last = asked.network, asked.last.to_bytes(16)
        async with self._asked(times) as (reading, (since, until)):
            if first == last and since == until:
                return await history.who_had(reading.db, first, since)
            found: list[Holding] = []
            after: bytes | None = b""
            while after is not None:
                page, after = await history.holdings(reading.db, first, last, (since, until), after=after, limit=PAGE)
                found += page
            return found

    async def of_node(self, name_or_client: str, times: Times) -> list[Holding]:
        """Which addresses a node had in a time."""
        async with self._asked(times) as (reading, both):
            found = await nodes.find(reading.db, name_or_client)
            if not found:
                raise Failure(NO, f"there is no node with the name or client id {name_or_client!r}")
            if len(found) > 1:
                raise Failure(USAGE, nodes.ambiguous(name_or_client, found))
            client = bytes.fromhex(found[0].client)
            clients = [client, *await nodes.joined_into(reading.db, client)]
            return await history.of_clients(reading.db, clients, both)

    async def of_addresses(self, address_or_prefix: str, times: Times, *, limit: int) -> list[AuditRow]:
        """What happened to an address, or to those of a prefix."""
        asked = _prefix(address_or_prefix)
        first, last = asked.network, asked.last.to_bytes(16)
        since, until = _bounds(times)
        return await self._events(
            lambda reading, page: audit.of_addresses(reading.db, first, last, page, since=since, until=until), limit
        )

    async def of_subnet(self, subnet: str, times: Times, *, limit: int) -> list[AuditRow]:
        """What changed in a subnet."""
        since, until = _bounds(times)
        return await self._events(
            lambda reading, page: audit.changes(
                reading.db, reading.position.site, subnet, page, since=since, until=until
            ),
            limit,
        )

    async def audit(self, sought: Sought, times: Times, *, limit: int) -> list[AuditRow]:
        """Events that are all of what is sought."""
        since, until = _bounds(times)
        wanted = audit.Wanted(
            kind=sought.kind,
            actor=sought.actor,
            entity=sought.entity,
            cause=sought.cause,
            texts=sought.texts,
            since=since,
            until=until,
        )
        return await self._events(
            lambda reading, page: audit.audit(reading.db, reading.position.site, wanted, page), limit
        )

    async def activity(
        self, times: Times, *, by: Sequence[By], each: Each, kind: str | None, subnet: str | None
    ) -> list[ActivityRow]:
        """How many events there were in each hour or day."""
        since, until = _bounds(times)
        async with self._views.read() as reading:
            try:
                return await activity.activity(
                    reading.db, since=since, until=until, by=by, each=each, kind=kind, subnet=subnet
                )
            except ValueError as error:
                raise Failure(USAGE, str(error)) from None

    @asynccontextmanager
    async def _asked(self, times: Times) -> AsyncGenerator[tuple[Reading, tuple[int, int]], None]:
        """The views with the times that are asked of them: after a commit, those at that commit's own time."""
        async with self._views.read(times.sequence) as reading:
            if times.sequence is None:
                since, until = _bounds(times)
                first, last = history.EVER
                yield reading, (first if since is None else since, last if until is None else until)
            else:
                then = microseconds(reading.position.time)
                yield reading, (then, then)

    async def _events(self, ask: Ask, limit: int) -> list[AuditRow]:
        found: list[AuditRow] = []
        beyond: int | None = None
        async with self._views.read() as reading:
            while len(found) < limit:
                size = min(PAGE, limit - len(found))
                try:
                    page = await ask(reading, audit.Page(beyond=beyond, limit=size))
                except audit.Unknown as error:
                    raise Failure(NO, str(error)) from None
                except ValueError as error:
                    raise Failure(USAGE, str(error)) from None
                found += page
                if len(page) < size:
                    break
                sequence, _, index = page[-1].position.partition(".")
                beyond = after_event(int(sequence), int(index))
        return found[::-1]


def _prefix(text: str) -> Prefix:
    return parse_prefix(text) if "/" in text else Prefix(parse_address(text), 128)


def _bounds(times: Times) -> tuple[int | None, int | None]:
    since, until = (None if one is None else microseconds(one) for one in (times.since, times.until))
    if since is not None and until is not None and since > until:
        raise Failure(USAGE, "since: it is behind until")
    return since, until
