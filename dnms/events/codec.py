"""Commits as bytes: msgpack, with every event and request as `[wire name, version, fields]`.

    [1, id, time, predecessor, actor, plan, [decision, …], [event, …], hash or nil, signature or nil]
    decision: [[name, version, fields], at, entropy, first, count, refused or nil, times]

Encoding is canonical: equal commits give equal bytes, which is what replay compares. Nothing is encoded that could
not be decoded, for it would stop every reader of the log for good. Decoding never skips: an event that this program
does not know stops its reader with a clear error.

A commit is read in one pass of msgspec, by a type that holds the present version of everything. What that pass refuses
is read again item by item, which upcasts the old, and says what is wrong with the rest; nothing else tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeVar

import msgspec

from dnms.events import address, effect, gateway, link, node, plan, prefix, rollout, rule, seen, uplink
from dnms.events.commit import FORMAT, MAX_BYTES, MAX_EVENTS, Commit, Decision
from dnms.events.recorded import Event, Personal, Recorded, Request
from dnms.events.requests import REQUESTS

FAMILIES = (plan, node, address, gateway, link, rollout, seen, effect, prefix, uplink, rule)
"""Every family of events; a new event stands in its family's `EVENTS`."""

EVENTS: tuple[type[Event], ...] = tuple(event for family in FAMILIES for event in family.EVENTS)

R = TypeVar("R", bound=Recorded)
T = TypeVar("T")


_VERSION = bytes([FORMAT])  # where it stands in a commit: the second byte, after the length of the array


class BrokenCommit(ValueError):
    """The bytes are no commit. A damaged log, or not a log at all."""


class UnknownToThisRelease(BrokenCommit):
    """The commit was written by a newer release. Upgrade this program; nothing was skipped."""


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Item(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: str
    version: int
    fields: msgspec.Raw


Q = TypeVar("Q")
E = TypeVar("E")


class _Decision(msgspec.Struct, Generic[Q], array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    request: Q
    at: int
    entropy: bytes
    first: _Count
    count: _Count
    refused: str | None
    times: Annotated[int, msgspec.Meta(ge=1)]


class _Commit(msgspec.Struct, Generic[Q, E], array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    version: int
    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    time: int
    predecessor: _Count
    actor: str
    plan: _Count
    decisions: list[_Decision[Q]]
    events: list[E]
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
_items = msgspec.msgpack.Decoder(_Commit[_Item, _Item], ext_hook=_from_extension)


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


def _present(kinds: Iterable[type[Recorded]]) -> dict[type[Recorded], Any]:
    """For each type, that of `[its name, its version, it]`."""
    return {
        kind: msgspec.defstruct(
            f"{kind.__name__}Item",
            [("version", Literal[kind.VERSION]), ("fields", kind)],
            array_like=True,
            frozen=True,
            forbid_unknown_fields=True,
            gc=False,
            tag=kind.NAME,
        )
        for kind in kinds
    }


_event_items, _request_items = _present(EVENTS), _present(REQUESTS)
_present_kind: Any = _Commit[reduce(or_, _request_items.values()), reduce(or_, _event_items.values())]  # type: ignore[misc]
_present_commit: msgspec.msgpack.Decoder[_Commit[Any, Any]] = decoder(_present_kind)


def _item(items: dict[type[Recorded], Any], recorded: Recorded) -> Any:
    try:
        return items[type(recorded)](recorded.VERSION, recorded)
    except KeyError:
        raise UnknownToThisRelease(f"{recorded.NAME} is in no family, so no reader knows it") from None


_event_item: msgspec.msgpack.Decoder[_Item] = decoder(_Item)


def encode_event(event: Event) -> bytes:
    """The bytes of one event, as they are in a commit."""
    return encoder.encode((event.NAME, event.VERSION, event))


def decode_event(data: bytes) -> Event:
    """The event in such bytes, of whichever version; errors as `decode`."""
    return _events.decode(_event_item.decode(data))


def encode(commit: Commit) -> bytes:
    """The bytes of a commit; ValueError if it passes MAX_EVENTS or MAX_BYTES, or if no reader could decode it."""
    return encoded(commit)[0]


def encoded(commit: Commit) -> tuple[bytes, Commit]:
    """The bytes of a commit, and the commit as its readers will have it; ValueError as `encode`."""
    if len(commit.events) > MAX_EVENTS:
        raise ValueError(f"a commit of {len(commit.events)} events is over the limit of {MAX_EVENTS}; stage the change")
    data = encoder.encode(
        _Commit(
            FORMAT,
            commit.id,
            commit.time,
            commit.predecessor,
            commit.actor,
            commit.plan,
            [
                _Decision(_item(_request_items, d.request), d.at, d.entropy, d.first, d.count, d.refused, d.times)
                for d in commit.decisions
            ],
            [_item(_event_items, event) for event in commit.events],
            commit.hash,
            commit.signature,
        )
    )
    if len(data) > MAX_BYTES:
        raise ValueError(f"a commit of {len(data)} bytes is over the limit of {MAX_BYTES}; stage the change")
    return data, decode(data)


def _refuse_version(data: bytes) -> NoReturn:
    elements = msgspec.msgpack.decode(data, type=list[msgspec.Raw])
    version = msgspec.msgpack.decode(elements[0], type=int) if elements else 0
    if version > FORMAT:
        raise UnknownToThisRelease(f"a commit has version {version}; this program knows {FORMAT}: upgrade it")
    raise BrokenCommit("the first element of a commit is its version")


def decode(data: bytes) -> Commit:
    """The commit in `data`; BrokenCommit if it is none, UnknownToThisRelease if only a newer program can read it."""
    try:
        if data[1:2] != _VERSION:
            _refuse_version(data)
        raw = _present_commit.decode(data)
        commit = _commit(raw, [d.request.fields for d in raw.decisions], [item.fields for item in raw.events])
    except BrokenCommit:
        raise
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        commit = _decode_items(data)
    for decision in commit.decisions:
        if decision.first + decision.count > len(commit.events):
            raise BrokenCommit("a decision names events that the commit does not have")
    return commit


def _decode_items(data: bytes) -> Commit:
    try:
        raw = _items.decode(data)
        return _commit(raw, [_requests.decode(d.request) for d in raw.decisions], list(map(_events.decode, raw.events)))
    except BrokenCommit:
        raise
    except (ValueError, RecursionError) as error:
        raise BrokenCommit(f"not a commit: {error}") from error


def _commit(raw: _Commit[Any, Any], requests: Iterable[Request], events: Iterable[Event]) -> Commit:
    return Commit(
        id=raw.id,
        time=raw.time,
        predecessor=raw.predecessor,
        actor=raw.actor,
        plan=raw.plan,
        decisions=tuple(
            [
                Decision(
                    request=request,
                    at=d.at,
                    entropy=d.entropy,
                    first=d.first,
                    count=d.count,
                    refused=d.refused,
                    times=d.times,
                )
                for request, d in zip(requests, raw.decisions, strict=True)
            ]
        ),
        events=tuple(events),
        hash=raw.hash,
        signature=raw.signature,
    )
