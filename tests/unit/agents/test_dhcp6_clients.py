"""What the log has of clients without a Node Agent, and what an operator has kept for one before it came."""

from __future__ import annotations

from typing import Any

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_clients import CHANGES_AT_ONCE
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.domain.identity import duid_of_hardware, iaid_of, iaid_of_hardware
from dnms.events.address import AddressAllocated, AddressHeld
from dnms.events.ip import parse_address
from dnms.events.node import NodeArrived, NodeIdentified, NodeJoined
from dnms.events.recorded import Event, Personal
from dnms.events.requests import AllocateAddress, EnterNode, HoldAddress, IdentifyNode
from dnms.events.seen import HardwareContested
from dnms.wire.dhcp6.codes import Kind
from tests.unit.agents.conftest import FrailLog, Site, client_id
from tests.unit.agents.dhcp6_wire import SERVED, Wire, alarms, books, server, serving, wire
from tests.unit.agents.test_dhcp6_addresses import ask, lease, na_of
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

MAC = bytes.fromhex("02005e100001")
DUID_LL, DUID_LLT = duid_of_hardware(MAC), b"\x00\x01\x00\x01\x12\x34\x56\x78" + MAC
DUID_UUID = b"\x00\x04" + bytes(range(16))
KEPT = parse_address("2001:db8:1:1::beef")


def identified(log: FrailLog) -> list[NodeIdentified]:
    return [event for event in log.events() if isinstance(event, NodeIdentified)]


async def told(books: Books, duid: bytes) -> tuple[object, object, list[object]]:
    """The DUID, the name and the hardware addresses that the log has of a client."""
    node = await books.opened(client_id(duid))
    assert node is not None
    assert node.identity is not None
    identity = node.identity
    return identity.duid.value, identity.name.value, [each.value for each in identity.hardware]


async def enter(books: Books, duid: bytes, iaid: int, **said: Any) -> None:
    """An operator enters a node, and an address is kept for it."""
    client = client_id(duid)
    await books.tell(EnterNode(client=client, duid=Personal(duid), name=Personal("printer"), iaid=iaid, **said))
    await books.decide(HoldAddress(client=client, iaid=iaid, family=6, address=KEPT))
    await pass_time(1)


