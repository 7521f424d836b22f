"""Kea's leases in files (memfile): CSV with a header, in which the last line of an address wins, and those that a
cleanup (LFC) has left beside it (Kea's manual, "Memfile - Basic Storage for Leases").
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from dnms.domain.identity import identity_of, is_hardware
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.migration.model import FOREVER, LONGEST, Lease, Left, MigrationError, Place, duid, octets

COMPLETED, PREVIOUS, COPY = ".completed", ".2", ".1"
"""What a cleanup leaves: all until it began; or what one before has made, and what this one was to clean."""

_LEASED, _DECLINED = 0, 1
_TEMPORARY, _DELEGATED = 1, 2
_NEEDED = {"address", "valid_lifetime", "expire", "state"}


def parts(file: str, there: Iterable[str]) -> list[str]:
    """The files that are to be read for one, in their order, of those that are `there`."""
    found = set(there)
    if file + COMPLETED in found:
        return [file + COMPLETED, file]
    return [*(file + each for each in (PREVIOUS, COPY) if file + each in found), file]


def leases(files: Iterable[tuple[str, str]], *, now: int) -> tuple[list[Lease], list[Left]]:
    """What is leased at the instant `now`, by the files (name and text of each) in their order. MigrationError."""
    last: dict[tuple[str, str], tuple[dict[str, str], Place]] = {}
    left: list[Left] = []
    for file, text in files:
        for row, place in _rows(file, text, left):
            last[row["address"], row.get("prefix_len", "")] = row, place
    found: list[Lease] = []
    for row, place in last.values():
        try:
            _read(row, place, now, found, left)
        except ValueError as error:
            left.append(Left(place, f"lease of {row['address']}", str(error)))
    return found, left


def _rows(file: str, text: str, left: list[Left]) -> Iterator[tuple[dict[str, str], Place]]:
    reader = csv.reader(text.splitlines())
    header = next(reader, None)
    if header is None:
        return
    if missing := _NEEDED - set(header):
        raise MigrationError(f"{file}:1: expected the header of Kea's leases; {sorted(missing)[0]!r} is not in it")
    least = max(map(header.index, _NEEDED))
    for fields in reader:
        place = Place(file, reader.line_num)
        if not fields or fields == header:
            continue
        if len(fields) <= least:  # as a crash leaves it
            left.append(Left(place, "a line", "it is cut off; what was said before of its address stands"))
        else:
            yield dict(zip(header, fields, strict=False)), place


def _read(row: dict[str, str], place: Place, now: int, found: list[Lease], left: list[Left]) -> None:
    """ValueError."""
    valid, expire, state = int(row["valid_lifetime"]), int(row["expire"]), int(row["state"])
    what = f"lease of {row['address']}"
    if state == _DECLINED and expire > now:
        left.append(Left(place, what, "it rests, since a client found it in use; DNMS looks before it offers it"))
    if state != _LEASED or valid == 0 or (expire <= now and valid != FOREVER):
        return  # released, over, or to be forgotten
    kind = int(row.get("lease_type") or 0)
    if kind == _TEMPORARY:
        left.append(Left(place, what, "a temporary address (IA_TA): its client asks for another one"))
        return
    hardware = octets(row.get("hwaddr", ""))
    hardware = hardware if is_hardware(hardware) else b""
    if "duid" in row:
        who, iaid = duid(row["duid"]), int(row["iaid"])
    else:
        client_id = octets(row.get("client_id", ""))
        if not client_id and not hardware:
            raise ValueError("it has neither a client id nor the address of an Ethernet interface")
        who, iaid = identity_of(client_id, hardware)
    address: bytes | Prefix = parse_address(row["address"])
    if kind == _DELEGATED:
        address = parse_prefix(f"{row['address']}/{int(row['prefix_len'])}")
    if valid == FOREVER:
        left.append(Left(place, what, "it never ends; it is promised for a year: reserve it in the plan"))
    found.append(
        Lease(
            address=address,
            duid=who,
            iaid=iaid,
            hardware=hardware,
            name=row.get("hostname", "").replace("&#x2c", ",").strip().rstrip("."),
            valid_until=now + LONGEST if valid == FOREVER else expire,
            place=place,
        )
    )
