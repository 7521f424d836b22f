"""The benchmark of joins does what it says, with few nodes; how fast that is, is not asked here."""

from __future__ import annotations

from bench.joins import commits_a_subject, network, shares


async def test_nodes_join_and_leave_and_bare_loops_do_the_same() -> None:
    async with network() as lan:
        for nodes in (1, 3):
            done = await lan.join(nodes)
            assert len(done.times) == nodes
            for each in done.times:
                assert 0 < each.asked < each.offered < each.connected < each.assigned
            commits = commits_a_subject(done.commits)
            assert set(commits) == {"node", "seen", "ledger"}
            assert done.seconds > 0
            assert done.agent.cpu > 0
            assert abs(sum(shares([done.agent]).values()) - 1) < 1e-6 or not done.agent.samples
        bare = await lan.bare_tls(3)
        assert len(bare.took.each) == 3
        assert await lan.bare_commits(done.commits) > 0
