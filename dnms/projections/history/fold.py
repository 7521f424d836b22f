"""Rows that say what is so from an instant on."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from operator import itemgetter

from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.commit import Stored
from dnms.events.configuration import Snapshot
from dnms.events.link import AddressSighted, AddressVanished
from dnms.events.prefix import PrefixDelegated, PrefixExpired, PrefixReleased, PrefixWithdrawn
from dnms.events.seen import SessionClosed, SessionOpened
from dnms.projections.configurations.fold import TELL, Configurations
from dnms.projections.history import seen
from dnms.projections.projection import clients_of, place
from dnms.projections.versions import AS_OF, rows_of
from dnms.projections.writing import append, insert

SCHEMA = (
    """
CREATE TABLE history_lease (      -- who holds the address from `since` on; client NULL: nobody
    address BLOB NOT NULL,
    subnet TEXT NOT NULL,
    since INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    event TEXT NOT NULL,
    client BLOB,
    pool TEXT NOT NULL,
    PRIMARY KEY (address, subnet, since, sequence, event_index)
) WITHOUT ROWID;
CREATE TABLE history_prefix (     -- to whom the prefix is delegated from `since` on; client NULL: to nobody
    network BLOB NOT NULL,
    length INTEGER NOT NULL,
    subnet TEXT NOT NULL,
    since INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    event TEXT NOT NULL,
    client BLOB,
    pool TEXT NOT NULL,
    PRIMARY KEY (network, length, subnet, since, sequence, event_index)
) WITHOUT ROWID;
CREATE TABLE history_length (     -- of all prefixes that ever were delegated: few, so all are tried for an address
    length INTEGER PRIMARY KEY
);
CREATE TABLE history_use (        -- whether the client registers the address from `since` on
    address BLOB NOT NULL,
    client BLOB NOT NULL,
    since INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    used INTEGER NOT NULL,
    subnet TEXT NOT NULL,         -- where it was registered
    link TEXT NOT NULL,
    origin TEXT NOT NULL,
    event TEXT NOT NULL,          -- its name
    PRIMARY KEY (address, client, since, sequence, event_index)
) WITHOUT ROWID;
CREATE TABLE history_using (      -- what each client registers now
    client BLOB NOT NULL,
    address BLOB NOT NULL,
    link TEXT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (client, address)
) WITHOUT ROWID;
CREATE TABLE history_client (
    client BLOB PRIMARY KEY,
    latest INTEGER NOT NULL       -- of its registrations
) WITHOUT ROWID;
CREATE TABLE history_had (        -- every address that the client ever had by any of the others
    client BLOB NOT NULL,
    address BLOB NOT NULL,
    PRIMARY KEY (client, address)
) WITHOUT ROWID;
"""
    + seen.SCHEMA
)

PAST = tuple(
    f"CREATE TEMP VIEW {table} AS SELECT * FROM main.{table} WHERE sequence <= {AS_OF}"
    for table in ("history_lease", "history_prefix", "history_use", "history_seen")
)

APPENDED = ("history_lease", "history_use", "history_seen", "history_had")

_GIVES = frozenset({AddressAllocated, OutageGranted})
_ENDS = frozenset({AddressReleased, AddressExpired, AddressDeclined, AddressWithdrawn})
_OF_CLIENTS = TELL | {SessionOpened, SessionClosed}

_Use = tuple[str, str]
"""Link and origin."""

_Where = tuple[str, int, int, int]
"""Subnet, time, sequence and index of an event."""


class _Uses:
    """What the clients that a batch touches register."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._before: dict[bytes, dict[bytes, _Use]] = {}
        self._now: dict[bytes, dict[bytes, _Use]] = {}
        self._latest: dict[bytes, int] = {}
        self._rows: list[tuple[bytes, bytes, int, int, int, int, str, str, str, str]] = []

    @property
    def pairs(self) -> set[tuple[bytes, bytes]]:
        """Clients and the addresses that they registered otherwise than before; what they had no more, they had."""
        return {(row[1], row[0]) for row in self._rows if row[5]}

    def register(self, client: bytes, name: str, snapshot: Snapshot, where: _Where) -> None:
        """All that a client has after an event of this name."""
        subnet, at, sequence, index = where
        if client not in self._now:
            self.learn({client})
        # Two agents' clocks may differ; for one client, what comes later in the log is never earlier in time.
        self._latest[client] = since = max(at, self._latest.get(client, at))
        links = {link.index: link.name for link in snapshot.links}
        before = self._now[client]
        now: dict[bytes, _Use] = {}
        self._now[client] = now
        for one in snapshot.addresses:
            if one.origin != "loopback":  # every machine has those, and they say nothing of who was who
                now.setdefault(one.address, (links.get(one.interface, ""), one.origin))
        for address in before.keys() - now.keys():
            self._rows.append((address, client, since, sequence, index, 0, subnet, *before[address], name))
        for address, use in now.items():
            if before.get(address) != use:
                self._rows.append((address, client, since, sequence, index, 1, subnet, *use, name))

    def write(self) -> None:
        append(self._cursor, "history_use", self._rows, 1)
        gone: list[tuple[bytes, bytes]] = []
        new: list[tuple[bytes, bytes, str, str]] = []
        for client, now in self._now.items():
            before = self._before[client]
            gone += [(client, address) for address in before.keys() - now.keys()]
            new += [(client, address, *use) for address, use in now.items() if before.get(address) != use]
        self._cursor.executemany("DELETE FROM history_using WHERE client = ? AND address = ?", gone)
        insert(self._cursor, "INSERT OR REPLACE INTO history_using", sorted(new))
        insert(self._cursor, "INSERT OR REPLACE INTO history_client", sorted(self._latest.items()))

    def learn(self, clients: Collection[bytes]) -> None:
        """Look up what these clients use."""
        for client in clients:
            self._before[client] = {}
        using = "SELECT client, address, link, origin FROM history_using WHERE client"
        for client, address, link, origin in rows_of(self._cursor, using, clients):
            self._before[client][address] = (link, origin)
        for client in clients:
            self._now[client] = self._before[client]
        latest = "SELECT client, latest FROM history_client WHERE client"
        self._latest.update(dict(rows_of(self._cursor, latest, clients)))


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in who holds addresses and prefixes, who uses them, and who is seen with them."""
    held: list[tuple[bytes, str, int, int, int, str, bytes | None, str]] = []
    given: list[tuple[bytes, int, str, int, int, int, str, bytes | None, str]] = []
    uses, sightings, configurations = _Uses(cursor), seen.Sightings(cursor), Configurations(cursor)
    clients = clients_of(batch, _OF_CLIENTS)
    uses.learn(set().union(*(of for kind, of in clients.items() if kind in TELL)))
    sightings.learn(clients[SessionOpened] | clients[SessionClosed])
    sightings.learn_sighted(
        {
            event.address
            for stored in batch
            for event in stored.commit.events
            if isinstance(event, AddressSighted | AddressVanished)
        }
    )
    for stored in batch:
        where, at, sequence = place(stored.subject), stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            kind = type(event)
            if kind in seen.SAY:
                sightings.take(event, where=where, at=at, sequence=sequence, index=index)
            if kind in TELL:
                if (snapshot := configurations.take(event)) is not None:
                    client: bytes = event.client  # type: ignore[attr-defined]  # of all in TELL
                    uses.register(client, event.NAME, snapshot, (where.subnet, at, sequence, index))
            elif kind in _GIVES:
                assert isinstance(event, (AddressAllocated, OutageGranted))
                if isinstance(event, OutageGranted) and event.contested:
                    continue  # another keeps it
                held.append((event.address, where.subnet, at, sequence, index, event.NAME, event.client, event.pool))
            elif kind in _ENDS:
                assert isinstance(event, (AddressReleased, AddressExpired, AddressDeclined, AddressWithdrawn))
                held.append((event.address, where.subnet, at, sequence, index, event.NAME, None, ""))
            elif isinstance(event, PrefixDelegated):
                key = (event.prefix.network, event.prefix.length, where.subnet)
                given.append((*key, at, sequence, index, event.NAME, event.client, event.delegation))
            elif isinstance(event, (PrefixReleased, PrefixExpired, PrefixWithdrawn)):
                key = (event.prefix.network, event.prefix.length, where.subnet)
                given.append((*key, at, sequence, index, event.NAME, None, ""))
    append(cursor, "history_lease", held, 1)
    given.sort(key=itemgetter(0))
    insert(cursor, "INSERT OR REPLACE INTO history_prefix", given)
    cursor.executemany("INSERT OR IGNORE INTO history_length VALUES (?)", sorted({(row[1],) for row in given}))
    uses.write()
    sightings.write()
    holders = {(row[6], row[0]) for row in held if row[6] is not None}
    pairs = holders | uses.pairs | sightings.pairs
    insert(cursor, "INSERT OR IGNORE INTO history_had", sorted(pairs))
