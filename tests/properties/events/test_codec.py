"""Commits come back as they were, and of all other bytes nothing but the two errors comes out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dnms.events import codec
from dnms.events.codec import BrokenCommit, UnknownToThisRelease
from dnms.events.commit import FORMAT, MAX_EVENTS, Commit
from dnms.events.plan import Pool
from dnms.events.recorded import Event, Part, Personal, Recorded
from tests.properties.events.strategies import commits, of
from tests.unit.events.examples import least
from tests.unit.events.golden_bytes import KINDS
from tests.unit.events.golden_bytes import commits as golden_commits

WHOLE = codec.encode(golden_commits()[1])

T = TypeVar("T")


def try_to_decode(data: bytes) -> Commit | None:
    """What a reader does: a commit, or one of the two errors; any other fails the test.

    What is read in one pass is what is read item by item.
    """
    try:
        commit = codec.decode(data)
    except BrokenCommit:
        return None
    assert codec._decode_items(data) == commit
    return commit


def items(commit: Commit) -> list[list[Any]]:
    """The commit's elements as the reference library sees them, to be changed and packed again."""
    unpacked: list[list[Any]] = msgpack.unpackb(codec.encode(commit))
    return unpacked


def pack(elements: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(elements)
    return packed


# --- what is written comes back


@given(commits())
def test_a_commit_comes_back_as_it_was(commit: Commit) -> None:
    data, read = codec.encoded(commit)
    assert read == commit
    assert try_to_decode(data) == commit
    assert codec.encode(read) == data


@given(commits())
def test_the_reference_library_reads_and_writes_the_same(commit: Commit) -> None:
    data = codec.encode(commit)
    assert pack(items(commit)) == data


@given(commits())
def test_an_event_alone_has_the_bytes_that_it_has_in_a_commit(commit: Commit) -> None:
    alone = [codec.encode_event(event) for event in commit.events]
    assert [msgpack.unpackb(data) for data in alone] == items(commit)[7]
    assert [codec.decode_event(data) for data in alone] == list(commit.events)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.NAME)
@settings(max_examples=25)
@given(data=st.data())
def test_every_event_and_request_comes_back_as_it_was(kind: type[Recorded], data: st.DataObject) -> None:
    recorded = data.draw(of(kind))
    encoded = codec.encoder.encode(recorded)
    assert codec.decoder(kind).decode(encoded) == recorded
    assert codec.encoder.encode(codec.decoder(kind).decode(encoded)) == encoded


def anew(value: T) -> T:
    """An equal value that shares nothing with it."""
    return codec.decoder(type(value)).decode(codec.encoder.encode(value))


def every_struct() -> list[type[msgspec.Struct]]:
    """All that stands in the log under a name, or is a piece of it."""
    found = [kind for base in (Recorded, Part) for kind in _below(base) if kind.__module__.startswith("dnms.events.")]
    assert Pool in found
    return found


def _below(base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    return [each for kind in base.__subclasses__() for each in (kind, *_below(kind))]


@pytest.mark.parametrize("kind", every_struct(), ids=lambda kind: kind.__name__)
def test_a_field_that_equals_its_default_is_not_written(kind: type[msgspec.Struct]) -> None:
    required = least(kind)
    defaults = {
        f.name: anew(f.default) if f.default is not msgspec.NODEFAULT else f.default_factory()
        for f in msgspec.structs.fields(kind)
        if not f.required
    }
    explicit = msgspec.structs.replace(required, **defaults)
    assert codec.encoder.encode(explicit) == codec.encoder.encode(required)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.randoms(use_true_random=False))
def test_equal_dicts_have_equal_bytes(entries: dict[str, str], random: Any) -> None:
    shuffled = list(entries.items())
    random.shuffle(shuffled)
    assert codec.encoder.encode(dict(shuffled)) == codec.encoder.encode(entries)


# --- what is not written


def test_nothing_is_encoded_that_no_reader_could_decode() -> None:
    first, second = golden_commits()
    for broken in (
        msgspec.structs.replace(first, id=b"short"),
        msgspec.structs.replace(first, predecessor=-1),
        msgspec.structs.replace(second, events=second.events[:1]),
        msgspec.structs.replace(
            second, events=(msgspec.structs.replace(second.events[0], address=b"short"), *second.events)
        ),
    ):
        with pytest.raises(ValueError):
            codec.encode(broken)


