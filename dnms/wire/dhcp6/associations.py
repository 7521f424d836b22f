"""Associations of addresses and of delegated prefixes (RFC 8415, 21.4 to 21.6, 21.21 and 21.22)."""

from __future__ import annotations

import struct

import msgspec

from dnms.events.ip import Address, Prefix, prefix_of
from dnms.wire.dhcp6.codes import Option, Status
from dnms.wire.dhcp6.values import SHORT, malformed, option, walk

_IA = struct.Struct("!III")  # IAID, T1, T2
_ADDRESS = struct.Struct("!16sII")  # address, preferred, valid
_PREFIX = struct.Struct("!IIB16s")  # preferred, valid, length, prefix


class StatusOption(msgspec.Struct, frozen=True):
    """How it went, of a message, an association or an address (RFC 8415, 21.13)."""

    code: int
    text: str = ""


class IaAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of an association (RFC 8415, 21.6). Lifetimes are in seconds; a hint of a client has zeros."""

    address: Address
    preferred: int = 0
    valid: int = 0
    status: StatusOption | None = None


class IaPrefix(msgspec.Struct, frozen=True, kw_only=True):
    """A delegated prefix (RFC 8415, 21.22). The hint of a client for a length alone has `::` of that length."""

    prefix: Prefix
    preferred: int = 0
    valid: int = 0
    exclude: Prefix | None = None  # of it, what stays with the delegating router (RFC 6603)
    status: StatusOption | None = None


class IaNa(msgspec.Struct, frozen=True, kw_only=True):
    """An association of addresses (RFC 8415, 21.4). T1 and T2 are in seconds; 0 leaves them to the client."""

    iaid: int
    t1: int = 0
    t2: int = 0
    addresses: tuple[IaAddress, ...] = ()
    status: StatusOption | None = None


class IaPd(msgspec.Struct, frozen=True, kw_only=True):
    """An association of delegated prefixes (RFC 8415, 21.21)."""

    iaid: int
    t1: int = 0
    t2: int = 0
    prefixes: tuple[IaPrefix, ...] = ()
    status: StatusOption | None = None


def read_na(value: bytes) -> IaNa:
    """The association of addresses in an option's value. PeerError."""
    iaid, t1, t2 = _read_ia(value)
    addresses: list[IaAddress] = []
    status = None
    for code, inner in walk(value[_IA.size :]):
        if code == Option.IA_ADDRESS:
            addresses.append(read_address(inner))
        elif code == Option.STATUS and status is None:
            status = read_status(inner)
    return IaNa(iaid=iaid, t1=t1, t2=t2, addresses=tuple(addresses), status=status)


def read_pd(value: bytes) -> IaPd:
    """The association of prefixes in an option's value. PeerError."""
    iaid, t1, t2 = _read_ia(value)
    prefixes: list[IaPrefix] = []
    status = None
    for code, inner in walk(value[_IA.size :]):
        if code == Option.IA_PREFIX:
            prefixes.append(_read_prefix(inner))
        elif code == Option.STATUS and status is None:
            status = read_status(inner)
    return IaPd(iaid=iaid, t1=t1, t2=t2, prefixes=tuple(prefixes), status=status)


def write_na(na: IaNa) -> bytes:
    """The option of an association of addresses."""
    inner = b"".join((*map(_write_address, na.addresses), write_status(na.status)))
    return option(Option.IA_NA, _IA.pack(na.iaid, na.t1, na.t2) + inner)


def write_pd(pd: IaPd) -> bytes:
    """The option of an association of prefixes. ValueError if what is excluded is not in its prefix."""
    inner = b"".join((*map(_write_prefix, pd.prefixes), write_status(pd.status)))
    return option(Option.IA_PD, _IA.pack(pd.iaid, pd.t1, pd.t2) + inner)


def _read_ia(value: bytes) -> tuple[int, int, int]:
    if len(value) < _IA.size:
        raise malformed("an association is cut off")
    iaid, t1, t2 = _IA.unpack_from(value)
    return iaid, t1, t2


def read_address(value: bytes) -> IaAddress:
    """The address in the value of an option of its own (RFC 8415, 21.6; RFC 9686, 4.2). PeerError."""
    if len(value) < _ADDRESS.size:
        raise malformed("an address of an association is cut off")
    address, preferred, valid = _ADDRESS.unpack_from(value)
    return IaAddress(address=address, preferred=preferred, valid=valid, status=_status_in(value[_ADDRESS.size :]))


def _write_address(each: IaAddress) -> bytes:
    fixed = _ADDRESS.pack(each.address, each.preferred, each.valid)
    return option(Option.IA_ADDRESS, fixed + write_status(each.status))


def _read_prefix(value: bytes) -> IaPrefix:
    if len(value) < _PREFIX.size:
        raise malformed("a prefix of an association is cut off")
    preferred, valid, length, network = _PREFIX.unpack_from(value)
    if length > 128:
        raise malformed(f"a prefix of {length} bits")
    prefix = prefix_of(network, length)
    exclude = status = None
    for code, inner in walk(value[_PREFIX.size :]):
        if code == Option.STATUS and status is None:
            status = read_status(inner)
        elif code == Option.PD_EXCLUDE and exclude is None:
            exclude = _read_exclude(prefix, inner)
    return IaPrefix(prefix=prefix, preferred=preferred, valid=valid, exclude=exclude, status=status)


def _write_prefix(each: IaPrefix) -> bytes:
    fixed = _PREFIX.pack(each.preferred, each.valid, each.prefix.length, each.prefix.network)
    exclude = b"" if each.exclude is None else option(Option.PD_EXCLUDE, _write_exclude(each.prefix, each.exclude))
    return option(Option.IA_PREFIX, fixed + exclude + write_status(each.status))


def _read_exclude(prefix: Prefix, value: bytes) -> Prefix:
    """RFC 6603, 4.2: a length, and the bits between the two prefixes, aligned to the left."""
    bits = value[0] - prefix.length if value else 0
    if not (value and bits >= 1 and value[0] <= 128) or len(value) != 1 + (bits + 7) // 8:
        raise malformed("an excluded prefix that is not in its prefix")
    subnet = int.from_bytes(value[1:]) >> (-bits % 8)
    return Prefix((prefix.first | subnet << (128 - value[0])).to_bytes(16), value[0])


def _write_exclude(prefix: Prefix, exclude: Prefix) -> bytes:
    """ValueError if it is not a part of the prefix."""
    bits = exclude.length - prefix.length
    if bits < 1 or not prefix.covers(exclude):
        raise ValueError(f"{exclude} is no part of {prefix}, and cannot be excluded from it")
    subnet = (exclude.first - prefix.first) >> (128 - exclude.length) << (-bits % 8)
    return bytes([exclude.length]) + subnet.to_bytes((bits + 7) // 8)


def read_status(value: bytes) -> StatusOption:
    """The status in an option's value. PeerError."""
    if len(value) < 2:
        raise malformed("a status is cut off")
    return StatusOption(SHORT.unpack_from(value)[0], value[2:].decode(errors="replace"))


def _status_in(data: bytes) -> StatusOption | None:
    if not data:
        return None
    return next((read_status(value) for code, value in walk(data) if code == Option.STATUS), None)


def write_status(status: StatusOption | None) -> bytes:
    """The option of a status; nothing for None."""
    if status is None:
        return b""
    return option(Option.STATUS, SHORT.pack(status.code) + status.text.encode())


def failed(code: Status, text: str) -> StatusOption:
    """A status that says what did not go, and to people why."""
    return StatusOption(int(code), text)
