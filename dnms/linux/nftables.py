"""One nftables table of our own: what is in it, and changes to it in one transaction, by Debian's `nft`.

Nothing outside the table can be named here. A change is written whole to a file in memory before `nft` starts, so that
a program that is killed meanwhile leaves all of it or nothing: from a pipe `nft` would take the half that it got for
the whole. Sets are hash sets; those of intervals are slow to change and refuse what overlaps. So a prefix is an element
of a set that a rule matches behind a mask.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain as joined
from itertools import islice
from typing import Any

import msgspec

from dnms.events.ip import MAPPED, format_address
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import search_path

TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
HARDWARE = "ether_addr"

TIMEOUT = 30.0  # seconds for one run of nft; 20 000 elements take 0.1
ON_A_LINE = 1_000  # elements in one command of a transaction, so that what nft complains about can be read

ADDRESS_BYTES = 16

_KINDS = {(name,): (family, False) for family, name in TYPES.items()} | {
    (HARDWARE, name): (family, True) for family, name in TYPES.items()
}
"""The types of sets that are ours: family, and whether hardware addresses stand in it."""

_COMMENT = re.compile(r' comment "([^"]*)"$')
_COUNTER = re.compile(r"counter packets (\d+) bytes (\d+)")
_SET = re.compile(r"@([\w/.\-]+)")
_TARGET = re.compile(r"(?:jump|goto) ([\w/.\-]+)")

_FORM = {"family", "name", "table", "type", "handle", "comment", "elem", "stmt", "size", "policy"}
"""What is said of a set of addresses that holds nothing but single ones, for ever; `flags` and `map` are not in it."""


class AddressSet(msgspec.Struct, frozen=True):
    """A set of single addresses of one family, in the table.

    With `hardware` each has a hardware address before it: an element is 6 bytes and the 16 of the address.
    """

    name: str
    family: int  # 4 or 6
    comment: str = ""
    elements: frozenset[bytes] = frozenset()
    hardware: bool = False


class Chain(msgspec.Struct, frozen=True):
    """A chain in the table; one with a hook sees packets by itself, and lets through what nothing in it drops."""

    name: str
    hook: str = ""  # forward, input


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it is in the kernel."""

    chain: str
    handle: int
    text: str = ""  # as nft writes it, without the comment and what the counter has counted
    comment: str = ""
    packets: int | None = None  # that its counter has seen; None: it has none
    bytes: int | None = None
    sets: frozenset[str] = frozenset()  # names of sets that it refers to
    chains: frozenset[str] = frozenset()  # names of chains that it leads to


class NewRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is to be."""

    chain: str
    text: str  # as nft has it, without the comment
    comment: str
    before: int = 0  # the handle of the rule before which it stands; 0: at the end


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The table at one moment."""

    sets: tuple[AddressSet, ...] = ()
    chains: tuple[Chain, ...] = ()
    rules: tuple[Rule, ...] = ()  # of each chain in their order
    others: frozenset[str] = frozenset()  # names of sets and maps of another form
    switched: frozenset[str] = frozenset()  # names of sets of `nf_proto` with an element that does not time out

    @property
    def referenced(self) -> frozenset[str]:
        """Names of sets that rules use, which the kernel does not let go."""
        return frozenset(joined.from_iterable(rule.sets for rule in self.rules))


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen at once, in the order of the fields."""

    add_table: bool = False
    first: Sequence[str] = ()  # lines of nft's language
    add_sets: tuple[AddressSet, ...] = ()  # without their elements
    add_chains: Sequence[Chain] = ()
    add_elements: Mapping[str, Sequence[bytes]] = {}  # by the set's name
    add_rules: Sequence[NewRule] = ()  # those before the same one in the order in which they are to stand
    delete_rules: Sequence[Rule] = ()
    delete_elements: Mapping[str, Sequence[bytes]] = {}
    delete_chains: Sequence[str] = ()
    delete_sets: Sequence[str] = ()
    last: Sequence[str] = ()  # as `first`


class Table:
    """The table FAMILY NAME of the network namespace that the calling thread is in."""

    def __init__(self, name: str, family: str = "inet") -> None:
        """`family`: inet or bridge."""
        self.name = name
        self.family = family

    async def read(self) -> Content | None:
        """What is in it; None if there is no such table. KernelError.

        Part by part: of a table that has flags nft 1.0.6 prints what lies in its memory, and often half of the rest.
        """
        try:
            listed = await list_json("sets", "table", self.family, self.name)
        except KernelError as error:
            if error.why == "not-there":
                return None
            raise
        try:
            maps = await list_json("maps", self.family, options=("-t",))
            chains, rules = await self.read_rules()
        except KernelError as error:
            if error.why == "not-there":  # and not that there is no table
                raise KernelError("changed", f"{error.text}: it was changed meanwhile") from error
            raise
        try:
            sets = {said["name"]: _address_set(said) for said in self._own(listed, "set")}
            others = {name for name, found in sets.items() if found is None}
            return Content(
                sets=tuple(found for found in sets.values() if found is not None),
                chains=chains,
                rules=rules,
                others=frozenset(others.union(said["name"] for said in self._own(maps, "map"))),
                switched=frozenset(said["name"] for said in self._own(listed, "set") if _is_switched(said)),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise KernelError("unreadable", f"cannot understand what nft lists: {error!r}") from error

    async def read_rules(self) -> tuple[tuple[Chain, ...], tuple[Rule, ...]]:
        """Chains, and the rules of each in their order. KernelError."""
        listed = await list_json("chains", self.family)
        try:
            chains = tuple(Chain(said["name"], said.get("hook", "")) for said in self._own(listed, "chain"))
        except (LookupError, TypeError) as error:
            raise KernelError("unreadable", f"cannot understand what nft lists: {error!r}") from error
        rules: list[Rule] = []
        for chain in chains:
            words = ("list", "chain", self.family, self.name, chain.name)
            text = await _nft("-a", *words, doing=" ".join(words))
            rules += _rules(chain.name, text.decode(errors="replace"))
        return chains, tuple(rules)

    async def change(self, change: Change) -> None:
        """Apply all of a change, or nothing. KernelError.

        A table is added only if that is asked for: one that is there would lose the flags that an operator gave it.
        """
        text = "".join(f"{line}\n" for line in self._lines(change))
        if text:
            await _nft("-f", "-", stdin=text.encode(), doing=f"change table {self.family} {self.name}")

    def _own(self, listed: Sequence[Mapping[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
        """Those of a listing that are of this kind and in this table."""
        for entry in listed:
            said = entry.get(kind)
            if said is not None and (said["family"], said["table"]) == (self.family, self.name):
                yield said

    def _lines(self, change: Change) -> Iterator[str]:
        table = f"{self.family} {self.name}"
        if change.add_table:
            yield f"add table {table}"
        yield from change.first
        for each in change.add_sets:
            yield f'add set {table} {each.name} {{ type {_type(each)}; comment "{each.comment}"; }}'
        for chain in change.add_chains:
            hook = f" {{ type filter hook {chain.hook} priority filter; policy accept; }}" if chain.hook else ""
            yield f"add chain {table} {chain.name}{hook}"
        yield from self._elements("add", change.add_elements)
        for rule in change.add_rules:
            where = f"insert rule {table} {rule.chain} handle {rule.before}" if rule.before else ""
            yield f'{where or f"add rule {table} {rule.chain}"} {rule.text} comment "{rule.comment}"'
        for old in change.delete_rules:
            yield f"delete rule {table} {old.chain} handle {old.handle}"
        yield from self._elements("delete", change.delete_elements)
        for name in change.delete_chains:  # one may refer to another
            yield f"flush chain {table} {name}"
        for name in change.delete_chains:
            yield f"delete chain {table} {name}"
        for name in change.delete_sets:
            yield f"delete set {table} {name}"
        yield from change.last

    def _elements(self, verb: str, elements: Mapping[str, Sequence[bytes]]) -> Iterator[str]:
        for name, addresses in elements.items():
            for some in _parts(addresses):
                yield f"{verb} element {self.family} {self.name} {name} {{ {', '.join(map(_written, some))} }}"


def _parts(addresses: Sequence[bytes]) -> Iterator[list[bytes]]:
    left = iter(addresses)
    while some := list(islice(left, ON_A_LINE)):
        yield some


def _address_set(said: Mapping[str, Any]) -> AddressSet | None:
    """A set as it is listed; None if it is of another form than ours."""
    kind = said["type"]
    family, hardware = _KINDS.get(tuple(kind) if isinstance(kind, list) else (kind,), (0, False))
    if not family or not said.keys() <= _FORM:
        return None
    elements = frozenset(map(_read, said.get("elem", ())))
    return AddressSet(said["name"], family, said.get("comment", ""), elements, hardware=hardware)


def _type(each: AddressSet) -> str:
    return f"{HARDWARE} . {TYPES[each.family]}" if each.hardware else TYPES[each.family]


def _written(element: bytes) -> str:
    """As nft has it."""
    if len(element) == ADDRESS_BYTES:
        return format_address(element)
    return f"{element[:-ADDRESS_BYTES].hex(':')} . {format_address(element[-ADDRESS_BYTES:])}"


def _read(said: Any) -> bytes:
    if isinstance(said, str):  # 100 000 of them: inet_pton is ten times as fast as what makes texts for people
        return (
            socket.inet_pton(socket.AF_INET6, said) if ":" in said else MAPPED + socket.inet_pton(socket.AF_INET, said)
        )
    if "elem" in said:  # an element with a counter or a comment is an object around its value
        return _read(said["elem"]["val"])
    hardware, address = said["concat"]
    return bytes.fromhex(hardware.replace(":", "")) + _read(address)


def _rules(chain: str, listing: str) -> Iterator[Rule]:
    """The rules in a listing of a chain, a line each."""
    for line in listing.splitlines():
        text, mark, handle = line.strip().rpartition(" # handle ")
        if not mark or not handle.isdecimal() or text.endswith("{"):
            continue
        comment = _COMMENT.search(text)
        text = _COMMENT.sub("", text)
        counter = _COUNTER.search(text)
        text = _COUNTER.sub("counter", text)
        yield Rule(
            chain=chain,
            handle=int(handle),
            text=text,
            comment=comment[1] if comment else "",
            packets=int(counter[1]) if counter else None,
            bytes=int(counter[2]) if counter else None,
            sets=frozenset(_SET.findall(text)),
            chains=frozenset(_TARGET.findall(text)),
        )


def _is_switched(said: Mapping[str, Any]) -> bool:
    """Whether something is in it for good."""
    elements = said.get("elem", ()) if said["type"] == "nf_proto" else ()
    return any(not isinstance(each, dict) or "timeout" not in each["elem"] for each in elements)


async def list_json(*words: str, options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What nft lists, in its own form. KernelError."""
    doing = f"list {' '.join(words)}"
    listed = await _nft("-j", *options, "list", *words, doing=doing)
    try:
        entries: list[dict[str, Any]] = msgspec.json.decode(listed)["nftables"]
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise KernelError("unreadable", f"cannot {doing}: cannot understand what nft prints: {error!r}") from error
    return entries


