"""A log on NATS JetStream: one stream a site, synced before it acknowledges, from which nothing is ever deleted.

Theory of operation. A message is stored with the sequence that its subject must be at (expected sequence); the server
compares and stores under one lock, so one of two writers wins. What the server answers is one of three things: a
sequence; a refusal, which is certain; or nothing, and then the message may be stored or may yet be, for which there is
`append.append`. Nothing is published while there is no connection, and nothing waits to be sent later (`connection`).
`follow` is one push consumer after another (`following`). The stream carries an id of its own in its metadata: whoever
stored a position can tell this log from another one of the same name. A copy of a log on another server has the id of
the first (`importing`); its messages say when they were first stored, and that is their time here too.

The server must sync before it acknowledges (`sync_interval: always`, see `bus/*.conf`): with its default a power cut
takes what was acknowledged in the last seconds. That cannot be seen from here.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from dnms.bus.append import FIRST_PAUSE, LONGEST_PAUSE
from dnms.bus.connection import Connection, stored_at_header
from dnms.bus.following import Consumer
from dnms.bus.jetstream_api import (
    IN_FLIGHT,
    NAME_IN_USE,
    NO_MESSAGE,
    NO_STREAM,
    Acknowledgement,
    Found,
    Misconfigured,
    Stream,
    ask,
    create_stream,
    refusal,
    text,
)
from dnms.bus.key_stream import JetStreamKeyStore
from dnms.bus.keys import Keys
from dnms.bus.patterns import check_patterns, check_subject
from dnms.bus.port import Batch, LogDamaged, LogForked, Record, Unanswered, Unavailable
from dnms.bus.wholeness import damage
from dnms.events import subjects as names

CONNECT_PATIENCE = 5.0  # seconds; a server that is just starting is there by then
STORE_TIMEOUT = 3.0  # seconds; a disk that takes longer to sync leaves us in doubt

MIN_PAYLOAD = 8 << 20
"""Bytes that the server must take in one message; a commit stays under it."""

LOG_ID = "dnms-log-id"  # in the stream's metadata

IMPORTED = "dnms-imported"
"""In the metadata of a stream that is a copy (`importing`): the sequence up to which its messages come from another."""

DETAILS = b'{"deleted_details": true}'  # of a state: only so the server tells what it lost

_logger = structlog.get_logger(__name__)


def configuration(site: str) -> dict[str, Any]:
    """What a site's stream is, in JetStream's words; an existing one must be the same."""
    return {
        "name": names.stream(site),
        "subjects": [names.everything(site)],
        "retention": "limits",
        "storage": "file",
        "discard": "new",  # should somebody set a limit, it refuses and does not forget
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "duplicate_window": 100_000_000,  # ns; ids are not relied upon, so the shortest that JetStream takes
        "deny_delete": True,
        "deny_purge": True,
        "allow_rollup_hdrs": False,
    }


def imported(config: dict[str, Any]) -> int:
    """Of a stream's configuration: up to which sequence its messages come from another stream; 0 if none does."""
    return int((config.get("metadata") or {}).get(IMPORTED, 0))


async def connect(url: str, site: str, *, token: str | None) -> JetStreamLog:
    """The log of a site at `url` (several servers: with commas between them). Creates its stream if there is none.

    Unavailable if the server cannot be reached; Misconfigured if it, or the stream, is not fit for a log; LogDamaged if
    the server knows that messages are missing.
    """
    connection = Connection(url.split(","), token=token, name=f"dnms {site}")
    await connection.open(CONNECT_PATIENCE)
    log = JetStreamLog(connection, site)
    try:
        await log.open()
    except BaseException:
        await log.close()
        raise
    return log


