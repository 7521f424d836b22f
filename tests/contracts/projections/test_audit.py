"""Events by all that they are searched by, and how many there were when, against lists that are looked through."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiosqlite
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.domain import configured
from dnms.events.address import AddressBlocked, AddressReleased, AddressRenewed
from dnms.events.commit import Decision, Stored
from dnms.events.configuration import Snapshot
from dnms.events.ip import Prefix, format_address, parse_address, parse_prefix
from dnms.events.node import NodeArrived, NodeForgotten, NodeIdentified, NodeJoined
from dnms.events.plan import AdoptedPlan, PlanAdopted, Pool, PoolDefined, PoolWithdrawn, Subnet, SubnetDefined
from dnms.events.recorded import Event, Personal
from dnms.events.requests import RenewAddress, WithdrawAddress
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered
from dnms.projections.activity import queries as activity
from dnms.projections.events.audit import Page, Unknown, Wanted, audit, changes, of_addresses
from dnms.projections.events.queries import after_event
from dnms.projections.events.searching import AuditRow
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, SITE, happened, stored
from dnms.projections.text import to_json
from tests.contracts.projections.logs import ADDRESSES, SUBNETS, cut, folder, logs
from tests.contracts.projections.test_folds import fold

HOUR = 3_600_000_000
ACTORS = ["agent/east", "agent/west", "operator/jane"]
REQUESTS = [RenewAddress(client=ALICE, iaid=1, address=FIRST), WithdrawAddress(client=ALICE, iaid=1, address=FIRST)]

Positions = list[tuple[int, int]]
"""Sequences and indices."""


@asynccontextmanager
async def opened(log: list[Stored], *places: int) -> AsyncGenerator[aiosqlite.Connection]:
    with folder() as directory:
        file = directory / "views"
        fold(file, cut(log, places))
        async with aiosqlite.connect(file) as db:
            yield db


@st.composite
def written(draw: st.DrawFn) -> list[Stored]:
    """A log by several writers, with what was asked for, over some hours, and with causes."""
    found = []
    for one in stored(tuple(draw(logs()))):
        events = list(one.commit.events)
        if one.subject.split(".")[2] == "ledger" and draw(st.booleans()):
            cause = draw(st.integers(0, 9))
            block = AddressBlocked(address=FIRST, client=ALICE, blocked_until=9, cause=cause)
            events.append(draw(st.sampled_from([block, PlanAdopted(plan=AdoptedPlan(position=cause, level=1))])))
        first = draw(st.integers(0, len(events)))
        count = draw(st.integers(0, len(events) - first))
        asked = Decision(request=draw(st.sampled_from(REQUESTS)), at=1, first=first, count=count)
        commit = msgspec.structs.replace(
            one.commit,
            actor=draw(st.sampled_from(ACTORS)),
            time=one.commit.time + draw(st.integers(0, 3)) * HOUR,
            decisions=(asked,) if count else (),
            events=tuple(events),
        )
        found.append(msgspec.structs.replace(one, commit=commit))
    return found


def texts(value: Any, name: str = "") -> Iterator[str]:
    """Every text in an event but for what is found otherwise."""
    if name in ("client", "address", "addresses", "routes", "sysctls", "digest"):
        return
    if isinstance(value, dict):
        for key, one in value.items():
            yield from texts(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str) and value:
        yield value.lower()


def asked_for(one: Stored, index: int) -> str | None:
    for decision in one.commit.decisions:
        if decision.first <= index < decision.first + decision.count:
            return decision.request.NAME
    return None


class Model:
    """A log that is looked through from its beginning for every question."""

    def __init__(self, log: list[Stored]) -> None:
        self.log = log
        self.names: dict[str, str] = {}
        self.joins: dict[str, str] = {}
        self.used: dict[str, set[str]] = {}
        self.changed: dict[tuple[int, int], set[str]] = {}  # addresses that a registration adds, changes or drops
        uses: dict[str, dict[str, tuple[str, str]]] = {}
        told: dict[bytes, Snapshot] = {}
        for one, index, event in self.events():
            if isinstance(event, NodeForgotten):
                told.pop(event.client, None)
            if isinstance(event, ConfigurationRegistered | ConfigurationChanged):
                if isinstance(event, ConfigurationRegistered):
                    told[event.client] = event.snapshot
                else:
                    told[event.client] = configured.changed(told.get(event.client, Snapshot()), event.change)
                snapshot = told[event.client]
                before, now = uses.get(event.client.hex(), {}), dict[str, tuple[str, str]]()
                for each in snapshot.addresses:
                    links = [link.name for link in snapshot.links if link.index == each.interface]
                    if each.origin != "loopback":
                        now.setdefault(format_address(each.address), (links[-1] if links else "", each.origin))
                uses[event.client.hex()] = now
                self.changed[one.sequence, index] = {
                    address for address in {*before, *now} if before.get(address) != now.get(address)
                }

    def events(self) -> Iterator[tuple[Stored, int, Event]]:
        for one in self.log:
            for index, event in enumerate(one.commit.events):
                yield one, index, event

    def wanted(self, wanted: Wanted) -> Positions:
        return [
            (one.sequence, index)
            for one, index, event in self.events()
            if (wanted.kind is None or wanted.kind == event.NAME or event.NAME.startswith(f"{wanted.kind}."))
            and (wanted.actor is None or one.commit.actor == wanted.actor)
            and (wanted.since is None or one.commit.time >= wanted.since)
            and (wanted.until is None or one.commit.time <= wanted.until)
            and all(self.says(one, index, event, text.lower()) for text in wanted.texts)
            and (wanted.cause is None or self.caused(one, index, event, wanted.cause))
        ]

    @staticmethod
    def says(one: Stored, index: int, event: Event, text: str) -> bool:
        words = [*texts(json.loads(to_json(event))), asked_for(one, index) or ""]
        return any(text in word for word in words)

    @staticmethod
    def caused(one: Stored, index: int, event: Event, cause: str) -> bool:
        if cause.isdecimal():
            named = event.plan.position if isinstance(event, PlanAdopted) else getattr(event, "cause", 0) or None
            return named == int(cause)
        return asked_for(one, index) == cause

    def about(self, first: bytes, last: bytes) -> Positions:
        """What happened to addresses."""
        return [
            (one.sequence, index)
            for one, index, event in self.events()
            if any(first <= address <= last for address in self.addresses(one, index, event))
            or self.delegates(event, first, last)
            or (isinstance(event, PoolDefined) and event.pool.first <= last and event.pool.last >= first)
            or (isinstance(event, PoolWithdrawn) and self.held(one.sequence, index, event.name, first, last))
        ]

    @staticmethod
    def delegates(event: Event, first: bytes, last: bytes) -> bool:
        """Whether it is about a prefix in these addresses, or gives or ends one that they are in."""
        prefix = getattr(event, "prefix", None)
        if not isinstance(prefix, Prefix):
            return False
        ends = ("prefix.delegated", "prefix.released", "prefix.expired", "prefix.withdrawn")
        return first <= prefix.network <= last or (event.NAME in ends and first in prefix)

    def held(self, sequence: int, index: int, pool: str, first: bytes, last: bytes) -> bool:
        """Whether the pool had some of these addresses before."""
        defined = [
            event.pool
            for one, number, event in self.events()
            if isinstance(event, PoolDefined) and event.pool.name == pool and (one.sequence, number) < (sequence, index)
        ]
        return bool(defined) and defined[-1].first <= last and defined[-1].last >= first

    def addresses(self, one: Stored, index: int, event: Event) -> set[bytes]:
        found = {getattr(event, name, None) for name in ("address", "holder", "contender", "peer")}
        if event.NAME == "session.closed":
            found |= self.peers(one, index, event)
        if event.NAME == "session.opened":
            found |= self.peers(one, index, event)
        found |= {parse_address(address) for address in self.changed.get((one.sequence, index), ())}
        return {address for address in found if isinstance(address, bytes)}

    def peers(self, closing: Stored, index: int, event: Any) -> set[bytes | None]:
        """Where the session came from that ends here."""
        open_: bytes | None = None
        for one, number, each in self.events():
            if (one.sequence, number) == (closing.sequence, index):
                break
            if one.subject == closing.subject and getattr(each, "client", None) == event.client:
                if each.NAME == "session.opened":
                    open_ = getattr(each, "peer", None)
                elif each.NAME == "session.closed":
                    open_ = None
        return {open_}


def positions(rows: list[AuditRow]) -> Positions:
    return [(int(row.position.partition(".")[0]), int(row.position.partition(".")[2])) for row in rows]


WANTED = st.builds(
    Wanted,
    kind=st.none() | st.sampled_from(["address", "address.allocated", "configuration", "pool.defined", "plan"]),
    actor=st.none() | st.sampled_from(ACTORS),
    since=st.none() | st.integers(0, 4 * HOUR),
    until=st.none() | st.integers(0, 4 * HOUR),
    texts=st.lists(st.sampled_from(["eth", "SIX", "a", "lan", "slaac", "bye", "no such text"]), max_size=2).map(tuple),
    cause=st.none() | st.sampled_from(["1", "3", "address.renew", "address.withdraw"]),
)


@settings(max_examples=150)
@given(log=written(), wanted=WANTED, places=st.lists(st.integers(0, 30), max_size=2), limit=st.integers(1, 5))
async def test_an_audit_finds_what_a_list_says(
    log: list[Stored], wanted: Wanted, places: list[int], limit: int
) -> None:
    expected = Model(log).wanted(wanted)
    async with opened(log, *places) as db:
        if wanted.actor is not None and all(one.commit.actor != wanted.actor for one in log):
            with pytest.raises(Unknown, match="nobody called"):
                await audit(db, SITE, wanted, Page())
            return
        assert positions(await audit(db, SITE, wanted, Page(newest=False))) == expected
        found: Positions = []
        beyond: int | None = None
        while page := positions(await audit(db, SITE, wanted, Page(beyond=beyond, limit=limit))):
            found += page
            beyond = after_event(*page[-1])
        assert found == expected[::-1]


@settings(max_examples=80)
@given(
    log=written(),
    bounds=st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES)).map(sorted),
    one=st.booleans(),
)
async def test_the_history_of_addresses_is_what_a_list_says(log: list[Stored], bounds: list[bytes], one: bool) -> None:
    first, last = bounds[0], bounds[0] if one else bounds[1]
    async with opened(log) as db:
        found = await of_addresses(db, first, last, Page(newest=False, limit=1_000))
        assert positions(found) == Model(log).about(first, last)
        if one:
            again = await audit(db, SITE, Wanted(entity=format_address(first)), Page(newest=False))
            assert again == found


@settings(max_examples=60)
@given(log=written(), subnet=st.sampled_from(SUBNETS))
async def test_what_changed_in_a_subnet_is_what_a_list_says(log: list[Stored], subnet: str) -> None:
    model = Model(log)
    pools: dict[str, str] = {}
    expected: Positions = []
    known = False
    for one, index, event in model.events():
        where = ""
        if isinstance(event, PoolDefined):
            where = pools[event.pool.name] = event.pool.subnet
        elif isinstance(event, PoolWithdrawn):
            where = pools.get(event.name, "")
        elif isinstance(event, NodeArrived):
            where = event.subnet if event.left != subnet else subnet
        elif one.subject == f"dnms.{SITE}.ledger.{subnet}" and event.NAME != "address.renewed":
            where = subnet
        known |= where == subnet and not isinstance(event, NodeArrived)
        expected += [(one.sequence, index)] if where == subnet else []
    known |= any(one.subject == f"dnms.{SITE}.ledger.{subnet}" for one in log)
    async with opened(log) as db:
        if known:
            assert positions(await changes(db, SITE, subnet, Page(newest=False, limit=1_000))) == expected
        else:
            with pytest.raises(Unknown):
                await changes(db, SITE, subnet, Page())


@settings(max_examples=60)
@given(
    log=written(),
    by=st.sets(st.sampled_from(["kind", "subnet"])),
    each=st.sampled_from(["hour", "day"]),
    times=st.tuples(st.none() | st.integers(0, 4 * HOUR), st.none() | st.integers(0, 4 * HOUR)),
    kind=st.none() | st.sampled_from(["address", "session.closed"]),
    subnet=st.none() | st.sampled_from([*SUBNETS, ""]),
    places=st.lists(st.integers(0, 30), max_size=2),
)
async def test_activity_is_what_a_list_says(  # noqa: PLR0917  # as drawn
    log: list[Stored],
    by: set[activity.By],
    each: activity.Each,
    times: tuple[int | None, int | None],
    kind: str | None,
    subnet: str | None,
    places: list[int],
) -> None:
    length = timedelta(hours=1) if each == "hour" else timedelta(days=1)
    expected: Counter[tuple[datetime, str | None, str | None]] = Counter()
    for one, _, event in Model(log).events():
        parts = one.subject.split(".")
        where = parts[3] if parts[2] in ("ledger", "seen") else getattr(event, "subnet", "")
        where = where if isinstance(where, str) and (event.NAME == "node.arrived" or parts[2] != "plan") else ""
        begun = one.commit.time // HOUR
        if (times[0] is not None and begun < times[0] // HOUR) or (times[1] is not None and begun > times[1] // HOUR):
            continue
        if (subnet is not None and where != subnet) or not (kind is None or f"{event.NAME}.".startswith(f"{kind}.")):
            continue
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        time = epoch + timedelta(microseconds=one.commit.time) // length * length
        expected[time, where if "subnet" in by else None, event.NAME if "kind" in by else None] += 1
    async with opened(log, *places) as db:
        rows = await activity.activity(db, since=times[0], until=times[1], by=by, each=each, kind=kind, subnet=subnet)
    assert {(row.time, row.subnet, row.kind): row.events for row in rows} == expected
    assert [row.time for row in rows] == sorted(row.time for row in rows)


LOG = (
    happened("plan", 1, SubnetDefined(subnet=Subnet(name="lan", realm="r", prefixes=(parse_prefix("2001:db8::/64"),)))),
    happened("plan", 2, PoolDefined(pool=Pool(name="six", subnet="lan", first=FIRST, last=SECOND))),
    happened("node.00", 3, NodeIdentified(client=ALICE, duid=Personal(b"\0\4"), name=Personal("Alpha"))),
    happened("node.10", 4, NodeJoined(client=BOB, into=ALICE)),
    happened("ledger.lan", 5, AddressRenewed(address=FIRST, client=BOB, iaid=1, valid_until=9, horizon=9)),
    happened("ledger.lan", 6, AddressReleased(address=FIRST, client=BOB, iaid=1)),
    happened("plan", 7, PoolWithdrawn(name="six")),
)


@pytest.mark.parametrize(
    ("entity", "found"),
    [
        ("Alpha", [3, 4, 5, 6]),  # and what another identity of it did
        (ALICE.hex()[:8], [3, 4, 5, 6]),
        ("lan", [1, 2, 5, 6]),
        ("six", [2, 7]),
        ("r", [1]),
        ("2001:db8::1", [1, 2, 5, 6, 7]),  # in whose range it is, too
        ("2001:db8::2", [1, 2, 7]),
        ("2001:db8::/64", [1, 2, 5, 6, 7]),
        ("192.0.2.7", []),
        ("address.released", None),
        ("nobody", None),
    ],
)
async def test_an_entity_is_whatever_has_a_name(entity: str, found: list[int] | None) -> None:
    async with opened(stored(LOG)) as db:
        asked = audit(db, SITE, Wanted(entity=entity), Page(newest=False))
        if found is None:
            with pytest.raises(Unknown, match=f"nothing in the log is called '{entity}'"):
                await asked
        else:
            assert [sequence for sequence, _ in positions(await asked)] == found


async def test_what_was_changed_in_a_subnet_leaves_out_renewals() -> None:
    async with opened(stored(LOG)) as db:
        assert [one.name for one in await changes(db, SITE, "lan", Page(newest=False))] == [
            "subnet.defined",
            "pool.defined",
            "address.released",
            "pool.withdrawn",
        ]


async def test_a_text_that_stands_in_too_much_is_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnms.projections.events.audit.MAX_WORDS", 1)
    async with opened(stored(LOG)) as db:
        with pytest.raises(ValueError, match="'a' stands in more than 1 words of the log"):
            await audit(db, SITE, Wanted(texts=("a",)), Page())
        [found] = await audit(db, SITE, Wanted(texts=("lph",)), Page())
    assert (found.node, found.fields["name"], found.actor, found.request) == ("Alpha", "Alpha", "agent/east", None)


async def test_what_is_no_kind_and_no_cause_is_said() -> None:
    async with opened(stored(LOG)) as db:
        with pytest.raises(ValueError, match="there is no kind of events 'adress'"):
            await audit(db, SITE, Wanted(kind="adress"), Page())
        with pytest.raises(ValueError, match=r"'address\.allocated' is no cause; expected the position of a commit"):
            await audit(db, SITE, Wanted(cause="address.allocated"), Page())


class Explaining:
    """A connection that asks how each search will be done, too."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db
        self.steps: list[str] = []

    async def execute_fetchall(self, sql: str, values: Any = ()) -> Any:
        if "SELECT e.position" in sql:
            rows = await self._db.execute_fetchall(f"EXPLAIN QUERY PLAN {sql}", values)
            self.steps += [row[3] for row in rows]
        return await self._db.execute_fetchall(sql, values)


SORTED = [
    Wanted(),
    Wanted(kind="address.allocated"),
    Wanted(actor="agent/east"),
    Wanted(cause="3"),
    Wanted(entity="192.0.2.7"),
    Wanted(entity=ALICE.hex()),
    Wanted(texts=("alpha",)),
    Wanted(kind="address.allocated", actor="agent/east", since=1, until=5),
]


@pytest.mark.parametrize("wanted", SORTED, ids=repr)
async def test_every_search_is_led_by_a_key(wanted: Wanted) -> None:
    """None goes through all events, or sorts them: but for what happened to an address, which is not much, as is what
    was ever changed in the plan.
    """
    async with opened(stored(LOG)) as db:
        explaining = Explaining(db)
        await audit(cast("aiosqlite.Connection", explaining), SITE, wanted, Page())
    plans = explaining.steps
    assert plans
    scans = {step for step in plans if step.startswith("SCAN") and not step.endswith("CONSTANT ROWS")}
    assert scans <= {"SCAN f", "SCAN p", "SCAN event_part"}, plans
    sorting = [step for step in plans if "ORDER BY" in step]
    assert not sorting or wanted.entity == "192.0.2.7", plans
