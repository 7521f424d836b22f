"""What must be so of delegated prefixes: in the log, by plain dicts over its events, in every session, in the end."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dnms.agents.subnet.books import Books
from dnms.domain.identity import iaid_of
from dnms.domain.ledger import Ledger
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.events.configuration import AssignedPrefix
from dnms.events.ip import Prefix
from dnms.events.plan import PlanAdopted
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event
from dnms.events.uplink import UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.kit.clock import MICROSECONDS
from tests.simulation.machines import Node
from tests.simulation.plans import BORDER, SITE, SUBNET
from tests.simulation.world import World

_Ended = PrefixReleased | PrefixExpired | PrefixWithdrawn


class _Holder(msgspec.Struct):
    client: bytes
    iaid: int
    next_hop: bytes
    horizon: int
    drained: bool = False


class Naive:
    """The delegations of one ledger."""

    def __init__(self) -> None:
        self.holders: dict[Prefix, _Holder] = {}
        self._above: dict[Prefix, int] = {}  # with its end, in the order in which it came
        self._deprecated: set[Prefix] = set()
        self._links: tuple[Prefix, ...] = ()  # the link's own
        self._pools: tuple[Prefix, ...] = ()  # of the plan
        self._resting: list[tuple[Prefix, bytes, int]] = []  # promised to whom until when, and withdrawn

    def take(self, event: Event, time: int) -> Iterator[str]:
        """What is wrong with one event more."""
        match event:
            case UplinkReceived() | UplinkDeprecated():
                self._above[event.prefix] = event.valid_until
                self._deprecated.discard(event.prefix)
                if isinstance(event, UplinkDeprecated):
                    self._deprecated.add(event.prefix)
            case UplinkLost():
                self._above.pop(event.prefix, None)
            case PlanAdopted():
                self._links = () if event.plan.subnet is None else event.plan.subnet.prefixes
                self._pools = tuple(each.prefix for each in event.plan.delegations if each.prefix is not None)
            case PrefixDelegated():
                yield from self._delegated(event, time)
                self.holders[event.prefix] = _Holder(event.client, event.iaid, event.next_hop, event.horizon)
            case PrefixRenewed():
                yield from self._renewed(event, time)
            case PrefixDeprecated():
                yield from self._is_its(event)
                there = self.holders.get(event.prefix)
                if there is not None:
                    there.drained = True
                    if event.valid_until > min(there.horizon, self._end(event.prefix)):
                        yield "is drained for longer than it was promised, or lasts"
            case PrefixReleased() | PrefixExpired() | PrefixWithdrawn():
                yield from self._is_its(event)
                there = self.holders.pop(event.prefix, None)
                if there is not None and isinstance(event, PrefixExpired) and there.horizon > time:
                    yield f"expired {(there.horizon - time) / MICROSECONDS:.1f} s too early"
                if there is not None and isinstance(event, PrefixWithdrawn):
                    self._resting.append((event.prefix, there.client, there.horizon))

    def after(self) -> Iterator[str]:
        """What is wrong once a commit is taken in."""
        for prefix in self.holders:
            if not any(each.covers(prefix) for each in self._above) and prefix.first >> 72 != _PLANNED.first >> 72:
                yield f"{prefix} is delegated, and what it was cut from is lost"
            if any(each.overlaps(prefix) for each in self._links):
                yield f"{prefix} is delegated, and the link has of it"
        lasting = [(each.client, each.iaid) for each in self.holders.values() if not each.drained]
        if len(lasting) != len(set(lasting)):
            yield "a client has two prefixes for one association, and none of them is drained"

    def _delegated(self, event: PrefixDelegated, time: int) -> Iterator[str]:
        for prefix, holder in self.holders.items():
            if prefix.overlaps(event.prefix):
                yield f"overlaps {prefix} of {holder.client.hex()[:6]}"
        for prefix, client, until in self._resting:
            if prefix.overlaps(event.prefix) and client != event.client and until > time:
                yield f"overlaps {prefix}, which is promised to {client.hex()[:6]} for longer"
        newest = [*self._above][-1:]
        lasting = [each for each in self._above if each not in self._deprecated][-1:]
        if not any(each.covers(event.prefix) for each in self._pools or lasting or newest):
            yield "is not of what is there now"
        if not time < event.valid_until <= event.horizon <= self._end(event.prefix):
            yield "lasts for longer than what it was cut from"

    def _renewed(self, event: PrefixRenewed, time: int) -> Iterator[str]:
        there = self.holders.get(event.prefix)
        if there is None or (there.client, there.iaid) != (event.client, event.iaid):
            yield "was renewed for who does not hold it"
            return
        if event.valid_until > max(time, self._end(event.prefix)):
            yield "was renewed for longer than what it was cut from"
        if not there.horizon <= event.horizon <= max(there.horizon, self._end(event.prefix)):
            yield "is promised for longer than what it was cut from, or not for as long as before"
        there.next_hop, there.horizon, there.drained = event.next_hop, event.horizon, False

    def _is_its(self, event: _Ended | PrefixDeprecated) -> Iterator[str]:
        there = self.holders.get(event.prefix)
        if there is None or (there.client, there.iaid, there.next_hop) != (event.client, event.iaid, event.next_hop):
            yield f"{event.NAME} of who does not hold it, or not where it is"

    def _end(self, prefix: Prefix) -> int:
        """Of what a prefix is cut from."""
        return min((until for each, until in self._above.items() if each.covers(prefix)), default=1 << 63)


_PLANNED = Prefix(bytes.fromhex("20010db80001") + bytes(10), 56)


def wrong_prefixes(stored: list[Stored], ledger: Ledger) -> Iterator[str]:
    """What is wrong in a log, whose fold is the ledger."""
    naive = Naive()
    for each in stored:
        if each.subject != subjects.ledger(SITE, SUBNET):
            continue
        for event in each.commit.events:
            prefix = getattr(event, "prefix", "")
            yield from (f"{prefix} at {each.sequence}: {line}" for line in naive.take(event, each.commit.time))
        yield from (f"at {each.sequence}: {line}" for line in naive.after())
    held = {prefix: (each.client, each.iaid, each.next_hop) for prefix, each in ledger.delegations.all.items()}
    if held != {prefix: (each.client, each.iaid, each.next_hop) for prefix, each in naive.holders.items()}:
        yield "the ledger has other delegations than its events say"


def wrongly_told(world: World, books: Books, client: bytes, told: tuple[AssignedPrefix, ...]) -> Iterator[str]:
    """What is wrong with what a session is told now, by what its agent knows."""
    ledger, now, router = books.ledger, books.now(), world.router
    subnet = ledger.plan.subnet
    waits = router is not None and subnet is not None and BORDER in subnet.downlink.routers
    for each in told:
        held = ledger.delegations.all.get(each.prefix)
        if held is None or (held.client, held.iaid) != (client, each.iaid):
            yield f"{client.hex()[:6]} is told of {each.prefix}, which it does not hold"
            continue
        sources = [above for above in ledger.uplinks.values() if above.prefix.covers(each.prefix)]
        ends = [
            held.horizon,
            *([held.drained_at] if held.drained_at else []),
            *(above.valid_until for above in sources),
        ]
        if now + each.valid * MICROSECONDS > min(ends):
            yield f"{client.hex()[:6]} is told of {each.prefix} for {each.valid} s, which is too long"
        if any(now + each.preferred * MICROSECONDS > max(now, above.preferred_until) for above in sources):
            yield f"{client.hex()[:6]} is told to prefer {each.prefix} for {each.preferred} s, which is too long"
        if held.drained_at and each.preferred:
            yield f"{client.hex()[:6]} is told to prefer {each.prefix}, which is drained"
        if waits and router is not None and held.position > router.routed:
            yield f"{client.hex()[:6]} is told of {each.prefix}, to which there is no route"


def unsettled_prefixes(world: World, node: Node, ledger: Ledger) -> Iterator[str]:
    """What a node lacks in the end of what it wants, or has that it is not to have."""
    held = ledger.delegations.of(node.client, iaid_of(node.kernel.link.name))
    sources = world.isp.lasting if world.isp is not None else [_PLANNED]
    if node.prefix is None or not ledger.plan.delegations:
        if held:
            yield f"{node.name} holds {[str(each.prefix) for each in held]}"
        return
    if not any(source.covers(each.prefix) and not each.drained_at for each in held for source in sources):
        has, wanted = sorted(str(each.prefix) for each in held), sorted(map(str, sources))
        yield f"{node.name} holds {has}, and nothing of {wanted}"
    passed_on = node.disk.delegated.prefixes if node.disk.delegated is not None else ()
    told = {each.prefix: each.position for each in passed_on}
    if told != {each.prefix: each.position for each in held}:
        yield (
            f"{node.name} passes on {sorted(map(str, told))}, and the ledger has "
            f"{sorted(str(each.prefix) for each in held)} for it"
        )
