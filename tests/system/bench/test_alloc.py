"""The benchmark of allocation does what it says, with few leases; how fast that is, is not asked here."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench import full_ledger, kea, leases, rivals
from bench.sides import embedded

LEASES = 6_000  # more than a commit holds


async def test_a_real_agent_starts_with_so_many_leases_and_starts_again() -> None:
    full = await asyncio.to_thread(full_ledger.isolated, LEASES, again=1)
    assert full.leases == LEASES
    assert full.log_bytes > 100 * LEASES
    for start in (full.agent.from_log, full.agent.again):
        assert start.seconds > 0
        assert 0 < start.memory.uss <= start.memory.pss <= start.memory.rss <= start.peak
    assert full.agent.kept > 20 * LEASES  # it ended cleanly, and so with a snapshot
    assert (full.kea is None) == (kea.program() is None)
    assert {rate.leases for rate in full.decisions} == {LEASES, 250}
    assert {rate.request for rate in full.decisions} == {"allocate", "renew, no event", "renew, an event"}
    assert all(rate.per_second > rate.alone_per_second > 0 for rate in full.decisions)


async def test_agents_of_one_ledger_answer_all_and_nothing_wrong(tmp_path: Path) -> None:
    async with embedded() as server:
        found = await rivals.measure(server, tmp_path, agents=3, offered=300.0, seconds=0.3, rounds=2)
    assert len(found.alone.agents) == 1
    assert len(found.together.agents) == 3
    for crowd in (found.alone, found.together):
        assert crowd.per_second == crowd.offered_per_second > 0
        assert abs(sum(agent.share for agent in crowd.agents) - 1) < 1e-6
        assert 0 < crowd.p50_ms <= crowd.p99_ms
        assert all(agent.commits > 0 and agent.failed == 0 for agent in crowd.agents)
    assert found.wrong == 0


async def test_one_client_at_a_time_has_a_bare_commit_beside_it() -> None:
    async with embedded() as server:
        single = await leases.single(server)
    assert 0 < single.bare_p50_ms <= single.bare_p99_ms
    assert 0 < single.p50_ms <= single.p99_ms
