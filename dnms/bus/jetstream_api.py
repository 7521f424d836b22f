"""JetStream's API in its own words: requests as JSON, what it answers, and what its errors mean to a log."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from nats.aio.msg import Msg

from dnms.bus.connection import Connection
from dnms.bus.port import LogError, LostRace, Unanswered, Unavailable
from dnms.bus.wholeness import State

ASK_TIMEOUT = 3.0  # seconds

WRONG_LAST_SEQUENCE = 10071
IN_FLIGHT = 10164  # another write on the subject has not ended yet; it may still fail, so this is no loss
NO_STREAM = 10059
NO_MESSAGE = 10037
_NO_CLUSTER = 10074  # one server keeps one replica; a cluster keeps three
NAME_IN_USE = 10058
_UNCERTAIN = frozenset({10008, 10009})  # temporarily unavailable, no leader: it may have been passed on
_NO_ROOM = frozenset({10023, 10028, 10047, 10077, 10122})  # resources, storage, and what a failed write says


class Misconfigured(LogError):
    """The server or the stream is not set up as a log must be; nothing is written to it."""

    why = "misconfigured"


class Error(msgspec.Struct):
    """Why JetStream did not do it."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Acknowledgement(msgspec.Struct):
    """What JetStream answers to a message that was to be stored."""

    seq: int = 0
    error: Error | None = None


class Deleted(msgspec.Struct):
    """What JetStream answers to a message that was to be deleted."""

    success: bool = False
    error: Error | None = None


class Stream(msgspec.Struct):
    """What JetStream says of a stream."""

    config: dict[str, Any] = {}
    state: State = msgspec.field(default_factory=State)
    ts: str = ""  # the server's time
    error: Error | None = None


class Message(msgspec.Struct):
    """A stored message."""

    subject: str
    seq: int
    time: str
    data: str = ""
    hdrs: str = ""


class Found(msgspec.Struct):
    """What JetStream answers to who asks for a message."""

    message: Message | None = None
    error: Error | None = None


A = TypeVar("A", Acknowledgement, Deleted, Stream, Found)


async def create_stream(connection: Connection, config: dict[str, Any]) -> Stream:
    """Make a stream, on three replicas or on the one that there is; the answer may be an error. Unavailable."""
    name = config["name"]
    stream = await ask(connection, f"STREAM.CREATE.{name}", msgspec.json.encode(config | {"num_replicas": 3}), Stream)
    if stream.error is not None and stream.error.err_code == _NO_CLUSTER:
        alone = msgspec.json.encode(config | {"num_replicas": 1})
        stream = await ask(connection, f"STREAM.CREATE.{name}", alone, Stream)
    return stream


async def ask(connection: Connection, subject: str, payload: bytes, kind: type[A]) -> A:
    """Call JetStream's API; its answer may be an error. Unavailable."""
    try:
        answer: Msg = await connection.request(f"$JS.API.{subject}", payload, timeout=ASK_TIMEOUT)
        return msgspec.json.decode(answer.data, type=kind)
    except Unanswered as error:
        raise Unavailable(str(error)) from error
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{subject}: the bus answers what is not understood: {error}") from error


def text(error: Error | None) -> str:
    """An error of JetStream's API for people."""
    return f"{error.description} ({error.err_code})" if error is not None else "an empty answer"


def refusal(subject: str, error: Error) -> LogError:
    """Of a message that was to be stored: what that means."""
    if error.err_code == WRONG_LAST_SEQUENCE:
        return LostRace(f"{subject}: {error.description}")
    if error.err_code in _UNCERTAIN:
        return Unanswered(f"{subject}: {text(error)}")
    if error.err_code in _NO_ROOM:
        return Unavailable(f"{subject}: the bus has no room to store it, is its disk full? {text(error)}")
    return Unavailable(f"{subject}: the bus refuses to store it: {text(error)}")