def test_an_event_that_is_in_no_family_is_not_encoded() -> None:
    class Unlisted(Event, frozen=True, kw_only=True, omit_defaults=True):
        NAME = "not.listed"

    with pytest.raises(UnknownToThisRelease, match=r"not\.listed"):
        codec.encode(msgspec.structs.replace(golden_commits()[0], events=(Unlisted(),)))


def test_a_commit_has_its_limits() -> None:
    first, second = golden_commits()
    with pytest.raises(ValueError, match="over the limit of 5000"):
        codec.encode(msgspec.structs.replace(first, events=second.events[:1] * (MAX_EVENTS + 1)))
    with pytest.raises(ValueError, match=r"over the limit of \d+; stage"):
        codec.encode(msgspec.structs.replace(first, actor="a" * (7 << 20)))


# --- hostile bytes


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x9a")
@example(b"\x9a\x01")
@example(b"\xdd\xff\xff\xff\xff\x01")
@example(b"\x91" * 100_000)
@example(b"\x9a\x01" + b"\x91" * 100_000)
def test_any_bytes(data: bytes) -> None:
    try_to_decode(data)


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=30,
)


@given(json_like)
def test_any_msgpack(value: Any) -> None:
    try_to_decode(msgpack.packb(value))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), json_like)
def test_any_element_of_a_commit_replaced(path: list[int], value: Any) -> None:
    elements = msgpack.unpackb(WHOLE)
    place = elements
    for step in path[:-1]:
        if isinstance(place, list) and place and isinstance(place[step % len(place)], list):
            place = place[step % len(place)]
    if place:
        place[path[-1] % len(place)] = value
    try_to_decode(msgpack.packb(elements))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.NAME)
@settings(max_examples=25)
@given(fields=json_like)
def test_any_fields_of_an_item(kind: type[Recorded], fields: Any) -> None:
    item = [kind.NAME, kind.VERSION, fields]
    decisions = [] if issubclass(kind, Event) else [[item, 1, b"", 0, 0, None, 1]]
    try_to_decode(
        pack([FORMAT, bytes(16), 1, 0, "a", 0, decisions, [item] if issubclass(kind, Event) else [], None, None])
    )


@given(st.binary(max_size=30))
@example(b"\x00" + b"\x91" * 100_000)
@example(b"")
@example(b"\x00\x01")
@example(b"\x00")
def test_any_personal_value(payload: bytes) -> None:
    elements = msgpack.unpackb(WHOLE)
    elements[7][1][2]["name"] = msgpack.ExtType(Personal.EXTENSION, payload)
    try_to_decode(msgpack.packb(elements))


def test_every_cut_of_a_commit_is_broken() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(BrokenCommit):
            codec.decode(WHOLE[:length])
    with pytest.raises(BrokenCommit):
        codec.decode(WHOLE + b"\xc0")


def test_every_flipped_bit_of_a_commit() -> None:
    for position in range(len(WHOLE)):
        for bit in range(8):
            damaged = bytearray(WHOLE)
            damaged[position] ^= 1 << bit
            read = try_to_decode(bytes(damaged))
            # Where a value itself was hit, the form is whole, and only a hash can tell. It never reads as the old one.
            assert read is None or codec.encode(read) != WHOLE


