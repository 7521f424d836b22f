"""Which machine this is."""

from __future__ import annotations

from pathlib import Path

SMBIOS_UUID = Path("/sys/class/dmi/id/product_uuid")


def machine() -> str:
    """The SMBIOS UUID; empty where there is none, or none for us to read."""
    try:
        return SMBIOS_UUID.read_text().strip()
    except OSError:
        return ""
