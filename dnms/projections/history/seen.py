"""Who was seen with which address: in a session, given in an outage, met where another was to be, or on the link."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from dnms.events.address import AddressBlocked, OutageGranted
from dnms.events.link import AddressSighted, AddressVanished
from dnms.events.recorded import Event
from dnms.events.seen import HardwareContested, IdentityContested, SessionClosed, SessionOpened
from dnms.projections.projection import Place, storable
from dnms.projections.versions import rows_of
from dnms.projections.writing import append, insert

SCHEMA = """
CREATE TABLE history_seen (       -- whether the client is seen with the address from `since` on
    address BLOB NOT NULL,
    client BLOB NOT NULL,
    how TEXT NOT NULL,            -- session, outage, blocked, contested, link
    subnet TEXT NOT NULL,
    agent TEXT NOT NULL,          -- who saw it; empty: the ledger says so
    since INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    until INTEGER,                -- where the event itself says it; NULL: the next row
    event TEXT NOT NULL,
    PRIMARY KEY (address, client, how, subnet, agent, since, sequence, event_index, seen)
) WITHOUT ROWID;
CREATE TABLE history_session (    -- open now
    client BLOB NOT NULL,
    subnet TEXT NOT NULL,
    agent TEXT NOT NULL,
    peer BLOB NOT NULL,
    PRIMARY KEY (client, subnet, agent)
) WITHOUT ROWID;
CREATE TABLE history_sighted (    -- seen on a link now
    address BLOB NOT NULL,
    subnet TEXT NOT NULL,
    client BLOB NOT NULL,
    PRIMARY KEY (address, subnet)
) WITHOUT ROWID;
"""

SAY = frozenset(
    {
        SessionOpened,
        SessionClosed,
        OutageGranted,
        AddressBlocked,
        IdentityContested,
        HardwareContested,
        AddressSighted,
        AddressVanished,
    }
)
"""Types of the events that say who was seen."""

SESSION, OUTAGE, BLOCKED, CONTESTED, LINK = "session", "outage", "blocked", "contested", "link"

_Session = tuple[bytes, str, str]
"""Client, subnet, agent."""

_Row = tuple[bytes, bytes, str, str, str, int, int, int, int, int | None, str]
"""As in the table."""


class Sightings:
    """What a batch of commits saw."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._before: dict[_Session, bytes] = {}
        self._open: dict[_Session, bytes | None] = {}  # of the sessions that the batch touches: the peer's address
        self._sighted: dict[tuple[bytes, str], bytes | None] = {}  # by address and subnet, on the links
        self._rows: list[_Row] = []

    @property
    def pairs(self) -> set[tuple[bytes, bytes]]:
        """Clients and the addresses that they came to be seen with."""
        return {(row[1], row[0]) for row in self._rows if row[8]}

    def learn(self, clients: Collection[bytes]) -> None:
        """Look up the open sessions of these clients."""
        select = "SELECT client, subnet, agent, peer FROM history_session WHERE client"
        for client, subnet, agent, peer in rows_of(self._cursor, select, clients):
            self._before[client, subnet, agent] = peer

    def learn_sighted(self, addresses: Collection[bytes]) -> None:
        """Look up who is seen with these addresses."""
        select = "SELECT address, subnet, client FROM history_sighted WHERE address"
        for address, subnet, client in rows_of(self._cursor, select, addresses):
            self._sighted[address, subnet] = client

    def take(self, event: Event, *, where: Place, at: int, sequence: int, index: int) -> None:
        """Take in an event, whatever it is."""
        match event:
            case SessionOpened():
                self._session(event, event.peer, where=where, at=at, sequence=sequence, index=index)
            case SessionClosed():
                self._session(event, None, where=where, at=at, sequence=sequence, index=index)
            case OutageGranted() if event.happened < at:
                # Since when it was used; from the commit on the lease says so, if there is one.
                since = storable(event.happened)
                row = (event.address, event.client, OUTAGE, where.subnet, "", since)
                self._rows.append((*row, sequence, index, 1, at, event.NAME))
            case AddressBlocked():
                row = (event.address, event.client, BLOCKED, where.subnet, "", at)
                self._rows.append((*row, sequence, index, 1, at, event.NAME))
            case IdentityContested():
                for address in (event.holder, event.contender):
                    self._met(event, address, where=where, at=at, sequence=sequence, index=index)
            case HardwareContested():
                self._met(event, event.contender, where=where, at=at, sequence=sequence, index=index)
            case AddressSighted():
                key = (event.address, where.subnet)
                if self._sighted.get(key) != event.client:  # else it goes on
                    row = (event.address, event.client, LINK, where.subnet, "", at)
                    self._rows.append((*row, sequence, index, 1, None, event.NAME))
                self._sighted[key] = event.client
            case AddressVanished():
                row = (event.address, event.client, LINK, where.subnet, "", at)
                self._rows.append((*row, sequence, index, 0, None, event.NAME))
                self._sighted[event.address, where.subnet] = None
            case _:
                pass

    def write(self) -> None:
        """Write it all down."""
        append(self._cursor, "history_seen", self._rows, 1)
        ended = [session for session, peer in self._open.items() if peer is None]
        self._cursor.executemany(
            "DELETE FROM history_session WHERE client = ? AND subnet = ? AND agent = ?",
            ended,
        )
        insert(
            self._cursor,
            "INSERT OR REPLACE INTO history_session",
            [(*session, peer) for session, peer in self._open.items() if peer is not None],
        )
        self._cursor.executemany(
            "DELETE FROM history_sighted WHERE address = ? AND subnet = ?",
            [key for key, client in self._sighted.items() if client is None],
        )
        self._cursor.executemany(
            "INSERT OR REPLACE INTO history_sighted VALUES (?, ?, ?)",
            [(*key, client) for key, client in self._sighted.items() if client is not None],
        )

    def _session(
        self,
        event: SessionOpened | SessionClosed,
        peer: bytes | None,
        *,
        where: Place,
        at: int,
        sequence: int,
        index: int,
    ) -> None:
        session = (event.client, where.subnet, where.agent)
        before = self._open[session] if session in self._open else self._before.get(session)
        self._open[session] = peer
        for address, seen in ((before, 0), (peer, 1)):
            if address is not None:
                row = (address, event.client, SESSION, where.subnet, where.agent, at)
                self._rows.append((*row, sequence, index, seen, None, event.NAME))

    def _met(
        self,
        event: IdentityContested | HardwareContested,
        address: bytes,
        *,
        where: Place,
        at: int,
        sequence: int,
        index: int,
    ) -> None:
        row = (address, event.client, CONTESTED, where.subnet, where.agent, at)
        self._rows.append((*row, sequence, index, 1, at, event.NAME))
