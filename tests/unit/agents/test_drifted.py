"""What somebody else changed on a node, as its agent records it."""

from __future__ import annotations

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.notes import MAX_DRIFTS
from dnms.events.configuration import Generation
from dnms.events.seen import ConfigurationContested, ConfigurationDrifted, DriftItem
from dnms.wire.messages import Drifted
from tests.unit.agents.conftest import FrailLog, Node

GENERATION = Generation(0, 1, 2)
MTU = DriftItem(kind="mtu", change="changed", was="1500", now="1280")
RESTORED = Drifted(generation=GENERATION, items=(MTU,), action="restored", more=1)
CONTESTED = Drifted(
    generation=GENERATION, items=(MTU,), action="contested", rival="dhcpcd", restored=5, within=60, hold=900
)


async def test_it_is_recorded_as_the_node_told_it(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    node.session.drifted(RESTORED)
    node.session.drifted(CONTESTED)
    await node.talk()
    await books.settled()
    drifted, contested = [
        each for each in log.events() if isinstance(each, ConfigurationDrifted | ConfigurationContested)
    ]
    assert drifted == ConfigurationDrifted(
        client=node.client, generation=GENERATION, items=(MTU,), action="restored", more=1
    )
    assert contested == ConfigurationContested(
        client=node.client, generation=GENERATION, items=(MTU,), rival="dhcpcd", restored=5, within=60, hold=900
    )


async def test_while_the_log_is_away_a_few_wait_and_the_rest_is_counted(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    await books.settled()
    log.cut = True
    told = MAX_DRIFTS + 3
    for _ in range(told):
        node.session.drifted(RESTORED)
        await node.talk()
    log.cut = False
    await books.settled()
    drifted = [each for each in log.events() if isinstance(each, ConfigurationDrifted)]
    assert len(drifted) == MAX_DRIFTS
    assert sum(len(each.items) + each.more for each in drifted) == 2 * told
