"""Leases of ISC dhcpd (`dhcpd.leases(5)`), of both families: a journal, in which the last entry of an address wins."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from dnms.domain.identity import identity_of, is_hardware
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.migration.isc_text import Statement, Word, parse
from dnms.migration.model import LONGEST, Lease, Left, octets

_NEVER = -1
_IAID = 4  # bytes before the DUID of an association


def leases(files: Iterable[tuple[str, str]], *, now: int) -> tuple[list[Lease], list[Left]]:
    """What is leased at the instant `now`, by the files (name and text of each) in their order. MigrationError."""
    last: dict[str, Lease | None] = {}
    left: dict[str, Left] = {}
    order = "little-endian"
    for file, text in files:
        for each in parse(file, text, _none):
            if each.begins("authoring-byte-order"):
                order = each.text(1)
            try:
                if each.begins("lease") and each.block is not None:
                    last[each.text(1)] = _of_ipv4(each, each.block, now)
                elif each.text(0) in ("ia-na", "ia-pd", "ia-ta") and each.block is not None:
                    last |= _of_ipv6(each, each.block, now, order, left)
            except ValueError as error:
                left[each.text(1)] = Left(each.place, f"lease of {each.text(1)}", str(error))
    found = [each for each in last.values() if each is not None]
    for lease in found:
        if lease.valid_until == now + LONGEST:
            text = "it never ends; it is promised for a year: reserve it in the plan"
            left[str(lease.place)] = Left(lease.place, "a lease", text)
    return found, sorted(left.values())


def _none(file: str) -> str:
    raise FileNotFoundError(file)


def _of_ipv4(each: Statement, block: list[Statement], now: int) -> Lease | None:
    """None if it is no lease any more. ValueError."""
    said = {one.text(0): one for one in block}
    state = next((one.text(2) for one in block if one.begins("binding", "state")), "active")
    until = _until(said.get("ends"), now)
    if state != "active" or until is None:
        return None
    hardware = octets(said["hardware"].text(2)) if "hardware" in said else b""
    hardware = hardware if is_hardware(hardware) else b""
    uid = _bytes(said["uid"].words[-1]) if "uid" in said else b""
    if not uid and not hardware:
        raise ValueError("it has neither a client id nor the address of an Ethernet interface")
    duid, iaid = identity_of(uid, hardware)
    name = said["client-hostname"].text(1) if "client-hostname" in said else ""
    return Lease(
        address=parse_address(each.text(1)),
        duid=duid,
        iaid=iaid,
        hardware=hardware,
        name=name.rstrip("."),
        valid_until=until,
        place=each.place,
    )


def _of_ipv6(
    each: Statement, block: list[Statement], now: int, order: str, left: dict[str, Left]
) -> dict[str, Lease | None]:
    """What an association has, by address or prefix. ValueError."""
    whole = _bytes(each.words[1])
    duid, iaid = whole[_IAID:], int.from_bytes(whole[:_IAID], "big" if order == "big-endian" else "little")
    found: dict[str, Lease | None] = {}
    for one in block:
        if one.text(0) not in ("iaaddr", "iaprefix") or one.block is None:
            continue
        text = one.text(1)
        found[text] = None
        until = _until(next((each for each in one.block if each.begins("ends")), None), now)
        if not any(each.begins("binding", "state", "active") for each in one.block) or until is None:
            continue
        if each.begins("ia-ta"):
            left[text] = Left(one.place, f"lease of {text}", "a temporary address (IA_TA): its client asks for another")
            continue
        address: bytes | Prefix = parse_prefix(text) if one.begins("iaprefix") else parse_address(text)
        found[text] = Lease(address=address, duid=duid, iaid=iaid, name="", valid_until=until, place=one.place)
    return found


def _until(ends: Statement | None, now: int) -> int | None:
    """When it ends, in seconds since 1970; None if it has. ValueError."""
    if ends is None or ends.text(1) == "never":
        return now + LONGEST
    if ends.text(1) == "epoch":
        until = int(ends.text(2))
    else:
        said = f"{ends.text(2)} {ends.text(3)}"
        until = int(datetime.strptime(said, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    return until if until > now else None


def _bytes(word: Word) -> bytes:
    return word.octets if word.octets is not None else octets(word.text)