async def test_a_client_that_was_given_something_is_a_node_with_its_name_and_hardware(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    await ask(wire, Kind.SOLICIT, client_id=DUID_LLT, fqdn=b"\x00\x02pc\x04home\x00")
    assert identified(log) == []  # it has only looked
    await lease(wire, client_id=DUID_LLT, fqdn=b"\x00\x02pc\x04home\x00")
    assert [each.client for each in identified(log)] == [client_id(DUID_LLT)]
    assert await told(books, DUID_LLT) == (DUID_LLT, "pc.home", [MAC])
    (arrived,) = [event for event in log.events() if isinstance(event, NodeArrived)]
    assert (arrived.client, arrived.subnet) == (client_id(DUID_LLT), "office")
    mine = await lease(wire, client_id=DUID_LLT)  # without a name: it is the one of before
    await ask(wire, Kind.RENEW, mine, client_id=DUID_LLT, fqdn=b"\x00\x02pc\x04home\x00")
    assert len(identified(log)) == 1
    await ask(wire, Kind.RENEW, mine, client_id=DUID_LLT, fqdn=b"\x00\x02pd")
    assert await told(books, DUID_LLT) == (DUID_LLT, "pd", [MAC])


async def test_a_client_without_a_name_or_hardware_is_a_node_too(books: Books, wire: Wire, server: Dhcp6Server) -> None:
    await lease(wire, client_id=DUID_UUID)
    assert await told(books, DUID_UUID) == (DUID_UUID, "", [])


async def test_another_agent_knows_the_name(site: Site, log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    await lease(wire, client_id=DUID_LL, fqdn=b"\x00\x07phone-3")
    other = Wire()
    async with site.agent("a2") as books, serving(books, other):
        (again,) = na_of(await ask(other, Kind.SOLICIT, client_id=DUID_LL)).addresses
        assert again.address[8:10] == b"\x5a\x1e"  # of its group
        await lease(other, client_id=DUID_LL)
    assert len(identified(log)) == 1


async def test_nobody_speaks_for_a_node_with_a_node_agent(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    """With a session here or at another agent: whoever has heard of its DUID could give its address back."""
    request = IdentifyNode(
        client=client_id(DUID_LL), duid=Personal(DUID_LL), name=Personal("web-1"), subnet="office", kernel="6.1"
    )
    await books.identify(request)
    events = await books.decide(AllocateAddress(client=client_id(DUID_LL), iaid=1, family=6))
    given = next(event.address for event in events if isinstance(event, AddressAllocated))
    await pass_time(1)
    before = len(log.records)
    for kind in (Kind.SOLICIT, Kind.REQUEST, Kind.RELEASE, Kind.DECLINE):
        assert await ask(wire, kind, given, iaid=1, client_id=DUID_LL) is None
    assert server.dropped == {"client-id": 4}
    assert len(log.records) == before
    other = Wire()
    async with serving(books, other, has_session=lambda client: client == client_id(DUID_LLT)) as second:
        assert await ask(other, Kind.REQUEST, client_id=DUID_LLT) is None
        assert second.dropped == {"client-id": 1}


async def test_one_machine_cannot_fill_the_log_with_names(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    mine = await lease(wire, client_id=DUID_LL)
    for number in range(30):
        await ask(wire, Kind.RENEW, mine, client_id=DUID_LL, fqdn=b"\x00\x02" + b"%02d" % number)
    assert len(identified(log)) <= 1 + CHANGES_AT_ONCE + 1


async def test_who_comes_while_the_log_is_away_is_recorded_after_it(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    log.cut = True
    books.outage.begin("cut off by the test")
    await lease(wire, client_id=DUID_LL)
    log.cut = False
    await pass_time(10)
    assert [each.client for each in identified(log)] == [client_id(DUID_LL)]


@pytest.mark.parametrize(
    "who",
    [
        (DUID_UUID, iaid_of("eth0"), DUID_UUID),  # by its DUID, before anybody knows under which IAID it asks
        (DUID_LL, iaid_of_hardware(MAC), DUID_LL),  # by its hardware address, that is all it has
        (DUID_LL, iaid_of_hardware(MAC), DUID_LLT),  # by the one in another DUID
    ],
)
@pytest.mark.usefixtures("server")
async def test_what_an_operator_has_kept_for_a_machine_it_has(
    books: Books, log: FrailLog, wire: Wire, who: tuple[bytes, int, bytes]
) -> None:
    entered, iaid, duid = who
    await enter(books, entered, iaid, hardware=(Personal(MAC),) if entered == DUID_LL else ())
    (offered,) = na_of(await ask(wire, Kind.SOLICIT, client_id=duid)).addresses
    assert offered.address == KEPT
    assert await lease(wire, client_id=duid) == KEPT
    held = [event for event in log.events() if isinstance(event, AddressHeld)]
    assert [(each.client, each.iaid) for each in held] == [(client_id(entered), iaid), (client_id(duid), 7)]
    joined = [event for event in log.events() if isinstance(event, NodeJoined)]
    assert len(joined) == (entered != duid)
    # It is this association's from now on.
    assert await lease(wire, client_id=duid, iaid=8) != KEPT
    assert await lease(wire, client_id=duid) == KEPT
    assert len([event for event in log.events() if isinstance(event, AddressHeld)]) == 2


async def test_the_second_machine_with_the_hardware_address_of_an_entry_is_an_alarm(
    books: Books, wire: Wire, server: Dhcp6Server, alarms: list[Event]
) -> None:
    await enter(books, DUID_LL, iaid_of_hardware(MAC), hardware=(Personal(MAC),))
    assert await lease(wire, client_id=DUID_LLT) == KEPT
    assert await lease(wire, client_id=b"\x00\x01\x00\x01\x99\x99\x99\x99" + MAC) != KEPT
    assert isinstance(alarms[0], HardwareContested)


async def test_what_is_kept_is_not_taken_from_a_node_that_has_it(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    await enter(books, DUID_UUID, iaid_of("eth0"))
    assert await lease(wire, client_id=DUID_UUID, iaid=iaid_of("eth0")) == KEPT
    assert await lease(wire, client_id=DUID_UUID, iaid=9) != KEPT
    given = [event for event in log.events() if isinstance(event, AddressAllocated)]
    assert [each.address == KEPT for each in given] == [True, False]


async def test_what_an_operator_reserves_for_a_client_it_is_given(
    books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    """`dnms address reserve` is for an interface's name, of which a DHCPv6 client's IAID is not made."""
    old = await lease(wire, client_id=DUID_UUID)
    assert old != KEPT
    await books.decide(HoldAddress(client=client_id(DUID_UUID), iaid=iaid_of("eth0"), family=6, address=KEPT))
    has = {
        each.address: each.preferred for each in na_of(await ask(wire, Kind.RENEW, old, client_id=DUID_UUID)).addresses
    }
    assert has == {KEPT: 100, old: 0}
    assert await lease(wire, client_id=DUID_UUID) == KEPT


async def test_what_the_plan_reserves_is_for_an_interface_by_name(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    kept = f'[[reservation]]\naddress = "2001:db8:1:1::beef"\nnode = "{client_id(DUID_UUID).hex()}"'
    await site.apply(f"{SERVED}\n{kept}")
    await pass_time(1)
    before = len(log.records)
    assert await lease(wire, client_id=DUID_UUID, iaid=iaid_of("eth0")) == KEPT
    assert await lease(wire, client_id=DUID_UUID, iaid=9) != KEPT
    assert len(log.records) <= before + 4
