"""Options that a plan has as they are, in `dhcp.option`: those that DNMS knows nothing of (IANA's registries)."""

from __future__ import annotations

from typing import Any

from dnms.domain.dhcp_table import SERVED
from dnms.events.ip import format_address
from dnms.migration.model import Told, addresses

ADDRESSES: dict[int, dict[str, int]] = {
    4: {
        "time-servers": 4,
        "log-servers": 7,
        "cookie-servers": 8,
        "lpr-servers": 9,
        "impress-servers": 10,
        "resource-location-servers": 11,
        "nis-servers": 41,
        "netbios-name-servers": 44,
        "netbios-dd-server": 45,
        "font-servers": 48,
        "x-display-manager": 49,
        "nisplus-servers": 65,
        "smtp-server": 69,
        "pop-server": 70,
        "nntp-server": 71,
        "www-server": 72,
    },
    6: {"sip-server-addr": 22, "nis-servers": 27, "nisp-servers": 28},
}
"""By family and name, those that are addresses."""

TEXTS: dict[int, dict[str, int]] = {
    4: {
        "merit-dump": 14,
        "root-path": 17,
        "extensions-path": 18,
        "nis-domain": 40,
        "nisplus-domain-name": 64,
        "pcode": 100,
        "tcode": 101,
        "v4-captive-portal": 114,
    },
    6: {"new-posix-timezone": 41, "new-tzdb-timezone": 42, "v6-captive-portal": 103},
}
"""Those that are texts."""


def code_of(kind: int, name: str) -> int | None:
    """The code of one of these."""
    return ADDRESSES[kind].get(name) or TEXTS[kind].get(name)


def take(told: Told, kind: int, code: int, values: list[str]) -> None:
    """Have clients be told one of these, of these addresses, or of this text. ValueError."""
    if code in ADDRESSES[kind].values():
        put(told, kind, code, {"addresses": [format_address(each) for each in addresses(values, kind)]})
    else:
        [text] = values
        put(told, kind, code, {"text": text})


def put(told: Told, kind: int, code: int, value: dict[str, Any]) -> None:
    """Have clients be told an option, its value as a plan has it. ValueError."""
    if code in SERVED[kind]:
        raise ValueError("DNMS says it by other keys of the plan, if at all")
    told.options = told.options | {(kind, code): value}
