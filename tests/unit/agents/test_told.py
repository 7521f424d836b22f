"""In how few words a node is told that what it has lasts longer."""

from __future__ import annotations

import pytest

from dnms.agents.subnet.told import ON_THE_WAY, Told
from dnms.events.configuration import AssignedAddress, Assignment, Generation
from dnms.events.ip import parse_address
from dnms.wire.messages import Assign


def assign(*valid: int) -> Assign:
    """One address each, all of a generation that says nothing."""
    addresses = tuple(
        AssignedAddress(
            address=parse_address(f"2001:db8::{number}"), prefix_length=64, iaid=1, preferred=min(10, each), valid=each
        )
        for number, each in enumerate(valid, start=1)
    )
    assignment = Assignment(generation=Generation(1, 1, 1), addresses=addresses)
    return Assign(assignment=assignment, renew_after=5, rebind_after=8)


@pytest.mark.parametrize(
    ("valid", "is_enough"), [((30, 30), True), ((30, 0), False), ((30, 9), False), ((30, 20), True)]
)
def test_what_is_over_for_a_node_comes_back_by_the_whole_alone(valid: tuple[int, int], is_enough: bool) -> None:
    told = Told(assign=assign(*valid), at=100.0, heard=1)
    extended = told.extension(assign(30, 30), now=105.0)
    assert (extended is not None) == is_enough
    assert ON_THE_WAY == 5.0
