"""A log stepped through: what is shown, where it stops, and what each event is about."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dnms.bus.append import append
from dnms.bus.memory import MemoryLog
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events import address, codec, effect, gateway, link, node, plan, prefix, rollout, rule, seen, uplink
from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressDeprecated,
    AddressHeld,
    AddressReleased,
    AddressUnheld,
    HashMoved,
)
from dnms.events.commit import Commit, Decision, Stored
from dnms.events.configuration import Generation, InterfaceAddress, Link, Snapshot
from dnms.events.ip import format_address, parse_address, parse_prefix
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced, AlarmCleared, AlarmRaised
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeReady
from dnms.events.plan import PlanAdopted
from dnms.events.prefix import PrefixDelegated, PrefixReleased
from dnms.events.recorded import Event, Personal
from dnms.events.requests import AllocateAddress
from dnms.events.rollout import RolloutBegun, RolloutTold
from dnms.events.seen import (
    AppliedItem,
    ConfigurationApplied,
    ConfigurationRegistered,
    OutageEnded,
    SessionClosed,
    SessionOpened,
)
from dnms.events.uplink import Source, UplinkReceived
from dnms.projections.replay import reading
from dnms.projections.replay.condition import Condition
from dnms.projections.replay.reading import Selection, Step, Tally
from dnms.projections.replay.states import EVENT_FIELDS, PARTS, States
from dnms.projections.replay.wanted import Bound, Only, parse_bound
from dnms.projections.text import INSTANTS, instant
from tests.unit.events.examples import full

SITE, SECRET = "example", b"k" * 32
ALICE, BOB = bytes([0xA]) * 16, bytes([0xB]) * 16
FIRST, SECOND, OLD = map(parse_address, ("2001:db8::1", "2001:db8::2", "192.0.2.7"))
HOUR = 3_600_000_000

PLAN = """
[site]
name = "example"
[[group]]
name = "voip"
number = 0x5a1e
[[subnet]]
name = "lan"
prefixes = ["2001:db8::/64", "192.0.2.0/24"]
[[pool]]
name = "six"
subnet = "lan"
range = "2001:db8::/64"
[[reservation]]
address = "2001:db8::77"
node = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c"
"""


def allocated(client: bytes, address: bytes, at: int) -> AddressAllocated:
    return AddressAllocated(
        address=address, client=client, iaid=1, pool="six", valid_until=at + HOUR, horizon=at + HOUR
    )


def identified(client: bytes, name: str) -> NodeIdentified:
    return NodeIdentified(client=client, duid=Personal(client), name=Personal(name))


def lease(client: bytes, leased: bytes) -> dict[str, Any]:
    return {"client": client, "iaid": 1, "address": leased}


def whole() -> list[tuple[str, int, tuple[Event, ...]]]:
    """One commit of each sort; hours are their times."""
    state = PlanState()
    defined = state.decide(from_toml(PLAN), at=0, entropy=bytes(32))
    for event in defined:
        state.evolve(event, at=0, position=1)
    snapshot = Snapshot(
        links=(Link(index=2, name="eth0"),),
        addresses=(
            InterfaceAddress(interface=2, address=FIRST, prefix_length=64, origin="managed"),
            InterfaceAddress(interface=1, address=parse_address("::1"), prefix_length=128, origin="loopback"),
        ),
    )
    return [
        ("plan", 1, defined),
        ("ledger.lan", 2, (PlanAdopted(plan=state.for_subnet("lan")),)),
        ("node.0a", 2, (identified(ALICE, "alice"), NodeArrived(client=ALICE, subnet="lan"))),
        ("ledger.lan", 3, (allocated(ALICE, FIRST, 3 * HOUR), AddressHeld(**lease(BOB, SECOND)))),
        ("seen.lan.east", 3, (SessionOpened(client=ALICE, peer=parse_address("fe80::a")),)),
        ("seen.lan.east", 3, (ConfigurationRegistered(client=ALICE, digest=bytes(32), snapshot=snapshot),)),
        (
            "seen.lan.east",
            3,
            (
                ConfigurationApplied(
                    client=ALICE,
                    generation=Generation(0, 1, 4),
                    items=(AppliedItem(address=FIRST, outcome="usable"),),
                ),
            ),
        ),
        ("ledger.lan", 4, (AddressReleased(**lease(ALICE, FIRST)), allocated(BOB, FIRST, 4 * HOUR))),
        ("seen.lan.west", 4, (SessionOpened(client=ALICE, peer=parse_address("fe80::b")),)),
        ("seen.lan.east", 4, (SessionClosed(client=ALICE, why="lost"),)),
        ("ledger.lan", 5, (AddressDeprecated(**lease(BOB, FIRST), valid_until=6 * HOUR),)),
        (
            "ledger.lan",
            5,
            (
                AddressDeclined(**lease(BOB, FIRST), quarantined_until=9 * HOUR),
                HashMoved(client=BOB, iaid=1, prefix=parse_prefix("2001:db8::/64"), counter=1),
                AddressUnheld(**lease(BOB, SECOND)),
                AddressBlocked(address=OLD, client=BOB, blocked_until=9 * HOUR),
            ),
        ),
        (
            "node.0b",
            6,
            (
                NodeEntered(client=BOB, duid=Personal(BOB), name=Personal("bob"), iaid=1, group="voip"),
                NodeReady(client=BOB),
                NodeJoined(client=BOB, into=ALICE),
                NodeForgotten(client=BOB),
            ),
        ),
    ]


async def logged(commits: list[tuple[str, int, tuple[Event, ...]]]) -> MemoryLog:
    log = MemoryLog(SITE, log_id="log", now=lambda: 0)
    heads: dict[str, int] = {}
    for place, hour, events in commits:
        subject = f"dnms.{SITE}.{place}"
        head = heads.get(subject, 0)
        decisions: tuple[Decision, ...] = ()
        if isinstance(events[0], AddressAllocated):
            request = AllocateAddress(client=events[0].client, iaid=1, family=6)
            decisions = (Decision(request=request, at=hour * HOUR, first=0, count=1),)
        commit = Commit(
            id=bytes(16), time=hour * HOUR, predecessor=head, actor="agent/east", decisions=decisions, events=events
        )
        heads[subject] = await append(log, subject, codec.encode(commit), expected=head)
    return log


async def shown(log: MemoryLog, *only: str, until: str = "", first: str = "0", last: str = "") -> list[Step]:
    selection = Selection(
        first=parse_bound(first) or Bound(time=instant(int(first.removesuffix("h")) * HOUR)),
        last=(parse_bound(last) or Bound(time=instant(int(last.removesuffix("h")) * HOUR))) if last else None,
        only=tuple(map(Only, only)),
        until=Condition(until, reading.NAMES) if until else None,
    )
    return [step async for step in reading.steps(log, SITE, SECRET, selection)]


@pytest.fixture
async def log() -> MemoryLog:
    return await logged(whole())


async def test_a_rollout_is_shown_as_it_becomes() -> None:
    begun, told = RolloutBegun(position=1), RolloutTold(position=1, clients=(ALICE,))
    log = await logged([*whole(), ("ledger.lan", 7, (begun, told))])
    *_, before, after = await shown(log)
    status = {"plan": 1, "status": "running", "wave": 0}
    assert before.before == {"rollout": None}
    assert before.after == {"rollout": {**status, "told": 0, "unproven": []}}
    assert after.after == {"rollout": {**status, "told": 1, "unproven": [ALICE.hex()]}}


async def test_a_delegation_is_shown_as_it_becomes() -> None:
    received = UplinkReceived(
        uplink="wan",
        prefix=parse_prefix("2001:db8:1::/56"),
        preferred_until=9 * HOUR,
        valid_until=9 * HOUR,
        source=Source(name="dhcpv6"),
    )
    block = parse_prefix("2001:db8:1:10::/60")
    who: dict[str, Any] = {"prefix": block, "client": BOB, "iaid": 1, "next_hop": parse_address("fe80::b")}
    given = PrefixDelegated(**who, delegation="blocks", valid_until=9 * HOUR, horizon=9 * HOUR)
    log = await logged([*whole(), ("ledger.lan", 7, (received, given)), ("ledger.lan", 8, (PrefixReleased(**who),))])
    *_, above, delegated, released = await shown(log)
    assert above.before["upstream"] is None
    assert above.after["upstream"] is not None and above.after["upstream"]["valid_until"] == instant(9 * HOUR)
    assert delegated.before["delegated"] is None
    assert delegated.after["delegated"] == released.before["delegated"]
    assert released.before["delegated"] is not None and released.before["delegated"]["next_hop"] == "fe80::b"
    assert released.after["delegated"] is None


async def test_every_event_is_shown_in_order_with_what_it_changes(log: MemoryLog) -> None:
    steps = await shown(log)
    events = [event.NAME for _, _, events in whole() for event in events]
    assert [step.name for step in steps] == events
    assert [step.position for step in steps[:6]] == ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"]
    assert all(step.before != step.after for step in steps if step.name != "session.closed")
    assert {part for step in steps for part in step.after} == (
        set(PARTS)
        - {"rollout", "effect", "uplink", "upstream", "delegation", "delegated", "rule", "sighted", "alarm", "agent"}
    )
    for step in steps:
        for state in (step.before, step.after):
            assert all(part is None or part.keys() == PARTS[name] for name, part in state.items()), step


async def test_what_an_event_finds_is_what_was_left_there(log: MemoryLog) -> None:
    left: dict[str, Any] = {}
    for step in await shown(log):
        for name, part in step.after.items():
            key = f"{name} {step.fields.get('address') if name in ('lease', 'address') else step.fields.get('client')}"
            if name in ("lease", "address", "node", "session"):
                assert step.before[name] == left.get(key), step
                left[key] = part


def test_the_state_of_what_is_seen_on_a_link() -> None:
    states = States(SITE, SECRET)

    def after(sequence: int, event: Event) -> Any:
        commit = Commit(id=bytes(16), time=sequence * HOUR, predecessor=sequence - 1, actor="a", events=(event,))
        stored = Stored(subject=f"dnms.{SITE}.ledger.lan", sequence=sequence, stored_at=0, commit=commit, size=1)
        [before] = states.parts(stored, event).values()
        states.evolve(stored, event)
        [(name, part)] = states.parts(stored, event).items()
        assert before != part
        assert part is None or part.keys() == PARTS[name]
        return part

    seen = after(1, AddressSighted(address=FIRST, client=ALICE, form="low", since=HOUR, until=3 * HOUR))
    assert (seen["address"], seen["client"], seen["until"].hour) == (format_address(FIRST), ALICE.hex(), 3)
    assert after(2, AddressVanished(address=FIRST, client=ALICE, last_seen=HOUR)) is None
    raised = after(3, AlarmRaised(alarm="duplicate", address=FIRST, client=ALICE, other=BOB))
    assert (raised["address"], raised["other"]) == (format_address(FIRST), BOB.hex())
    assert after(4, AlarmCleared(alarm="duplicate", address=FIRST, client=ALICE, why="over")) is None
    assert after(5, AgentAnnounced(agent="east", addresses=(FIRST,)))["addresses"] == [format_address(FIRST)]


async def test_the_state_of_a_lease(log: MemoryLog) -> None:
    step, *_ = await shown(log, "address.allocated")
    assert step.before == {
        "lease": None,
        "address": None,
        "binding": {"client": ALICE.hex(), "iaid": 1, "addresses": [], "kept": [], "counter": None},
    }
    assert step.after["lease"] == {
        "address": "2001:db8::1",
        "client": ALICE.hex(),
        "iaid": 1,
        "pool": "six",
        "group": 0,
        "valid_until": instant(4 * HOUR),
        "horizon": instant(4 * HOUR),
        "drained_at": None,
    }
    assert (step.node, step.decision, step.asked) == (
        "alice",
        0,
        {"request": "address.allocate", "client": ALICE.hex(), "iaid": 1, "family": 6},
    )
    [declined] = await shown(log, "address.declined")
    quarantined = declined.after["address"]
    assert quarantined is not None
    assert quarantined["quarantined_until"] == instant(9 * HOUR)
    assert declined.decision is None
    [moved] = await shown(log, "hash.moved")
    assert (moved.before["binding"] or {})["counter"] == 0
    assert (moved.after["binding"] or {})["counter"] == 1


async def test_a_session_that_went_to_another_agent_is_not_closed_by_the_first(log: MemoryLog) -> None:
    [step] = await shown(log, "session.closed")
    session = step.after["session"]
    assert session is not None
    assert (session["agent"], session["peer"]) == ("west", "fe80::b")
    assert (session["registered"], session["applied"]) == (["2001:db8::1"], {"2001:db8::1": "usable"})


@pytest.mark.parametrize(
    ("only", "positions"),
    [
        (["address.declined"], ["12.0"]),
        (["session"], ["5.0", "9.0", "10.0"]),
        (["2001:DB8:0::1"], ["4.0", "6.0", "7.0", "8.0", "8.1", "11.0", "12.0"]),
        (["2001:db8::1", "address"], ["4.0", "8.0", "8.1", "11.0", "12.0"]),
        (["192.0.2.0/24"], ["12.3"]),
        (["fe80::b"], ["9.0"]),
        (["alice", "node"], ["3.0", "3.1", "13.2"]),
        (["bob", "node"], ["13.0", "13.1", "13.2", "13.3"]),
        ([ALICE.hex()[:8], "node"], ["3.0", "3.1", "13.2"]),
        ([BOB.hex(), "hash"], ["12.1"]),
        (["voip"], ["1.2"]),
        (["lan", "subnet"], ["1.3"]),
        (["lan", "node"], ["3.1"]),
        (["six", "address"], ["4.0", "8.1"]),
        (["2001:db8::77"], ["1.5"]),
        (["0c0c0c0c"], ["1.5"]),
        (["nobody"], []),
    ],
)
async def test_only_what_is_wanted(log: MemoryLog, only: list[str], positions: list[str]) -> None:
    assert [step.position for step in await shown(log, *only)] == positions


@pytest.mark.parametrize(
    ("first", "last", "positions"),
    [
        ("12", "12", ["12.0", "12.1", "12.2", "12.3"]),
        ("12.2", "13.0", ["12.2", "12.3", "13.0"]),
        ("13.3", "", ["13.3"]),
        ("0", "1.0", ["1.0"]),
        ("5h", "5h", ["11.0", "12.0", "12.1", "12.2", "12.3"]),
        ("6h", "", ["13.0", "13.1", "13.2", "13.3"]),
        ("14", "", []),
    ],
)
async def test_from_and_to(log: MemoryLog, first: str, last: str, positions: list[str]) -> None:
    assert [step.position for step in await shown(log, first=first, last=last)] == positions


@pytest.mark.parametrize(
    ("until", "position"),
    [
        (f"lease.address == '2001:db8::1' and lease.client == '{BOB.hex()}'", "8.1"),
        ("before.lease and not lease", "8.0"),
        ("node.name == 'alice' and lease", "4.0"),  # the node that the client of any event is
        ("lease.drained_at", "11.0"),
        ("address.quarantined_until > '1970-01-01T08:00'", "12.0"),
        ("'2001:db8::1' in session.registered", "6.0"),
        ("adopted.pools", "2.0"),
        ("pool.strategy == 'hash' and pool.valid == 3600", "1.4"),  # defaults, which the log does not have
        ("event.name == 'hash.moved' and binding.counter == 1", "12.1"),
        ("event.horizon >= '1970-01-01T05:00'", "8.1"),
        ("time == '1970-01-01T05:00' and sequence == 12 and index == 3", "12.3"),
        ("position == '3.1' and actor == 'agent/east' and subject == 'dnms.example.node.0a'", "3.1"),
    ],
)
async def test_it_stops_where_the_condition_holds(log: MemoryLog, until: str, position: str) -> None:
    steps = await shown(log, "realm", until=until)
    assert [step.position for step in steps if step.stopped] == [position]
    assert steps[-1].position == position, "it is shown though it is not wanted"
    assert [step.name for step in steps[:-1]] in ([], ["realm.defined"])


async def test_it_does_not_look_for_the_condition_before_its_beginning(log: MemoryLog) -> None:
    assert [step.position for step in await shown(log, "address", first="5", until="lease")] == ["8.0", "8.1"]
    assert [step.position for step in await shown(log, "realm", until="lease.group == 9")] == ["1.1"]


async def test_all_is_decided_again(log: MemoryLog) -> None:
    tally = Tally()
    found = [each async for each in reading.decided(log, SITE, SECRET, tally)]
    assert (tally.sequence, tally.commits, tally.decisions, tally.otherwise) == (13, 13, 1, 1)
    assert [(each.stored.sequence, each.index) for each in found] == [(4, 0)], "which the hash would not have given"


async def test_of_a_log_that_grows_the_end_is_where_it_began() -> None:
    log = await logged(whole()[:1])
    seen = 0
    async for stored in reading.commits(log, SITE):
        seen = stored.sequence
        await logged_more(log)
    assert seen == 1
    empty = MemoryLog(SITE, log_id="log", now=lambda: 0)
    assert [each async for each in reading.commits(empty, SITE)] == []


async def test_others_have_their_turns_while_it_is_folded(log: MemoryLog) -> None:
    """Nothing of a log in memory ever waits, and neither does a log on a bus that sends faster than it is folded."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turn())
    loop, seen = asyncio.get_running_loop(), list[int]()
    try:
        async for _ in reading.commits(log, SITE):
            seen.append(turns)
            busy_until = loop.time() + 2 * reading.SLICE
            while loop.time() < busy_until:
                pass
    finally:
        other.cancel()
    assert len(set(seen)) == len(seen) == len(whole())


