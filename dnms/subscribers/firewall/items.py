"""What the firewall keeps: tables, sets and their elements, chains and rules. Equal items are equal in the kernel.

A set of a group is named after it, has `-4` or `-6` behind that, and the comment `dnms`; one of prefixes has their
length too, since a rule looks them up behind a mask. A chain of ours begins with `dnms_`. A rule of ours says in its
comment what it is for, where in its chain it stands, and a digest of its text.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from dnms.events.ip import format_address

TABLE = "dnms"
MARK = "dnms"
"""The comment of a set that is ours."""

CHAIN = "dnms_"
"""How the names of chains begin that are ours."""

SWITCH = "dnms_armed"
"""The set whose elements let the rules for `input` work; while they are not confirmed they time out."""

FULL = {4: 32, 6: 128}
ADDRESS_BYTES = 16

_SET = re.compile(r"(held_|mac_|net_|_)?([a-z0-9-]+)-([46])(?:/(\d{1,3}))?")
_COMMENT = re.compile(r"(.*) \(dnms (\d+)\.([0-9a-f]{8})\)")


def _of(table: str) -> str:
    return "" if table == "inet" else f" of table {table} {TABLE}"


class OurTable(msgspec.Struct, frozen=True):
    """A table. It is always wanted, so it is never dropped."""

    table: str = "inet"  # the family: inet or bridge

    def __str__(self) -> str:
        return f"table {self.table} {TABLE}"


class AddressSet(msgspec.Struct, frozen=True):
    """A set of addresses of one family, or of prefixes of one length."""

    name: str
    family: int  # 4 or 6
    length: int  # of the prefixes in it, in bits of the family; 32 and 128: addresses
    hardware: bool = False  # each with a hardware address
    table: str = "inet"

    def __str__(self) -> str:
        return f"set {self.name}{_of(self.table)}"

    @property
    def mask(self) -> str:
        """As nft has it."""
        bits = FULL[self.family]
        mask = ((1 << bits) - (1 << (bits - self.length))).to_bytes(bits // 8)
        return format_address(mask if self.family == 6 else bytes(10) + b"\xff\xff" + mask)


def group_set(group: str, family: int, length: int = 0) -> AddressSet:
    """The set of one group and family; `length`: of prefixes, 0: of addresses.

    A group's name may begin with a digit, and a set's may not; no group's has a `_`.
    """
    return _set("_" if group[0].isdecimal() else "", group, family, length)


def net_set(subnet: str, family: int, length: int) -> AddressSet:
    """The set of a subnet's prefixes of one length."""
    return _set("net_", subnet, family, length)


def held_set(subnet: str, family: int, length: int = 0) -> AddressSet:
    """The set of what the nodes of a subnet hold."""
    return _set("held_", subnet, family, length)


def hardware_set(subnet: str, family: int) -> AddressSet:
    """The set of what those nodes hold whose hardware addresses are known."""
    return AddressSet(f"mac_{subnet}-{family}", family, FULL[family], hardware=True)


def _set(kind: str, name: str, family: int, length: int) -> AddressSet:
    full = FULL[family]
    behind = f"/{length}" if length and length != full else ""
    return AddressSet(f"{kind}{name}-{family}{behind}", family, length or full)


def set_of(name: str, family: int, comment: str, *, hardware: bool, table: str) -> AddressSet | None:
    """Which set of ours a set in the kernel is; None if it is not ours."""
    match = _SET.fullmatch(name)
    if comment != MARK or match is None or match[3] != str(family):
        return None
    kind, stem, _, length = match.groups()
    right = (kind == "_") == stem[0].isdecimal() if kind in (None, "_") else True
    if not right or hardware != (kind == "mac_") or not int(length or 0) <= FULL[family]:
        return None
    return AddressSet(name, family, int(length or FULL[family]), hardware=hardware, table=table)


class Member(msgspec.Struct, frozen=True):
    """An address or a prefix in a set."""

    of: AddressSet
    element: bytes  # 16 bytes of an address, or of the first of a prefix; before them 6 of a hardware address

    def __str__(self) -> str:
        address = format_address(self.element[-ADDRESS_BYTES:])
        length = "" if self.of.length == FULL[self.of.family] else f"/{self.of.length}"
        hardware = f"{self.element[:-ADDRESS_BYTES].hex(':')} " if self.of.hardware else ""
        return f"{hardware}{address}{length} in {self.of.name}{_of(self.of.table)}"


class Chain(msgspec.Struct, frozen=True):
    """A chain; with a hook it sees packets by itself."""

    name: str
    hook: str = ""
    table: str = "inet"

    def __str__(self) -> str:
        return f"chain {self.name}{_of(self.table)}"


class Rule(msgspec.Struct, frozen=True, eq=False):
    """A rule in a chain of ours. Two with one digest have one text, however nft writes it."""

    chain: str
    slot: int  # lower ones stand first; the order of equal ones says nothing
    about: str  # what it is for, as people read it: the name of the plan's rule, where it is one
    digest: str
    text: str = ""
    table: str = "inet"

    @property
    def comment(self) -> str:
        """That it has in the kernel."""
        return f"{self.about} (dnms {self.slot}.{self.digest})"

    def _key(self) -> tuple[str, str, int, str, str]:
        return self.table, self.chain, self.slot, self.about, self.digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return f"rule {self.about!r} in {self.chain}{_of(self.table)}"


def rule(chain: str, slot: int, about: str, text: str, table: str) -> Rule:
    """A rule that is to be."""
    return Rule(chain, slot, about, digest_of(text), text, table)


def digest_of(text: str) -> str:
    """Of a rule, as its comment has it."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def rule_of(chain: str, comment: str, table: str) -> Rule | None:
    """Which rule of ours a rule in the kernel is; None if it is not ours."""
    match = _COMMENT.fullmatch(comment)
    if match is None or not chain.startswith(CHAIN):
        return None
    return Rule(chain, int(match[2]), match[1], match[3], table=table)


class Confirmed(msgspec.Struct, frozen=True):
    """The rules for what is sent to this machine work for good: with them the bus could be reached."""

    table: str = "inet"

    def __str__(self) -> str:
        return "rules for input, confirmed"


Item = OurTable | AddressSet | Member | Chain | Rule | Confirmed
