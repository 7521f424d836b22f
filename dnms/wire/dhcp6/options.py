"""What DHCPv6 messages carry (RFC 8415, 21, and the RFCs that each option names), as bytes and as values.

A reader takes what it knows of a message and leaves the rest out: an option that it does not know, one that stands
where it has no meaning, the second one of those that are to be there once. What is cut off, or has a length that its
option cannot have, makes the whole message void, since nobody can say what was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from dnms.events.ip import Address
from dnms.wire.dhcp6.associations import (
    IaNa,
    IaPd,
    StatusOption,
    read_na,
    read_pd,
    read_status,
    write_na,
    write_pd,
    write_status,
)
from dnms.wire.dhcp6.codes import Option
from dnms.wire.dhcp6.values import (
    LONG,
    SHORT,
    addresses,
    duid,
    no_value,
    number,
    numbers,
    option,
    pieces,
    read_names,
    shorts,
    text,
    walk,
    write_names,
)

_NTP_ADDRESS = 1
"""Suboption of RFC 5908, 4.1: the address of a server."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one message. What is None, False or empty is not there."""

    client_id: bytes = b""  # a DUID
    server_id: bytes = b""
    na: tuple[IaNa, ...] = ()
    pd: tuple[IaPd, ...] = ()
    temporary: tuple[int, ...] = ()  # IAIDs of IA_TA, which RFC 8415, 25 has for nobody any more
    requested: tuple[int, ...] = ()  # codes of options (RFC 8415, 21.7)
    preference: int | None = None
    elapsed: int | None = None  # hundredths of a second since the exchange began, at most 0xffff
    unicast: Address | None = None
    status: StatusOption | None = None
    rapid_commit: bool = False
    user_class: tuple[bytes, ...] = ()
    vendor_class: bytes = b""  # with its enterprise number
    authentication: bytes = b""  # RFC 8415, 21.11, as it is
    reconfigure: int | None = None  # the kind of message that a client is to send
    reconfigure_accept: bool = False
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[Address, ...] = ()
    information_refresh: int | None = None  # seconds
    fqdn: bytes = b""  # RFC 4704, as it is
    boot_file: str = ""
    boot_parameters: tuple[str, ...] = ()
    architectures: tuple[int, ...] = ()
    sol_max_rt: int | None = None  # seconds
    inf_max_rt: int | None = None
    registered: tuple[bytes, ...] = ()  # values of addresses that are in no association (RFC 9686, 4.2)
    registers: bool = False  # addresses may be registered (RFC 9686, 4.1)
    others: tuple[tuple[int, bytes], ...] = ()  # to be written: codes that are not read here, and their values


NONE = Options()


def read(data: bytes) -> Options:  # noqa: PLR0912, PLR0915  # one case an option
    """The options of a message. PeerError."""
    found: dict[str, Any] = {}
    na: list[IaNa] = []
    pd: list[IaPd] = []
    temporary: list[int] = []
    registered: list[bytes] = []
    for code, value in walk(data):
        match code:
            case Option.IA_NA:
                na.append(read_na(value))
            case Option.IA_PD:
                pd.append(read_pd(value))
            case Option.IA_TA:
                temporary.append(number(code, value[:4], 4))
            case Option.IA_ADDRESS:
                registered.append(value)
            case Option.ADDR_REG_ENABLE:
                found["registers"] = no_value(code, value)
            case Option.CLIENT_ID:
                found.setdefault("client_id", duid(code, value))
            case Option.SERVER_ID:
                found.setdefault("server_id", duid(code, value))
            case Option.REQUESTED:
                found.setdefault("requested", numbers(code, value))
            case Option.ELAPSED_TIME:
                found.setdefault("elapsed", number(code, value, 2))
            case Option.RAPID_COMMIT:
                found["rapid_commit"] = no_value(code, value)
            case Option.RECONFIGURE_ACCEPT:
                found["reconfigure_accept"] = no_value(code, value)
            case Option.STATUS:
                found.setdefault("status", read_status(value))
            case Option.PREFERENCE:
                found.setdefault("preference", number(code, value, 1))
            case Option.RECONFIGURE_MESSAGE:
                found.setdefault("reconfigure", number(code, value, 1))
            case Option.UNICAST:
                found.setdefault("unicast", addresses(code, value, exactly=1)[0])
            case Option.DNS_SERVERS:
                found.setdefault("dns", addresses(code, value))
            case Option.DOMAIN_LIST:
                found.setdefault("search", read_names(value))
            case Option.NTP_SERVER:
                found.setdefault("ntp", tuple(_ntp(value)))
            case Option.USER_CLASS:
                found.setdefault("user_class", tuple(pieces(code, value)))
            case Option.VENDOR_CLASS:
                found.setdefault("vendor_class", value)
            case Option.AUTHENTICATION:
                found.setdefault("authentication", value)
            case Option.CLIENT_FQDN:
                found.setdefault("fqdn", value)
            case Option.BOOT_FILE_URL:
                found.setdefault("boot_file", text(code, value))
            case Option.BOOT_FILE_PARAMETERS:
                found.setdefault("boot_parameters", tuple(text(code, each) for each in pieces(code, value)))
            case Option.CLIENT_ARCHITECTURE:
                found.setdefault("architectures", numbers(code, value))
            case Option.INFORMATION_REFRESH_TIME:
                found.setdefault("information_refresh", number(code, value, 4))
            case Option.SOL_MAX_RT:
                found.setdefault("sol_max_rt", number(code, value, 4))
            case Option.INF_MAX_RT:
                found.setdefault("inf_max_rt", number(code, value, 4))
    return Options(na=tuple(na), pd=tuple(pd), temporary=tuple(temporary), registered=tuple(registered), **found)