async def logged_more(log: MemoryLog) -> None:
    commit = Commit(id=bytes(16), time=0, predecessor=0, actor="a", events=(identified(BOB, "bob"),))
    await append(log, f"dnms.{SITE}.node.0b", codec.encode(commit), expected=0)


FAMILIES = {
    plan: "plan",
    node: "node.0a",
    address: "ledger.lan",
    gateway: "ledger.lan",
    link: "ledger.lan",
    rollout: "ledger.lan",
    prefix: "ledger.lan",
    uplink: "ledger.lan",
    rule: "plan",
    seen: "seen.lan.east",
    effect: "effect.firewall.gate",
}


@pytest.mark.parametrize(
    ("place", "event"),
    [
        pytest.param("ledger.lan" if event is PlanAdopted else FAMILIES[family], event, id=event.NAME)
        for family in codec.FAMILIES
        for event in family.EVENTS
        if event is not OutageEnded  # which is about the agent, and no state of ours
    ],
)
def test_every_event_is_about_something(place: str, event: type[Event]) -> None:
    """Else a new event would be shown without its state."""
    commit = Commit(id=bytes(16), time=0, predecessor=0, actor="a", events=(full(event),))
    stored = Stored(subject=f"dnms.{SITE}.{place}", sequence=1, stored_at=0, commit=commit, size=1)
    parts = States(SITE, SECRET).parts(stored, commit.events[0])
    assert parts
    assert parts.keys() <= PARTS.keys()


def test_every_instant_of_an_event_is_known_as_one() -> None:
    """Their names end so, and a condition compares them with times."""
    named = {field for field in EVENT_FIELDS if field.endswith(("_until", "_at"))}
    assert named | {"horizon", "happened", "began"} <= INSTANTS
