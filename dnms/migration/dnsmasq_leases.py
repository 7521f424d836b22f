"""Leases of dnsmasq (`dnsmasq.leases`): a line each, of DHCPv4 first, and behind its own DUID those of DHCPv6."""

from __future__ import annotations

from collections.abc import Iterable

from dnms.domain.identity import identity_of, is_hardware
from dnms.events.ip import parse_address
from dnms.migration.model import LONGEST, Lease, Left, MigrationError, Place, duid, octets

_FIELDS = 5  # end, hardware address or IAID, address, name, client id or DUID
_NONE = "*"


def leases(files: Iterable[tuple[str, str]], *, now: int) -> tuple[list[Lease], list[Left]]:
    """What is leased at the instant `now`, by the files (name and text of each). MigrationError."""
    found: list[Lease] = []
    left: list[Left] = []
    for file, text in files:
        for number, line in enumerate(text.splitlines(), start=1):
            place, fields = Place(file, number), line.split()
            if not fields or fields[0] == "duid":
                continue
            if len(fields) < _FIELDS or not fields[0].isdecimal():
                raise MigrationError(f"{place}: expected a lease of dnsmasq: end, address of hardware, address, …")
            try:
                lease = _read(fields, place, now, left)
            except ValueError as error:
                left.append(Left(place, f"lease of {fields[2]}", str(error)))
                continue
            if lease is not None:
                found.append(lease)
    return found, left


def _read(fields: list[str], place: Place, now: int, left: list[Left]) -> Lease | None:
    """None if it is none any more. ValueError."""
    end, who, address, name, identifier = fields[:_FIELDS]
    until, what = int(end), f"lease of {address}"
    if until and until <= now:
        return None
    if not until:
        left.append(Left(place, what, "it never ends; it is promised for a year: reserve it in the plan"))
        until = now + LONGEST
    hardware = b""
    if ":" in address:
        if who.startswith("T"):
            left.append(Left(place, what, "a temporary address (IA_TA): its client asks for another one"))
            return None
        known, iaid = duid(identifier), int(who)
    else:
        hardware = octets(who.rpartition("-")[2])
        client_id = b"" if identifier == _NONE else octets(identifier)
        known, iaid = identity_of(client_id, hardware)
    return Lease(
        address=parse_address(address),
        duid=known,
        iaid=iaid,
        hardware=hardware if is_hardware(hardware) else b"",
        name="" if name == _NONE else name,
        valid_until=until,
        place=place,
    )
