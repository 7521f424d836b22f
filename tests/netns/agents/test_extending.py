"""A node with a session and short lifetimes: real kernels, real agents, a log in memory."""

from __future__ import annotations

import time

import pytest

from dnms.agents.subnet.served import ServedNode
from dnms.events import codec
from dnms.events.address import AddressExpired, AddressRenewed
from dnms.events.ip import family
from dnms.wire import agent_events
from tests.netns.agents.conftest import PLAN, Network

BOTH = ("2001:db8:5:", "192.0.2.")
PREFERRED, VALID = 12, 18  # seconds: T1 after 6
EXTENSIONS = 4
SHORT = PLAN.replace("[[pool]]\n", f"[[pool]]\npreferred = {PREFERRED}\nvalid = {VALID}\n")


async def test_it_keeps_its_addresses_over_several_t1_and_never_renews(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[type[object]] = []
    handle = ServedNode.handle

    async def noted(self: ServedNode, event: agent_events.AgentEvent) -> None:
        asked.append(type(event))
        await handle(self, event)

    monkeypatch.setattr(ServedNode, "handle", noted)
    network.plan = SHORT
    network.serve()
    network.live()
    await network.until(lambda: network.has(*BOTH))
    began, lost = time.monotonic(), 0

    def extended() -> bool:
        nonlocal lost
        lost += not network.has(*BOTH)
        events = [event for record in network.log.records for event in codec.decode(record.data).events]
        assert not any(isinstance(event, AddressExpired) for event in events)
        four = [event for event in events if isinstance(event, AddressRenewed) and family(event.address) == 4]
        return len(four) >= EXTENSIONS  # promised for one lifetime: each is written

    await network.until(extended, seconds=10 * PREFERRED)
    assert time.monotonic() - began > VALID  # by then the first of them would have ended
    assert not lost
    assert agent_events.Renewed not in asked
    assert agent_events.Requested in asked
