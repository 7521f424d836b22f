"""What the log says of one address at one time: read from its first message, and not from the views.

Every message is hashed, and few are decoded: those with the bytes of the address. Where somebody used it, and was not
merely leased it, what agents saw is read once more, for what they saw of those clients: it is not known before who they
are, and what ends their use names them, and not the address. Who they are is told by the subjects of nodes. All that is
folded as the views fold it, into tables in memory, with names in clear, unless their nodes are forgotten; in the file
the events stay sealed as they are in the log.

The digest of the log up to a message is SHA-256 over the digest before it, its sequence (8 bytes, big-endian), the
SHA-256 of its subject and the SHA-256 of its bytes; before the first it is SHA-256 over the site, a zero byte and the
log's id.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from typing import cast

import msgspec

from dnms.bus.port import Batch, Log, LogDamaged, Record
from dnms.bus.reading import decode
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.events.ip import format_address
from dnms.events.node import NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeParted
from dnms.events.recorded import Event
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered, SessionOpened
from dnms.projections import configurations, events, history, nodes
from dnms.projections.evidence.document import EvidenceError
from dnms.projections.history import queries
from dnms.projections.history.holding import DELEGATED, Holding

MAX_USERS = 1_000  # an address that is on every machine, as that of a bridge of containers, tells nobody who had it

NAMING = (NodeIdentified, NodeEntered, NodeJoined, NodeParted, NodeForgotten)

_EVENTS = 7  # where they stand in a commit


class Source(msgspec.Struct, frozen=True):
    """A message that something is told by."""

    record: Record
    stored: Stored

    @property
    def digest(self) -> str:
        """The SHA-256 of the message, in hex."""
        return hashlib.sha256(self.record.data).hexdigest()

    @property
    def events(self) -> list[bytes]:
        """The bytes of each of its events."""
        parts = msgspec.msgpack.decode(self.record.data, type=list[msgspec.Raw])
        return [bytes(event) for event in msgspec.msgpack.decode(parts[_EVENTS], type=list[msgspec.Raw])]


PROJECTIONS = (events.PROJECTION, history.PROJECTION, nodes.PROJECTION, configurations.PROJECTION)
"""Those that who had an address is asked of, and what they read."""


class Gathered(msgspec.Struct, frozen=True):
    """What the log says."""

    holdings: list[Holding]
    sources: dict[int, Source]  # by sequence: all that may say something of the address, or of who used it
    naming: list[tuple[int, int]]  # sequences and indices of the events by which the holders have their names
    last: int
    time: int  # of the last commit, in microseconds
    digest: bytes


async def gather(log: Log, site: str, address: bytes, at: int, *, last: int | None = None) -> Gathered:
    """Who had the address at an instant (microseconds), by the log up to `last`, or to its end.

    LogError, EvidenceError.
    """
    digest = hashlib.sha256(site.encode() + b"\0" + log.log_id.encode()).digest()
    users: set[bytes] = set()
    sequence, newest = 0, b""
    sources: dict[int, Source] = {}
    async with aclosing(_records(log, [subjects.everything(site)], last)) as records:
        async for record in records:
            if record.sequence != sequence + 1:
                raise LogDamaged(f"the message at {record.sequence} comes after {sequence}: messages are missing")
            sequence, newest = record.sequence, record.data
            parts = hashlib.sha256(record.subject.encode()).digest() + hashlib.sha256(record.data).digest()
            digest = hashlib.sha256(digest + sequence.to_bytes(8) + parts).digest()
            if address in record.data:
                source = sources[sequence] = Source(record, decode(record))
                users |= _users(source.stored.commit.events, address)
                if len(users) >= MAX_USERS:
                    raise EvidenceError(f"more than {MAX_USERS} machines used {format_address(address)}")
    if users:
        async with aclosing(_records(log, [subjects.seen(site, "*", "*")], sequence)) as records:
            async for record in records:
                if record.sequence not in sources and any(client in record.data for client in users):
                    sources[record.sequence] = Source(record, decode(record))
    naming = await _naming(log, site, sources, sequence)
    time = decode(Record("", sequence, 0, newest)).commit.time if sequence else 0
    holdings = _who_had(await _opened(log, sources), address, at)
    holders = {bytes.fromhex(one.client) for one in holdings}
    holders |= {event.into for _, _, event in naming if isinstance(event, NodeJoined) and event.client in holders}
    own = [(sequence, index) for sequence, index, event in naming if getattr(event, "client", None) in holders]
    return Gathered(holdings, sources, own, sequence, time, digest)


async def _naming(log: Log, site: str, sources: dict[int, Source], last: int) -> list[tuple[int, int, Event]]:
    """The events of nodes for everybody whom the sources tell of; the shards of these are read as a whole."""
    clients = {client for source in sources.values() for client in _clients(source.stored.commit.events)}
    read: set[str] = set()
    while wanted := {subjects.node(site, client) for client in clients} - read:
        async with aclosing(_records(log, sorted(wanted), last)) as records:
            async for record in records:
                source = Source(record, decode(record))
                sources[record.sequence] = source
                joins = [event for event in source.stored.commit.events if isinstance(event, NodeJoined)]
                clients |= {event.into for event in joins if event.client in clients}
        read |= wanted
    return [
        (sequence, index, event)
        for sequence, source in sorted(sources.items())
        if source.record.subject in read
        for index, event in enumerate(source.stored.commit.events)
        if isinstance(event, NAMING)
    ]


async def _opened(log: Log, sources: dict[int, Source]) -> Sequence[Stored]:
    """What the sources say, in the log's order, with names in clear but for those of nodes that are forgotten."""
    folded = [source.stored for _, source in sorted(sources.items())]
    for stored in folded:
        log.keys.take(stored)
    return await log.keys.open_all(folded)


def _who_had(folded: Sequence[Stored], address: bytes, at: int) -> list[Holding]:
    with closing(sqlite3.connect(":memory:")) as db:
        for projection in PROJECTIONS:
            db.executescript(projection.schema)
        for projection in PROJECTIONS:
            projection.fold(db.cursor(), folded)
        found = queries.who_had_in(db, address, at)
    # Not to whom a prefix was delegated in which the address lies: the sources are what names the address itself.
    return [holding for holding in found if holding.source != DELEGATED]


def _users(events: Sequence[Event], address: bytes) -> set[bytes]:
    """Who began to use it: what ends that names them, and not the address."""
    found = set()
    for event in events:
        match event:
            case SessionOpened() if event.peer == address:
                found.add(event.client)
            case ConfigurationRegistered() if any(one.address == address for one in event.snapshot.addresses):
                found.add(event.client)
            case ConfigurationChanged() if any(one.address == address for one in event.change.addresses):
                found.add(event.client)
            case _:
                pass
    return found


def _clients(events: Sequence[Event]) -> set[bytes]:
    return {client for event in events if isinstance(client := getattr(event, "client", None), bytes)}


async def _records(log: Log, wanted: Sequence[str], last: int | None) -> AsyncGenerator[Record, None]:
    """Messages on some subjects up to a sequence, or to the log's end as it is met."""
    async with aclosing(cast("AsyncGenerator[Batch, None]", log.follow(wanted))) as batches:
        async for batch in batches:
            for record in batch.records:
                if last is not None and record.sequence > last:
                    return
                yield record
            if batch.caught_up or (last is not None and batch.records and batch.records[-1].sequence >= last):
                return
