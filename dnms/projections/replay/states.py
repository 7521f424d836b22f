"""What an event is about, as the log leaves it before and after it: parts by their names, each of plain values.

Addresses are text, client ids are hex, instants are datetimes. A part that is not there is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from dnms.domain.delegations import Delegated
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import Node, NodeShard
from dnms.domain.plan import PlanState
from dnms.domain.replay import Replay
from dnms.domain.sightings import Alarm, Announced, LinkHappened, Sighted, key_of
from dnms.domain.uplinks import Above
from dnms.events import subjects
from dnms.events.address import HashMoved
from dnms.events.codec import EVENTS
from dnms.events.commit import Stored
from dnms.events.effect import EffectApplied, EffectCalled, EffectDelayed, EffectFailed
from dnms.events.ip import family, format_address
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced, AlarmCleared, AlarmRaised
from dnms.events.plan import (
    AdoptedPlan,
    Delegation,
    Group,
    PlanAdopted,
    Pool,
    Realm,
    Reservation,
    ReservationDefined,
    ReservationWithdrawn,
    SiteDefined,
    Subnet,
    Uplink,
)
from dnms.events.recorded import Event
from dnms.events.rule import Rule
from dnms.events.seen import (
    ConfigurationApplied,
    ConfigurationChanged,
    ConfigurationRegistered,
    SessionClosed,
    SessionOpened,
)
from dnms.projections.projection import place
from dnms.projections.text import INSTANTS, instant, plain

PARTS: Final[dict[str, frozenset[str]]] = {
    "lease": frozenset({"address", "client", "iaid", "pool", "group", "valid_until", "horizon", "drained_at"}),
    "address": frozenset({"address", "kept_for", "kept_for_iaid", "planned", "quarantined_until"}),
    "sighted": frozenset({"address", *Sighted.__struct_fields__}),
    "alarm": frozenset({"alarm", *Alarm.__struct_fields__}),
    "agent": frozenset({"agent", *Announced.__struct_fields__}),
    "binding": frozenset({"client", "iaid", "addresses", "kept", "counter"}),
    "delegated": frozenset(Delegated.__struct_fields__),
    "upstream": frozenset(Above.__struct_fields__),
    "adopted": frozenset(AdoptedPlan.__struct_fields__),
    "rollout": frozenset({"plan", "status", "wave", "told", "unproven"}),
    "node": frozenset(
        {"client", "name", "duid", "hardware", "kernel", "subnet", "entered", "group", "subnets", "ready", "joined"}
    ),
    "session": frozenset({"client", "agent", "peer", "registered", "applied"}),
    "effect": frozenset({"subscriber", "instance", "position", "failing"}),
    "site": frozenset({"name", "level", "strict", "position"}),
    "realm": frozenset(Realm.__struct_fields__),
    "group": frozenset(Group.__struct_fields__),
    "subnet": frozenset(Subnet.__struct_fields__),
    "pool": frozenset(Pool.__struct_fields__),
    "reservation": frozenset(Reservation.__struct_fields__),
    "uplink": frozenset(Uplink.__struct_fields__),
    "delegation": frozenset(Delegation.__struct_fields__),
    "rule": frozenset(Rule.__struct_fields__),
}
"""Every part, with what it has."""

EVENT_FIELDS: Final = frozenset({"name", *(field for event in EVENTS for field in event.__struct_fields__)})

Parts = dict[str, dict[str, Any] | None]


class _Session(msgspec.Struct, gc=False):
    """What agents have seen of one client, in few bytes: a site has many, and each stays."""

    agent: str = ""
    peer: bytes | None = None  # of the session that is open
    registered: tuple[bytes, ...] = ()
    applied: dict[bytes, str] = {}


class States:
    """The states of a replay, and what agents saw."""

    def __init__(self, site: str, secret: bytes) -> None:
        self._site = site
        self.replay = Replay(site, secret)
        self._sessions: dict[bytes, _Session] = {}
        self._effects: dict[tuple[str, str], tuple[int, str]] = {}  # by subscriber and instance: position, why it fails

    def evolve(self, stored: Stored, event: Event) -> None:
        """Take in one of a commit's events. `domain.replay.Unfoldable`."""
        where = place(stored.subject)
        if where.family == "seen":
            self._see(event, where.agent)
        elif where.family == "effect":
            self._act(event, (where.subscriber, where.instance))
        self.replay.evolve(stored, event)

    def parts(self, stored: Stored, event: Event) -> Parts:
        """What the event is about, as it is now."""
        where = place(stored.subject)
        match where.family:
            case "ledger":
                state = self.replay.state(stored.subject)
                return dict(_of_ledger(state, event)) if isinstance(state, Ledger) else {}
            case "node":
                client = getattr(event, "client", None)
                return {} if client is None else {"node": self.node(client)}
            case "plan":
                return _of_plan(self.replay.plan, event)
            case "effect":
                position, failing = self._effects.get((where.subscriber, where.instance), (0, ""))
                name = {"subscriber": where.subscriber, "instance": where.instance}
                return {"effect": {**name, "position": position, "failing": failing}}
            case "seen":
                client = getattr(event, "client", None)
                return {} if client is None else {"session": self._session(client)}
        return {}

    def node(self, client: bytes) -> dict[str, Any] | None:
        """The node with this client id; None if nobody knows it."""
        shard = self.replay.shards.get(subjects.node(self._site, client))
        return None if shard is None else _of_shard(shard, client)

    def name(self, client: bytes) -> str:
        """The name of the node with this client id, or an empty text."""
        node = self.node(client)
        return str(node["name"] or "") if node is not None else ""

    def _session(self, client: bytes) -> dict[str, Any] | None:
        known = self._sessions.get(client)
        if known is None:
            return None
        return {
            "client": client.hex(),
            "agent": known.agent,
            "peer": None if known.peer is None else format_address(known.peer),
            "registered": [format_address(each) for each in known.registered],
            "applied": {format_address(each): outcome for each, outcome in known.applied.items()},
        }

    def _act(self, event: Event, who: tuple[str, str]) -> None:
        match event:
            case EffectApplied():
                self._effects[who] = event.position, ""
            case EffectFailed():
                self._effects[who] = self._effects.get(who, (0, ""))[0], event.why
            case EffectDelayed():
                self._effects[who] = self._effects.get(who, (0, ""))[0], event.why
            case EffectCalled():
                self._effects[who] = event.position, self._effects.get(who, (0, ""))[1] if event.delayed else ""

    def _see(self, event: Event, agent: str) -> None:
        client = getattr(event, "client", None)
        if client is None:
            return
        known = self._sessions.setdefault(client, _Session(agent=agent))
        match event:
            case SessionOpened():
                known.agent, known.peer = agent, event.peer
            case SessionClosed() if known.agent == agent:  # and not of another one, which it has meanwhile
                known.peer = None
            case ConfigurationRegistered():
                known.registered = tuple(one.address for one in event.snapshot.addresses if one.origin != "loopback")
            case ConfigurationChanged():
                gone = {one.address for one in event.change.addresses_gone}
                new = [one.address for one in event.change.addresses if one.origin != "loopback"]
                known.registered = tuple(
                    dict.fromkeys((*(each for each in known.registered if each not in gone), *new))
                )
            case ConfigurationApplied():
                known.applied = {item.address: item.outcome for item in event.items}