def write(options: Options) -> bytes:
    """The bytes of the options. ValueError if one is too long."""
    return b"".join(_written(options))


def _written(options: Options) -> Iterator[bytes]:  # one case an option
    if options.client_id:
        yield option(Option.CLIENT_ID, options.client_id)
    if options.server_id:
        yield option(Option.SERVER_ID, options.server_id)
    yield from map(write_na, options.na)
    yield from map(write_pd, options.pd)
    for iaid in options.temporary:
        yield option(Option.IA_TA, LONG.pack(iaid))
    yield from (option(Option.IA_ADDRESS, value) for value in options.registered)
    if options.requested:
        yield option(Option.REQUESTED, shorts(options.requested))
    if options.elapsed is not None:
        yield option(Option.ELAPSED_TIME, SHORT.pack(min(options.elapsed, 0xFFFF)))
    if options.rapid_commit:
        yield option(Option.RAPID_COMMIT, b"")
    if options.status is not None:
        yield write_status(options.status)
    if options.unicast is not None:
        yield option(Option.UNICAST, options.unicast)
    if options.preference is not None:
        yield option(Option.PREFERENCE, bytes([options.preference]))
    if options.reconfigure is not None:
        yield option(Option.RECONFIGURE_MESSAGE, bytes([options.reconfigure]))
    if options.reconfigure_accept:
        yield option(Option.RECONFIGURE_ACCEPT, b"")
    if options.registers:
        yield option(Option.ADDR_REG_ENABLE, b"")
    yield from _told(options)


def _told(options: Options) -> Iterator[bytes]:  # noqa: PLR0912  # one case an option
    """Those that say what there is, of the client or of the link, and not what the message is about."""
    if options.dns:
        yield option(Option.DNS_SERVERS, b"".join(options.dns))
    if options.search:
        yield option(Option.DOMAIN_LIST, write_names(options.search))
    if options.ntp:
        yield option(Option.NTP_SERVER, b"".join(option(_NTP_ADDRESS, address) for address in options.ntp))
    if options.user_class:
        yield option(Option.USER_CLASS, _in_pieces(options.user_class))
    if options.boot_parameters:
        yield option(Option.BOOT_FILE_PARAMETERS, _in_pieces(map(str.encode, options.boot_parameters)))
    if options.vendor_class:
        yield option(Option.VENDOR_CLASS, options.vendor_class)
    if options.authentication:
        yield option(Option.AUTHENTICATION, options.authentication)
    if options.fqdn:
        yield option(Option.CLIENT_FQDN, options.fqdn)
    if options.boot_file:
        yield option(Option.BOOT_FILE_URL, options.boot_file.encode())
    if options.architectures:
        yield option(Option.CLIENT_ARCHITECTURE, shorts(options.architectures))
    if options.information_refresh is not None:
        yield option(Option.INFORMATION_REFRESH_TIME, LONG.pack(options.information_refresh))
    if options.sol_max_rt is not None:
        yield option(Option.SOL_MAX_RT, LONG.pack(options.sol_max_rt))
    if options.inf_max_rt is not None:
        yield option(Option.INF_MAX_RT, LONG.pack(options.inf_max_rt))
    for code, value in options.others:
        yield option(code, value)


def _in_pieces(several: Iterable[bytes]) -> bytes:
    """Each behind its length (RFC 8415, 21.15)."""
    return b"".join(SHORT.pack(len(each)) + each for each in several)


def _ntp(value: bytes) -> Iterator[bytes]:
    """Addresses of servers; multicast groups and names (RFC 5908, 4.2 and 4.3) are left out."""
    for code, inner in walk(value):
        if code == _NTP_ADDRESS:
            yield from addresses(code, inner, exactly=1)
