"""Which machine this is, and how its interfaces are named towards agents."""

from __future__ import annotations

import zlib
from pathlib import Path

SMBIOS_UUID = Path("/sys/class/dmi/id/product_uuid")


def machine() -> str:
    """The SMBIOS UUID; empty where there is none, or none for us to read."""
    try:
        return SMBIOS_UUID.read_text().strip()
    except OSError:
        return ""


def iaid_of(interface: str) -> int:
    """The IAID of an interface: as stable as its name."""
    return zlib.crc32(interface.encode())
