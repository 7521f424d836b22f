"""What a node is given by the mode of its policy, and what becomes of it when that changes."""

from __future__ import annotations

from dnms.agents.subnet.books import Books
from dnms.events.address import AddressAllocated, AddressReleased
from tests.unit.agents.conftest import PLAN, FrailLog, Node, Site, until

OBSERVED = PLAN.replace("prefixes", 'policy = { mode = "observe" }\nprefixes', 1)
ALL_BUT_PHONES = OBSERVED.replace("[[pool]]", '[[subnet.group]]\nname = "voip"\npolicy.mode = "manage"\n[[pool]]', 1)


def given(log: FrailLog, node: Node) -> int:
    return sum(isinstance(event, AddressAllocated) and event.client == node.client for event in log.events())


async def told(books: Books, *nodes: Node) -> None:
    """Once the plan is adopted."""
    await until(books.changed.is_set)
    due = books.take_due()
    for node in nodes:
        if due is None or node.client in due:
            await node.served.push()
        await node.talk()


async def test_who_is_only_observed_gets_nothing_and_is_registered(site: Site, books: Books, log: FrailLog) -> None:
    await site.apply(OBSERVED)
    await until(lambda: books.ledger.plan.subnet is not None and books.ledger.plan.subnet.policy.mode == "observe")
    books.take_due()
    node = Node(books, "web-1")
    await node.talk()
    assert node.state.assignment is not None
    assert node.state.assignment.policy.mode == "observe"
    assert node.state.assignment.addresses == ()
    assert given(log, node) == 0
    assert books.knows(node.client)


async def test_it_is_taken_over_at_once_and_let_go_at_once(site: Site, books: Books, log: FrailLog) -> None:
    await site.apply(OBSERVED)
    await until(lambda: books.ledger.plan.subnet is not None and books.ledger.plan.subnet.policy.mode == "observe")
    books.take_due()
    node = Node(books, "web-1")
    await node.talk()
    await site.apply(PLAN)
    await told(books, node)
    assert len(node.addresses) == 2
    await site.apply(OBSERVED)
    await told(books, node)
    assert node.state.assignment is not None
    assert node.state.assignment.addresses == ()
    released = [event.address for event in log.events() if isinstance(event, AddressReleased)]
    assert len(released) == 2
    assert not books.ledger.leases


async def test_a_group_is_managed_where_others_are_observed(site: Site, books: Books, log: FrailLog) -> None:
    await site.apply(ALL_BUT_PHONES)
    phone, web = Node(books, "phone-1"), Node(books, "web-1")
    for node in (phone, web):
        await node.talk()
    assert (given(log, phone), given(log, web)) == (2, 0)
