"""Texts of other servers, as their files would have them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dnms.events.ip import Prefix, format_address
from dnms.migration.model import Configuration, Lease, MigrationError, Read
from dnms.migration.plan import document

Reader = Callable[[list[tuple[str, str]], Read], Configuration]


def no_file(name: str) -> str:
    raise FileNotFoundError(name)


def plan_of(reader: Reader, *texts: str, read: Read = no_file) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """The document of a plan, and what is left, with its line."""
    found = reader([(f"{number}.conf", text) for number, text in enumerate(texts)], read)
    made = document(found, "home")
    return made, [(each.place.line, each.what) for each in sorted(found.left)]


def told(lease: Lease) -> tuple[str, str, int, str, str]:
    """Address, DUID, IAID, hardware address and name of a lease."""
    address = str(lease.address) if isinstance(lease.address, Prefix) else format_address(lease.address)
    return address, lease.duid.hex(":"), lease.iaid, lease.hardware.hex(":"), lease.name


def every_cut_is_read_or_refused(reader: Reader, text: str) -> None:
    """Of a text that is cut off anywhere nothing but a MigrationError comes."""
    for end in range(len(text)):
        with suppress(MigrationError):
            document(reader([("cut.conf", text[:end])], no_file), "home")
