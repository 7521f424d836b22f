"""Answers from the views on this machine, without the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dnms.cli.answers import AddressAnswer, NodeAnswer, Wanted
from dnms.cli.exits import NO, USAGE, Failure
from dnms.cli.freshness import Teller, doubt
from dnms.cli.histories_from_views import ViewHistories
from dnms.cli.prefixes_from_views import ViewPrefixes
from dnms.cli.rendering import moment, say
from dnms.disk.site import Site
from dnms.events.ip import parse_address
from dnms.kit.clock import SystemClock
from dnms.projections.addresses import queries as addresses
from dnms.projections.effects import queries as effects
from dnms.projections.effects.queries import DeadRow, SubscriberRow
from dnms.projections.effects.standing import Entity, Nothing, StandingRow, addressed, standing
from dnms.projections.events import queries as events
from dnms.projections.events.queries import EventRow
from dnms.projections.link import queries as link
from dnms.projections.link.queries import AlarmRow, SightedRow
from dnms.projections.nodes import queries as nodes
from dnms.projections.pools import queries as pools
from dnms.projections.pools.usage import PoolUsage, usage
from dnms.projections.rollouts import queries as rollouts
from dnms.projections.rollouts.queries import RolloutRow
from dnms.projections.text import microseconds
from dnms.projections.views import Moment, Reading, Views

LOOK = 0.2  # seconds between two looks for new events


class ViewAnswers:
    """Implements `answers.Answers` over open views."""

    def __init__(self, views: Views, at: Moment | None = None) -> None:
        """`at`: lists, and what is shown, are as of then."""
        self._views = views
        self._at = at
        self._teller = Teller()
        self.histories = ViewHistories(views)
        self.prefixes = ViewPrefixes(self._reading)

    async def look(self) -> None:
        """Tell people if the views are kept up no more. The end of the log is not known here."""
        self._teller.tell(doubt(await self._views.status()))

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[Reading, None]:
        async with self._views.read(self._at) as reading:
            if self._at is not None:
                say(f"as of commit {reading.position.sequence}, {moment(reading.position.time)}")
            yield reading

    async def nodes(self, *, subnet: str | None) -> list[nodes.NodeRow]:
        """Every node."""
        found: list[nodes.NodeRow] = []
        async with self._reading() as reading:
            while page := await nodes.nodes(
                reading.db,
                subnet=subnet,
                after=bytes.fromhex(found[-1].client) if found else b"",
                limit=nodes.MAX_NODES,
            ):
                found += page
        return found

    async def node(self, name_or_client: str) -> list[NodeAnswer]:
        """All about the nodes of this name, or the one with this client id."""
        async with self._reading() as reading:
            return [await _all_about(reading, node) for node in await _found(reading, name_or_client)]

    async def addresses(self, *, subnet: str | None) -> list[addresses.AddressRow]:
        """Every address that is leased or reserved, or rests after a decline."""
        found: list[addresses.AddressRow] = []
        async with self._reading() as reading:
            while page := await addresses.addresses(
                reading.db,
                subnet=subnet,
                after=(parse_address(found[-1].address), found[-1].subnet) if found else (b"", ""),
                limit=addresses.MAX_ADDRESSES,
            ):
                found += page
        return found

    async def address(self, address: str) -> AddressAnswer:
        """One address."""
        packed = parse_address(address)
        async with self._reading() as reading:
            leases = await addresses.leases_of(reading.db, packed)
            registered = await addresses.registered(reading.db, packed)
            seen = await link.sighted(reading.db, address=packed)
        if not (leases or registered or seen):
            then = "has {} now" if self._at is None else "had {} then"
            raise Failure(NO, f"nobody {then.format(address)}; `who-had` knows of other times")
        return AddressAnswer(address=address, leases=leases, registered=registered, seen=seen)

    async def pools(self, *, subnet: str | None) -> list[pools.PoolRow]:
        """Every pool."""
        async with self._reading() as reading:
            return await pools.pools(
                reading.db,
                at=microseconds(reading.position.time) if self._at is not None else SystemClock().now(),
                subnet=subnet,
            )

    async def subscribers(self) -> list[SubscriberRow]:
        """Every instance of a subscriber that ever wrote to the log."""
        async with self._reading() as reading:
            return await effects.subscribers(reading.db)

    async def dead_letters(self, *, subscriber: str | None) -> list[DeadRow]:
        """The events for which a subscriber calls no more."""
        async with self._reading() as reading:
            return await effects.dead_letters(reading.db, subscriber=subscriber)

    async def standing(self, entity: str, whats: Sequence[str], instances: Sequence[str]) -> list[StandingRow]:
        """Who has to apply the newest event of a node, an address or a prefix, and whether each did."""
        async with self._reading() as reading:
            found = addressed(entity)
            if found is None:
                client = await _client(reading, entity)
                found = Entity(entity, (client, *await nodes.joined_into(reading.db, client)))
            try:
                return await standing(reading.db, found, whats, instances)
            except Nothing as error:
                raise Failure(NO, str(error)) from None

    async def rollouts(self, *, subnet: str | None) -> list[RolloutRow]:
        """The newest rollout of each subnet that had one."""
        async with self._reading() as reading:
            return await rollouts.rollouts(reading.db, subnet=subnet)

    async def alarms(self, *, subnet: str | None, cleared: bool) -> list[AlarmRow]:
        """What is wrong on the links."""
        async with self._reading() as reading:
            return await link.alarms(reading.db, subnet=subnet, cleared=cleared)

    async def sightings(self, *, subnet: str | None) -> list[SightedRow]:
        """Every address that is seen on a link and was given to nobody."""
        found: list[SightedRow] = []
        async with self._reading() as reading:
            while page := await link.sighted(
                reading.db,
                subnet=subnet,
                after=(parse_address(found[-1].address), found[-1].subnet) if found else (b"", ""),
                limit=link.MAX_SIGHTED,
            ):
                found += page
        return found

    async def pool(self, name: str) -> list[PoolUsage]:
        """All about the pool of this name."""
        async with self._reading() as reading:
            found = await usage(reading, name)
        if not found:
            raise Failure(NO, f"there is no pool {name!r}")
        return found

    async def events(self, wanted: Wanted, *, limit: int) -> list[EventRow]:
        """The newest events that are wanted, in the log's order."""
        return await self._events(wanted, after=-1, limit=limit, newest=True)

    async def tail(self, wanted: Wanted) -> AsyncGenerator[EventRow, None]:
        """The events that are wanted from now on."""
        async with self._views.read() as reading:
            after = events.after_commit(reading.position.sequence)
        while True:
            found = await self._events(wanted, after=after, limit=events.MAX_EVENTS, newest=False)
            for event in found:
                yield event
                after = events.after_event(event.sequence, event.index)
            if not found:
                await asyncio.sleep(LOOK)
                await self.look()

    async def _events(self, wanted: Wanted, *, after: int, limit: int, newest: bool) -> list[EventRow]:
        try:
            kind = None if wanted.kind is None else events.kind_of(wanted.kind)
        except ValueError as error:
            raise Failure(USAGE, str(error)) from None
        async with self._views.read() as reading:
            return await events.events(
                reading.db,
                after=after,
                limit=limit,
                kind=kind,
                client=None if wanted.node is None else await _client(reading, wanted.node),
                address=None if wanted.address is None else parse_address(wanted.address),
                newest=newest,
            )


