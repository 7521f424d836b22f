"""What is wrong on the link: two have one address, an address has moved, somebody else is a router or a DHCP server, or
looks through all addresses. Each is raised once, in the ledger, and cleared when it is over.

Who is a router of the link the plan says (`gateways`), or it has them learned (`learn_gateways`): then whoever
advertises itself is one, but not for a prefix that the link does not have. Who is a DHCP server it says too
(`dhcp_servers`), beside our own agents, which announce themselves in the ledger.

An alarm is cleared by an agent that heard what it is about and hears it no more, or by any that has not heard it for as
long as such a thing stays. Agents do not hear the same at the same time. So none raises what another one has cleared,
unless it has heard it since.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Literal, cast

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.link import SeeingLink
from dnms.agents.subnet.seeing_owners import Owners
from dnms.agents.subnet.seeing_table import ROUTER_STAYS, SCAN, SERVER_STAYS, Advertised, Server, Table, Verdict
from dnms.domain.aggregate import Refused
from dnms.domain.gateways import is_learning, named
from dnms.domain.sightings import Alarm, Key, about
from dnms.events.ip import Prefix, family, format_address, is_link_local
from dnms.events.requests import Alarms as Kind
from dnms.events.requests import ClearAlarm, RaiseAlarm
from dnms.kit.clock import MICROSECONDS
from dnms.wire.rates import Bucket

NOBODY = bytes(16)  # the client of whom nothing is known
AT_ONCE = 64  # addresses that are asked for at once
RECHECK = 30.0  # seconds between two questions who has an address that two had
MOVED_STAYS = 300  # seconds for which it is told that an address has moved
ASK_GATEWAYS = 60.0  # seconds between two questions who the planned gateways are
RAISED_AT_ONCE, RAISED_A_SECOND = 64, 1 / 60
"""Alarms of one agent: whoever has routers come and go has one a minute noticed."""

STAYS: Final[dict[str, float]] = {"router": ROUTER_STAYS, "dhcp-server": SERVER_STAYS, "scan": 5 * SCAN}
"""Seconds until what is not heard of is over for who has not heard it at all."""

_logger = structlog.get_logger(__name__)


class Alarms:
    """Those of one agent on its link."""

    def __init__(
        self, books: Books, link: SeeingLink, table: Table, owners: Owners, *, client_id: Callable[[bytes], bytes]
    ) -> None:
        """`client_id` names a DUID in the log."""
        self._books = books
        self._link = link
        self._table = table
        self._owners = owners
        self._client_id = client_id
        self._began = asyncio.get_running_loop().time()
        self._raised = Bucket(burst=RAISED_AT_ONCE, per_second=RAISED_A_SECOND, now=self._began)
        self._known: set[Key] = set()  # those that this agent has seen itself
        self._ended: dict[Key, float] = {}  # of what lasts here when another agent has cleared it
        self._doubled: dict[bytes, float] = {}  # when it was looked last who has an address that two had
        self._gateways: frozenset[bytes] = frozenset()  # hardware addresses of the planned ones
        self._asked = -ASK_GATEWAYS

    async def look(self) -> None:
        """Raise and clear what there is now. LogError, KernelError."""
        moments = [request for each in await self._verdicts() if (request := await self._judged(each))]
        lasting = [*await self._routers(), *await self._servers(), *await self._scans()]
        heard = {_about(request) for request, _ in lasting}
        ended = self._known - self._books.ledger.sightings.open()
        self._known -= ended
        self._ended |= dict.fromkeys(ended, asyncio.get_running_loop().time())
        self._ended = {key: at for key, at in self._ended.items() if key in heard}
        new = [request for request, last in lasting if last > self._ended.get(_about(request), -math.inf)]
        await self._raise([*moments, *new])
        await self._clear(heard)

    async def _raise(self, requests: list[RaiseAlarm]) -> None:
        known = self._books.ledger.sightings.open()
        self._known.update(what for request in requests if (what := _about(request)) in known)
        new = [request for request in requests if _about(request) not in known]
        new = [request for request in new if self._raised.take(asyncio.get_running_loop().time())]
        if not new:
            return
        for request, outcome in zip(new, await self._books.decide_all(new), strict=True):
            if isinstance(outcome, Refused):
                _logger.warning("an alarm is not recorded", alarm=request.alarm, why=outcome.why)
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            self._known.add(_about(request))
            if outcome:
                _logger.warning("something is wrong on the link", alarm=request.alarm, address=_named(request))

    # -- addresses

    async def _verdicts(self) -> list[Verdict]:
        loop = asyncio.get_running_loop()
        contested = self._table.contested(loop.time())[:AT_ONCE]
        if not contested:
            return []
        answers = await self._link.users(contested)
        return self._table.settle({each: answers.get(each, frozenset()) for each in contested}, loop.time())

    async def _judged(self, verdict: Verdict) -> RaiseAlarm | None:
        """None: it is as it should be. LogError."""
        client, other = self._owners.of(verdict.hardware), self._owners.of(verdict.other)
        if client == other:
            return None  # it has two interfaces on the link
        if not verdict.duplicate:
            lease = self._books.ledger.leases.get(verdict.address)
            if lease is not None and lease.client != client:
                holds = await self._books.hardware(lease.client)
                if not holds or verdict.hardware in holds:
                    return None  # nobody knows by which hardware address its holder has it
            elif lease is not None:
                return None  # it was given to another meanwhile
        for hardware in (verdict.hardware, verdict.other):
            if hardware:
                await self._owners.introduce(hardware)
        kind: Kind = "duplicate" if verdict.duplicate else "moved"
        if verdict.duplicate:
            self._doubled[verdict.address] = asyncio.get_running_loop().time()
        return RaiseAlarm(alarm=kind, address=verdict.address, client=client, other=other)

    # -- what lasts as long as it is heard

    async def _routers(self) -> list[tuple[RaiseAlarm, float]]:
        """Those that are none of the link's, each with when it was heard last. LogError, KernelError."""
        found = []
        for address, router in list(self._table.routers.items()):
            strange = await self._strange(address, router)
            if strange is not None:
                why, prefix = strange
                client = await self._client(router.hardware)
                request = RaiseAlarm(alarm="router", address=address, client=client, prefix=prefix, why=why)
                found.append((request, router.last))
        return found

    async def _strange(self, address: bytes, router: Advertised) -> tuple[str, Prefix | None] | None:
        """Why a router is none of the link's, and the prefix that is not; None: it is one, or says nothing of use."""
        ledger = self._books.ledger
        subnet, said = ledger.plan.subnet, router.advertisement
        prefixes = [each.prefix for each in said.prefixes if each.valid and (each.on_link or each.autonomous)]
        if subnet is None or not (said.lifetime or prefixes):
            return None
        if address in named(ledger.plan) or ledger.sightings.is_ours(address) or address in self._table.own:
            return None
        if is_learning(ledger.plan):
            foreign = next((each for each in prefixes if not any(own.covers(each) for own in subnet.prefixes)), None)
            return None if foreign is None else ("foreign-prefix", foreign)
        if router.hardware in await self._planned_hardware():
            return None  # a gateway that the plan names by another of its addresses
        return "not-planned", None

    async def _planned_hardware(self) -> frozenset[bytes]:
        """The hardware addresses of the gateways that the plan names by what is not link-local. KernelError."""
        now = asyncio.get_running_loop().time()
        if self._asked + ASK_GATEWAYS <= now:
            self._asked = now
            wide = [each for each in named(self._books.ledger.plan) if not is_link_local(each)]
            answers = await self._link.users(wide[:AT_ONCE]) if wide else {}
            self._gateways = frozenset(each for several in answers.values() for each in several)
        return self._gateways

    async def _servers(self) -> list[tuple[RaiseAlarm, float]]:
        """Those that are none of ours, likewise. LogError, KernelError."""
        found = []
        for server in list(self._table.servers.values()):
            said = server.said
            if self._is_ours(server):
                continue
            if said.family == 6:
                client = await self._owners.introduce_server(said.duid, said.hardware)
            else:
                hardware = said.hardware or await self._hardware_of(said.address)
                client = await self._client(hardware) if hardware else NOBODY
            found.append((RaiseAlarm(alarm="dhcp-server", address=said.address, client=client), server.last))
        return found

    def _is_ours(self, server: Server) -> bool:
        """Whether it is one of our agents, or one that the plan names, or where nobody can tell."""
        ledger, said = self._books.ledger, server.said
        subnet, seen = ledger.plan.subnet, ledger.sightings
        if subnet is None:
            return True
        planned = [each for each in subnet.downlink.dhcp_servers if family(each) == said.family]
        if not planned and subnet.policy.mode == "observe":
            return True  # another one serves the link, and nobody has said which
        if said.address in planned or said.address in self._table.own or seen.is_ours(said.address):
            return True
        return said.family == 6 and (seen.is_server(self._client_id(said.duid)) or bool(planned and not said.hardware))

    async def _hardware_of(self, address: bytes) -> bytes:
        """Who has an address by what was heard, or else by what the link answers. KernelError."""
        if (known := self._table.heard.get(address)) is not None:
            return known.hardware
        answers = await self._link.users([address])
        return min(answers.get(address, ()), default=b"")

    async def _scans(self) -> list[tuple[RaiseAlarm, float]]:
        """LogError."""
        found = []
        for scan in list(self._table.scans.values()):
            if self._books.ledger.plan.subnet is not None:
                prefix, client = scan.prefix, await self._client(scan.hardware)
                request = RaiseAlarm(alarm="scan", address=prefix.network, client=client, prefix=prefix)
                found.append((request, scan.last))
        return found

    async def _client(self, hardware: bytes) -> bytes:
        """Whose a hardware address is; the log is told, as far as that may be. LogError."""
        await self._owners.introduce(hardware)
        return self._owners.of(hardware)

    # -- what is over

    async def _clear(self, wanted: set[Key]) -> None:
        """Clear what is over. LogError, KernelError."""
        now, clear = asyncio.get_running_loop().time(), []
        doubled = await self._rechecked(now)
        for key, alarm in self._books.ledger.sightings.alarms.items():
            kind = _kind(key)
            what = about(kind, alarm.address, alarm.client)
            why = self._over(what, alarm, now, doubled) if what not in wanted else None
            if why is not None:
                clear.append(ClearAlarm(alarm=kind, address=alarm.address, client=alarm.client, why=why))
        if clear:
            for outcome in await self._books.decide_all(clear):
                if isinstance(outcome, BaseException):
                    raise outcome
        self._known &= self._books.ledger.sightings.open()  # what it has cleared itself has ended for it

    def _over(self, what: Key, alarm: Alarm, now: float, single: set[bytes]) -> Literal["over", "planned"] | None:
        """Why an alarm is over; None: it is not, or others know better."""
        kind = what[0]
        if kind == "duplicate":
            return "over" if alarm.address in single else None
        if kind == "moved":
            return "over" if self._books.now() - alarm.since >= MOVED_STAYS * MICROSECONDS else None
        if self._is_heard(kind, alarm):
            return "planned"
        unheard = min(now - self._began, (self._books.now() - alarm.since) / MICROSECONDS)
        return "over" if what in self._known or unheard >= STAYS[kind] else None

    def _is_heard(self, kind: str, alarm: Alarm) -> bool:
        """Whether what an alarm is about is still there."""
        if kind == "router":
            return alarm.address in self._table.routers
        return kind == "dhcp-server" and any(
            self._client_id(said.duid) == alarm.client if said.family == 6 else said.address == alarm.address
            for said in (server.said for server in self._table.servers.values())
            if said.family == family(alarm.address)
        )

    async def _rechecked(self, now: float) -> set[bytes]:
        """Of the addresses that two had those that one has now. KernelError."""
        doubled = [address for (kind, address) in self._books.ledger.sightings.alarms if kind == "duplicate"]
        due = [each for each in doubled if self._doubled.setdefault(each, now) + RECHECK <= now][:AT_ONCE]
        self._doubled = {each: at for each, at in self._doubled.items() if each in doubled or at + RECHECK > now}
        if not due:
            return set()
        self._doubled.update(dict.fromkeys(due, now))
        answers = await self._link.users(due)
        return {
            each
            for each in due
            if len(answers.get(each, ())) + (each in self._table.own) < 2 and each not in self._table.contests
        }


def _about(request: RaiseAlarm) -> Key:
    return about(request.alarm, request.address, request.client)


def _kind(key: Key) -> Kind:
    return cast("Kind", key[0])


def _named(request: RaiseAlarm) -> str:
    return str(request.prefix) if request.alarm == "scan" else format_address(request.address)
