"""Extends the leases of nodes with an open session before their T1, so that they need not renew.

Theory of operation. Every node could ask on its own, half a lifetime after it was told: as many requests and answers
as there are nodes, and a commit now and then for nearly each. Here the agent looks now and then who is due soon, and
takes with these everybody who is due next: so nodes come together, in a few large commits a T1 (most of which need no
event at all: the log has promised more than that), and stay together from then on. Only who answered since the last
time is extended; who is silent, or was told nothing because the log could not be asked, renews at T1 by itself, and
if it is gone, what it had expires at its promised end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dnms.agents.pump import Pump
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import ServedNode
from dnms.agents.subnet.sessions import Sessions, tell
from dnms.agents.subnet.told import shortest_t1
from dnms.wire import agent_events as heard

EARLIEST, LATEST = 0.7, 0.9
"""The part of T1 in which a node is extended. What is left of it is for a busy agent, and for a slow log."""
LOOK = 0.1  # of the shortest T1 of the subnet: how often it is looked
SHORTEST_LOOK = 0.25  # seconds
LONGEST_LOOK = 30.0
AT_ONCE = 128  # nodes; each is decided, told and encrypted for, which takes a while, and others want the loop meanwhile

Node = tuple[ServedNode, Pump[heard.AgentEvent]]


class Extending:
    """Of the sessions of one agent."""

    def __init__(self, books: Books, sessions: Sessions) -> None:
        self._books = books
        self._sessions = sessions

    async def run(self) -> None:
        """Until cancelled. LogError, for what cannot be mended."""
        while True:
            look = max(SHORTEST_LOOK, min(LONGEST_LOOK, LOOK * shortest_t1(self._books.ledger)))
            await asyncio.sleep(look)
            await self._extend(due([node for node in self._sessions.nodes if node[0].answers], look=look))

    async def _extend(self, nodes: Sequence[Node]) -> None:
        for first in range(0, len(nodes), AT_ONCE):
            await asyncio.gather(*(tell(pump, node.extend) for node, pump in nodes[first : first + AT_ONCE]))
            await asyncio.sleep(0)


def due(nodes: Sequence[Node], *, look: float) -> list[Node]:
    """Who is extended now, so that nobody has to renew before it is looked again in `look` seconds."""
    now = asyncio.get_running_loop().time()
    told = [(node, each) for node in nodes if (each := node[0].told) is not None]
    if not any(each.age(now + look) >= LATEST for _, each in told):
        return []
    return [node for node, each in told if each.age(now) >= EARLIEST or each.age(now + look) >= LATEST]
