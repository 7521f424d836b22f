from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnms.domain.ranges import Ranges
from dnms.domain.reusable import Reusable
from dnms.events.ip import parse_address

FIRST, LAST = parse_address("192.0.2.8"), parse_address("192.0.2.15")
OUTSIDE = parse_address("192.0.2.16")
RANGES = Ranges([(int.from_bytes(FIRST), int.from_bytes(FIRST) + 2), (int.from_bytes(FIRST) + 3, int.from_bytes(LAST))])


def address(offset: int) -> bytes:
    return (int.from_bytes(FIRST) + offset).to_bytes(16)


def offsets(found: object) -> list[int]:
    assert hasattr(found, "__iter__")
    return [int.from_bytes(each) - int.from_bytes(FIRST) for each in found]


def test_the_never_given_from_a_point_on_and_round() -> None:
    reusable = Reusable(RANGES, held=[address(1), address(6), OUTSIDE], former=[])
    assert offsets(reusable.never_given(5)) == [5, 7, 0, 2, 3, 4]
    assert offsets(reusable.never_given(0)) == [0, 2, 3, 4, 5, 7]


def test_a_full_range_has_none() -> None:
    reusable = Reusable(RANGES, held=map(address, range(8)), former=[])
    assert offsets(reusable.never_given(0)) == []
    assert offsets(reusable.longest_free()) == []


@given(st.lists(st.tuples(st.sampled_from(["hold", "end", "forget"]), st.integers(0, 9))))
def test_it_is_the_same_whenever_it_is_made(changes: list[tuple[str, int]]) -> None:
    """Agents make it at different times, and have to decide alike."""
    grown = Reusable(RANGES, held=[], former=[])
    held: set[bytes] = set()
    former: dict[bytes, None] = {}
    for change, offset in changes:
        which = address(offset)
        if change == "hold" and which not in held:
            held.add(which)
            former.pop(which, None)
            grown.hold(which)
        elif change == "end" and which in held:
            held.discard(which)
            former[which] = None
            grown.end(which)
        elif change == "forget" and which in former:
            del former[which]
            grown.forget(which)
        fresh = Reusable(RANGES, held=held, former=former)
        assert offsets(fresh.longest_free()) == offsets(grown.longest_free())
        assert offsets(fresh.never_given(0)) == offsets(grown.never_given(0))


def test_of_blocks_the_first_address_stands_for_each() -> None:
    first = int.from_bytes(parse_address("2001:db8::"))
    block = [(first + (number << 64)).to_bytes(16) for number in range(4)]
    inside = (first + (1 << 64) + 5).to_bytes(16)
    reusable = Reusable(Ranges([(first >> 64, (first >> 64) + 3)]), 64, held=[block[0], inside], former=[block[2]])
    assert list(reusable.never_given(3)) == [block[3], block[1]]
    assert list(reusable.longest_free()) == [block[2]]
    assert inside not in reusable


def test_a_draft_goes_on_from_where_it_was_made_and_changes_nothing_there() -> None:
    reusable = Reusable(RANGES, held=map(address, range(6)), former=[address(3), address(5)])
    draft = reusable.draft()
    for offset in (3, 6):
        draft.hold(address(offset))
    draft.end(address(0))
    assert offsets(draft.never_given(0)) == [7]
    assert offsets(draft.longest_free()) == [5, 0]
    assert offsets(reusable.never_given(0)) == [6, 7]
    assert offsets(reusable.longest_free()) == [3, 5]