def fields(event: Event) -> dict[str, Any]:
    """An event's own fields, all of them."""
    return timed(plain(event, whole=True))


def timed(values: dict[str, Any]) -> dict[str, Any]:
    """The same, with datetimes for instants; 0 stands for none."""
    return {
        name: (instant(value) if value else None) if name in INSTANTS and isinstance(value, int) else value
        for name, value in values.items()
    }


def _of_ledger(ledger: Ledger, event: Event) -> Iterator[tuple[str, dict[str, Any] | None]]:
    if isinstance(event, PlanAdopted):
        yield "adopted", plain(ledger.plan, whole=True) if ledger.plan.position else None
    if event.NAME.startswith("rollout."):
        yield "rollout", _of_rollout(ledger)
    if event.NAME.startswith("prefix."):
        yield "delegated", _whole(ledger.delegations.all.get(getattr(event, "prefix")))  # noqa: B009
    if event.NAME.startswith("uplink."):
        yield "upstream", _whole(ledger.uplinks.get(getattr(event, "prefix")))  # noqa: B009
    if isinstance(event, LinkHappened):
        yield from _of_link(ledger, event)
        return
    address, client = getattr(event, "address", None), getattr(event, "client", None)
    iaid = getattr(event, "iaid", None)
    if address is not None:
        lease = ledger.leases.get(address)
        yield (
            "lease",
            None
            if lease is None
            else timed(
                {
                    "address": format_address(address),
                    "client": lease.client.hex(),
                    "iaid": lease.iaid,
                    "pool": lease.pool,
                    "group": lease.group,
                    "valid_until": lease.valid_until,
                    "horizon": lease.horizon,
                    "drained_at": lease.drained_at,
                }
            ),
        )
        kept_for, kept_for_iaid = ledger.held.get(address, (None, None))
        until = ledger.quarantine.get(address, 0)
        kept = {
            "address": format_address(address),
            "kept_for": None if kept_for is None else kept_for.hex(),
            "kept_for_iaid": kept_for_iaid,
            "planned": address in ledger.planned,
            "quarantined_until": until,
        }
        yield "address", timed(kept) if kept_for is not None or until else None
    if client is not None and iaid is not None:
        kinds = (4, 6) if address is None else (family(address),)
        moved = (client, iaid, event.prefix) if isinstance(event, HashMoved) else None
        yield (
            "binding",
            {
                "client": client.hex(),
                "iaid": iaid,
                "addresses": [
                    format_address(lease.address) for kind in kinds for lease in ledger.leases_of(client, iaid, kind)
                ],
                "kept": [format_address(each) for kind in kinds for each in ledger.holds.get((client, iaid, kind), ())],
                "counter": None if moved is None else ledger.remembered.counter(moved),
            },
        )


