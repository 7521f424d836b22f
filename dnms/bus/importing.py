"""A whole log copied onto a bus: the same id, sequences, bytes and times, on another server or on three replicas.

Theory of operation. JetStream numbers messages by itself, and a log has one at every sequence from 1 on: so messages
that are sent in their order to an empty stream get the sequences that they had. Each expects the one before it as the
last of the stream (`Nats-Expected-Last-Sequence`), so none comes twice or out of order, whatever is sent again and
whoever else writes. JetStream also stamps each with its own time; the first time goes along in a header, and the
stream's metadata says up to which sequence that header counts (`jetstream.IMPORTED`). Until all of them are there,
nobody else gets to use the stream (`JetStreamLog.open`), so an import that was interrupted is run again and goes on.
At the end everything is read back and compared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from itertools import islice

import msgspec
from nats import errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dnms.bus.connection import STORED_AT, Connection, Link
from dnms.bus.jetstream import CONNECT_PATIENCE, IMPORTED, LOG_ID, MIN_PAYLOAD, create, id_of, imported
from dnms.bus.jetstream_api import (
    NAME_IN_USE,
    WRONG_LAST_SEQUENCE,
    Acknowledgement,
    Misconfigured,
    Stream,
    text,
)
from dnms.bus.port import LogError, Record, Unanswered, Unavailable
from dnms.bus.survey import NoStream, Survey, look
from dnms.events import subjects

WINDOW = 500
"""Messages that are not acknowledged yet."""
WINDOW_BYTES = 16 << 20
ANSWER_TIMEOUT = 3.0  # seconds without an acknowledgement; then what was sent may be lost

PATIENCE = 30.0
"""Seconds without progress. Three replicas need 9 to elect a leader."""
PAUSE = 0.2  # seconds before what may be lost is sent again


class Occupied(LogError):
    """There is another log where one is to be copied to, or not what was copied. Nothing of it is changed."""

    why = "occupied"


async def import_log(
    url: str, site: str, *, token: str | None, log_id: str, last: int, records: Callable[[], Iterator[Record]]
) -> None:
    """Copy a log's messages 1 to `last` to a bus that does not have it. `records` yields all of them each time.

    Goes on where an earlier call for the same log ended; done already, it compares. Occupied, Misconfigured,
    Unavailable, Denied; Occupied too if what is there in the end is not what was sent.
    """
    connection = Connection(url.split(","), token=token, name=f"dnms {site} import")
    await connection.open(CONNECT_PATIENCE)
    try:
        payload = connection.link.client.max_payload
        if payload < MIN_PAYLOAD:
            raise Misconfigured(f"the bus takes messages of {payload} bytes; set its max_payload to {MIN_PAYLOAD}")
        stream = await _find_or_create(connection, site, log_id, last)
        await _fill(connection, site, records, have=stream.state.last_seq, last=last)
        await _compare(connection, site, records, last=last)
    finally:
        await connection.close()


async def _find_or_create(connection: Connection, site: str, log_id: str, last: int) -> Stream:
    name = subjects.stream(site)
    try:
        stream = await look(connection, site)
    except NoStream:
        stream = await create(connection, site, {LOG_ID: log_id, IMPORTED: str(last)})
        if stream.error is not None and stream.error.err_code == NAME_IN_USE:
            raise Occupied(f"somebody else has just made the stream {name}") from None
        if stream.error is not None:
            raise Unavailable(f"{name}: {text(stream.error)}") from None
    if id_of(stream) != log_id:
        raise Occupied(f"stream {name} is there already, and is another log; import to a bus that has none")
    if imported(stream.config) != last:
        raise Occupied(f"stream {name} is there already, and is this log itself, or a copy of another length")
    return stream


async def _fill(
    connection: Connection, site: str, records: Callable[[], Iterator[Record]], *, have: int, last: int
) -> None:
    """Send what is missing, until all of it is there."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while have < last:
        failure: LogError | None = None
        try:
            async with asyncio.timeout_at(deadline):
                await connection.linked()
            sending = _Sending(connection.link)
            await sending.all(islice(records(), have, None))
        except (Unavailable, Unanswered) as error:
            failure = error
        except TimeoutError:
            failure = Unavailable("no connection to the bus")
        before = have
        try:
            have = (await look(connection, site)).state.last_seq
        except Unavailable as error:
            failure = error
        if have > before:
            deadline = loop.time() + PATIENCE
        elif loop.time() > deadline:
            raise Unavailable(f"the import does not go on after {have} of {last} messages: {failure}")
        if have < last:
            await asyncio.sleep(PAUSE)


class _Sending:
    """Messages on their way over one link, as many at once as the window holds."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sizes: deque[int] = deque()  # of what is not acknowledged yet
        self._bytes = 0
        self._moved = asyncio.Event()
        self._failed: LogError | None = None

    async def all(self, records: Iterator[Record]) -> None:
        """Send them; return when all are stored. Unavailable, Unanswered: some may be."""
        client = self._link.client
        inbox = client.new_inbox()
        self._link.lost.add_done_callback(self._lost)
        subscription: Subscription | None = None
        try:
            subscription = await client.subscribe(inbox, cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0)
            for record in records:
                while len(self._sizes) >= WINDOW or self._bytes >= WINDOW_BYTES:
                    await self._wait()
                headers = {"Nats-Expected-Last-Sequence": str(record.sequence - 1), STORED_AT: str(record.stored_at)}
                self._sizes.append(len(record.data))
                self._bytes += len(record.data)
                await client.publish(record.subject, record.data, reply=inbox, headers=headers)
            while self._sizes:
                await self._wait()
        except errors.Error as error:
            raise Unavailable(f"no connection to the bus: {error}") from error
        finally:
            self._link.lost.remove_done_callback(self._lost)
            with suppress(errors.Error):  # else it went with the link
                if subscription is not None:
                    await subscription.unsubscribe()

    async def _wait(self) -> None:
        self._moved.clear()
        if self._failed is None:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self._moved.wait()
            except TimeoutError:
                raise Unanswered(f"no acknowledgement within {ANSWER_TIMEOUT:g} s") from None
        if self._failed is not None:
            raise self._failed

    async def _answered(self, message: Msg) -> None:
        """Count an acknowledgement. Never raises: nobody would see it."""
        self._moved.set()
        try:
            answer = msgspec.json.decode(message.data, type=Acknowledgement)
        except msgspec.MsgspecError:  # nobody is there to answer
            self._failed = self._failed or Unanswered("the bus does not acknowledge")
            return
        if answer.error is not None and answer.error.err_code == WRONG_LAST_SEQUENCE:
            self._failed = self._failed or Unanswered("an earlier message was not stored, or this one was before")
        elif answer.error is not None:
            self._failed = self._failed or Unavailable(f"the bus refuses to store it: {text(answer.error)}")
        elif self._sizes:
            self._bytes -= self._sizes.popleft()

    def _lost(self, _: object) -> None:
        self._failed = self._failed or Unanswered("the connection to the bus was lost")
        self._moved.set()


async def _compare(connection: Connection, site: str, records: Callable[[], Iterator[Record]], *, last: int) -> None:
    """Read everything back. Occupied where it is not what was sent."""
    there = Survey(connection, site, await look(connection, site))
    name = subjects.stream(site)
    wanted = records()
    async with aclosing(there.records()) as found:
        async for record in found:
            if record.sequence > last:
                break
            if record != next(wanted, None):
                raise Occupied(f"stream {name}: the message at {record.sequence} is not the one that was to be copied")
    missing = next(wanted, None)
    if missing is not None:
        raise Occupied(f"stream {name}: the message at {missing.sequence} was stored and cannot be read")