class JetStreamLog:
    """One site's stream; see `connect`."""

    def __init__(self, connection: Connection, site: str) -> None:
        self.site = site
        self._connection = connection
        self._stream = names.stream(site)
        self._log_id = ""
        self._imported = 0
        self._key_store = JetStreamKeyStore(connection, site)
        self.keys = Keys(self._key_store)

    @property
    def log_id(self) -> str:
        """Drawn when the stream was made; another one is another log."""
        return self._log_id

    async def open(self) -> None:
        """Create the stream if it is missing, and check it. Misconfigured, Unavailable, LogDamaged."""
        payload = self._connection.link.client.max_payload
        if payload < MIN_PAYLOAD:
            raise Misconfigured(f"the bus takes messages of {payload} bytes; set its max_payload to {MIN_PAYLOAD}")
        deadline = asyncio.get_running_loop().time() + CONNECT_PATIENCE
        pause = FIRST_PAUSE
        while True:
            try:
                stream = await self._create_or_find()
                break
            except Unavailable:  # JetStream starts after the server listens
                if asyncio.get_running_loop().time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        for key, wanted in configuration(self.site).items():
            if stream.config.get(key, wanted if wanted is False or wanted == 0 else None) != wanted:
                raise Misconfigured(f"stream {self._stream}: {key} is {stream.config.get(key)!r}, not {wanted!r}")
        for key in ("mirror", "sources", "republish", "subject_transform", "allow_msg_ttl", "sealed", "no_ack"):
            if stream.config.get(key):
                raise Misconfigured(f"stream {self._stream}: {key} is set, and may not be")
        if stream.config.get("persist_mode", "") == "async":
            raise Misconfigured(f"stream {self._stream}: persist_mode is async, so what it acknowledges can be lost")
        self._log_id = id_of(stream)
        if not self._log_id:
            raise Misconfigured(f"stream {self._stream}: no {LOG_ID} in its metadata; DNMS has not made it")
        if not stream.state.whole or stream.state.cut_off:
            raise damage(self._stream, stream.state)
        self._imported = imported(stream.config)
        if stream.state.last_seq < self._imported:
            raise Misconfigured(
                f"stream {self._stream}: an import was interrupted after {stream.state.last_seq} of {self._imported} "
                "messages; run it again (had it ended, then the log is damaged)"
            )
        await self._key_store.open()

    async def close(self) -> None:
        """End the connection. What is being followed ends with Unavailable."""
        await self.keys.close()
        await self._connection.close()

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        """Store one message if the last one on `subject` has sequence `expected` (0: none); return its sequence.

        The primitive under `append.append`, which is what writers call. LostRace, Unavailable (certainly not stored) or
        Unanswered (perhaps stored).
        """
        check_subject(self.site, subject)
        headers = {"Nats-Expected-Stream": self._stream, "Nats-Expected-Last-Subject-Sequence": str(expected)}
        deadline = asyncio.get_running_loop().time() + STORE_TIMEOUT
        pause = FIRST_PAUSE
        while True:
            answer = await self._connection.request(subject, data, timeout=STORE_TIMEOUT, headers=headers)
            try:
                acknowledged = msgspec.json.decode(answer.data, type=Acknowledgement)
            except msgspec.MsgspecError as error:
                raise Unanswered(f"{subject}: no acknowledgement, but {answer.data[:80]!r}") from error
            refused = acknowledged.error
            if refused is None:
                return acknowledged.seq
            if refused.err_code != IN_FLIGHT:
                raise refusal(subject, refused)
            if asyncio.get_running_loop().time() + pause > deadline:
                raise Unavailable(f"{subject}: another write does not end: {text(refused)}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        """The first message on `subject` with a higher sequence, or None. Unavailable."""
        request = msgspec.json.encode({"seq": sequence + 1, "next_by_subj": subject})
        found = await ask(self._connection, f"STREAM.MSG.GET.{self._stream}", request, Found)
        if found.error is not None and found.error.err_code == NO_MESSAGE:
            return None
        if found.error is not None or found.message is None:
            raise Unavailable(f"{self._stream}: no message: {text(found.error)}")
        message = found.message
        stored_at = _microseconds(message.time)
        if message.seq <= self._imported:
            stored_at = int(stored_at_header(base64.b64decode(message.hdrs)))
        return Record(message.subject, message.seq, stored_at, base64.b64decode(message.data))

    async def end(self) -> int:
        """The sequence of the newest message of the stream; 0 if there is none. Unavailable, LogForked, LogDamaged."""
        stream = await ask(self._connection, f"STREAM.INFO.{self._stream}", DETAILS, Stream)
        if stream.error is not None:
            raise Unavailable(f"{self._stream}: {text(stream.error)}")
        if id_of(stream) != self._log_id:
            raise LogForked(f"{self._stream}: this is the log {id_of(stream)!r}, and was {self._log_id!r} before")
        if not stream.state.whole:
            raise damage(self._stream, stream.state)
        return stream.state.last_seq

    async def clock(self) -> int:
        """The log's own clock, in microseconds since 1970-01-01 UTC: that of the stream's leader. Unavailable."""
        stream = await ask(self._connection, f"STREAM.INFO.{self._stream}", b"", Stream)
        if stream.error is not None or not stream.ts:
            raise Unavailable(f"{self._stream}: no time: {text(stream.error)}")
        return _microseconds(stream.ts)

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        """All messages on `subjects` (NATS wildcards) after the sequence `after`, in order, then those to come.

        The first batch comes at once, empty if there is nothing. Goes on by itself after any loss of connection,
        without a gap and without a repetition. LogForked if this is another log then, or one that ends before what was
        read; LogDamaged if messages are missing or cannot be read. Ends when the iterator is closed.
        """
        check_patterns(self.site, subjects)
        silent = True  # nothing was handed on yet
        pause = FIRST_PAUSE
        while True:
            await self._connection.linked()
            try:
                link = self._connection.link
                end = await self.end()
                if end < after:
                    raise LogForked(f"{self._stream}: it ends at {end}, and was read up to {after} before")
                consumer = Consumer(self._connection, link, self._stream, imported=self._imported)
                try:
                    pending = await consumer.start(subjects, after=after)
                    if silent and not pending:
                        silent = False
                        yield Batch((), caught_up=True)
                    async for batch in consumer.batches():
                        silent, pause = False, FIRST_PAUSE
                        after = batch.records[-1].sequence
                        yield batch
                    if consumer.stuck:
                        raise LogDamaged(
                            f"{self._stream}: {consumer.pending} messages on {', '.join(subjects)} are missing: the "
                            f"bus counts them and cannot read them; {after} is the last one that came"
                        )
                finally:
                    await consumer.stop()
            except (Unavailable, Unanswered) as error:
                _logger.warning("follow interrupted", why=error.why, text=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _create_or_find(self) -> Stream:
        stream = await ask(self._connection, f"STREAM.INFO.{self._stream}", DETAILS, Stream)
        if stream.error is not None and stream.error.err_code == NO_STREAM:
            stream = await create(self._connection, self.site, {LOG_ID: uuid.uuid4().hex})
            if stream.error is not None and stream.error.err_code == NAME_IN_USE:  # another process was faster
                stream = await ask(self._connection, f"STREAM.INFO.{self._stream}", DETAILS, Stream)
        if stream.error is not None:
            raise Unavailable(f"{self._stream}: {text(stream.error)}")
        return stream


async def create(connection: Connection, site: str, metadata: dict[str, str]) -> Stream:
    """Make a site's stream, on three replicas or on the one that there is; the answer may be an error. Unavailable."""
    return await create_stream(connection, configuration(site) | {"metadata": metadata})


def id_of(stream: Stream) -> str:
    """The log's id; empty if DNMS has not made the stream."""
    metadata = stream.config.get("metadata") or {}
    return str(metadata.get(LOG_ID, ""))


def _microseconds(time: str) -> int:
    """Of a time as RFC 3339 with nanoseconds, truncated as the reply subjects of `following` are."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000 + int(fraction[:6].ljust(6, "0"))
