"""What one agent makes of the frames that it hears: who has which address, and what is wrong. Pure.

Theory of operation. An address has the hardware address that was heard with it first. Hearing that again costs a look
into a dict, and is looked at no further for a while. Another one that claims the address makes a contest, and so does
one that probes for it: the link is asked then who answers, and by that and by who spoke since it is settled. Where both
are there it is a duplicate; where only the new one is, the address has moved. An address that is only probed for counts
once nobody has objected for as long.

Anybody on the link can send anything. So all tables have a cap; of more addresses the one that was heard of longest ago
is forgotten, of which the ledger knows anyway; one machine has so many addresses at most. What is told to the ledger
has caps of its own (`seeing`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Final

import msgspec

from dnms.events.ip import Prefix, family
from dnms.wire.nd import RouterAdvertisement
from dnms.wire.seen import Claim, DhcpServer, Fact, Probe, Router, Wanted

MAX_ADDRESSES: Final = 8_192  # as many as a ledger records
MAX_A_MACHINE: Final = 64
"""Addresses of one hardware address: a host has a few a prefix, and a new one a day; a router has one a VLAN. More are
the guests of a bridge that hides them, or are made up."""
MAX_CONTESTS: Final = 256  # open at once; each is asked about once
MAX_ROUTERS: Final = 32  # and as many DHCP servers: a link has some
MAX_DUE: Final = 1_024  # addresses that wait to be looked at

SETTLE: Final = 3.0
"""Seconds until a contest is settled, and until a probe to which nobody objects counts. DAD takes one (RFC 4862, 5.1),
a host that is asked answers at once, and our question must not be taken for another's probe (see `claims`)."""
AGAIN: Final = 30.0  # seconds until an address that is heard of again is looked at again
SCANNED: Final = 64
"""Addresses that nobody has, and that are asked for in SCAN seconds, after which a prefix is being scanned. A host that
looks for one that is gone asks for that one alone."""
SCAN: Final = 60.0
ROUTER_STAYS: Final = 1_800.0  # seconds, at most, for which a router counts that is heard no more (RFC 4861, 6.2.1)
SERVER_STAYS: Final = 3_600.0  # and a DHCP server, which is heard when clients come


class Heard(msgspec.Struct):
    """An address, and who has it."""

    hardware: bytes
    first: float  # seconds of the event loop's clock, as all of these
    last: float
    probed: bool = False  # it was only probed for yet
    looked: float = 0.0  # not to be looked at before; 0: it is due


class Contest(msgspec.Struct):
    """Two have an address, or one wants it."""

    rival: bytes
    began: float
    answered: bool = False  # who had it spoke since
    probed: bool = False  # the rival only asked for it yet, as who wants it does


class Verdict(msgspec.Struct, frozen=True):
    """How a contest ended."""

    address: bytes
    hardware: bytes  # who has it now, or has it too
    other: bytes  # who had it before
    duplicate: bool  # both have it; else it has moved


class Advertised(msgspec.Struct):
    """A router, and what it said last."""

    hardware: bytes
    advertisement: RouterAdvertisement
    last: float
    until: float


class Server(msgspec.Struct):
    """A DHCP server."""

    said: DhcpServer
    last: float


class Scan(msgspec.Struct, frozen=True):
    """A prefix whose dark space is looked through."""

    prefix: Prefix
    hardware: bytes  # who asked for most of it
    last: float


class _Window(msgspec.Struct):
    """The time in which is counted who is asked for."""

    began: float
    asked: dict[bytes, bytes]  # by address who asked


