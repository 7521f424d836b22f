"""The benchmark of a node does what it says, with few runs and few nodes; how fast that is, is not asked here."""

from __future__ import annotations

from bench import idle_node, link_up, node, pushes
from bench.link_up import ANSWER, APPLY, ASKS, DAD, DNMS, OPTIMISTIC, PARTS, SIDES


def test_each_side_comes_up_and_its_parts_are_seen() -> None:
    found = link_up.isolated(1)
    sides = {side.side: side for side in found.sides}
    assert (set(sides) == {side.name for side in SIDES}) == (not found.missing)
    for side in sides.values():
        assert side.missed == 0, side
        assert side.usable is not None
        assert side.beyond_dad is not None
        assert 0 <= side.beyond_dad.p50 < side.usable.p50 == side.usable.max
    for name in (DNMS.name, OPTIMISTIC.name):
        # The news that fe80:: may be used may be read after the first packet from it is on the wire.
        assert {*sides[name].parts, ASKS} == {*PARTS} - {ANSWER}
        assert sides[name].parts[APPLY].p50 > 0
    assert sides[DNMS.name].parts[DAD].p50 > 900, "as long as the kernel probes"
    assert sides[OPTIMISTIC.name].parts[DAD].p50 < 900, "it is used meanwhile"


def test_a_new_dns_server_reaches_every_node_and_the_log() -> None:
    found = pushes.isolated(2, 1)
    assert found.nodes == 2
    (push,) = found.pushes
    assert 0 < push.written.p50 <= push.written.max <= push.applied.max


def test_an_idle_node_agent_is_looked_at() -> None:
    with node.compiled():
        steps = node.imports()
        idle = idle_node.isolated(1.0)
    assert idle.seconds >= 1.0
    assert idle.cpu < 0.5
    assert 0 < idle.memory.uss <= idle.memory.pss <= idle.memory.rss
    assert [step.rss for step in steps] == sorted(step.rss for step in steps)
    assert steps[-1].rss > 2 * steps[0].rss > 0
