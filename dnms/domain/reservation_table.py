"""Reservations, as people write them in a plan: whose an address is, by a name, a DUID or a hardware address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from dnms.domain.identity import ANY_INTERFACE, INTERFACE, duid_of_hardware, parse_duid, parse_hardware
from dnms.domain.written import AddressText, Table
from dnms.events.ip import format_address
from dnms.events.plan import Name, Reservation

WHO = ("node", "duid", "hardware")


class ReservationTable(Table, kw_only=True):
    """`[[reservation]]`."""

    address: AddressText
    node: str | None = None
    duid: str | None = None
    hardware: str | None = None
    interface: Annotated[str, msgspec.Meta(min_length=1, max_length=15)] | None = None
    subnet: Name | None = None


class ReservationError(ValueError):
    """What is wrong, and at which key."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def reservation_of(table: ReservationTable, subnet: str, client_of: Callable[[str], bytes]) -> Reservation:
    """As the plan has it, in this subnet; ReservationError.

    `client_of`: the client that is named by a name, a client id or a DUID with colons; ValueError.
    """
    named = [key for key in WHO if getattr(table, key) is not None]
    if len(named) != 1:
        raise ReservationError(WHO[0], f"expected one of {', '.join(WHO)}; found {' and '.join(named) or 'none'}")
    [key] = named
    text: str = getattr(table, key)
    if key == "hardware" and table.interface is not None:
        raise ReservationError("interface", "it is the interface with that hardware address; leave its name out")
    try:
        if key == "duid":
            text = parse_duid(text).hex(":")
        elif key == "hardware":
            text = duid_of_hardware(parse_hardware(text)).hex(":")
        client = client_of(text)
    except ValueError as error:
        raise ReservationError(key, str(error)) from error
    interface = table.interface or (INTERFACE if key == "node" else ANY_INTERFACE)
    return Reservation(subnet=subnet, address=table.address.value, client=client, interface=interface)


def table_of(reservation: Reservation) -> dict[str, Any]:
    """As it is written: with the client id, since the plan has neither a name nor a DUID."""
    return {
        "address": format_address(reservation.address),
        "node": reservation.client.hex(),
        "interface": reservation.interface,
        "subnet": reservation.subnet,
    }
