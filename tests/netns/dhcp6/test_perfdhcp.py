"""Kea's perfdhcp on a link with two Subnet Agents: its clients take the offer of any, and all request from one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.netns.dhcp6.served import inside, served
from tests.netns.perfdhcp import perfdhcp

CLIENTS = 64

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")


def refused(log: Path) -> int:
    """How many messages were for another server than this agent."""
    return log.read_text().count("why=server-id")


def test_of_two_agents_the_one_that_is_named_grants_and_the_other_does_not(tmp_path: Path) -> None:
    logs = [tmp_path / f"agent-{number}.log" for number in (0, 1)]

    async def work() -> None:
        async with served(tmp_path, lifetimes=(3_600, 7_200), new_nodes=100 * CLIENTS) as link:
            async with asyncio.timeout(20):
                while not await link.site.events("plan.adopted", after=0):  # noqa: ASYNC110  # by another process
                    await asyncio.sleep(0.1)
            await link.start(1)
            await link.until(lambda: all("the log is folded" in log.read_text() for log in logs))
            shown = ("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link", "-tentative")
            await link.until(lambda: link.client.run(*shown) != "")
            with perfdhcp(link.client, tmp_path, "-1", family=6, clients=CLIENTS, to="all") as load:
                await link.until(lambda: load.is_over, seconds=60)
                told = load.told()
            assert (told.sent, told.received) == ((CLIENTS, CLIENTS), (CLIENTS, CLIENTS))
            # The other one may be behind.
            await link.until(lambda: sum(map(refused, logs)) >= CLIENTS)
            assert sorted(map(refused, logs)) == [0, CLIENTS]
            granted = await link.site.events("address.allocated", after=0)
            assert sorted(str(each.fields["address"]) for each in granted) == sorted(told.addresses[1])
            assert len({each.fields["address"] for each in granted}) == CLIENTS
            assert len({each.actor for each in granted}) == 1

    inside(work)
