"""The benchmark of subscribers does what it says, with few things; how fast that is, is not asked here."""

from __future__ import annotations

import pytest

from bench.subscribed import measured


@pytest.mark.parametrize(("module", "has_peer"), [("bench.route_changes", True), ("bench.firewall_elements", False)])
def test_events_reach_the_kernel_and_all_is_found_again(module: str, has_peer: bool) -> None:
    part = measured(module, items=300, rates=(200,), seconds=0.2)
    assert [(each.before, each.events) for each in part.latencies] == [(0, 40), (300, 40)]
    for each in part.latencies:
        assert 0 < each.p50 <= each.p99 <= each.most
        assert 0 < each.bare_p50 <= each.bare_p99
        assert each.state_p50 > 0
        assert 0 < each.transactions <= 40
    filled = part.filled
    assert filled.items == 300
    assert min(filled.from_nothing, filled.found_again, filled.bare) > 0
    assert (filled.peer is not None and filled.peer > 0) == has_peer
    assert 0 < filled.before.rss <= filled.holding.rss


def test_a_kernel_that_has_another_number_fails_the_run() -> None:
    with pytest.raises(RuntimeError, match="the kernel has 9 of 10"):
        measured("tests.system.bench.miscounted", items=5, rates=(100,), seconds=0.1)
