"""Compares two answers of DHCPv6 servers to one message."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dnms.agents.shadow.difference import Difference, seconds
from dnms.events.ip import format_address
from dnms.wire.dhcp6.associations import IaNa, IaPd
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.messages import Message, decode
from dnms.wire.dhcp6.values import addresses, read_names, walk
from dnms.wire.errors import PeerError

_NOT_COMPARED = frozenset(
    {
        Option.AUTHENTICATION,
        Option.CLIENT_FQDN,  # what a server makes of a client's name is for its DNS
        Option.CLIENT_ID,
        Option.IA_NA,
        Option.IA_PD,
        Option.IA_TA,
        Option.PREFERENCE,
        Option.SERVER_ID,
        Option.STATUS,
    }
)
"""What is compared otherwise, repeats what the client said, or is each server's own."""

_HEADER = 4  # bytes before the options

_Given = Mapping[str, tuple[int, int]]
"""Addresses or prefixes as text, with the preferred and the valid lifetime."""


def compare(
    there: bytes, here: bytes | None, *, is_new: bool, gives: bool, requested: Collection[int]
) -> list[Difference]:
    """Of messages without their relays. `is_new`: the client had nothing before. `gives`: it asked for something, and
    did not give it back. `requested`: codes of the options that it asks for; at others it does not look. PeerError for
    what is no message; no `here`: it would be silent.
    """
    said = decode(there).message
    if here is None:
        return [Difference("answer", "message", _kind(said), "silence")]
    ours = decode(here).message
    if said.kind != ours.kind:
        return [Difference("answer", "message", _kind(said), _kind(ours))]
    found: list[Difference] = []
    codes = [_status(each.options.status.code if each.options.status else 0) for each in (said, ours)]
    if codes[0] != codes[1]:
        found.append(Difference("answer", "status", *codes))
    if gives:
        found += _associations("IA_NA", said.options.na, ours.options.na, is_new=is_new)
        found += _associations("IA_PD", said.options.pd, ours.options.pd, is_new=is_new)
    found += _options(dict(walk(there[_HEADER:])), dict(walk(here[_HEADER:])), requested)
    return found


def silent(here: bytes) -> Difference:
    """The other server said nothing."""
    return Difference("answer", "message", "silence", _kind(decode(here).message))


def given(one: IaNa | IaPd) -> _Given:
    """What an association has by an answer."""
    if isinstance(one, IaNa):
        return {format_address(each.address): (each.preferred, each.valid) for each in one.addresses}
    return {str(each.prefix): (each.preferred, each.valid) for each in one.prefixes}


def _kind(message: Message) -> str:
    try:
        return Kind(message.kind).name.lower()
    except ValueError:
        return f"type {message.kind}"


def _status(code: int) -> str:
    try:
        return Status(code).name.lower().replace("_", "-")
    except ValueError:
        return str(code)


def _associations(
    name: str, said: tuple[IaNa, ...] | tuple[IaPd, ...], ours: tuple[IaNa, ...] | tuple[IaPd, ...], *, is_new: bool
) -> Iterator[Difference]:
    there, here = {each.iaid: each for each in said}, {each.iaid: each for each in ours}
    for iaid in sorted(there.keys() | here.keys()):
        of = f"{name} {iaid:#x}"
        one, other = there.get(iaid), here.get(iaid)
        if one is None or other is None:
            yield Difference("answer", of, _told(one), _told(other))
            continue
        has, would = given(one), given(other)
        if has.keys() != would.keys():
            is_choice = is_new and has and would
            yield Difference("new-client" if is_choice else "address", of, _told(one), _told(other))
        for each in has.keys() & would.keys():
            yield from seconds("lifetime", f"{each} preferred", has[each][0], would[each][0])
            yield from seconds("lifetime", f"{each} valid", has[each][1], would[each][1])
        if has and would and one.t1 and one.t2:  # 0 leaves it to the client (RFC 8415, 21.4)
            yield from seconds("timer", f"{of} T1", one.t1, other.t1)
            yield from seconds("timer", f"{of} T2", one.t2, other.t2)


def _told(one: IaNa | IaPd | None) -> str:
    if one is None:
        return "nothing"
    return ", ".join(given(one)) or (_status(one.status.code) if one.status else "nothing")


def _options(there: dict[int, bytes], here: dict[int, bytes], requested: Collection[int]) -> Iterator[Difference]:
    for code in sorted((there.keys() | here.keys()) & set(requested)):
        said, ours = there.get(code), here.get(code)
        if code not in _NOT_COMPARED and said != ours:
            texts = ["nothing" if each is None else _value(code, each) for each in (said, ours)]
            yield Difference("option", _name(code), *texts)


def _name(code: int) -> str:
    try:
        return f"{code} ({Option(code).name.lower().replace('_', '-')})"
    except ValueError:
        return str(code)


def _value(code: int, value: bytes) -> str:
    try:
        if code == Option.DNS_SERVERS:
            return ", ".join(map(format_address, addresses(code, value)))
        if code == Option.DOMAIN_LIST:
            return ", ".join(read_names(value))
    except PeerError:
        pass
    return value.hex(":") or "set"
