"""An agent's DHCPv4 server on a log in memory: every state of a client, and messages that none would send."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp_offers import LASTS
from dnms.agents.subnet.newcomers import Newcomers
from dnms.bus.committer import Committer
from dnms.domain.aggregate import Fold
from dnms.domain.identity import duid_of_hardware, iaid_of_hardware
from dnms.domain.nodes import NodeShard
from dnms.events import subjects
from dnms.events.address import AddressAllocated, AddressDeclined, AddressReleased, AddressRenewed
from dnms.events.ip import format_address, parse_address
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.requests import AllocateAddress, ExpireAddresses, ForgetNode, HoldAddress, IdentifyNode, MoveAddress
from dnms.wire.dhcp4.codes import BROADCAST, Kind
from dnms.wire.dhcp4.messages import NOBODY
from dnms.wire.dhcp4.server import EVERYBODY, Way
from tests.unit.agents.conftest import SUBNET, Clock, FrailLog, MemoryJournal, Site, client_id
from tests.unit.agents.dhcp4_line import (
    ELSEWHERE,
    HARDWARE,
    OTHER,
    SECOND,
    SEQUENTIAL,
    SERVED,
    SERVER,
    STATIC,
    Client,
    Wire,
    books,
    client,
    is_ack,
    is_nak,
    of,
    server,
    wire,
)
from tests.virtual_time import pass_time

__all__ = ["books", "client", "server", "wire"]

POOL = '[[pool]]\nname = "office-v4"\nsubnet = "office"\nrange = "192.0.2.0/28"'
WITHOUT_IPV4 = SERVED.replace(POOL, "").replace(', "192.0.2.0/24"', "").replace(', "192.0.2.1"', "")


async def test_an_offer_is_in_no_log_and_is_what_is_given_then(
    log: FrailLog, client: Client, server: Dhcp4Server
) -> None:
    before = len(log.records)
    offered = await client.ask(Kind.DISCOVER)
    assert offered is not None
    assert offered.kind == Kind.OFFER
    assert len(log.records) == before
    acknowledged = await client.select(offered.yours)
    assert acknowledged is not None
    assert is_ack(acknowledged, offered.yours)
    options = acknowledged.options
    assert options.lease_time in (3_599, 3_600)  # from when it was decided
    assert (options.t1, options.t2) == (1_350, 2_160)
    (given,) = of(log, AddressAllocated)
    assert given.address == offered.yours
    assert (given.client, given.iaid) == (client_id(duid_of_hardware(HARDWARE)), iaid_of_hardware(HARDWARE))
    assert server.dropped == {}


async def test_what_is_told_is_what_the_client_asks_for(client: Client, server: Dhcp4Server) -> None:
    unasked = await client.ask(Kind.DISCOVER)
    assert unasked is not None
    options = unasked.options
    assert (options.mask, options.routers) == (120, (SERVER,))
    assert (options.dns, options.domain, options.search) == ((parse_address("192.0.2.53"),), "home.example", ())
    assert options.mtu is None
    asked = await client.ask(Kind.DISCOVER, requested=(26, 119, 121), client_id=b"\x01" + HARDWARE)
    assert asked is not None
    options = asked.options
    assert (options.mask, options.routers, options.dns, options.domain) == (120, (), (), "")
    assert (options.mtu, options.search, options.routes) == (1_400, ("home.example", "example"), ())
    assert options.client_id == b"\x01" + HARDWARE


async def test_routes_bring_the_default_route_with_them(site: Site, client: Client, server: Dhcp4Server) -> None:
    routes = 'routes = [{ destination = "10.0.0.0/8", gateway = "192.0.2.9" }]\nmtu'
    await site.apply(SERVED.replace("mtu", routes))
    await pass_time(1)
    offered = await client.ask(Kind.DISCOVER, requested=(3, 121))
    assert offered is not None
    told = [(str(to), format_address(via)) for to, via in offered.options.routes]
    assert told == [("10.0.0.0/8", "192.0.2.9"), ("0.0.0.0/0", "192.0.2.1")]


async def test_in_every_state_a_client_keeps_what_it_has(log: FrailLog, client: Client, server: Dhcp4Server) -> None:
    mine = await client.has()
    for answer in (await client.reboot(mine), await client.renew(mine), await client.select(mine)):
        assert is_ack(answer, mine)
    offered = await client.ask(Kind.DISCOVER)
    assert offered is not None
    assert offered.yours == mine
    assert len(of(log, AddressAllocated)) == 1


async def test_a_renewal_is_in_the_log_and_lasts_a_lifetime_again(
    log: FrailLog, clock: Clock, client: Client, server: Dhcp4Server
) -> None:
    mine = await client.has()
    clock.micros += 1_350 * 1_000_000
    answer = await client.renew(mine)
    assert answer is not None
    assert answer.options.lease_time in (3_599, 3_600)
    assert answer.client == mine
    assert client.way == Way(address=mine)
    assert [each.address for each in of(log, AddressRenewed)] == [mine]


async def test_who_has_not_what_it_thinks_is_told_so(client: Client, wire: Wire, server: Dhcp4Server) -> None:
    mine = await client.has()
    other = Client(wire, OTHER)
    theirs = await other.has()
    assert theirs != mine
    for ask in (other.reboot, other.renew, other.select):
        assert is_nak(await ask(mine))
        assert other.way == Way(address=EVERYBODY, hardware=b"\xff" * 6)
        assert is_nak(await ask(ELSEWHERE))
    assert is_ack(await client.renew(mine), mine)


async def test_of_what_another_server_may_have_given_nothing_is_said(wire: Wire, server: Dhcp4Server) -> None:
    stranger = Client(wire)
    assert await stranger.reboot(STATIC) is None
    assert await stranger.renew(STATIC) is None
    assert is_nak(await stranger.select(STATIC))
    assert server.dropped == {"silent": 2}


async def test_what_a_client_had_before_a_forgotten_log_it_may_keep(
    log: FrailLog, client: Client, server: Dhcp4Server
) -> None:
    offered = await client.ask(Kind.DISCOVER)
    assert offered is not None
    await pass_time(LASTS + 1)
    assert is_ack(await client.reboot(offered.yours), offered.yours)


async def test_a_release_and_a_decline(log: FrailLog, client: Client, server: Dhcp4Server) -> None:
    mine = await client.has()
    assert await client.ask(Kind.RELEASE, client=mine) is None
    assert server.dropped["server-id"] == 1
    assert await client.ask(Kind.RELEASE, client=mine, server_id=SERVER) is None
    assert [each.address for each in of(log, AddressReleased)] == [mine]
    assert await client.has() == mine
    assert await client.ask(Kind.DECLINE, requested_address=mine, server_id=SERVER) is None
    assert [each.address for each in of(log, AddressDeclined)] == [mine]
    assert await client.has() != mine
    assert await client.ask(Kind.DECLINE, requested_address=mine, server_id=SERVER) is None
    assert server.dropped["no-binding"] == 1


async def test_rapid_commit(log: FrailLog, client: Client, server: Dhcp4Server) -> None:
    answer = await client.ask(Kind.DISCOVER, rapid_commit=True)
    assert answer is not None
    assert answer.options.rapid_commit
    (given,) = of(log, AddressAllocated)
    assert is_ack(answer, given.address)


async def test_information_alone(log: FrailLog, client: Client, server: Dhcp4Server) -> None:
    answer = await client.ask(Kind.INFORM, client=STATIC, requested=(6,))
    assert answer is not None
    assert (answer.kind, answer.yours, answer.options.lease_time) == (Kind.ACK, NOBODY, None)
    assert answer.options.dns == (parse_address("192.0.2.53"),)
    assert client.way == Way(address=STATIC)
    assert await client.ask(Kind.INFORM, client=ELSEWHERE) is None
    assert of(log, NodeIdentified) == []


async def test_the_ways_to_a_client_without_an_address_and_through_a_relay(wire: Wire, server: Dhcp4Server) -> None:
    broadcast, unicast = Client(wire), Client(wire, flags=0)
    for each in (broadcast, unicast):
        await each.ask(Kind.DISCOVER)
    assert broadcast.way == Way(address=EVERYBODY, hardware=b"\xff" * 6)
    mine = wire.sent[0][0].yours
    assert unicast.way == Way(address=mine, hardware=HARDWARE)
    relay, far = parse_address("192.0.2.200"), ELSEWHERE
    relayed = Client(wire, OTHER, relay=relay, hops=1)
    answer = await relayed.ask(Kind.DISCOVER, agent=b"\x01\x04eth7")
    assert answer is not None
    assert (answer.options.agent, answer.relay) == (b"\x01\x04eth7", relay)
    assert relayed.way == Way(address=relay, port=67)
    denied = await relayed.reboot(ELSEWHERE)
    assert denied is not None
    assert (is_nak(denied), denied.flags, relayed.way) == (True, BROADCAST, Way(address=relay, port=67))
    assert await Client(wire, OTHER, relay=far).ask(Kind.DISCOVER) is None
    assert server.dropped["not-on-link"] == 1


async def test_one_address_is_not_offered_twice_and_what_is_offered_is_given(
    site: Site, wire: Wire, server: Dhcp4Server
) -> None:
    await site.apply(SEQUENTIAL)
    await pass_time(1)
    first, second = Client(wire), Client(wire, OTHER)
    one = await first.ask(Kind.DISCOVER, seconds=2)
    two = await second.ask(Kind.DISCOVER, seconds=2)
    assert one is not None
    assert two is not None
    assert one.yours != two.yours
    assert is_ack(await second.select(two.yours), two.yours)
    assert is_ack(await first.select(one.yours), one.yours)


async def test_the_link_is_asked_before_an_address_of_a_sequence_is_offered(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp4Server
) -> None:
    await site.apply(SEQUENTIAL)
    await pass_time(1)
    taken = parse_address("192.0.2.2")
    wire.used = {taken: frozenset({OTHER}), parse_address("192.0.2.4"): frozenset({HARDWARE})}
    client = Client(wire)
    offered = await client.ask(Kind.DISCOVER, seconds=4)
    assert offered is not None
    assert format_address(offered.yours) == "192.0.2.4"  # which it has itself, and keeps
    assert [format_address(each) for each in wire.asked] == ["192.0.2.2", "192.0.2.4"]
    assert [each.address for each in of(log, AddressDeclined)] == [taken]
    assert is_ack(await client.select(offered.yours), offered.yours)
    assert len(wire.asked) == 2


async def test_its_own_address_is_given_to_nobody(site: Site, log: FrailLog, wire: Wire, server: Dhcp4Server) -> None:
    await site.apply(SEQUENTIAL)
    wire.address = parse_address("192.0.2.2")
    await pass_time(1)
    offered = await Client(wire).ask(Kind.DISCOVER, seconds=4)
    assert offered is not None
    assert offered.yours != wire.address
    assert [each.address for each in of(log, AddressDeclined)] == [wire.address]


async def test_the_log_says_who_it_is_once(log: FrailLog, client: Client, server: Dhcp4Server) -> None:
    mine = await client.has(host_name="printer")
    for _ in range(3):
        await client.renew(mine)
    (node,) = [log.keys.open(each) for each in of(log, NodeIdentified)]
    assert (node.client, node.name.value) == (client_id(duid_of_hardware(HARDWARE)), "printer")
    assert [each.value for each in node.hardware] == [HARDWARE]
    await client.ask(Kind.REQUEST, client=mine, fqdn=b"\x04\0\0\x07scanner\x04home\0")
    assert [log.keys.open(each).name.value for each in of(log, NodeIdentified)] == ["printer", "scanner.home"]


async def test_who_was_forgotten_is_told_of_anew(
    books: Books, log: FrailLog, clock: Clock, client: Client, server: Dhcp4Server
) -> None:
    mine, subject = await client.has(host_name="printer"), subjects.node("s", client_id(duid_of_hardware(HARDWARE)))
    operator = Committer(
        log, subject, Fold(NodeShard()), actor="operator/test", now=clock.now, random=Random(1).randbytes
    )
    await operator.catch_up()
    working = asyncio.create_task(operator.run())
    await operator.submit(ForgetNode(client=client_id(duid_of_hardware(HARDWARE))))
    working.cancel()
    await pass_time(1)
    assert not books.knows(client_id(duid_of_hardware(HARDWARE)))
    await client.ask(Kind.REQUEST, client=mine, host_name="printer")
    assert [log.keys.open(each).name.value for each in of(log, NodeIdentified)] == ["printer", "printer"]


async def test_what_a_node_agent_says_of_its_node_stands(
    books: Books, log: FrailLog, client: Client, server: Dhcp4Server
) -> None:
    duid = duid_of_hardware(HARDWARE)
    await books.identify(
        IdentifyNode(client=client_id(duid), duid=Personal(duid), name=Personal("web-1"), subnet=SUBNET, kernel="6.1")
    )
    await client.has(host_name="printer")
    assert [log.keys.open(each).name.value for each in of(log, NodeIdentified)] == ["web-1"]


async def test_nobody_gives_back_or_declines_what_a_node_with_a_node_agent_has(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp4Server
) -> None:
    duid = b"\x00\x04" + bytes(16)
    request = IdentifyNode(client=client_id(duid), duid=Personal(duid), name=Personal("web-1"), subnet=SUBNET)
    await books.identify(msgspec.structs.replace(request, kernel="6.1"))
    await books.decide(AllocateAddress(client=client_id(duid), iaid=7, family=4))
    (given,) = of(log, AddressAllocated)
    stranger = Client(wire, OTHER)
    said: dict[str, Any] = {"client_id": b"\xff" + (7).to_bytes(4) + duid, "server_id": SERVER}
    await stranger.ask(Kind.RELEASE, client=given.address, **said)
    await stranger.ask(Kind.DECLINE, requested_address=given.address, **said)
    assert of(log, AddressReleased) == of(log, AddressDeclined) == []
    assert server.dropped == {"client-id": 2}


async def test_an_identity_that_is_not_the_hardware(log: FrailLog, wire: Wire, server: Dhcp4Server) -> None:
    duid = b"\x00\x04" + bytes(16)
    both = b"\xff" + (7).to_bytes(4) + duid
    one = await Client(wire).has(client_id=both)
    assert await Client(wire, OTHER).has(client_id=both) == one  # another interface says it, or a new one
    (given,) = of(log, AddressAllocated)
    assert (given.client, given.iaid) == (client_id(duid), 7)
    assert await Client(wire).has(client_id=b"\x00some") != one
    assert await Client(wire).has() == await Client(wire).has(client_id=b"\x01" + HARDWARE)


async def test_what_is_kept_for_a_machine_that_was_entered_by_its_hardware_is_what_it_is_given(
    books: Books, client: Client, server: Dhcp4Server
) -> None:
    kept, duid = parse_address("192.0.2.11"), duid_of_hardware(HARDWARE)
    await books.decide(HoldAddress(client=client_id(duid), iaid=iaid_of_hardware(HARDWARE), family=4, address=kept))
    assert await client.has() == kept


async def test_an_address_that_another_takes_the_place_of_lasts_its_time(
    books: Books, clock: Clock, client: Client, server: Dhcp4Server
) -> None:
    mine, duid = await client.has(), duid_of_hardware(HARDWARE)
    await books.decide(MoveAddress(client=client_id(duid), iaid=iaid_of_hardware(HARDWARE), address=mine))
    answer = await client.renew(mine)
    assert answer is not None
    assert is_ack(answer, mine)
    assert answer.options.t1 is not None
    assert answer.options.t1 <= 60  # it asks again soon
    clock.micros += 3_600 * 1_000_000
    await books.decide(ExpireAddresses(addresses=(mine,)))
    assert is_nak(await client.renew(mine))
    assert await client.has() != mine


async def test_while_the_log_is_away_a_client_keeps_what_it_has_and_there_is_silence_for_the_others(
    books: Books, log: FrailLog, clock: Clock, wire: Wire, server: Dhcp4Server
) -> None:
    client = Client(wire)
    mine = await client.has()
    log.cut = True
    books.outage.begin("cut off by the test")
    assert books.outage.active
    clock.micros += 1_000 * 1_000_000
    answer = await client.renew(mine)
    assert answer is not None
    assert is_ack(answer, mine)
    assert answer.options.lease_time in (2_598, 2_599, 2_600)  # no longer than the log has promised
    other = Client(wire, OTHER)
    for silent in (await other.renew(mine), await other.reboot(ELSEWHERE), await other.ask(Kind.DISCOVER)):
        assert silent is None
    assert await client.ask(Kind.DISCOVER) is None
    clock.micros += 2_600 * 1_000_000
    assert await client.renew(mine) is None
    log.cut = False


async def test_where_the_plan_only_observes_another_server_answers(
    site: Site, log: FrailLog, client: Client, server: Dhcp4Server
) -> None:
    mine, group = await client.has(), '[[group]]\nname = "quiet"\nnodes = ["quiet"]\npolicy = { mode = "observe" }\n'
    await site.apply(SERVED.replace("[[subnet]]", f"{group}[[subnet]]", 1))
    await pass_time(1)
    assert await client.ask(Kind.DISCOVER, host_name="quiet") is None
    assert await client.ask(Kind.REQUEST, client=mine, host_name="quiet") is None
    assert server.dropped == {"silent": 2}
    assert is_ack(await client.renew(mine), mine)
    observing = '[[subnet]]\nname = "office"\npolicy = { mode = "observe" }'
    await site.apply(SERVED.replace('[[subnet]]\nname = "office"', observing))
    await pass_time(1)
    before = len(log.records)
    assert await client.ask(Kind.DISCOVER, rapid_commit=True) is None
    assert await client.renew(mine) is None
    assert await client.reboot(ELSEWHERE) is None  # nor is it denied what that one may have given
    assert len(log.records) == before


async def test_a_plan_without_ipv4(site: Site, client: Client, server: Dhcp4Server) -> None:
    await site.apply(SERVED.replace(POOL, ""))
    await pass_time(1)
    assert await client.ask(Kind.DISCOVER) is None
    assert server.dropped == {"silent": 1}


@pytest.mark.parametrize("removed", ["prefix", "subnet"])
async def test_where_the_plan_has_no_ipv4_nobody_is_denied_what_another_server_gave(
    site: Site, wire: Wire, client: Client, server: Dhcp4Server, removed: str
) -> None:
    """As for a subnet that is not in the plan yet, or whose name was mistyped."""
    other = Client(wire, OTHER)
    await client.has()
    assert is_nak(await other.reboot(ELSEWHERE))
    plan = SERVED.replace("office", "elsewhere") if removed == "subnet" else WITHOUT_IPV4
    await site.apply(plan)
    await pass_time(1)
    for ask in (other.reboot, other.renew, client.reboot, client.renew):
        assert await ask(ELSEWHERE) is None
    assert is_nak(await other.select(ELSEWHERE))  # who names this server has nothing from another one


async def test_two_agents_answer_alike_and_give_one_address(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp4Server
) -> None:
    async with site.agent("a2", journal=MemoryJournal()) as books:
        other = Wire(SECOND)
        second = Dhcp4Server(
            books, other, client_id=client_id, newcomers=Newcomers(at_once=2), random=Random(1).randbytes
        )
        serving = asyncio.create_task(second.run())
        await pass_time(1)
        one, two = Client(wire), Client(other)
        offers = [await each.ask(Kind.DISCOVER) for each in (one, two)]
        assert offers[0] is not None
        assert offers[1] is not None
        assert offers[0].yours == offers[1].yours
        mine = offers[0].yours
        assert is_ack(await one.select(mine), mine)
        for each in (one, two):
            assert is_ack(await each.renew(mine), mine)
        assert len(of(log, AddressAllocated)) == 1
        assert len(of(log, NodeIdentified)) == 1
        serving.cancel()
        await asyncio.wait((serving,))
