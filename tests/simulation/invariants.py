"""What must be so after every schedule, whatever went wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from dnms.bus.keys import MemoryKeyStore
from dnms.bus.port import Record
from dnms.bus.reading import Checked
from dnms.domain.aggregate import ChainBroken, Fold, State, resettle
from dnms.domain.identity import duid_of_hardware
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.domain.replay import Replay
from dnms.events import codec, subjects
from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressExpired,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.commit import Stored
from dnms.events.ip import family, format_address
from dnms.events.node import NodeEntered, NodeForgotten, NodeJoined
from dnms.events.recorded import Event, Personal
from dnms.events.sealing import Key, changed, is_in_clear, key_ids, unseal
from dnms.kit.clock import MICROSECONDS
from dnms.projections import naive
from dnms.projections.replay.states import States
from tests.simulation.doubts import happened, unexplained
from tests.simulation.machines import Node
from tests.simulation.plans import SECRET, SITE, SUBNET
from tests.simulation.prefixes import unsettled_prefixes, wrong_prefixes
from tests.simulation.world import World

Acknowledged = tuple[str, str, tuple[Event, ...], int]
"""Who was told that these events are in the log, on which subject, and at which sequence."""


def commits(records: list[Record]) -> list[Stored]:
    """The whole log, with its chains checked. LogDamaged."""
    checked = Checked([subjects.everything(SITE)])
    return [checked.take(record) for record in records]


def wrong_in_log(world: World, acknowledged: list[Acknowledged]) -> Iterator[str]:
    """What is wrong with the log, one line each."""
    stored = commits(world.log.records)
    yield from wrong_holders(stored)
    yield from wrong_joins(stored)
    yield from wrong_prefixes(stored, fold_ledger(stored))
    lost = [each for agent in world.agents for each in agent.journal.lost]
    merged = {happened(event) for each in stored for event in each.commit.events if isinstance(event, OutageGranted)}
    for client, address, _ in sorted(world.grants.keys() - merged - {happened(each.entry) for each in lost}):
        yield f"{client.hex()[:6]} was told of {format_address(address)} in an outage, and the log does not know"
    yield from unexplained(world.doubts, stored, world.log.stored_at, world.grants, lost)
    for agent in world.agents:
        if agent.journal.entries:
            yield f"{agent.name} has {len(agent.journal.entries)} entries in its journal that the log does not have"
    yield from _lost(stored, acknowledged)
    yield from _not_reproduced(stored, world.log.records)
    yield from decided_otherwise(stored)
    yield from wrong_steps(stored)
    yield from _views(stored)
    yield from _personal(stored, world)


def _personal(stored: list[Stored], world: World) -> Iterator[str]:
    """What is personal is sealed, and with a key that is there, or that the log says is destroyed."""
    there = {key.id for key in keys(world)}
    destroyed = {event.key for each in stored for event in each.commit.events if isinstance(event, NodeForgotten)}
    for key_id in there & destroyed:
        yield f"the key {key_id.hex()} is destroyed by the log, and is there"
    for each in stored:
        for recorded in (*each.commit.events, *(decision.request for decision in each.commit.decisions)):
            if is_in_clear(recorded):
                yield f"{recorded.NAME} at {each.sequence} has something personal in clear"
            if unknown := key_ids(recorded) - there - destroyed:
                yield f"{recorded.NAME} at {each.sequence} is sealed with {[key_id.hex() for key_id in unknown]}"


def keys(world: World) -> tuple[Key, ...]:
    """Those in the store."""
    store = world.log.keys.store
    assert isinstance(store, MemoryKeyStore)
    return tuple(store.keys.values())


def opened(stored: list[Stored], world: World) -> list[Stored]:
    """Commits with what is personal in clear, but for what is forgotten."""
    there = {key.id: key for key in keys(world)}

    def clear(value: Personal) -> Personal:
        key = there.get(value.key_id or b"")
        return value if key is None else unseal(value, key)

    return [
        msgspec.structs.replace(
            each, commit=msgspec.structs.replace(each.commit, events=changed(each.commit.events, clear))
        )
        for each in stored
    ]


def wrong_holders(stored: list[Stored]) -> Iterator[str]:  # noqa: PLR0912  # one case an event
    """Addresses that were given while another had them, by plain dicts over the events."""
    holders: dict[bytes, tuple[bytes, int]] = {}
    promised: dict[bytes, tuple[bytes, int]] = {}  # withdrawn, and until when its client may still use it
    resting: dict[bytes, int] = {}  # declined or blocked, and until when nobody gets it
    kept: dict[bytes, bytes] = {}  # for which client alone
    for each in stored:
        if each.subject != subjects.ledger(SITE, SUBNET):
            continue
        time, at = each.commit.time, each.sequence
        for event in each.commit.events:
            match event:
                case AddressAllocated():
                    where = f"{format_address(event.address)} at {at}"
                    holder = holders.get(event.address)
                    if holder is not None and holder[0] != event.client:
                        yield f"{where} was given to {event.client.hex()[:6]} and is {holder[0].hex()[:6]}'s"
                    before = promised.get(event.address)
                    if before is not None and before[0] != event.client and before[1] > time:
                        yield f"{where} was given, and was promised to {before[0].hex()[:6]} for longer"
                    if event.address not in holders and resting.get(event.address, 0) > time:
                        yield f"{where} was given, and is in quarantine"
                    if event.address not in holders and kept.get(event.address, event.client) != event.client:
                        yield f"{where} was given, and is kept for {kept[event.address].hex()[:6]}"
                    holders[event.address] = event.client, event.horizon
                case AddressHeld():
                    kept[event.address] = event.client
                case AddressUnheld():
                    kept.pop(event.address, None)
                case AddressBlocked():
                    resting[event.address] = event.blocked_until
                case OutageGranted():
                    holder = holders.get(event.address)
                    if event.contested != (holder is not None and holder[0] != event.client):
                        yield f"{format_address(event.address)} at {at}: contested is {event.contested}, of {holder}"
                    if not event.contested:
                        until = max(event.horizon, holder[1] if holder is not None else 0)
                        holders[event.address] = event.client, until
                case AddressRenewed():
                    if holders.get(event.address, (b"", 0))[0] != event.client:
                        yield f"{format_address(event.address)} at {at} was renewed for who does not hold it"
                    holders[event.address] = event.client, event.horizon
                case AddressExpired() | AddressReleased() | AddressDeclined() | AddressWithdrawn():
                    holder = holders.pop(event.address, None)
                    if holder is None or holder[0] != event.client:
                        yield f"{format_address(event.address)} at {at}: {event.NAME} of who does not hold it"
                    elif isinstance(event, AddressExpired) and holder[1] > time:
                        early = (holder[1] - time) / MICROSECONDS
                        yield f"{format_address(event.address)} at {at} expired {early:.1f} s too early"
                    elif isinstance(event, AddressDeclined):
                        resting[event.address] = event.quarantined_until
                    elif isinstance(event, AddressWithdrawn):
                        promised[event.address] = holder


def wrong_joins(stored: list[Stored]) -> Iterator[str]:
    """Entries by a hardware address that nobody had made, or that more than one node was recognised by."""
    entered: set[bytes] = set()
    joined: dict[bytes, bytes] = {}
    for each in stored:
        for event in each.commit.events:
            match event:
                case NodeEntered():
                    entered.add(event.client)
                case NodeJoined():
                    if event.client not in entered:
                        yield f"{event.client.hex()[:6]} at {each.sequence} was joined and never entered"
                    if joined.setdefault(event.client, event.into) != event.into:
                        yield f"{event.client.hex()[:6]} at {each.sequence} was joined into a second node"


def _lost(stored: list[Stored], acknowledged: list[Acknowledged]) -> Iterator[str]:
    by_sequence = {each.sequence: each for each in stored}
    for who, subject, events, sequence in acknowledged:
        found = by_sequence.get(sequence)
        told = f"{who} was told of {', '.join(event.NAME for event in events)} at {sequence} on {subject}"
        if found is None or found.subject != subject:
            yield f"{told}: it is not there"
        elif not _contains(found.commit.events, events):
            yield f"{told}: there are other events"
        elif found.commit.actor != who:
            yield f"{told}: it is {found.commit.actor}'s"


def _contains(whole: tuple[Event, ...], part: tuple[Event, ...]) -> bool:
    return any(whole[begin : begin + len(part)] == part for begin in range(len(whole) - len(part) + 1))


def _not_reproduced(stored: list[Stored], records: list[Record]) -> Iterator[str]:
    folds: dict[str, Fold[State]] = {}
    for each, record in zip(stored, records, strict=True):
        kind = each.subject.split(".")[2]
        if kind in ("seen", "effect"):
            continue
        if each.subject not in folds:
            state = {"ledger": Ledger(SECRET), "plan": PlanState(), "node": NodeShard()}[kind]
            folds[each.subject] = Fold(cast("State", state))
        fold = folds[each.subject]
        again = codec.encode(resettle(fold.state, each.commit))
        if again != record.data:
            yield f"the commit at {each.sequence} is not what its inputs give"
        try:
            fold.take(each)
        except ChainBroken as error:
            yield str(error)


def decided_otherwise(stored: list[Stored]) -> Iterator[str]:
    """What `dnms replay --decide` finds, which is told what was decided and not only that something was otherwise."""
    replay = Replay(SITE, SECRET)
    for each in stored:
        for found in replay.divergences(each):
            yield f"{found.decision.request.NAME} at {each.sequence} is decided otherwise: {found.decided}"
        replay.take(each)


def wrong_steps(stored: list[Stored]) -> Iterator[str]:
    """What `dnms replay` shows of leases: each event finds what the one before it on that address left there."""
    states, left = States(SITE, SECRET), dict[bytes, dict[str, object] | None]()
    for each in stored:
        for event in each.commit.events:
            address = getattr(event, "address", None)
            before = states.parts(each, event) if address is not None else {}
            states.evolve(each, event)
            if address is None:
                continue
            after = states.parts(each, event)
            if before["lease"] != left.get(address):
                yield f"{event.NAME} at {each.sequence} finds {before['lease']}, and {left.get(address)} was left there"
            left[address] = after["lease"]
    ledger = fold_ledger(stored)
    held = {address: part["client"] for address, part in left.items() if part is not None}
    if held != {address: lease.client.hex() for address, lease in ledger.leases.items()}:
        yield "a replay ends with other leases than the ledger"


def _views(stored: list[Stored]) -> Iterator[str]:
    """The naive fold against the ledger's and the shards' own."""
    views = naive.fold(stored)
    yield from (f"two holders: {each}" for each in views.duplicates)
    ledger = fold_ledger(stored)
    held = {(format_address(each.address), SUBNET): each.client.hex() for each in ledger.leases.values()}
    if held != views.holders:
        yield f"views and ledger differ: {sorted(set(held.items()) ^ set(views.holders.items()))}"
    bindings = {address: (client, iaid) for (client, iaid, _), address in ledger.bindings.items()}
    bindings |= {each: (client, iaid) for (client, iaid, _), others in ledger.others.items() for each in others}
    if bindings != {each.address: (each.client, each.iaid) for each in ledger.leases.values()}:
        yield "the ledger's bindings are not its leases"


def fold_ledger(stored: list[Stored]) -> Ledger:
    """The ledger of the whole log."""
    fold = Fold(Ledger(SECRET))
    for each in stored:
        if each.subject == subjects.ledger(SITE, SUBNET):
            fold.take(each)
    return fold.state


def unsettled(world: World) -> Iterator[str]:
    """What is not yet as it has to be in the end, when nothing is broken any more."""
    ledger: Ledger | None = None
    end = max((r.sequence for r in world.log.records if r.subject == subjects.ledger(SITE, SUBNET)), default=0)
    for agent in world.agents:
        if not agent.running or agent.books is None or not agent.books.caught_up.is_set():
            yield f"{agent.name} does not serve"
        elif agent.books.outage.active:
            yield f"{agent.name} is away"
        elif agent.books.position != end:
            yield f"{agent.name} is at {agent.books.position} and the ledger at {end}"
        else:
            ledger = agent.books.ledger
    if ledger is None:
        return
    plan = world.plans[world.plan]
    families = {family(pool.first) for pool in plan.pools}
    if ledger.plan.subnet is None or ledger.plan.pools != tuple(plan.pools):
        yield "the ledger has not adopted the newest plan"
    books = next(agent.books for agent in world.agents if agent.books is not None)
    for node in world.nodes:
        yield from _unsettled_node(node, ledger, families)
        yield from unsettled_prefixes(world, node, ledger)
        hardware = node.kernel.link.hardware
        address = hardware.value if hardware is not None else None
        entry = world.site.client_id(duid_of_hardware(address)) if isinstance(address, bytes) else b""
        known = books.node(entry) if entry else None
        if known is not None and known.joined == node.client and entry in {who for who, _ in ledger.held.values()}:
            yield f"{node.name} was recognised, and does not have what is kept for its hardware address"


def _unsettled_node(node: Node, ledger: Ledger, families: set[int]) -> Iterator[str]:
    if not node.running or node.agent is None:
        yield f"{node.name} does not live"
        return
    if node.agent._session is None:
        yield f"{node.name} has no session"
    now = node.world.log.now()
    leases = {
        lease.address
        for lease in ledger.leases.values()
        if lease.client == node.client and not 0 < lease.drained_at <= now
    }
    if {family(address) for address in leases} != families:
        yield f"{node.name} has leases {[format_address(each) for each in leases]}, not of each family of the plan"
    kernel = node.kernel
    used = {held.address for held in kernel.addresses.values() if held.origin == "managed" and held.usable}
    if used != leases:
        yield (
            f"{node.name} uses {sorted(map(format_address, used))}, "
            f"and the ledger has {sorted(map(format_address, leases))} for it"
        )
    if set(node.agent._state.held) != leases or node.agent._state.declining:
        yield f"{node.name} believes to have {sorted(map(format_address, node.agent._state.held))}"


def _delegates_alike(one: Ledger, other: Ledger) -> bool:
    return (
        dict(one.delegations.all) == dict(other.delegations.all)
        and dict(one.delegations.resting) == dict(other.delegations.resting)
        and dict(one.uplinks) == dict(other.uplinks)
    )


def wrong_in_the_end(world: World) -> Iterator[str]:
    """What does not agree with the log's fold, when all has settled."""
    stored = commits(world.log.records)
    ledger = fold_ledger(stored)
    for agent in world.agents:
        if agent.books is not None and agent.running:
            theirs = agent.books.ledger
            if (
                dict(theirs.leases) != dict(ledger.leases)
                or theirs.plan != ledger.plan
                or not _delegates_alike(theirs, ledger)
            ):
                yield f"{agent.name} has folded another ledger than the log's"
    for node in world.nodes:
        dns = node.kernel.resolver.servers
        if ledger.plan.subnet is not None and dns != ledger.plan.subnet.dns:
            yield f"{node.name} asks {[format_address(each) for each in dns]} for names, which the plan does not say"
