"""One nftables table of our own: its sets as they are, and changes to them in one transaction, by Debian's `nft`.

Nothing outside the table can be named here, and within it nothing but sets. A change is written whole to a file in
memory before `nft` starts, so that a program that is killed meanwhile leaves all of it or nothing: from a pipe `nft`
would take the half that it got for the whole. Sets are hash sets; those of intervals are slow to change and refuse
what overlaps.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import msgspec

from dnms.events.ip import format_address, parse_address
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import search_path

FAMILY = "inet"
TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}

TIMEOUT = 30.0  # seconds for one run of nft; 20 000 elements take 0.1
ON_A_LINE = 1_000  # elements in one command of a transaction, so that what nft complains about can be read

_FORM = {"family", "name", "table", "type", "handle", "comment", "elem", "stmt", "size", "policy"}
"""What is said of a set of addresses that holds nothing but single ones, for ever; `flags` and `map` are not in it."""


class AddressSet(msgspec.Struct, frozen=True):
    """A set of single addresses of one family, in the table."""

    name: str
    family: int  # 4 or 6
    comment: str = ""
    elements: frozenset[bytes] = frozenset()


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The table at one moment."""

    sets: tuple[AddressSet, ...] = ()
    others: frozenset[str] = frozenset()  # names of sets and maps of another form
    referenced: frozenset[str] = frozenset()  # names of sets that rules use, which the kernel does not let go


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen at once, in the order of the fields."""

    add_table: bool = False
    add_sets: tuple[AddressSet, ...] = ()  # without their elements
    add_elements: Mapping[str, Sequence[bytes]] = {}  # by the set's name
    delete_elements: Mapping[str, Sequence[bytes]] = {}
    delete_sets: Sequence[str] = ()


class Table:
    """The table `inet NAME` of the network namespace that the calling thread is in."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def read(self) -> Content | None:
        """What is in it; None if there is no such table. KernelError.

        Part by part: of a table that has flags nft 1.0.6 prints what lies in its memory, and often half of the rest.
        """
        try:
            listed = await _list("sets", "table", FAMILY, self.name)
        except KernelError as error:
            if error.why == "not-there":
                return None
            raise
        try:
            maps = await _list("maps", FAMILY, options=("-t",))
            chains = await _list("chains", FAMILY)
            rules = [
                rule
                for said in self._own(chains, "chain")
                for rule in await _list("chain", FAMILY, self.name, said["name"])
            ]
        except KernelError as error:
            if error.why == "not-there":  # and not that there is no table
                raise KernelError("changed", f"{error.text}: it was changed meanwhile") from error
            raise
        try:
            sets = {said["name"]: _address_set(said) for said in self._own(listed, "set")}
            others = {name for name, found in sets.items() if found is None}
            return Content(
                sets=tuple(found for found in sets.values() if found is not None),
                others=frozenset(others.union(said["name"] for said in self._own(maps, "map"))),
                referenced=frozenset(_references([said.get("expr") for said in self._own(rules, "rule")])),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise KernelError("unreadable", f"cannot understand what nft lists: {error!r}") from error

    async def change(self, change: Change) -> None:
        """Apply all of a change, or nothing. KernelError.

        A table is added only if that is asked for: one that is there would lose the flags that an operator gave it.
        """
        text = "".join(f"{line}\n" for line in self._lines(change))
        if text:
            await _nft("-f", "-", stdin=text.encode(), doing=f"change table {FAMILY} {self.name}")

    def _own(self, listed: Sequence[Mapping[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
        """Those of a listing that are of this kind and in this table."""
        for entry in listed:
            said = entry.get(kind)
            if said is not None and (said["family"], said["table"]) == (FAMILY, self.name):
                yield said

    def _lines(self, change: Change) -> Iterator[str]:
        table = f"{FAMILY} {self.name}"
        if change.add_table:
            yield f"add table {table}"
        for each in change.add_sets:
            yield f'add set {table} {each.name} {{ type {TYPES[each.family]}; comment "{each.comment}"; }}'
        for verb, elements in (("add", change.add_elements), ("delete", change.delete_elements)):
            for name, addresses in elements.items():
                for some in _parts(addresses):
                    yield f"{verb} element {table} {name} {{ {', '.join(map(format_address, some))} }}"
        for name in change.delete_sets:
            yield f"delete set {table} {name}"


def _parts(addresses: Sequence[bytes]) -> Iterator[list[bytes]]:
    left = iter(addresses)
    while some := list(islice(left, ON_A_LINE)):
        yield some


def _address_set(said: Mapping[str, Any]) -> AddressSet | None:
    """A set as it is listed; None if it is of another form than ours."""
    family = next((family for family, name in TYPES.items() if name == said["type"]), 0)
    if not family or not said.keys() <= _FORM:
        return None
    # An element with a counter or a comment is an object around its value.
    values = (each["elem"]["val"] if isinstance(each, dict) else each for each in said.get("elem", ()))
    return AddressSet(said["name"], family, said.get("comment", ""), frozenset(map(parse_address, values)))


def _references(expression: object) -> Iterator[str]:
    """The names of sets in a rule: wherever they stand, they have an @ before them."""
    match expression:
        case str() if expression.startswith("@"):
            yield expression[1:]
        case dict():
            yield from _references(list(expression.values()))
        case list():
            yield from chain.from_iterable(map(_references, expression))


async def _list(*words: str, options: Sequence[str] = ()) -> list[dict[str, Any]]:
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
