"""A follow of the stream: one push consumer after another, so that messages come in order, once, and without a gap.

Theory of operation. The server pushes from a stream sequence on, nothing is acknowledged, and nats-py's callback does
nothing but put what comes into a queue (an exception in it would be lost). What comes is taken out, and looked at, when
the reader wants it. The server sends no more than it is told was taken (flow control), at most 32 MiB: a flow control
request is answered when it is taken out, after the messages before it, so a slow reader slows the server and is never
flooded.

Every message carries the consumer's own sequence, 1, 2, 3, …; and while nothing happens the server sends heartbeats
with the last of these. Whatever is not as expected (a gap, silence, a lost connection, a consumer that is gone since
the server restarted) ends this consumer, and the next one begins after the last message that was handed on.

A message that the server cannot read any more, since its checksum is wrong, it leaves out without a word. It still
counts it as pending, so a server that is idle while something is pending has lost it. That may be the last message,
which no gap behind it would show.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from nats import errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dnms.bus.connection import STORED_AT, Connection, Link
from dnms.bus.port import Batch, Record, Unavailable

HEARTBEAT = 1.0  # seconds; of an idle consumer
IDLE = 3  # heartbeats while messages are pending; then they count as lost
SILENCE = 3.0  # seconds without anything; then the consumer counts as gone
INACTIVE = 30.0  # seconds after which the server forgets a consumer that nobody listens to any more

MAX_RECORDS = 500
MAX_BYTES = 1 << 20
"""Of a batch, but for a single larger message. A reader decodes a batch at once, and others want the loop meanwhile."""

CREATE_TIMEOUT = 3.0  # seconds

_NANOSECONDS = 1_000_000_000
_OPTIONS_END = 11  # tokens of a reply subject with a domain; without one there are 9


class Where(msgspec.Struct, frozen=True):
    """What the reply subject of a pushed message says of it."""

    stream_sequence: int
    consumer_sequence: int
    time: int  # nanoseconds since 1970-01-01 UTC
    pending: int  # messages that the consumer has not sent yet


def parse_reply(reply: str) -> Where:
    """`$JS.ACK.[domain.account.]stream.consumer.delivered.stream-seq.consumer-seq.time.pending`; ValueError."""
    tokens = reply.split(".")
    if not reply.startswith("$JS.ACK.") or (len(tokens) != 9 and len(tokens) < _OPTIONS_END):
        raise ValueError(f"not pushed by a consumer: {reply!r}")
    first = 5 if len(tokens) == 9 else 7
    return Where(*map(int, tokens[first : first + 4]))


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Created(msgspec.Struct):
    num_pending: int = 0
    error: _Error | None = None


class Consumer:
    """One push consumer, from its creation until something is wrong with it."""

    def __init__(self, connection: Connection, link: Link, stream: str, *, imported: int = 0) -> None:
        """Messages up to the sequence `imported` were copied from another stream, and say when it stored them."""
        self._connection = connection
        self._link = link
        self._stream = stream
        self._imported = imported
        self._name = f"follow-{secrets.token_hex(8)}"
        self._subscription: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        self._arrival = asyncio.Event()
        self._delivered = 0  # the consumer's own sequence of the last message
        self._idle = 0  # heartbeats since the last message
        self.pending = 0  # messages that the server has for it, as it said last

    async def start(self, subjects: Sequence[str], *, after: int) -> int:
        """Create it; how many messages there are to send. Unavailable, Unanswered."""
        client = self._link.client
        inbox = client.new_inbox()
        self._link.lost.add_done_callback(self._lost)
        try:
            # No limits: flow control bounds what comes, and what nats-py drops at its limits is a gap
            self._subscription = await client.subscribe(
                inbox, cb=self._put, pending_msgs_limit=0, pending_bytes_limit=0
            )
        except errors.Error as error:
            raise Unavailable(f"no connection to the bus: {error}") from error
        config: dict[str, Any] = {
            "name": self._name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "deliver_subject": inbox,
            "filter_subjects": list(subjects),
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": round(HEARTBEAT * _NANOSECONDS),
            "inactive_threshold": round(INACTIVE * _NANOSECONDS),
            "mem_storage": True,
            "num_replicas": 1,
        }
        answer = await self._connection.request(
            f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._name}",
            msgspec.json.encode({"stream_name": self._stream, "config": config, "action": "create"}),
            timeout=CREATE_TIMEOUT,
        )
        created = msgspec.json.decode(answer.data, type=_Created)
        if created.error is not None:
            raise Unavailable(f"{self._stream}: no consumer: {created.error.description} ({created.error.err_code})")
        self.pending = created.num_pending
        return self.pending

    @property
    def stuck(self) -> bool:
        """Whether the server counts messages that it cannot send."""
        return self._idle >= IDLE

    async def stop(self) -> None:
        """Tell the server that nobody listens; it would find out by itself."""
        self._link.lost.remove_done_callback(self._lost)
        try:
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            await self._link.client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")
        except errors.Error:
            pass  # the connection is gone, and the consumer will be

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What comes, as long as nothing is missing."""
        while not self._link.lost.done() or self._arrived:
            if not self._arrived:
                self._arrival.clear()
                try:
                    async with asyncio.timeout(SILENCE):
                        await self._arrival.wait()
                except TimeoutError:
                    return
            batch, sound = await self._take()
            if batch.records:
                yield batch
            if not sound:
                return

    async def _take(self) -> tuple[Batch, bool]:
        """The messages that have come, up to a batch; False if the consumer is of no use after them."""
        records: list[Record] = []
        size, sound = 0, True
        while self._arrived and len(records) < MAX_RECORDS and size < MAX_BYTES:
            message = self._arrived.popleft()
            if not message.reply.startswith("$JS.ACK."):
                sound = await self._control(message)
            else:
                where = parse_reply(message.reply)
                sound = where.consumer_sequence == self._delivered + 1
                if sound:
                    self._delivered += 1
                    self.pending = where.pending
                    self._idle = 0
                    size += len(message.data)
                    records.append(
                        Record(message.subject, where.stream_sequence, self._stored_at(message, where), message.data)
                    )
            if not sound:
                break
        return Batch(tuple(records), caught_up=self.pending == 0), sound

    def _stored_at(self, message: Msg, where: Where) -> int:
        if where.stream_sequence <= self._imported and message.headers:
            return int(message.headers[STORED_AT])
        return where.time // 1_000

    async def _control(self, message: Msg) -> bool:
        """A heartbeat or a flow control request; False for what ends the consumer."""
        headers = message.headers or {}
        if headers.get("Status") != "100":
            return False
        answer = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if answer:
            try:
                await self._link.client.publish(answer)
            except errors.Error:
                return False
        last = headers.get("Nats-Last-Consumer")
        if last is None:
            return True
        if self.pending and "Nats-Consumer-Stalled" not in headers:  # else it waits for us
            self._idle += 1
        return int(last) == self._delivered and not self.stuck

    async def _put(self, message: Msg) -> None:
        self._arrived.append(message)
        self._arrival.set()

    def _lost(self, _: object) -> None:
        self._arrival.set()
