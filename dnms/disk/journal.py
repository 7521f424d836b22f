"""What a Subnet Agent gave while the log was away, until the log has it: nobody else knows of it.

An entry is on the disk before a client is told of it, and is removed when its commit is acknowledged. Every entry has a
checksum, and the file says how many there are, so none is lost in silence: a journal that is not whole, or not this
agent's, is not opened, and is left as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from dnms.disk import atomic
from dnms.events.codec import decoder, encoder
from dnms.events.requests import MergeOutage

VERSION: Final = 1
APPLICATION: Final = 0x444E_4D53  # "DNMS", by which file(1) and we know the file

PATIENCE: Final = 2.0
"""Seconds for a former process of this agent to end."""

_SCHEMA: Final = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE belongs (site TEXT NOT NULL, subnet TEXT NOT NULL, log TEXT NOT NULL, entries INTEGER NOT NULL);
CREATE TABLE granted (
    client BLOB NOT NULL, iaid INTEGER NOT NULL, address BLOB NOT NULL, entry BLOB NOT NULL, checksum BLOB NOT NULL,
    PRIMARY KEY (client, iaid, address)
) WITHOUT ROWID;
"""


class JournalError(Exception):
    """The journal cannot be used, or written; one line that says what to do."""


class Belongs(msgspec.Struct, frozen=True):
    """What a journal is of."""

    site: str
    subnet: str
    log: str  # the log's id


class Journal:
    """The file of one agent. One process has it at a time."""

    def __init__(self, path: Path, belongs: Belongs) -> None:
        """Open it, or make it where there is none. JournalError."""
        self.path = path
        self._lock = threading.Lock()
        try:
            if not path.exists():
                _make(path, belongs)
            if not path.stat().st_size:
                raise self._torn("it is empty")  # to SQLite that is a new one
            self._db = _connect(path)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"cannot open the journal {path}: {error}") from error
        try:
            self._own()
            self._check(belongs)
            self.entries: Sequence[MergeOutage] = tuple(self._read())  # as it was opened
        except BaseException:
            self._db.close()
            raise

    async def write(self, entry: MergeOutage) -> None:
        """Put it on the disk, in place of an earlier one of the same client and address. JournalError if it is not."""
        await asyncio.to_thread(self._write, entry)

    async def remove(self, *entries: MergeOutage) -> None:
        """Take these out, but where another one has come into the place; they may be gone already. JournalError."""
        await asyncio.to_thread(self._remove, entries)

    def close(self) -> None:
        """Let another process have it."""
        with self._lock:
            self._db.close()

    def _write(self, entry: MergeOutage) -> None:
        data = encoder.encode(entry)
        with self._changing() as db:
            db.execute(
                "INSERT OR REPLACE INTO granted VALUES (?, ?, ?, ?, ?)",
                (entry.client, entry.iaid, entry.address, data, _checksum(data)),
            )

    def _remove(self, entries: Sequence[MergeOutage]) -> None:
        with self._changing() as db:
            db.executemany(
                "DELETE FROM granted WHERE client = ? AND iaid = ? AND address = ? AND entry = ?",
                [(each.client, each.iaid, each.address, encoder.encode(each)) for each in entries],
            )

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("UPDATE belongs SET entries = (SELECT count(*) FROM granted)")
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._in_transaction():
                    self._db.execute("ROLLBACK")
                raise JournalError(f"cannot write the journal {self.path}: {error}") from error

    def _in_transaction(self) -> bool:
        try:
            return self._db.in_transaction
        except sqlite3.Error:  # closed
            return False

    def _own(self) -> None:
        """Keep every other process out, for as long as it is open."""
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if "locked" in str(error):
                text = f"another agent has the journal {self.path}: stop it, or give this one its own --state"
                raise JournalError(text) from error
            raise self._torn(str(error)) from error

    def _check(self, belongs: Belongs) -> None:
        try:
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if application == APPLICATION and version > VERSION:
                raise JournalError(
                    f"the journal {self.path} is of a newer release (version {version}, this one knows {VERSION}): "
                    "start that release, so that it brings what is in there into the log"
                )
            if (application, version) != (APPLICATION, VERSION):
                raise self._torn("it is no journal of an agent")
            problems = [text for (text,) in self._db.execute("PRAGMA integrity_check")]
            if problems != ["ok"]:
                raise self._torn("; ".join(problems))
            rows = self._db.execute("SELECT site, subnet, log, entries FROM belongs").fetchall()
            (count,) = self._db.execute("SELECT count(*) FROM granted").fetchone()
        except sqlite3.Error as error:
            raise self._torn(str(error)) from error
        if len(rows) != 1 or rows[0][3] != count:
            raise self._torn(f"it has {count} entries, and says {[row[3] for row in rows]}")
        if (found := Belongs(*rows[0][:3])) != belongs:
            raise JournalError(
                f"the journal {self.path} is of site {found.site!r}, subnet {found.subnet!r} and log {found.log}, "
                f"not of {belongs.site!r}, {belongs.subnet!r} and {belongs.log}: give this agent another --state"
            )

    def _read(self) -> Iterator[MergeOutage]:
        decode = decoder(MergeOutage).decode
        try:
            for data, checksum in self._db.execute(
                "SELECT entry, checksum FROM granted ORDER BY client, iaid, address"
            ):
                if _checksum(data) != checksum:
                    raise self._torn("an entry is not what was written")
                yield decode(data)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise self._torn(str(error)) from error

    def _torn(self, why: str) -> JournalError:
        return JournalError(
            f"the journal {self.path} is damaged ({why}): what was given in an outage stands there alone. Restore it; "
            "or move it away, and its nodes keep what they were given for 10 minutes at most"
        )


def _make(path: Path, belongs: Belongs) -> None:
    """Whole, or not at all: a file that is there and empty is one that was damaged."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sqlite3.connect(":memory:") as db:
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO belongs VALUES (?, ?, ?, 0)", (belongs.site, belongs.subnet, belongs.log))
        db.commit()
        content = db.serialize()
    db.close()
    atomic.write(path, content, mode=0o600)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=b"dnms-journal").digest()
