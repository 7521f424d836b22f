"""The views once more, by the plainest means: dicts over decoded commits.

It shares no code with the projections' folds, so that a wrong fold cannot agree with itself: `verify` would fold the
same mistake twice. It keeps whole histories in memory, and is for logs of a size that a lab or a test makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import msgspec

from dnms.bus.port import Log
from dnms.bus.reading import read_opened
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.events.configuration import Difference, Snapshot
from dnms.events.ip import format_address

ENDINGS = ("address.released", "address.expired", "address.withdrawn", "address.declined")

OVER = ("prefix.released", "prefix.expired", "prefix.withdrawn")

Interval = tuple[str, str, str, int, int | None, str]
"""Address or prefix, client in hex, `lease`, `registered`, `seen` or `delegated`, from and until in microseconds (None:
still so), subnet."""


class Naive(msgspec.Struct, kw_only=True):
    """What the log says, as far as `sequence`. Addresses and client ids are text."""

    sequence: int = 0
    commits: int = 0
    events: int = 0
    holders: dict[tuple[str, str], str] = {}  # (address, subnet) to client
    declined: dict[tuple[str, str], str] = {}  # (address, subnet) to who declined it
    blocked: dict[tuple[str, str], str] = {}  # (address, subnet) to who was seen with it
    reserved: dict[tuple[str, str], str] = {}  # (address, subnet) to whom it is kept for
    names: dict[str, str] = {}  # by client
    places: dict[str, str] = {}  # the subnet of each client
    joins: dict[str, str] = {}  # client to the one by which the machine is known
    registered: dict[str, set[str]] = {}  # addresses of each client
    held_of_pool: dict[tuple[str, str], int] = {}  # by subnet and pool: those of the plan, and others with leases
    intervals: list[Interval] = []
    delegated: dict[tuple[str, str], tuple[str, str]] = {}  # (prefix, subnet) to client, and whether it is deprecated
    uplinks: dict[tuple[str, str], str] = {}  # (prefix, subnet) to its state
    links: dict[str, set[str]] = {}  # the own prefixes of each subnet, by the plan that its ledger has adopted
    prefix_intervals: list[Interval] = []
    activity: dict[tuple[int, str, str], int] = {}  # how many events by hour, subnet and name
    duplicates: list[str] = []  # allocations of an address that another client held; there is no such log


def fold(commits: Iterable[Stored]) -> Naive:  # noqa: PLR0912  # one case an event
    """Take in all of a log from its beginning."""
    state = _State()
    naive = state.naive
    for stored in commits:
        naive.sequence = stored.sequence
        naive.commits += 1
        parts = stored.subject.split(".")
        subnet = parts[3] if parts[2] in ("ledger", "seen") else ""
        for event in stored.commit.events:
            naive.events += 1
            fields = {name: getattr(event, name) for name in event.__struct_fields__}
            client = fields["client"].hex() if "client" in fields else ""
            hour, where = stored.commit.time // 3_600_000_000, subnet
            if event.NAME == "node.arrived":
                where = fields["subnet"]
            naive.activity[hour, where, event.NAME] = naive.activity.get((hour, where, event.NAME), 0) + 1
            state.saw(event.NAME, client, fields, parts, stored)
            if event.NAME == "address.allocated" or (event.NAME == "outage.granted" and not fields["contested"]):
                state.allocated(format_address(fields["address"]), subnet, client, fields["pool"], stored)
            elif event.NAME == "address.blocked":
                state.ended(format_address(fields["address"]), subnet, stored)
                naive.blocked[format_address(fields["address"]), subnet] = client
            elif event.NAME in ENDINGS:
                state.ended(format_address(fields["address"]), subnet, stored)
                if event.NAME == "address.declined":
                    naive.declined[format_address(fields["address"]), subnet] = client
            elif event.NAME == "plan.adopted":
                own = fields["plan"].subnet.prefixes if fields["plan"].subnet else ()
                naive.links[subnet] = {str(prefix) for prefix in own}
            elif event.NAME.startswith("prefix."):
                state.delegation(event.NAME, (str(fields["prefix"]), subnet), client, stored)
            elif event.NAME in ("uplink.received", "uplink.deprecated"):
                naive.uplinks[str(fields["prefix"]), subnet] = event.NAME.removeprefix("uplink.")
            elif event.NAME == "uplink.lost" and (str(fields["prefix"]), subnet) in naive.uplinks:
                naive.uplinks[str(fields["prefix"]), subnet] = "lost"
            elif event.NAME in ("address.held", "address.unheld"):
                state.kept(format_address(fields["address"]), subnet, client, ends=event.NAME == "address.unheld")
            elif event.NAME.startswith("node."):
                state.told(event.NAME, client, fields)
            elif event.NAME == "pool.defined":
                state.defined[fields["pool"].name] = fields["pool"].subnet
                state.ever_defined.add((fields["pool"].subnet, fields["pool"].name))
            elif event.NAME == "pool.withdrawn":
                state.defined.pop(fields["name"], None)
            elif event.NAME == "configuration.registered":
                state.registered(client, fields["snapshot"], subnet, stored)
            elif event.NAME == "configuration.changed":
                state.registered(client, state.changed(client, fields["change"]), subnet, stored)
    return state.finish()


class _State:
    """What is under way while a log is folded."""

    def __init__(self) -> None:
        self.naive = Naive()
        self.defined: dict[str, str] = {}  # pool to subnet
        self.ever_defined: set[tuple[str, str]] = set()
        self._pools: dict[tuple[str, str], str] = {}
        self._leases: dict[tuple[str, str], tuple[str, int]] = {}
        self._delegated: dict[tuple[str, str], tuple[str, int]] = {}  # (prefix, subnet) to client and since when
        self._uses: dict[tuple[str, str], tuple[tuple[str, str], int, str]] = {}
        self._latest: dict[str, int] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._sessions: dict[tuple[str, str], tuple[str, int]] = {}  # (client, subject) to peer and since when
        self._sighted: dict[tuple[str, str, str], int] = {}  # (address, client, subnet) to since when
        self._identified: set[str] = set()  # clients that have said who they are

    def allocated(self, address: str, subnet: str, client: str, pool: str, stored: Stored) -> None:
        key = (address, subnet)
        if self.naive.holders.get(key, client) != client:
            self.naive.duplicates.append(f"{address} in {subnet} at {stored.sequence}")
        self.ended(address, subnet, stored)
        self.naive.holders[key] = client
        self._pools[key] = pool
        self._leases[key] = (client, stored.commit.time)

    def ended(self, address: str, subnet: str, stored: Stored) -> None:
        key = (address, subnet)
        if key in self._leases:
            holder, since = self._leases.pop(key)
            self.naive.intervals.append((address, holder, "lease", since, stored.commit.time, subnet))
        self.naive.holders.pop(key, None)
        self.naive.declined.pop(key, None)
        self.naive.blocked.pop(key, None)

    def delegation(self, what: str, key: tuple[str, str], client: str, stored: Stored) -> None:
        there = key in self._delegated
        if there and what in (*OVER, "prefix.delegated"):
            holder, since = self._delegated.pop(key)
            self.naive.prefix_intervals.append((key[0], holder, "delegated", since, stored.commit.time, key[1]))
            self.naive.delegated.pop(key)
        if what == "prefix.delegated":
            self._delegated[key] = (client, stored.commit.time)
        if what == "prefix.delegated" or (there and what not in OVER):
            state = "deprecated" if what == "prefix.deprecated" else "delegated"
            self.naive.delegated[key] = (self._delegated[key][0], state)

    def saw(self, what: str, client: str, fields: dict[str, Any], parts: list[str], stored: Stored) -> None:
        at = stored.commit.time
        session = (client, ".".join(parts[3:]))
        if what in ("session.opened", "session.closed") and session in self._sessions:
            peer, since = self._sessions.pop(session)
            self.naive.intervals.append((peer, client, "seen", since, at, parts[3]))
        if what == "session.opened":
            self._sessions[session] = (format_address(fields["peer"]), at)
        if what == "outage.granted" and fields["happened"] < at:
            address = format_address(fields["address"])
            self.naive.intervals.append((address, client, "seen", fields["happened"], at, parts[3]))
        if (
            what == "address.vanished"
            and (key := (format_address(fields["address"]), client, parts[3])) in self._sighted
        ):
            self.naive.intervals.append((*key[:2], "seen", self._sighted.pop(key), at, parts[3]))
        if what == "address.sighted":
            self._sighted.setdefault((format_address(fields["address"]), client, parts[3]), at)
        moments = {"address.blocked": ["address"], "identity.contested": ["holder", "contender"]}
        moments["hardware.contested"] = ["contender"]
        for address in sorted({format_address(fields[name]) for name in moments.get(what, ())}):
            self.naive.intervals.append((address, client, "seen", at, at, parts[3]))

    def told(self, what: str, client: str, fields: dict[str, Any]) -> None:
        if what == "node.identified":
            self.naive.names[client] = fields["name"].text
            self._identified.add(client)
        elif what == "node.entered" and client not in self._identified:
            self.naive.names[client] = fields["name"].text
        elif what == "node.joined":
            self.naive.joins[client] = fields["into"].hex()
        elif what == "node.arrived":
            self.naive.places[client] = fields["subnet"]
        elif what == "node.parted":
            self.naive.joins.pop(client, None)
        elif what == "node.forgotten":
            self._snapshots.pop(client, None)
            self.naive.joins.pop(client, None)
            self._identified.discard(client)
            self.naive.names.pop(client, None)
            self.naive.places.pop(client, None)

    def kept(self, address: str, subnet: str, client: str, *, ends: bool) -> None:
        self.naive.reserved.pop((address, subnet), None)
        if not ends:
            self.naive.reserved[address, subnet] = client

    def changed(self, client: str, change: Difference) -> Snapshot:
        """Links and addresses after a change: nothing else is asked of them here."""
        before = self._snapshots.get(client, Snapshot())
        links = {link.index: link for link in before.links if link.index not in change.links_gone}
        links |= {link.index: link for link in change.links}
        gone = {(one.interface, one.address, one.prefix_length) for one in change.addresses_gone}
        addresses = {(one.interface, one.address, one.prefix_length): one for one in before.addresses}
        for one in change.addresses:
            addresses[one.interface, one.address, one.prefix_length] = one
        left = [one for key, one in addresses.items() if key not in gone]
        return Snapshot(links=tuple(links.values()), addresses=tuple(left))

    def registered(self, client: str, snapshot: Snapshot, subnet: str, stored: Stored) -> None:
        self._snapshots[client] = snapshot
        self.naive.registered[client] = {format_address(one.address) for one in snapshot.addresses}
        now = self._latest[client] = max(stored.commit.time, self._latest.get(client, 0))
        uses: dict[str, tuple[str, str]] = {}
        for one in snapshot.addresses:
            names = [link.name for link in snapshot.links if link.index == one.interface]
            if one.origin != "loopback" and format_address(one.address) not in uses:
                uses[format_address(one.address)] = (names[-1] if names else "", one.origin)
        for address, user in list(self._uses):
            if user == client and uses.get(address) != self._uses[address, user][0]:
                _, since, where = self._uses.pop((address, user))
                self.naive.intervals.append((address, client, "registered", since, now, where))
        for address, use in uses.items():
            self._uses.setdefault((address, client), (use, now, subnet))

    def finish(self) -> Naive:
        naive = self.naive
        for pool in self.ever_defined:
            held = sum((key[1], self._pools[key]) == pool for key in naive.holders)
            if held or self.defined.get(pool[1]) == pool[0]:
                naive.held_of_pool[pool] = held
        lasting = [
            *((key[0], holder, "lease", since, key[1]) for key, (holder, since) in self._leases.items()),
            *((key[0], key[1], "registered", since, where) for key, (_, since, where) in self._uses.items()),
            *((peer, key[0], "seen", since, key[1].split(".")[0]) for key, (peer, since) in self._sessions.items()),
            *((key[0], key[1], "seen", since, key[2]) for key, since in self._sighted.items()),
        ]
        naive.intervals += [(*interval[:4], None, interval[4]) for interval in lasting]
        naive.prefix_intervals += [
            (key[0], holder, "delegated", since, None, key[1]) for key, (holder, since) in self._delegated.items()
        ]
        return naive


async def fold_log(log: Log, site: str, *, until: int) -> Naive:
    """Fold the log of a site from its beginning up to the sequence `until`, or to its end."""
    commits: list[Stored] = []
    async with aclosing(read_opened(log, [subjects.everything(site)])) as batches:
        async for batch in batches:
            commits += [stored for stored in batch.stored if stored.sequence <= until]
            if batch.caught_up or len(commits) >= until:
                break
    return fold(commits)