@asynccontextmanager
async def opened(directory: Path, at: Moment | None = None) -> AsyncGenerator[ViewAnswers, None]:
    """Answers from a site's directory, of lists as of `at`. SiteError, ViewsError."""
    views = Views(Site.load(directory).views)
    try:
        answers = ViewAnswers(views, at)
        await answers.look()
        yield answers
    finally:
        await views.close()


async def _all_about(reading: Reading, node: nodes.NodeRow) -> NodeAnswer:
    client = bytes.fromhex(node.client)
    return NodeAnswer(
        node=node,
        addresses=await addresses.of_node(reading.db, client),
        sessions=await nodes.sessions(reading.db, client),
        configuration=await nodes.snapshot(reading.db, client),
        drifts=await nodes.drifts(reading.db, client),
    )


async def _found(reading: Reading, name_or_client: str) -> list[nodes.NodeRow]:
    found = await nodes.find(reading.db, name_or_client)
    if not found:
        raise Failure(NO, f"there is no node with the name or client id {name_or_client!r}")
    return found


async def _client(reading: Reading, name_or_client: str) -> bytes:
    found = await _found(reading, name_or_client)
    if len(found) > 1:
        raise Failure(USAGE, nodes.ambiguous(name_or_client, found))
    return bytes.fromhex(found[0].client)
