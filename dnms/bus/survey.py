"""All that can be read of a stream, whole or not: for whoever compares it with a copy, or saves what is left.

A reader of the log never goes on behind a message that is missing (`jetstream`, `reading`). This one does, and says
which messages it found; what is missing shows in their sequences, and in what the server says of its stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from dnms.bus.connection import Connection
from dnms.bus.following import Consumer
from dnms.bus.jetstream import CONNECT_PATIENCE, DETAILS, id_of, imported
from dnms.bus.jetstream_api import NO_STREAM, Stream, ask, text
from dnms.bus.port import LogError, Record, Unavailable
from dnms.bus.wholeness import State
from dnms.events import subjects


class NoStream(LogError):
    """The bus has no stream of this site."""

    why = "no-stream"


class Survey:
    """One site's stream as it is now; what comes later is left out."""

    def __init__(self, connection: Connection, site: str, stream: Stream) -> None:
        self._connection = connection
        self._site = site
        self.log_id = id_of(stream)
        self.imported = imported(stream.config)  # the sequence up to which it is a copy; 0 if it is none
        self.state: State = stream.state

    async def records(self) -> AsyncGenerator[Record, None]:
        """Every message that the server can read, in their order, up to the last one there was. Unavailable."""
        name = subjects.stream(self._site)
        last, end = 0, self.state.last_seq
        if end == 0:
            return
        consumer = Consumer(self._connection, self._connection.link, name, imported=self.imported)
        try:
            pending = await consumer.start([subjects.everything(self._site)], after=0)
            if not pending:
                return
            async with aclosing(consumer.batches()) as batches:
                async for batch in batches:
                    for record in batch.records:
                        if record.sequence > end:
                            return
                        last = record.sequence
                        yield record
                    if batch.caught_up or last >= end:
                        return
            if not consumer.stuck:  # else the rest is counted and cannot be read
                raise Unavailable(f"{name}: the bus stopped sending it after {last}")
        finally:
            await consumer.stop()


@asynccontextmanager
async def survey(url: str, site: str, *, token: str | None) -> AsyncGenerator[Survey, None]:
    """The stream of a site at `url`, however damaged; creates nothing. Unavailable, Denied, NoStream."""
    connection = Connection(url.split(","), token=token, name=f"dnms {site} survey")
    await connection.open(CONNECT_PATIENCE)
    try:
        yield Survey(connection, site, await look(connection, site))
    finally:
        await connection.close()


async def look(connection: Connection, site: str) -> Stream:
    """What the server says of a site's stream. Unavailable, NoStream."""
    name = subjects.stream(site)
    stream = await ask(connection, f"STREAM.INFO.{name}", DETAILS, Stream)
    if stream.error is not None and stream.error.err_code == NO_STREAM:
        raise NoStream(f"the bus has no stream {name}")
    if stream.error is not None:
        raise Unavailable(f"{name}: {text(stream.error)}")
    return stream
