"""Hypothesis strategies for everything that can stand in the log, drawn from its types."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from dnms.events import codec
from dnms.events.commit import Commit, Decision
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import REQUESTS

U63 = st.integers(0, (1 << 63) - 1)
S64 = st.integers(-(1 << 63), (1 << 63) - 1)


def personal() -> st.SearchStrategy[Personal]:
    """Values in clear, and such as a later release writes, sealed."""
    sealed = st.builds(lambda way, rest: bytes([way]) + rest, st.integers(1, 255), st.binary(max_size=40))
    return (st.text(max_size=20) | st.binary(max_size=20)).map(Personal) | sealed.map(Personal.from_payload)


def of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a type of `events`."""
    return _of(inspect.type_info(kind))


def _of(kind: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: PLR0911, PLR0912  # one branch a type
    match kind:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=least, le=most, lt=limit):
            high = most if most is not None else limit - 1 if limit is not None else (1 << 63) - 1
            return st.integers(least if least is not None else -(1 << 63), high)
        case inspect.StrType(pattern=None):
            return st.text(max_size=20)
        case inspect.StrType(pattern=pattern):
            assert pattern is not None
            return st.from_regex(pattern.replace("$", r"\Z"), alphabet=st.characters(codec="ascii"))
        case inspect.BytesType(min_length=shortest, max_length=longest):
            return st.binary(min_size=shortest or 0, max_size=40 if longest is None else longest)
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.UnionType(types=types):
            return st.one_of([_of(each) for each in types])
        case inspect.VarTupleType(item_type=item):
            return st.lists(_of(item), max_size=3).map(tuple)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case inspect.StructType(fields=fields, cls=cls):
            return st.builds(
                cls,
                **{f.name: _of(f.type) for f in fields if f.required},
                **{f.name: _of(f.type) for f in fields if not f.required},
            )
        case inspect.CustomType(cls=cls) if cls is Personal:
            return personal()
        case _:
            raise TypeError(f"no strategy is known for {kind}; add one here")


def events() -> st.SearchStrategy[Event]:
    """Any event."""
    return st.sampled_from(codec.EVENTS).flatmap(of)


def requests() -> st.SearchStrategy[Request]:
    """Any request."""
    return st.sampled_from(REQUESTS).flatmap(of)


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    """Any commit."""
    happened = tuple(draw(st.lists(events(), max_size=4)))
    decisions = []
    for request in draw(st.lists(requests(), max_size=3)):
        first = draw(st.integers(0, len(happened)))
        decisions.append(
            Decision(
                request=request,
                at=draw(S64),
                entropy=draw(st.binary(max_size=32)),
                first=first,
                count=draw(st.integers(0, len(happened) - first)),
                refused=draw(st.none() | st.text(max_size=20)),
                times=draw(st.integers(1, 1 << 40)),
            )
        )
    return Commit(
        id=draw(st.binary(min_size=16, max_size=16)),
        time=draw(S64),
        predecessor=draw(U63),
        actor=draw(st.text(max_size=20)),
        plan=draw(U63),
        decisions=tuple(decisions),
        events=happened,
        hash=draw(st.none() | st.binary(max_size=64)),
        signature=draw(st.none() | st.binary(max_size=64)),
    )