async def _nft(*words: str, doing: str, stdin: bytes = b"") -> bytes:
    """Run nft to its end; what it printed. KernelError: `no-program`, `timeout`, or the kernel's own word."""
    program = shutil.which("nft", path=search_path())
    if program is None:
        raise KernelError("no-program", f"cannot {doing}: nftables (the program `nft`) is not installed")
    descriptor = os.memfd_create("nft", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(stdin)
        os.lseek(descriptor, 0, os.SEEK_SET)
        process = await asyncio.create_subprocess_exec(
            program,
            *words,
            stdin=descriptor,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},  # what it complains of is looked up below
        )
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"{doing} with {program}") from error
    finally:
        os.close(descriptor)
    try:
        async with asyncio.timeout(TIMEOUT):
            out, complaint = await process.communicate()
    except TimeoutError:
        raise KernelError("timeout", f"cannot {doing}: nft takes longer than {TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _error(doing, complaint.decode(errors="replace").strip(), process.returncode)
    return out


def _error(doing: str, complaint: str, code: int) -> KernelError:
    said = (complaint or f"exit code {code}").splitlines()[0]
    number = next((number for number in errno.errorcode if os.strerror(number) in complaint), 0)
    if not number:
        return KernelError("refused", f"cannot {doing}: {said}")
    return KernelError.from_errno(number, doing, said)