def _of_link(ledger: Ledger, event: LinkHappened) -> Iterator[tuple[str, dict[str, Any] | None]]:
    seen = ledger.sightings
    match event:
        case AgentAnnounced():
            told = seen.agents.get(event.agent)
            yield "agent", None if told is None else {"agent": event.agent, **plain(told, whole=True)}
        case AlarmRaised() | AlarmCleared():
            alarm = seen.alarms.get(key_of(event.alarm, event.address, event.client))
            yield "alarm", None if alarm is None else {"alarm": event.alarm, **timed(plain(alarm, whole=True))}
        case AddressSighted() | AddressVanished():
            known, address = seen.all.get(event.address), format_address(event.address)
            yield "sighted", None if known is None else {"address": address, **timed(plain(known, whole=True))}


def _whole(part: Delegated | Above | None) -> dict[str, Any] | None:
    return None if part is None else timed(plain(part, whole=True))


def _of_rollout(ledger: Ledger) -> dict[str, Any] | None:
    now = ledger.rollout
    if now is None:
        return None
    return {
        "plan": now.position,
        "status": now.status,
        "wave": now.wave,
        "told": len(now.told),
        "unproven": [client.hex() for client in now.unproven],
    }


def _of_shard(shard: NodeShard, client: bytes) -> dict[str, Any] | None:
    known: Node | None = shard.nodes.get(client)
    if known is None:
        return None
    identity, entered = known.identity, known.entered
    said = identity or entered
    return {
        "client": client.hex(),
        "name": said.name.text if said is not None else None,
        "duid": said.duid.text if said is not None else None,
        "hardware": [each.text for each in said.hardware] if said is not None else [],
        "kernel": identity.kernel if identity is not None else "",
        "subnet": known.subnet,
        "entered": entered is not None,
        "group": entered.group if entered is not None else "",
        "subnets": list(entered.subnets) if entered is not None else [],
        "ready": known.ready,
        "joined": known.joined.hex(),
    }


def _of_plan(plan: PlanState, event: Event) -> Parts:
    if isinstance(event, SiteDefined):
        there = {"name": plan.site, "level": plan.level, "strict": plan.strict, "position": plan.position}
        return {"site": there if plan.site else None}
    reserved = event.reservation if isinstance(event, ReservationDefined) else event
    if isinstance(reserved, Reservation | ReservationWithdrawn):
        reservation = plan.reservations.get((reserved.subnet, reserved.address))
        return {"reservation": None if reservation is None else plain(reservation, whole=True)}
    part = event.NAME.partition(".")[0]
    tables: dict[str, Any] = {
        "realm": plan.realms,
        "group": plan.groups,
        "subnet": plan.subnets,
        "pool": plan.pools,
        "uplink": plan.uplinks,
        "delegation": plan.delegations,
        "rule": plan.rules,
    }
    if part not in tables:
        return {}
    name = named(event)
    known = tables[part].get(name)
    return {part: None if known is None else plain(known, whole=True)}


def named(event: Event) -> str:
    """The name that an event of the plan is about, or an empty text."""
    part = getattr(event, event.NAME.partition(".")[0], None)
    name = getattr(event, "name", "") if part is None else getattr(part, "name", "")
    return name if isinstance(name, str) else ""
