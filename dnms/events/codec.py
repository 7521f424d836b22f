"""Commits as bytes: msgpack, with every event and request as `[wire name, version, fields]`.

    [1, id, time, predecessor, actor, plan, [decision, …], [event, …], hash or nil, signature or nil]
    decision: [[name, version, fields], at, entropy, first, count, refused or nil, times]

Encoding is canonical: the same commit gives the same bytes, which is what replay compares. Decoding never skips: an
event that this program does not know stops its reader with a clear error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from dnms.events import address, node, plan, seen
from dnms.events.commit import FORMAT, MAX_BYTES, Commit, Decision
from dnms.events.recorded import Event, Personal, Recorded, Request
from dnms.events.requests import REQUESTS

FAMILIES = (plan, node, address, seen)
"""Every family of events; a new event stands in its family's `EVENTS`."""

EVENTS: tuple[type[Event], ...] = tuple(event for family in FAMILIES for event in family.EVENTS)

R = TypeVar("R", bound=Recorded)


class BrokenCommit(ValueError):
    """The bytes are no commit. A damaged log, or not a log at all."""


class UnknownToThisRelease(BrokenCommit):
    """The commit was written by a newer release. Upgrade this program; nothing was skipped."""


class _Item(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: str
    version: int
    fields: msgspec.Raw


class _Decision(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    request: _Item
    at: int
    entropy: bytes
    first: int
    count: int
    refused: str | None
    times: int


class _Commit(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    id: bytes
    time: int
    predecessor: int
    actor: str
    plan: int
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


encoder = msgspec.msgpack.Encoder(enc_hook=_to_extension)
"""Encodes anything of `events`, personal fields included."""


def decoder(kind: type[R]) -> msgspec.msgpack.Decoder[R]:
    """A decoder of one type of `events`, personal fields included."""
    return msgspec.msgpack.Decoder(kind, ext_hook=_from_extension)


_fields = msgspec.msgpack.Decoder(ext_hook=_from_extension)
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
        fields = _fields.decode(item.fields)
        for version in range(item.version, kind.VERSION):
            fields = kind.UPCASTS[version](fields)
        return msgspec.convert(fields, kind)


_events = _Table(EVENTS)
_requests: _Table[Request] = _Table(REQUESTS)


def _item(recorded: Recorded) -> _Item:
    return _Item(recorded.NAME, recorded.VERSION, msgspec.Raw(encoder.encode(recorded)))


def encode(commit: Commit) -> bytes:
    """The bytes of a commit; ValueError if they pass MAX_BYTES."""
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
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenCommit(f"not a commit: {error}") from error
    for decision in commit.decisions:
        if not 0 <= decision.first <= decision.first + decision.count <= len(commit.events):
            raise BrokenCommit("a decision names events that the commit does not have")
    return commit
