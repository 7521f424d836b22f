"""A plan as TOML, as `dnms plan apply` reads it."""

from __future__ import annotations

from typing import Any

import tomlkit
from tomlkit.items import Integer, Trivia


def to_toml(document: dict[str, Any]) -> str:
    """The document (see `dnms.domain.document`) as text; keys that hold nothing and say nothing are left out."""
    written = _without_empty(document)
    for group in written.get("group", ()):
        # As it stands in addresses: its members are easier to find so.
        group["number"] = Integer(group["number"], Trivia(), f"{group['number']:#06x}")
    return tomlkit.dumps(written)


def _without_empty(value: Any, part: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(one, key) for key, one in value.items() if one or one == 0 or _says(part, key)}
    if isinstance(value, list):
        return [_without_empty(one, part) for one in value]
    return value


def _says(part: str, key: str) -> bool:
    """Whether what is empty says something: a group has none of these for its members, where others have some."""
    return part in ("dhcp", "option") or (part == "group" and key != "nodes")