@given(commits(), st.data())
def test_flipped_bits_of_any_commit(commit: Commit, data: st.DataObject) -> None:
    damaged = bytearray(codec.encode(commit))
    for position in data.draw(st.lists(st.integers(0, len(damaged) * 8 - 1), min_size=1, max_size=8)):
        damaged[position // 8] ^= 1 << position % 8
    try_to_decode(bytes(damaged))


# --- newer and older releases


@given(st.integers(FORMAT + 1, (1 << 63) - 1), st.lists(json_like, max_size=12))
def test_a_newer_form_of_a_commit_stops_its_reader(version: int, rest: list[Any]) -> None:
    with pytest.raises(UnknownToThisRelease):
        codec.decode(pack([version, *rest]))


@given(st.integers(-(1 << 63), FORMAT - 1))
def test_there_is_no_older_form(version: int) -> None:
    with pytest.raises(BrokenCommit) as caught:
        codec.decode(pack([version, *items(golden_commits()[1])[1:]]))
    assert not isinstance(caught.value, UnknownToThisRelease)


@given(st.sampled_from(KINDS), st.integers(1, 1 << 40), json_like)
def test_a_newer_version_of_an_item_stops_its_reader(kind: type[Recorded], later: int, fields: Any) -> None:
    item = [kind.NAME, kind.VERSION + later, fields]
    decisions = [] if issubclass(kind, Event) else [[item, 1, b"", 0, 0, None, 1]]
    with pytest.raises(UnknownToThisRelease):
        codec.decode(pack([FORMAT, bytes(16), 1, 0, "a", 0, decisions, [] if decisions else [item], None, None]))


@given(st.text().filter(lambda name: name not in {kind.NAME for kind in codec.EVENTS}), json_like)
@example("plan.apply", {})  # a request is no event
def test_an_unknown_event_stops_its_reader(name: str, fields: Any) -> None:
    with pytest.raises(UnknownToThisRelease):
        codec.decode(pack([FORMAT, bytes(16), 1, 0, "a", 0, [], [[name, 1, fields]], None, None]))


def test_an_optional_fact_of_a_newer_release_does_not_stop_its_reader() -> None:
    elements = items(golden_commits()[1])
    elements[7][0][2]["added-later"] = 1
    assert codec.decode(pack(elements)) == golden_commits()[1]


class Moved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event that has come to its third version."""

    NAME = "test.moved"
    VERSION = 3
    UPCASTS = {
        1: lambda fields: {"metres": fields["miles"] * 1609, **{k: v for k, v in fields.items() if k != "miles"}},
        2: lambda fields: {"millimetres": fields["metres"] * 1000, "who": fields["who"]},
    }
    millimetres: int
    who: Personal


@pytest.fixture
def table() -> codec._Table[Event]:
    return codec._Table([Moved])


def item(version: int, fields: Any) -> codec._Item:
    return codec._Item(Moved.NAME, version, msgspec.Raw(codec.encoder.encode(fields)))


def test_old_versions_are_upcast_one_by_one(table: codec._Table[Event]) -> None:
    who = Personal("anna")
    expected = Moved(millimetres=3_218_000, who=who)
    assert table.decode(item(1, {"miles": 2, "who": who})) == expected
    assert table.decode(item(2, {"metres": 3218, "who": who})) == expected
    assert table.decode(item(3, {"millimetres": 3_218_000, "who": who})) == expected


def test_versions_that_never_were_are_broken(table: codec._Table[Event]) -> None:
    for version in (0, -1, -(1 << 63)):
        with pytest.raises(BrokenCommit, match="never had a version"):
            table.decode(item(version, {}))
    with pytest.raises(UnknownToThisRelease):
        table.decode(item(4, {}))


@given(
    st.integers(1, 3), json_like | st.fixed_dictionaries({"miles": json_like, "metres": json_like, "who": json_like})
)
def test_any_fields_of_an_old_version(version: int, fields: Any) -> None:
    table: codec._Table[Event] = codec._Table([Moved])
    with pytest.raises((BrokenCommit, msgspec.MsgspecError)):  # `decode` turns the second into the first
        table.decode(item(version, fields))


# --- sealed values


def test_a_value_sealed_by_a_later_release_is_kept_as_it_is() -> None:
    elements = items(golden_commits()[1])
    elements[7][1][2]["name"] = sealed = msgpack.ExtType(Personal.EXTENSION, b"\x07sealed")
    data = pack(elements)
    node = codec.decode(data).events[1]
    assert node.name.value is None  # type: ignore[attr-defined]  # it is a NodeIdentified
    assert node.name.text == "(sealed)"  # type: ignore[attr-defined]
    assert codec.encode(codec.decode(data)) == data
    assert msgpack.unpackb(codec.encoder.encode(node))["name"] == sealed


@given(st.text() | st.binary())
def test_a_personal_value_comes_back_and_is_not_shown_by_accident(value: str | bytes) -> None:
    kept = Personal.from_payload(Personal(value).payload)
    assert kept == Personal(value)
    assert hash(kept) == hash(Personal(value))
    assert kept.value == value
    assert f"{kept!r} {kept}" == "Personal(…) Personal(…)"
    assert kept.text == (value if isinstance(value, str) else value.hex(":"))
