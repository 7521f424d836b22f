"""Sightings and alarms of the ledgers."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from dnms.domain.sightings import key_of
from dnms.events.commit import Stored
from dnms.events.link import AddressSighted, AddressVanished, AlarmCleared, AlarmRaised
from dnms.events.recorded import Event
from dnms.projections.projection import place
from dnms.projections.versions import Rows, Table

SIGHTED = Table(
    name="link_sighted",
    key={"address": "BLOB NOT NULL", "subnet": "TEXT NOT NULL"},
    columns={
        "client": "BLOB NOT NULL",
        "form": "TEXT NOT NULL",
        "lasting": "TEXT NOT NULL",
        "sure": "TEXT NOT NULL",
        "since": "INTEGER NOT NULL",
        "recorded": "INTEGER NOT NULL",  # when it was last
        "until": "INTEGER NOT NULL",
        "opened_sequence": "INTEGER NOT NULL",
        "opened_index": "INTEGER NOT NULL",
    },
    indexes=("client",),
)
ALARM = Table(
    name="link_alarm",
    key={"about": "BLOB NOT NULL", "subnet": "TEXT NOT NULL", "alarm": "TEXT NOT NULL"},
    columns={
        "address": "BLOB NOT NULL",
        "client": "BLOB NOT NULL",
        "other": "BLOB",
        "network": "BLOB",  # of the prefix, if it is about one
        "length": "INTEGER",
        "why": "TEXT NOT NULL",
        "since": "INTEGER NOT NULL",
        "opened_sequence": "INTEGER NOT NULL",
        "opened_index": "INTEGER NOT NULL",
        "cleared": "INTEGER",  # NULL: it is so now
        "ended": "TEXT NOT NULL",  # why it was cleared
    },
)
KINDS: frozenset[type[Event]] = frozenset({AddressSighted, AddressVanished, AlarmRaised, AlarmCleared})
TABLES = (SIGHTED, ALARM)
SCHEMA = "".join(table.schema for table in TABLES)
INDEXES = tuple(statement for table in TABLES for statement in table.asked_by)
PAST = tuple(table.past for table in TABLES)


class _Sighted(NamedTuple):
    """A row of `link_sighted` behind its key."""

    client: bytes
    form: str
    lasting: str
    sure: str
    since: int
    recorded: int
    until: int
    opened_sequence: int
    opened_index: int


class _Alarm(NamedTuple):
    """A row of `link_alarm` behind its key."""

    address: bytes
    client: bytes
    other: bytes | None
    network: bytes | None
    length: int | None
    why: str
    since: int
    opened_sequence: int
    opened_index: int
    cleared: int | None
    ended: str


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in what is seen."""
    sighted, alarms = Rows(cursor, SIGHTED, _Sighted), Rows(cursor, ALARM, _Alarm)
    for stored in batch:
        where, at, sequence = place(stored.subject), stored.commit.time, stored.sequence
        for index, event in enumerate(stored.commit.events):
            match event:
                case AddressSighted():
                    before = sighted.get(event.address, where.subnet)
                    goes_on = before is not None and event.since < at
                    opened = before[-2:] if before is not None and goes_on else (sequence, index)
                    row = _Sighted(
                        event.client, event.form, event.lasting, event.sure, event.since, at, event.until, *opened
                    )
                    sighted.set(row, event.address, where.subnet, sequence=sequence)
                case AddressVanished():
                    sighted.set(None, event.address, where.subnet, sequence=sequence)
                case AlarmRaised():
                    raised = _raised(event, at, (sequence, index))
                    alarms.set(raised, *_key(event, where.subnet), sequence=sequence)
                case AlarmCleared():
                    key = _key(event, where.subnet)
                    if (known := alarms.get(*key)) is not None:
                        alarms.set(known._replace(cleared=at, ended=event.why), *key, sequence=sequence)
                case _:
                    pass
    for rows in (sighted, alarms):
        rows.write()


def _key(event: AlarmRaised | AlarmCleared, subnet: str) -> tuple[bytes, str, str]:
    alarm, about = key_of(event.alarm, event.address, event.client)
    return about, subnet, alarm


def _raised(event: AlarmRaised, at: int, position: tuple[int, int]) -> _Alarm:
    prefix = event.prefix
    return _Alarm(
        event.address,
        event.client,
        event.other,
        None if prefix is None else prefix.network,
        None if prefix is None else prefix.length,
        event.why,
        at,
        *position,
        None,
        "",
    )
