"""What is seen on a link of machines that DNMS gave nothing: who has which address, what is wrong, and which agents are
ours.

What agents report becomes an event where it is new: several of them see the same, and each again and again. An address
that is sighted is given to nobody else (see `allocating.withholds`) until it has vanished. All of it is bounded, since
anybody on a link can invent addresses.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, MutableMapping
from typing import Final

import msgspec

from dnms.domain.aggregate import Refused
from dnms.events.ip import Address, Prefix, family
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced, AlarmCleared, AlarmRaised
from dnms.events.recorded import Event
from dnms.events.requests import AnnounceAgent, ClearAlarm, LoseAddresses, RaiseAlarm, SightAddress
from dnms.kit.clock import MICROSECONDS
from dnms.kit.overlay import overlaid

LinkAsked = SightAddress | LoseAddresses | RaiseAlarm | ClearAlarm | AnnounceAgent
LinkHappened = AddressSighted | AddressVanished | AlarmRaised | AlarmCleared | AgentAnnounced

UNSEEN: Final = 86_400
"""Seconds after which an address that nobody sees, and nobody answers for, has vanished: as long as one rests that was
found in use, where the plan says nothing else."""

COUNTS: Final = 7 * 86_400
"""Seconds for which a sighting counts where no agent watches the link any more; it is renewed after half of them. A
temporary address is not used for longer (RFC 4941, 3.5; RFC 8981, 3.8, has two days), so one that is lasts."""

MAX_SIGHTED: Final = 8_192
"""Addresses of one link: more than a link of a few thousand machines has, each with a link-local, a stable and a
temporary one. Beyond, none is recorded until some have vanished."""

MAX_ALARMS: Final = 64
"""Open on one link: whoever could have a thousand raised has had one noticed."""

MAX_AGENTS: Final = 64  # that announce themselves on one link

MAX_NAMES: Final = 16  # addresses, and servers, of one of these


class Sighted(msgspec.Struct, frozen=True, array_like=True):
    """A machine with an address."""

    client: bytes
    form: str
    lasting: str
    sure: str
    since: int  # microseconds, as all of these
    recorded: int  # the last time
    until: int


Key = tuple[str, bytes]
"""What is wrong, and with which address; where none is known, with which client."""


class Alarm(msgspec.Struct, frozen=True, array_like=True):
    """Something that is wrong now."""

    address: Address
    client: bytes
    other: bytes | None
    prefix: Prefix | None
    why: str
    since: int


class Announced(msgspec.Struct, frozen=True, array_like=True):
    """By what an agent is known."""

    addresses: tuple[Address, ...]
    servers: tuple[bytes, ...]


class SightingsDump(msgspec.Struct, frozen=True, array_like=True):
    """All of it."""

    all: tuple[tuple[bytes, Sighted], ...] = ()
    alarms: tuple[tuple[Key, Alarm], ...] = ()
    agents: tuple[tuple[str, Announced], ...] = ()


class Sightings:
    """Of one ledger."""

    def __init__(self) -> None:
        self.all: MutableMapping[bytes, Sighted] = {}  # by address
        self.number = 0  # of these
        self.alarms: dict[Key, Alarm] = {}
        self.agents: dict[str, Announced] = {}

    def draft(self) -> Sightings:
        """A copy that may be thrown away."""
        draft = Sightings()
        draft.all, draft.number = overlaid(self.all), self.number
        draft.alarms, draft.agents = dict(self.alarms), dict(self.agents)
        return draft

    def dump(self) -> SightingsDump:
        """All of it."""
        return SightingsDump(tuple(self.all.items()), tuple(self.alarms.items()), tuple(self.agents.items()))

    def load(self, dump: SightingsDump) -> None:
        """Take what `dump` gave."""
        self.all, self.alarms, self.agents = dict(dump.all), dict(dump.alarms), dict(dump.agents)
        self.number = len(self.all)

    def withhold(self, address: bytes, client: bytes, *, at: int) -> bool:
        """Whether another machine than this client is seen with the address."""
        sighted = self.all.get(address)
        return sighted is not None and sighted.client != client and sighted.until > at

    def is_ours(self, address: bytes) -> bool:
        """Whether one of our agents has the address."""
        return any(address in each.addresses for each in self.agents.values())

    def open(self) -> frozenset[Key]:
        """What the alarms are about that are not cleared."""
        return frozenset(about(alarm, what.address, what.client) for (alarm, _), what in self.alarms.items())

    def is_server(self, server: bytes) -> bool:
        """Whether one of our agents serves by the DUID with this client id."""
        return any(server in each.servers for each in self.agents.values())

    # -- decide ------------------------------------------------------------------------------------------------------

    def decide(self, request: LinkAsked, *, at: int, leased: Container[bytes]) -> Iterator[Event]:
        """What is new in what an agent saw; `leased` are the addresses that somebody was given.

        Refused `too-many-sightings`, `too-many-alarms`, `too-many-agents`.
        """
        match request:
            case SightAddress():
                if request.address not in leased:  # else the ledger says who has it
                    yield from self._sight(request, at)
            case LoseAddresses():
                yield from self._lose(request, at)
            case RaiseAlarm():
                yield from self._raise(request)
            case ClearAlarm():
                known = self.alarms.get(key_of(request.alarm, request.address, request.client))
                if known is not None:
                    yield AlarmCleared(alarm=request.alarm, address=known.address, client=known.client, why=request.why)
            case AnnounceAgent():
                yield from self._announce(request)

    def _sight(self, request: SightAddress, at: int) -> Iterator[Event]:
        known = self.all.get(request.address)
        if not is_news(known, request.client, at=at):
            return
        if known is None and self.number >= MAX_SIGHTED:
            raise Refused("too-many-sightings", f"{MAX_SIGHTED} addresses of the link are recorded already")
        since, lasting, sure = at, request.lasting, request.sure
        if known is not None and known.client != request.client:
            yield AddressVanished(address=request.address, client=known.client, last_seen=known.recorded)
        elif known is not None:
            since = known.since
            if sure != "certain" and request.form != "ipv4" and at - since >= COUNTS * MICROSECONDS:
                lasting, sure = "stable", "likely"
        yield AddressSighted(
            address=request.address,
            client=request.client,
            form=request.form,
            lasting=lasting,
            sure=sure,
            since=since,
            until=at + COUNTS * MICROSECONDS,
        )

    def _lose(self, request: LoseAddresses, at: int) -> Iterator[Event]:
        for address, told in {each.address: each.last_seen for each in request.unseen}.items():
            known = self.all.get(address)
            if known is None:
                continue
            last_seen = max(known.recorded, min(told, at))
            if known.until <= at or at - last_seen >= UNSEEN * MICROSECONDS:
                yield AddressVanished(address=address, client=known.client, last_seen=last_seen)

    def _raise(self, request: RaiseAlarm) -> Iterator[Event]:
        if about(request.alarm, request.address, request.client) in self.open():
            return
        if len(self.alarms) >= MAX_ALARMS:
            raise Refused("too-many-alarms", f"{MAX_ALARMS} alarms of the link are open already")
        yield AlarmRaised(
            alarm=request.alarm,
            address=request.address,
            client=request.client,
            other=request.other,
            prefix=request.prefix,
            why=request.why,
        )

    def _announce(self, request: AnnounceAgent) -> Iterator[Event]:
        addresses, servers = request.addresses[:MAX_NAMES], request.servers[:MAX_NAMES]
        if self.agents.get(request.agent) == Announced(addresses, servers):
            return
        if request.agent not in self.agents and len(self.agents) >= MAX_AGENTS:
            raise Refused("too-many-agents", f"{MAX_AGENTS} agents of the link are known already")
        yield AgentAnnounced(agent=request.agent, addresses=addresses, servers=servers)

    # -- evolve ------------------------------------------------------------------------------------------------------

    def evolve(self, event: LinkHappened, *, at: int) -> None:
        """Take in one event."""
        match event:
            case AddressSighted():
                self.number += event.address not in self.all
                self.all[event.address] = Sighted(
                    event.client, event.form, event.lasting, event.sure, event.since, at, event.until
                )
            case AddressVanished():
                self.number -= self.all.pop(event.address, None) is not None
            case AlarmRaised():
                alarm = Alarm(event.address, event.client, event.other, event.prefix, event.why, at)
                self.alarms[key_of(event.alarm, event.address, event.client)] = alarm
            case AlarmCleared():
                self.alarms.pop(key_of(event.alarm, event.address, event.client), None)
            case AgentAnnounced():
                self.agents[event.agent] = Announced(event.addresses, event.servers)

    def folded(self) -> Iterator[LinkHappened]:
        """Events that lead to it."""
        for agent, announced in self.agents.items():
            yield AgentAnnounced(agent=agent, addresses=announced.addresses, servers=announced.servers)
        for address, each in self.all.items():
            yield AddressSighted(
                address=address,
                client=each.client,
                form=each.form,
                lasting=each.lasting,
                sure=each.sure,
                since=each.since,
                until=each.until,
            )
        for (alarm, _), what in self.alarms.items():
            yield AlarmRaised(
                alarm=alarm,
                address=what.address,
                client=what.client,
                other=what.other,
                prefix=what.prefix,
                why=what.why,
            )


def key_of(alarm: str, address: bytes, client: bytes) -> Key:
    """By which an alarm is known; there is one of each at a time."""
    return alarm, address if any(address) else client


def about(alarm: str, address: bytes, client: bytes) -> Key:
    """What an alarm is about. One agent may hear a server of DHCPv6, and another only who names it, or a relay: it is
    one by its DUID. The log has it by what was known of it first (`key_of`).
    """
    if alarm == "dhcp-server" and family(address) == 6:
        return alarm, client
    return key_of(alarm, address, client)


def is_news(known: Sighted | None, client: bytes, *, at: int) -> bool:
    """Whether it is to be reported that a client is seen with an address of which this is known."""
    return known is None or known.client != client or known.until - at < COUNTS * MICROSECONDS // 2
