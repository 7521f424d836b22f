"""The keys of personal values on JetStream: a stream beside the log from which, unlike from that, is deleted.

One message a client: `[client, id, secret]` in msgpack, stored only where the client has none (expected sequence 0 on
its subject). To destroy one is to have the server delete that message with its bytes overwritten in the file; the
server does so on every replica. What cannot be overwritten from here, as backups of the server's directory, is said in
`docs/personal.md`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog

from dnms.bus.connection import Connection
from dnms.bus.following import Consumer
from dnms.bus.jetstream_api import (
    NAME_IN_USE,
    NO_MESSAGE,
    NO_STREAM,
    Acknowledgement,
    Deleted,
    Found,
    Misconfigured,
    Stream,
    ask,
    create_stream,
    refusal,
    text,
)
from dnms.bus.port import Unavailable
from dnms.events import subjects as names
from dnms.events.sealing import Key

CONNECT_PATIENCE = 5.0  # seconds, as of the log
STORE_TIMEOUT = 3.0  # seconds, as of the log

_logger = structlog.get_logger(__name__)

_decoder = msgspec.msgpack.Decoder(Key)


def configuration(site: str) -> dict[str, Any]:
    """What the stream of keys is, in JetStream's words; an existing one must be the same."""
    return {
        "name": names.key_stream(site),
        "subjects": [f"dnms-keys.{site}.*"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "duplicate_window": 100_000_000,  # ns
        "deny_delete": False,
        "deny_purge": True,
        "allow_rollup_hdrs": False,
    }


@asynccontextmanager
async def key_store(url: str, site: str, *, token: str | None) -> AsyncGenerator[JetStreamKeyStore, None]:
    """The keys of a site at `url`, without its log. Makes the stream. Misconfigured, Unavailable, Denied."""
    connection = Connection(url.split(","), token=token, name=f"dnms {site} keys")
    await connection.open(CONNECT_PATIENCE)
    try:
        store = JetStreamKeyStore(connection, site)
        await store.open()
        yield store
    finally:
        await connection.close()


class JetStreamKeyStore:
    """Implements `keys.KeyStore`."""

    def __init__(self, connection: Connection, site: str) -> None:
        self._connection = connection
        self._site = site
        self._stream = names.key_stream(site)

    async def open(self) -> None:
        """Create the stream if it is missing, and check it. Misconfigured, Unavailable."""
        wanted = configuration(self._site)
        stream = await ask(self._connection, f"STREAM.INFO.{self._stream}", b"", Stream)
        if stream.error is not None and stream.error.err_code == NO_STREAM:
            stream = await create_stream(self._connection, wanted)
            if stream.error is not None and stream.error.err_code == NAME_IN_USE:  # another process was faster
                stream = await ask(self._connection, f"STREAM.INFO.{self._stream}", b"", Stream)
        if stream.error is not None:
            raise Unavailable(f"{self._stream}: {text(stream.error)}")
        for name, value in wanted.items():
            if stream.config.get(name, value if value is False or value == 0 else None) != value:
                raise Misconfigured(f"stream {self._stream}: {name} is {stream.config.get(name)!r}, not {value!r}")

    async def create(self, key: Key) -> None:
        """See `keys.KeyStore`."""
        subject = names.key(self._site, key.client)
        headers = {"Nats-Expected-Stream": self._stream, "Nats-Expected-Last-Subject-Sequence": "0"}
        answer = await self._connection.request(
            subject, msgspec.msgpack.encode(key), timeout=STORE_TIMEOUT, headers=headers
        )
        try:
            acknowledged = msgspec.json.decode(answer.data, type=Acknowledgement)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{subject}: no acknowledgement, but {answer.data[:80]!r}") from error
        if acknowledged.error is not None:
            raise refusal(subject, acknowledged.error)

    async def find(self, client: bytes) -> Key | None:
        """See `keys.KeyStore`."""
        return (await self._last(client))[0]

    async def since(self, place: int) -> tuple[Sequence[Key], int]:
        """See `keys.KeyStore`."""
        keys: list[Key] = []
        link = self._connection.link
        consumer = Consumer(self._connection, link, self._stream)
        try:
            pending = await consumer.start([f"dnms-keys.{self._site}.*"], after=place)
            if not pending:
                return keys, place
            async for batch in consumer.batches():
                keys += [_decoder.decode(record.data) for record in batch.records]
                place = batch.records[-1].sequence
                if batch.caught_up:
                    return keys, place
        finally:
            await consumer.stop()
        if consumer.stuck:
            # What cannot be read is lost, with the names that were sealed with it; all else goes on.
            _logger.error("keys are missing: the bus counts them and cannot read them", keys=consumer.pending)
            return keys, place
        raise Unavailable(f"{self._stream}: the keys were not read to their end")

    async def destroy(self, key: bytes, client: bytes) -> None:
        """See `keys.KeyStore`."""
        found, sequence = await self._last(client)
        if found is None or found.id != key:
            return
        request = msgspec.json.encode({"seq": sequence, "no_erase": False})
        deleted = await ask(self._connection, f"STREAM.MSG.DELETE.{self._stream}", request, Deleted)
        if not deleted.success and (await self._last(client))[1] == sequence:
            raise Unavailable(f"{self._stream}: a key is not destroyed: {text(deleted.error)}")

    async def _last(self, client: bytes) -> tuple[Key | None, int]:
        request = msgspec.json.encode({"last_by_subj": names.key(self._site, client)})
        found = await ask(self._connection, f"STREAM.MSG.GET.{self._stream}", request, Found)
        if found.error is not None and found.error.err_code == NO_MESSAGE:
            return None, 0
        if found.error is not None or found.message is None:
            raise Unavailable(f"{self._stream}: no message: {text(found.error)}")
        return _decoder.decode(base64.b64decode(found.message.data)), found.message.seq
