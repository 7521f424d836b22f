"""Subjects and patterns."""

from __future__ import annotations

import pytest

from dnms.bus.patterns import check_patterns, covers_site, matches


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("dnms.a.plan", "dnms.a.plan", True),
        ("dnms.a.plan", "dnms.a.plans", False),
        ("dnms.a.>", "dnms.a.plan", True),
        ("dnms.a.>", "dnms.a.ledger.lan", True),
        ("dnms.a.>", "dnms.a", False),
        ("dnms.a.>", "dnms.b.plan", False),
        ("dnms.a.node.*", "dnms.a.node.00", True),
        ("dnms.a.node.*", "dnms.a.node", False),
        ("dnms.a.node.*", "dnms.a.node.00.x", False),
        ("dnms.a.*.lan", "dnms.a.ledger.lan", True),
    ],
)
def test_matches(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected


def test_only_the_pattern_of_a_whole_site_has_no_gaps() -> None:
    assert covers_site(["dnms.a.>"])
    assert not covers_site(["dnms.a.ledger.>"])
    assert not covers_site(["dnms.a.plan"])
    assert not covers_site(["dnms.a.plan", "dnms.a.node.*"])


def test_patterns_side_by_side_may_not_overlap() -> None:
    check_patterns("a", ["dnms.a.plan", "dnms.a.node.*", "dnms.a.ledger.lan", "dnms.a.seen.>"])
    for overlapping in (["dnms.a.*.lan", "dnms.a.ledger.*"], ["dnms.a.>", "dnms.a.x.y"], ["dnms.a.p", "dnms.a.p"]):
        with pytest.raises(ValueError, match="overlap"):
            check_patterns("a", overlapping)
    with pytest.raises(ValueError, match="outside the site"):
        check_patterns("a", ["dnms.b.plan"])
