"""Commits as bytes: msgpack, with every event and request as `[wire name, version, fields]`.

    [1, id, time, predecessor, actor, plan, [decision, …], [event, …], hash or nil, signature or nil]
    decision: [[name, version, fields], at, entropy, first, count, refused or nil, times]

Encoding is canonical: equal commits give equal bytes, which is what replay compares. Nothing is encoded that could
not be decoded, for it would stop every reader of the log for good. Decoding never skips: an event that this program
does not know stops its reader with a clear error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Generic, NoReturn, TypeVar

import msgspec

from dnms.events import address, node, plan, seen
from dnms.events.commit import FORMAT, MAX_BYTES, MAX_EVENTS, Commit, Decision
from dnms.events.recorded import Event, Personal, Recorded, Request
from dnms.events.requests import REQUESTS

FAMILIES = (plan, node, address, seen)
"""Every family of events; a new event stands in its family's `EVENTS`."""

EVENTS: tuple[type[Event], ...] = tuple(event for family in FAMILIES for event in family.EVENTS)

R = TypeVar("R", bound=Recorded)
T = TypeVar("T")


class BrokenCommit(ValueError):
    """The bytes are no commit. A damaged log, or not a log at all."""


class UnknownToThisRelease(BrokenCommit):
    """The commit was written by a newer release. Upgrade this program; nothing was skipped."""


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Item(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: str
    version: int
    fields: msgspec.Raw


class _Decision(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    request: _Item
    at: int
    entropy: bytes
    first: _Count
    count: _Count
    refused: str | None
    times: Annotated[int, msgspec.Meta(ge=1)]


class _Commit(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    time: int
    predecessor: _Count
    actor: str
    plan: _Count
    decisions: list[_Decision]
    events: list[_Item]
    hash: bytes | None
    signature: bytes | None


def _to_extension(value: Any) -> Any:
    if isinstance(value, Personal):
        return msgspec.msgpack.Ext(Personal.EXTENSION, value.payload)
    raise NotImplementedError(type(value))


def _from_extension(code: int, payload: memoryview) -> Any:
    if code == Personal.EXTENSION:
        return Personal.from_payload(bytes(payload))
    raise ValueError(f"unknown extension type {code}")


encoder = msgspec.msgpack.Encoder(enc_hook=_to_extension, order="deterministic")
"""Encodes anything of `events`, personal fields included, the keys of every dict in their order."""


def decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """A decoder of one type of `events`, or of a type that holds some; personal fields included."""
    return msgspec.msgpack.Decoder(kind, ext_hook=_from_extension)


_fields = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_from_extension)
_commit = msgspec.msgpack.Decoder(_Commit, ext_hook=_from_extension)


class _Table(Generic[R]):
    """The types of one kind by their wire names."""

    def __init__(self, kinds: Iterable[type[R]]) -> None:
        self._decoders = {kind.NAME: (kind, decoder(kind)) for kind in kinds}

    def decode(self, item: _Item) -> R:
        try:
            kind, current = self._decoders[item.name]
        except KeyError:
            raise UnknownToThisRelease(f"unknown name {item.name!r} in the log; upgrade this program") from None
        if item.version == kind.VERSION:
            return current.decode(item.fields)
        if item.version > kind.VERSION:
            raise UnknownToThisRelease(f"{item.name} has version {item.version}; this program knows {kind.VERSION}")
        if item.version not in kind.UPCASTS:
            raise BrokenCommit(f"{item.name} never had a version {item.version}")
        fields = _fields.decode(item.fields)
        try:
            for version in range(item.version, kind.VERSION):
                fields = kind.UPCASTS[version](fields)
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # fields that no writer wrote
            raise BrokenCommit(f"{item.name} of version {item.version} cannot be read: {error!r}") from error
        return msgspec.convert(fields, kind)


_events = _Table(EVENTS)
_requests: _Table[Request] = _Table(REQUESTS)


def _item(recorded: Recorded) -> _Item:
    return _Item(recorded.NAME, recorded.VERSION, msgspec.Raw(encoder.encode(recorded)))


def encode(commit: Commit) -> bytes:
    """The bytes of a commit; ValueError if it passes MAX_EVENTS or MAX_BYTES, or if no reader could decode it."""
    if len(commit.events) > MAX_EVENTS:
        raise ValueError(f"a commit of {len(commit.events)} events is over the limit of {MAX_EVENTS}; stage the change")
    decisions = [
        _Decision(_item(d.request), d.at, d.entropy, d.first, d.count, d.refused, d.times) for d in commit.decisions
    ]
    data = encoder.encode(
        _Commit(
            FORMAT,
            commit.id,
            commit.time,
            commit.predecessor,
            commit.actor,
            commit.plan,
            decisions,
            [_item(event) for event in commit.events],
            commit.hash,
            commit.signature,
        )
    )
    if len(data) > MAX_BYTES:
        raise ValueError(f"a commit of {len(data)} bytes is over the limit of {MAX_BYTES}; stage the change")
    decode(data)
    return data


def _refuse_version(data: bytes) -> NoReturn:
    elements = msgspec.msgpack.decode(data, type=list[msgspec.Raw])
    version = msgspec.msgpack.decode(elements[0], type=int) if elements else 0
    if version > FORMAT:
        raise UnknownToThisRelease(f"a commit has version {version}; this program knows {FORMAT}: upgrade it")
    raise BrokenCommit("the first element of a commit is its version")


def decode(data: bytes) -> Commit:
    """The commit in `data`; BrokenCommit if it is none, UnknownToThisRelease if only a newer program can read it."""
    try:
        if data[1:2] != bytes([FORMAT]):
            _refuse_version(data)
        raw = _commit.decode(data)
        commit = Commit(
            id=raw.id,
            time=raw.time,
            predecessor=raw.predecessor,
            actor=raw.actor,
            plan=raw.plan,
            decisions=tuple(
                Decision(
                    request=_requests.decode(d.request),
                    at=d.at,
                    entropy=d.entropy,
                    first=d.first,
                    count=d.count,
                    refused=d.refused,
                    times=d.times,
                )
                for d in raw.decisions
            ),
            events=tuple(map(_events.decode, raw.events)),
            hash=raw.hash,
            signature=raw.signature,
        )
    except BrokenCommit:
        raise
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BrokenCommit(f"not a commit: {error}") from error
    for decision in commit.decisions:
        if decision.first + decision.count > len(commit.events):
            raise BrokenCommit("a decision names events that the commit does not have")
    return commit
