"""What a ledger promises, as plain dicts: who has which address until when, and what rests, is kept or was had before.

It shares nothing with `dnms.domain` but the events and requests: ranges are listed, reserved addresses written out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressDeprecated,
    AddressExpired,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.ip import family, parse_address
from dnms.events.recorded import Event, Request
from dnms.events.requests import (
    AllocateAddress,
    BlockAddress,
    HoldAddress,
    MergeOutage,
    MoveAddress,
    UnholdAddress,
)

SECOND = 1_000_000
VALID, QUARANTINE = 100, 200  # seconds, of every pool
DRAIN = 30  # seconds, of IPv6
HORIZON = {4: VALID * SECOND, 6: 4 * VALID * SECOND}
GROUP, UNKNOWN = 7, 8  # of the plans, and of none

_TEXT = """
[site]
name = "s"
[[group]]
name = "g"
number = 7
{ranges}
[[subnet]]
name = "a"
prefixes = ["2001:db8::/62", "192.0.2.0/28"]
gateways = ["192.0.2.5"]
[[pool]]
name = "six"
subnet = "a"
range = "{six}"
strategy = "{strategy}"
prefix_per_host = {own}
valid = 100
preferred = 50
quarantine = 200
drain = 30
[[pool]]
name = "four"
subnet = "a"
range = "192.0.2.0-192.0.2.11"
strategy = "{strategy}"
valid = 100
preferred = 50
quarantine = 200
"""
WHOLE, FEW, OWN = "2001:db8::/64", "2001:db8::10-2001:db8::17", "2001:db8::/62"
_FOUR = {parse_address(f"192.0.2.{host}") for host in range(12)}
_FEW = {parse_address(f"2001:db8::{host:x}") for host in range(0x10, 0x18)}
_FIXED = {parse_address(f"192.0.2.{host}") for host in (0, 5, 15)}  # the ends of the network, and the gateway


class Setting(msgspec.Struct, frozen=True):
    """A plan, and what may be had by it."""

    strategy: str
    six: str
    grouped: bool = False  # the group has ranges of its own, where it is no field of the address

    @property
    def text(self) -> str:
        """As TOML."""
        few = '"2001:db8::14/126", ' if self.six == FEW else ""
        ranges = f'ranges = [{few}"192.0.2.8/30"]' if self.grouped else ""
        own = "true" if self.six == OWN else "false"
        return _TEXT.format(strategy=self.strategy, six=self.six, own=own, ranges=ranges)

    def has(self, address: bytes) -> bool:
        """Whether it is one of a pool's."""
        if family(address) == 4:
            return address in _FOUR and address not in _FIXED
        return address in _FEW if self.six == FEW else self._block(address) in range(4 if self.six == OWN else 1)

    def listed(self, kind: int, group: int) -> set[bytes] | None:
        """What the members of a group may have of a family; None: 2^48 addresses."""
        if kind == 6 and self.six != FEW:
            return None
        every, own = (_FOUR, set(range(8, 12))) if kind == 4 else (_FEW, set(range(0x14, 0x18)))
        of_group = {address for address in every if address[15] in own} if self.grouped else set()
        return (of_group or every) if group == GROUP else every - of_group

    def may_have(self, address: bytes, group: int) -> bool:
        """Whether a member of the group may have an address of a pool."""
        listed = self.listed(family(address), group)
        return int.from_bytes(address[8:10]) == group if listed is None else address in listed

    @staticmethod
    def _block(address: bytes) -> int:
        return int.from_bytes(address[:8]) - int.from_bytes(parse_address("2001:db8::")[:8])


def reserved(address: bytes) -> bool:
    """Given to nobody: RFC 4291, 2.6.1; RFC 5453; RFC 2526; and what the plan has for gateways."""
    identifier = int.from_bytes(address[8:])
    return address in _FIXED or (
        family(address) == 6
        and (
            identifier == 0
            or (identifier >> 32 == 0x0200_5EFF and identifier >> 24 & 0xFF == 0xFE)
            or (identifier >= 0xFDFF_FFFF_FFFF_FF80 and identifier >> 48 == 0xFDFF)
        )
    )


class Had(msgspec.Struct):
    """A lease."""

    client: bytes
    iaid: int
    group: int
    horizon: int


Who = tuple[bytes, int]
"""Client and IAID."""


