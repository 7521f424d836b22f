"""Compares two answers of DHCPv4 servers to one message."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dnms.agents.shadow.difference import Difference, seconds
from dnms.events.ip import MAPPED, format_address
from dnms.wire.dhcp4 import options
from dnms.wire.dhcp4.codes import Kind, Option
from dnms.wire.dhcp4.messages import NOBODY, Message, decode
from dnms.wire.dhcp4.values import read_names, read_routes
from dnms.wire.errors import PeerError

T1, T2 = 1 / 2, 7 / 8
"""Of the lease, where a server says no times (RFC 2131, 4.4.5)."""

_FIXED = 240  # bytes before the options
_FILE, _SNAME = slice(108, 236), slice(44, 108)

_NOT_COMPARED = frozenset(
    {
        Option.AGENT,
        Option.CLIENT_ID,
        Option.FQDN,  # what a server makes of a client's name is for its DNS
        Option.HOST_NAME,
        Option.KIND,
        Option.LEASE_TIME,
        Option.MESSAGE,
        Option.OVERLOAD,
        Option.SERVER_ID,
        Option.T1,
        Option.T2,
    }
)
"""What is compared otherwise, repeats what the client said, or is each server's own."""

_ADDRESSES = frozenset({Option.ROUTERS, Option.DNS_SERVERS, Option.NTP_SERVERS})
_BROADCAST = 28
"""Which every client makes of its address and the mask (RFC 2132, 5.3)."""


def compare(there: bytes, here: bytes | None, *, is_new: bool, requested: Collection[int] = ()) -> list[Difference]:
    """`is_new`: the client had nothing before. `requested`: codes of the options that it asks for, if it says so; at
    others it does not look. PeerError for what is no message; no `here`: it would be silent.
    """
    said = decode(there)
    if here is None:
        return [Difference("answer", "message", _kind(said), "silence")]
    ours = decode(here)
    if said.kind != ours.kind:
        return [Difference("answer", "message", _kind(said), _kind(ours))]
    found: list[Difference] = []
    if said.yours != ours.yours:
        what = Difference("new-client" if is_new else "address", "address", _text(said.yours), _text(ours.yours))
        found.append(what)
    if NOBODY not in (said.yours, ours.yours):
        found += _lifetimes(said, ours)
    found += _options(_raw(there), _raw(here), requested)
    if said.server not in (NOBODY, said.options.server_id):
        found.append(Difference("option", "next server (siaddr)", _text(said.server), _text(ours.server)))
    for name, place in (("boot file (file)", _FILE), ("server name (sname)", _SNAME)):
        if Option.OVERLOAD not in _raw(there) and any(there[place]):
            text = there[place].split(b"\0")[0].decode(errors="replace")
            found.append(Difference("option", name, text, "nothing"))
    return found


def silent(here: bytes) -> Difference:
    """The other server said nothing."""
    return Difference("answer", "message", "silence", _kind(decode(here)))


def _kind(message: Message) -> str:
    try:
        kind = Kind(message.kind).name.lower()
    except ValueError:
        kind = f"type {message.kind}"
    return kind if message.yours == NOBODY else f"{kind} {_text(message.yours)}"


def _lifetimes(said: Message, ours: Message) -> Iterator[Difference]:
    there, here = said.options.lease_time or 0, ours.options.lease_time or 0
    yield from seconds("lifetime", "lease", there, here)
    for name, part in (("t1", T1), ("t2", T2)):
        times = [getattr(each.options, name) or int((each.options.lease_time or 0) * part) for each in (said, ours)]
        yield from seconds("timer", name.upper(), *times)


def _options(there: dict[int, bytes], here: dict[int, bytes], requested: Collection[int]) -> Iterator[Difference]:
    for code in sorted(there.keys() | here.keys()):
        said, ours = there.get(code), here.get(code)
        if requested and code not in requested:
            continue
        if code in _NOT_COMPARED or (code == _BROADCAST and ours is None):
            continue
        texts = [None if each is None else _value(code, each) for each in (said, ours)]
        if texts[0] != texts[1]:
            yield Difference("option", _name(code), texts[0] or "nothing", texts[1] or "nothing")


def _raw(data: bytes) -> dict[int, bytes]:
    return options.gather(memoryview(data)[_FIXED:])


def _name(code: int) -> str:
    try:
        return f"{code} ({Option(code).name.lower().replace('_', '-')})"
    except ValueError:
        return str(code)


def _value(code: int, value: bytes) -> str:  # noqa: PLR0911  # one return a form
    try:
        if code in _ADDRESSES and value and len(value) % 4 == 0:
            return ", ".join(_text(MAPPED + value[at : at + 4]) for at in range(0, len(value), 4))
        if code == Option.MASK and len(value) == 4:
            return _text(MAPPED + value)
        if code == Option.DOMAIN:
            return value.rstrip(b"\0").decode().rstrip(".")
        if code == Option.SEARCH:
            return ", ".join(read_names(value))
        if code == Option.MTU and len(value) == 2:
            return str(int.from_bytes(value))
        if code == Option.ROUTES:
            return ", ".join(f"{to} via {_text(via)}" for to, via in read_routes(value))
    except (PeerError, UnicodeDecodeError):
        pass
    return value.hex(":") or "set"


def _text(address: bytes) -> str:
    return format_address(address)
