"""What tells one state of nftables from another, and what else in it lets packets fall."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from dnms.linux import nftables
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import search_path
from dnms.linux.rtnetlink import NLM_F_REQUEST, NLMSG_ERROR

NETLINK_NETFILTER = 12
GET_GENERATION = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
GENERATION_ID = 1  # NFTA_GEN_ID
GROUP = 7  # NFNLGRP_NFTABLES
MESSAGES = 1 << 16  # bytes that are read at once

_HEADER = struct.Struct("=IHHIIBBH")  # a netlink header, and nfgenmsg
_KIND = struct.Struct("=4xH")  # in a netlink header
_ERROR = struct.Struct("=16xi")  # behind one
_ATTRIBUTE = struct.Struct("=HH")
TIMEOUT = 5.0  # seconds; the kernel answers at once


def generation() -> int:
    """The number of the last transaction, in the network namespace of this thread. KernelError."""
    request = _HEADER.pack(_HEADER.size, GET_GENERATION, NLM_F_REQUEST, 1, 0, socket.AF_UNSPEC, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as sock:
            sock.settimeout(TIMEOUT)
            sock.send(request)
            answer = sock.recv(4_096)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, "ask for the generation of nftables") from error
    if _KIND.unpack_from(answer)[0] == NLMSG_ERROR:
        raise KernelError.from_errno(-_ERROR.unpack_from(answer)[0], "ask for the generation of nftables")
    at = _HEADER.size
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == GENERATION_ID:
            number: int = int.from_bytes(answer[at + _ATTRIBUTE.size : at + length])
            return number
        at += max(length, _ATTRIBUTE.size) + 3 & ~3
    raise KernelError("unreadable", "the kernel does not say the generation of nftables")


_SEES = {"inet": ("inet", "ip", "ip6"), "bridge": ("bridge",)}
"""Which families see packets that one of ours sees."""


async def changes(table: str) -> AsyncGenerator[None, None]:
    """Yields after transactions that changed a table of this name, whoever's they were. KernelError.

    Of the namespace that the thread is in. Never ends by itself.
    """
    loop, heard, name = asyncio.get_running_loop(), asyncio.Event(), table.encode() + b"\0"
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, "listen to nftables") from error
    with sock:
        try:
            sock.setblocking(False)
            sock.bind((0, 1 << GROUP - 1))
        except OSError as error:
            raise KernelError.from_errno(error.errno or 0, "listen to nftables") from error
        loop.add_reader(sock, heard.set)
        try:
            while True:
                await heard.wait()
                heard.clear()
                if _mentions(sock, name):
                    yield
        finally:
            loop.remove_reader(sock)


def _mentions(sock: socket.socket, name: bytes) -> bool:
    """Whether anything of what has come names the table; what was lost may have."""
    found = False
    while True:
        try:
            found |= name in sock.recv(MESSAGES)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise KernelError.from_errno(error.errno or 0, "listen to nftables") from error
            found = True


def tracks_bridges() -> bool:
    """Whether this kernel tracks the connections of what bridges forward (nf_conntrack_bridge). KernelError."""
    program = shutil.which("nft", path=search_path())
    if program is None:
        raise KernelError("no-program", "nftables (the program `nft`) is not installed")
    text = "table bridge dnms_probe { chain probe { ct state established accept\n } \n }"
    done = subprocess.run(
        [program, "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode == 0


class Dropping(msgspec.Struct, frozen=True, order=True):
    """A base chain of another table in which packets fall: what is accepted elsewhere falls here all the same."""

    family: str
    table: str
    chain: str
    hook: str
    policy: bool  # it drops whatever none of its rules accepts; else some rule of it drops

    def __str__(self) -> str:
        how = "drops what it does not accept" if self.policy else "has rules that drop"
        return f"chain {self.chain} of table {self.family} {self.table} (hook {self.hook}) {how}"


async def dropping(hooks: frozenset[tuple[str, str]], *, but: str) -> list[Dropping]:
    """Base chains at these (family, hook), in any table that is not called `but`. KernelError.

    Rules count that stand in the chain itself, or in one that it jumps to.
    """
    entries = await nftables.list_json("ruleset", options=("-t",))
    chains: dict[tuple[str, str, str], dict[str, Any]] = {}
    rules: dict[tuple[str, str, str], list[Any]] = {}
    for entry in entries:
        if "chain" in entry:
            said = entry["chain"]
            chains[said["family"], said["table"], said["name"]] = said
        elif "rule" in entry:
            said = entry["rule"]
            rules.setdefault((said["family"], said["table"], said["chain"]), []).append(said.get("expr", ()))
    found = []
    for (family, table, name), said in chains.items():
        hook = said.get("hook", "")
        if table == but or not any(hook == ours and family in _SEES[kind] for kind, ours in hooks):
            continue
        if said.get("policy") == "drop":
            found.append(Dropping(family, table, name, hook, policy=True))
        elif _drops(rules, (family, table, name), set()):
            found.append(Dropping(family, table, name, hook, policy=False))
    return sorted(found)


def _drops(rules: dict[tuple[str, str, str], list[Any]], chain: tuple[str, str, str], seen: set[str]) -> bool:
    family, table, name = chain
    if name in seen:
        return False
    seen.add(name)
    for expression in rules.get(chain, ()):
        for statement in expression:
            if "drop" in statement or "reject" in statement:
                return True
            target = next((statement[kind]["target"] for kind in ("jump", "goto") if kind in statement), "")
            if target and _drops(rules, (family, table, target), seen):
                return True
    return False