class Table:
    """Of one link. `dark` says in which managed prefix an address lies that is asked for, and nobody has."""

    def __init__(self, dark: Callable[[Wanted], Prefix | None] = lambda _: None) -> None:
        self.heard: OrderedDict[bytes, Heard] = OrderedDict()  # the one that was heard of longest ago first
        self.contests: dict[bytes, Contest] = {}
        self.routers: dict[bytes, Advertised] = {}
        self.servers: dict[tuple[int, bytes], Server] = {}  # by family, and address or DUID
        self.scans: dict[Prefix, Scan] = {}
        self.own: Mapping[bytes, bytes] = {}
        """Addresses of this machine, each with its hardware address: nobody else is to have them."""
        self.agents: frozenset[bytes] = frozenset()
        """Hardware addresses of our other agents. One that has no IPv4 address there asks who has one as if it probed
        for it (RFC 5227, 2.1), and wants none."""
        self.dropped: Counter[str] = Counter()
        """What was heard and not kept, by a stable word."""
        self._dark = dark
        self._due: dict[bytes, float] = {}
        self._machines: dict[bytes, dict[bytes, None]] = {}  # the addresses of each, in their order
        self._windows: dict[Prefix, _Window] = {}

    def hear(self, fact: Fact, now: float) -> None:
        """Take in what somebody said."""
        match fact:
            case Claim():
                self._claim(fact.address, fact.hardware, now)
            case Probe():
                self._probe(fact.address, fact.hardware, now)
            case Wanted():
                self._want(fact, now)
            case Router():
                self._router(fact, now)
            case DhcpServer():
                self._server(fact, now)

    # -- addresses

    def _claim(self, address: bytes, hardware: bytes, now: float) -> None:
        known = self._known(address, now)
        if known is None:
            self._add(address, hardware, now, probed=False)
        elif known.hardware == hardware:
            known.last, known.probed = now, False
            if address in self.contests:
                self.contests[address].answered = True
            self._touch(address, known, now)
        else:
            self._contest(address, hardware, now, probed=False)

    def _probe(self, address: bytes, hardware: bytes, now: float) -> None:
        if self._asks(address, hardware):
            return
        known = self._known(address, now)
        if known is None:
            self._add(address, hardware, now, probed=True)
        elif known.hardware != hardware:
            self._contest(address, hardware, now, probed=True)

    def _asks(self, address: bytes, hardware: bytes) -> bool:
        """Whether who probes for an address only asks who has it."""
        return hardware in self.agents and family(address) == 4

    def _known(self, address: bytes, now: float) -> Heard | None:
        if address in self.own:
            return Heard(self.own[address], now, now)
        return self.heard.get(address)

    def _add(self, address: bytes, hardware: bytes, now: float, *, probed: bool) -> None:
        if len(self._machines.get(hardware, ())) >= MAX_A_MACHINE:
            self.dropped["machine-full"] += 1
            return
        if len(self.heard) >= MAX_ADDRESSES:
            self.dropped["forgotten"] += 1
            self.forget(next(iter(self.heard)))
        self.heard[address] = Heard(hardware, now, now, probed)
        self._machines.setdefault(hardware, {})[address] = None
        self._put_due(address, now + SETTLE if probed else now)

    def _touch(self, address: bytes, known: Heard, now: float) -> None:
        self.heard.move_to_end(address)
        if known.looked <= now:
            self._put_due(address, now)

    def _put_due(self, address: bytes, at: float) -> None:
        if address in self._due or len(self._due) < MAX_DUE:
            self._due[address] = at
        else:
            self.dropped["too-many-due"] += 1  # it is heard of again

    def forget(self, address: bytes) -> None:
        """As if it was never heard of."""
        known = self.heard.pop(address, None)
        if known is not None:
            del self._machines[known.hardware][address]
            if not self._machines[known.hardware]:
                del self._machines[known.hardware]
        self._due.pop(address, None)
        self.contests.pop(address, None)

    def due(self, now: float, limit: int) -> list[bytes]:
        """Addresses that are to be looked at: heard of for the first time, or again after a while. Each once."""
        due = (address for address, at in self._due.items() if at <= now and address not in self.contests)
        found = list(islice(due, limit))
        for address in found:
            del self._due[address]
            known = self.heard.get(address)
            if known is not None and known.probed and self._asks(address, known.hardware):
                self.forget(address)  # it was not known yet that an agent asked
            elif known is not None:
                known.looked, known.probed = now + AGAIN, False  # nobody has objected
        return [address for address in found if address in self.heard]

    def look_again(self, address: bytes, at: float) -> None:
        """What was due could not be dealt with, and is due again at that time."""
        if address in self.heard:
            self._put_due(address, at)

    def of(self, hardware: bytes) -> list[bytes]:
        """The addresses of one machine, in the order in which they were heard of."""
        return list(self._machines.get(hardware, ()))

    # -- contests

    def _contest(self, address: bytes, rival: bytes, now: float, *, probed: bool) -> None:
        if (contest := self.contests.get(address)) is not None:
            if not probed and contest.probed and (contest.rival == rival or self._asks(address, contest.rival)):
                contest.rival, contest.probed = rival, False
            return
        if len(self.contests) >= MAX_CONTESTS:
            self.dropped["too-many-contests"] += 1
            return
        self.contests[address] = Contest(rival, now, answered=address in self.own, probed=probed)

    def contested(self, now: float) -> list[bytes]:
        """Those whose contest is to be settled: ask the link who has them."""
        return [address for address, each in self.contests.items() if each.began + SETTLE <= now]

    def settle(self, answers: Mapping[bytes, Collection[bytes]], now: float) -> list[Verdict]:
        """End the contests of these, with the hardware addresses that answered for each."""
        return [verdict for address, who in answers.items() if (verdict := self._settle(address, who, now))]

    def _settle(self, address: bytes, answered: Collection[bytes], now: float) -> Verdict | None:
        contest, known = self.contests.pop(address, None), self._known(address, now)
        if contest is None or known is None or (contest.probed and self._asks(address, contest.rival)):
            return None
        if known.probed and self._asks(address, known.hardware):
            self.forget(address)
            self._add(address, contest.rival, now, probed=contest.probed)
            return None
        if known.probed:  # who wanted it was told that another has it, or wants it too
            is_one = contest.began - known.first <= SETTLE
            self.forget(address)
            self._add(address, contest.rival, now, probed=False)
            return Verdict(address, known.hardware, contest.rival, duplicate=True) if is_one else None
        if contest.answered or known.hardware in answered:
            return Verdict(address, contest.rival, known.hardware, duplicate=True)
        before = known.hardware
        if address not in self.own:
            self.forget(address)
            self._add(address, contest.rival, now, probed=False)
        return Verdict(address, contest.rival, before, duplicate=False)

    # -- routers, servers, scans

    def _router(self, fact: Router, now: float) -> None:
        said = fact.advertisement
        lasts = max([said.lifetime, *(each.valid for each in said.prefixes)])
        if fact.address not in self.routers and len(self.routers) >= MAX_ROUTERS:
            self.dropped["too-many-routers"] += 1
            return
        known = self.routers.get(fact.address)
        if known is not None and known.advertisement.lifetime and not said.lifetime:
            lasts = 0  # it takes leave; the prefixes that it told stay in what it says last
        self.routers[fact.address] = Advertised(fact.hardware, said, now, now + min(lasts, ROUTER_STAYS))

    def _server(self, fact: DhcpServer, now: float) -> None:
        key = fact.family, fact.duid or fact.address
        known = self.servers.get(key)
        if known is None and len(self.servers) >= MAX_ROUTERS:
            self.dropped["too-many-servers"] += 1
        elif known is None or fact.hardware or not known.said.hardware:  # what it says itself tells more
            self.servers[key] = Server(fact, now)
        else:
            known.last = now

    def _want(self, fact: Wanted, now: float) -> None:
        if fact.address in self.heard or fact.address in self.own:
            return
        prefix = self._dark(fact)
        if prefix is None:
            return
        window = self._windows.get(prefix)
        if window is None or window.began + SCAN <= now:
            self._windows[prefix] = window = _Window(now, {})
        window.asked[fact.address] = fact.hardware
        if len(window.asked) >= SCANNED:
            [(hardware, _)] = Counter(window.asked.values()).most_common(1)
            self.scans[prefix] = Scan(prefix, hardware, now)
            del self._windows[prefix]

    def age(self, now: float) -> None:
        """Forget routers, servers and scans that are over."""
        self.routers = {router: said for router, said in self.routers.items() if said.until > now}
        self.servers = {key: each for key, each in self.servers.items() if each.last + SERVER_STAYS > now}
        self.scans = {prefix: each for prefix, each in self.scans.items() if each.last + 5 * SCAN > now}
        self._windows = {prefix: each for prefix, each in self._windows.items() if each.began + SCAN > now}