class Model:
    """Takes in what was decided, and asserts that it could be."""

    def __init__(self) -> None:
        self.setting = Setting("reserved", WHOLE)
        self.holders: dict[bytes, Had] = {}
        self.resting: dict[bytes, int] = {}  # declined or blocked, until when nobody gets it
        self.promised: dict[bytes, tuple[bytes, int]] = {}  # withdrawn: until when its client alone does
        self.kept: dict[bytes, Who] = {}
        self.former: dict[bytes, bytes] = {}  # of what nobody has: who had it last
        self.free_since: dict[bytes, int] = {}  # of what somebody had: at which commit it became free
        self.declines: dict[bytes, list[int]] = {}  # of a client: until when each counts
        self.granted: set[bytes] = set()  # in outages, in which nobody knew what is kept or rests

    # -- what is free

    def is_open(self, address: bytes, who: Who, at: int) -> bool:
        """Whether the client may be given it, as far as others go."""
        client, until = self.promised.get(address, (who[0], 0))
        return (
            address not in self.holders
            and self.kept.get(address, who) == who
            and self.resting.get(address, 0) <= at
            and (client == who[0] or until <= at)
            and not reserved(address)
        )

    def free(self, who: Who, kind: int, group: int, at: int) -> Iterator[bytes]:
        """What anybody like the client could be given, of ranges that can be listed; not what is promised to it yet."""
        listed = self.setting.listed(kind, group) or ()
        return (each for each in listed if self.is_open(each, who, at) and self._promise(each) <= at)

    def _promise(self, address: bytes) -> int:
        return self.promised.get(address, (b"", 0))[1]

    def owner(self, block: bytes) -> bytes | None:
        """Who has addresses in a /64 that is given as a whole."""
        return next((had.client for each, had in self.holders.items() if _block(each) == block), None)

    def is_shared(self, address: bytes) -> bool:
        """Whether the /64 of the address is for several clients."""
        return family(address) == 4 or self.setting.six != OWN

    # -- what was refused

    def refused(self, request: Request, why: str, at: int) -> None:  # noqa: PLR0912  # one case a word
        """Assert that a refusal says what is so."""
        address: bytes | None = getattr(request, "address", None)
        who: Who = getattr(request, "client", b""), getattr(request, "iaid", 0)
        had = self.holders.get(address) if address is not None else None
        match why:
            case "no-binding":
                assert had is None or (had.client, had.iaid) != who
            case "too-many-declines":
                assert sum(until > at for until in self.declines.get(who[0], ())) >= 8
            case "not-held":
                assert self.kept.get(address or b"") != who
            case "too-many-holds":
                assert isinstance(request, HoldAddress)
                assert sum(each == who and family(a) == request.family for a, each in self.kept.items()) >= 8
            case "held":
                assert address is not None
                assert (self.kept[address] == who) == isinstance(request, MoveAddress)
            case "not-in-plan" if isinstance(request, MoveAddress):
                assert request.to is not None
                assert not self.setting.has(request.to) or family(request.to) != family(request.address)
            case "not-in-plan":
                assert address is not None
                assert not self.setting.has(address)
            case "reserved-address":
                assert reserved((request.to if isinstance(request, MoveAddress) else address) or b"")
            case "not-in-group":
                assert isinstance(request, MoveAddress)
                assert request.to is not None
                assert had is not None
                assert not self.setting.may_have(request.to, had.group)
            case "in-use" if isinstance(request, MoveAddress):
                assert request.to is not None
                assert not self.is_open(request.to, who, at) or not self._open_block(request.to, who, at)
            case "in-use" if isinstance(request, BlockAddress):
                owner = had.client if had is not None else self.kept[request.address][0]
                assert owner not in (request.client, request.holder)
            case "in-use":
                assert isinstance(request, HoldAddress)
                assert address is not None
                other = had is not None and (had.client, had.iaid) != who
                assert other or (not self.is_shared(address) and not self._own_block(address, who))
            case "other-block":
                wanted = (request.to if isinstance(request, MoveAddress) else address) or b""
                theirs = {a for a, each in self.holders.items() if each.client == who[0]}
                theirs |= {a for a, each in self.kept.items() if each[0] == who[0]}
                assert not self.is_shared(wanted)
                assert any(a[:8] != wanted[:8] for a in theirs if family(a) == 6)
            case "unknown-group":
                assert isinstance(request, AllocateAddress | HoldAddress)
                assert request.group == UNKNOWN
            case "exhausted":
                self._exhausted(request, who, had, at)
            case _:
                raise AssertionError(f"{request.NAME} is refused {why}")

    def _exhausted(self, request: Request, who: Who, had: Had | None, at: int) -> None:
        if self.setting.strategy == "reserved":
            return
        if isinstance(request, MoveAddress):
            assert had is not None
            kind, group = family(request.address), had.group
        else:
            assert isinstance(request, AllocateAddress | HoldAddress)
            kind, group = request.family, request.group
        free = [each for each in self.setting.listed(kind, group) or () if self.is_open(each, who, at)]
        assert not free, f"{free} of IPv{kind} are free"
        if kind == 6 and self.setting.six != FEW:
            assert self.setting.six == OWN, "2^48 addresses are not in use"
            first = int.from_bytes(parse_address("2001:db8::")) >> 64
            blocks = [((first + number) << 64).to_bytes(16) for number in range(4)]
            assert not any(self._open_block(block, who, at) for block in blocks)

    def _open_block(self, address: bytes, who: Who, at: int) -> bool:
        if self.is_shared(address):
            return True
        client, until = self.promised.get(_block(address), (who[0], 0))
        return self._own_block(address, who) and (client == who[0] or until <= at)

    def _own_block(self, address: bytes, who: Who) -> bool:
        """Whether nobody else has anything in the /64 of an address, and nothing in it is kept for anybody else."""
        kept = {each[0] for other, each in self.kept.items() if _block(other) == _block(address)}
        return self.owner(_block(address)) in (None, who[0]) and kept <= {who[0]}

    # -- what happened

    def happened(self, event: Event, request: Request, at: int, commit: int) -> None:  # as before
        """Take in one event of what was decided on a request, at an instant and in a commit."""
        match event:
            case AddressAllocated():
                self._allocated(event, request, at)
            case AddressRenewed():
                had = self.holders[event.address]
                assert (had.client, had.iaid) == (event.client, event.iaid)
                assert event.valid_until == at + VALID * SECOND
                assert event.horizon >= max(had.horizon, event.valid_until), "no promise ends by being renewed"
                had.horizon = event.horizon
            case AddressDeprecated():
                had = self.holders[event.address]
                assert (had.client, had.iaid) == (event.client, event.iaid)
                assert event.valid_until <= had.horizon
            case AddressExpired():
                assert self.holders[event.address].horizon <= at
                self._end(event, commit)
            case AddressReleased():
                self._end(event, commit)
            case AddressDeclined():
                self._end(event, None)
                self._rest(event.address, event.client, event.quarantined_until, at)
            case AddressWithdrawn():
                self.promised[event.address] = event.client, self.holders[event.address].horizon
                self._end(event, None)
            case AddressBlocked():
                assert isinstance(request, BlockAddress)
                assert event.address not in self.holders
                self._rest(event.address, event.client, event.blocked_until, at)
            case AddressHeld():
                assert event.address not in self.kept
                assert not reserved(event.address)
                assert self.setting.has(event.address)
                self.kept[event.address] = event.client, event.iaid
            case AddressUnheld():
                self._unheld(event, request)
            case OutageGranted():
                self._granted(event, at)

    def _unheld(self, event: AddressUnheld, request: Request) -> None:
        if isinstance(request, HoldAddress):  # in its place another one is kept that can be given
            assert request.address is None
            assert not self.setting.has(event.address)
        else:
            assert isinstance(request, UnholdAddress)
        assert self.kept.pop(event.address) == (event.client, event.iaid)

    def over(self, at: int, commit: int) -> None:
        """A commit at this instant, whatever it holds: what has rested until then is free from there on."""
        for where in (self.resting, self.promised):
            for address in [each for each, until in where.items() if _until(until) <= at]:
                del where[address]
                if address in self.former and address not in self.resting and address not in self.promised:
                    self.free_since[address] = commit

    def _allocated(self, event: AddressAllocated, request: Request, at: int) -> None:
        address, who = event.address, (event.client, event.iaid)
        assert event.valid_until == at + VALID * SECOND
        assert event.horizon >= at + HORIZON[family(address)], "a renewal before it needs no event"
        assert self.setting.has(address)
        had = self.holders.get(address)
        if had is not None:
            assert (had.client, had.iaid) == who, "two holders"
            had.group, had.horizon = event.group, max(had.horizon, event.horizon)
            return
        assert self.is_open(address, who, at)
        if self.kept.get(address) != who:
            assert self.setting.may_have(address, event.group)
            if not (isinstance(request, MoveAddress) and request.to is not None):
                self._chosen(event, request, at)
        client, until = self.promised.get(address, (b"", 0))
        self._hold(address, Had(*who, event.group, max(event.horizon, until if client == event.client else 0)))

    def _chosen(self, event: AddressAllocated, request: Request, at: int) -> None:
        """It is one that nobody named, and there was none that should have been chosen before it."""
        assert isinstance(request, AllocateAddress | MoveAddress | MergeOutage)
        assert self.setting.strategy != "reserved", "who has nothing reserved is given nothing"
        address, kind = event.address, family(event.address)
        others = [each for each in self.free((event.client, event.iaid), kind, event.group, at) if each != address]
        if kind == 6 and self.former.get(address, event.client) != event.client:
            assert self.setting.listed(kind, event.group) is not None, "2^48 addresses are not used up"
            assert all(each in self.former for each in others), "after another client, and one was never used"
        if kind == 4 and self.setting.strategy == "sequential" and self._promise(address) > at:
            assert not others, "there was another one than what was withdrawn from it"
        if kind == 4 and self.setting.strategy == "sequential" and address in self.free_since:
            assert all(each in self.free_since for each in others), "one was never given"
            assert self.free_since[address] <= min((self.free_since[each] for each in others), default=1 << 60)
        if not self.is_shared(address):
            own = {
                _block(each) for each, had in self.holders.items() if had.client == event.client and family(each) == 6
            }
            assert not own or _block(address) in own, "all of a client's addresses are in its /64"

    def _granted(self, event: OutageGranted, at: int) -> None:
        had = self.holders.get(event.address)
        other = had is not None and (had.client, had.iaid) != (event.client, event.iaid)
        who = event.client, event.iaid
        if had is None and not self.is_shared(event.address):
            owner = self.owner(_block(event.address))
            is_kept = self.kept.get(event.address) == who
            other = owner not in (None, event.client) if is_kept else not self._own_block(event.address, who)
        assert event.contested == other
        if event.contested:
            return
        self.granted.add(event.address)
        if had is not None:
            had.horizon = max(had.horizon, event.horizon)
            return
        client, until = self.promised.get(event.address, (b"", 0))
        is_promised = client == event.client and until > at  # one that is over in this very commit is none
        horizon = max(event.horizon, until if is_promised else 0)
        self._hold(event.address, Had(event.client, event.iaid, event.group, horizon))

    def _hold(self, address: bytes, had: Had) -> None:
        self.holders[address] = had
        for each in (address,) if self.is_shared(address) else (address, _block(address)):
            for where in (self.former, self.free_since, self.resting, self.promised):
                where.pop(each, None)

    def _end(
        self, event: AddressExpired | AddressReleased | AddressDeclined | AddressWithdrawn, commit: int | None
    ) -> None:
        """Nobody has it any more; what that is true of, the /64 too if nobody has that. `commit`: it is free there."""
        had = self.holders.pop(event.address)
        assert (had.client, had.iaid) == (event.client, event.iaid)
        self.granted.discard(event.address)
        ended = [event.address]
        if not self.is_shared(event.address) and self.owner(_block(event.address)) is None:
            ended.append(_block(event.address))
        for each in ended:
            self.former[each] = event.client
            if commit is not None:
                self.free_since[each] = commit
        for block in ended[1:]:
            if promised := [each for address, each in self.promised.items() if _block(address) == block]:
                self.promised[block] = event.client, max(until for _, until in promised)
                self.free_since.pop(block, None)

    def _rest(self, address: bytes, client: bytes, until: int, at: int) -> None:
        assert until == at + (QUARANTINE * SECOND if self.setting.has(address) else 0)
        self.resting[address] = until
        self.free_since.pop(address, None)
        self.declines.setdefault(client, []).append(until)


def _block(address: bytes) -> bytes:
    return address[:8] + bytes(8)


def _until(value: int | tuple[bytes, int]) -> int:
    return value if isinstance(value, int) else value[1]
