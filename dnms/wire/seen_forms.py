"""How an address came about, and for how long it is there: what its interface identifier says, and how sure that is.

Certain is an identifier that is made of the very hardware address that has it (RFC 4291, appendix A): it is stable, and
no temporary one. A small number was set by a person, or given by a server. Anything else looks like chance, and whether
it is a stable one (RFC 7217) or a temporary one (RFC 8981) it does not say by design. There are no temporary link-local
addresses. A host makes its stable one and the first temporary one of a prefix together, and probes for them in any
order; what it makes later is temporary. It is a guess that it was made when it was heard of first. A temporary one is
not used for over a week, which the ledger looks at later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from dnms.events.ip import family, is_link_local

LOW = 1 << 16
"""Interface identifiers below are numbers that people choose, or servers that count."""


class Form(msgspec.Struct, frozen=True):
    """What can be said of an address."""

    form: Literal["eui-64", "low", "link-local", "random", "ipv4"]
    lasting: Literal["stable", "temporary", "unknown"]
    sure: Literal["certain", "likely", "guess"]


def form_of(  # noqa: PLR0911  # one return a form
    address: bytes, hardware: bytes, others: Iterable[bytes] = ()
) -> Form:
    """Of an address of a machine; `others` it was seen with some time before."""
    if family(address) == 4:
        return Form("ipv4", "unknown", "guess")
    identifier = address[8:]
    if identifier == modified_eui64(hardware):
        return Form("eui-64", "stable", "certain")
    if _is_eui64(identifier):
        return Form("eui-64", "stable", "likely")  # of another interface, as with addresses that a machine draws
    if int.from_bytes(identifier) < LOW:
        return Form("low", "stable", "likely")
    if is_link_local(address):
        return Form("link-local", "stable", "likely")
    if any(each[:8] == address[:8] and _is_random(each) for each in others if each != address):
        return Form("random", "temporary", "guess")
    return Form("random", "unknown", "guess")


def modified_eui64(hardware: bytes) -> bytes:
    """The interface identifier of an Ethernet address (RFC 4291, appendix A)."""
    return bytes([hardware[0] ^ 0x02]) + hardware[1:3] + b"\xff\xfe" + hardware[3:6]


def _is_eui64(identifier: bytes) -> bool:
    return identifier[3:5] == b"\xff\xfe"


def _is_random(address: bytes) -> bool:
    identifier = address[8:]
    return family(address) == 6 and not _is_eui64(identifier) and int.from_bytes(identifier) >= LOW
