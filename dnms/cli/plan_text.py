"""A plan as TOML, as `dnms plan apply` reads it."""

from __future__ import annotations

from typing import Any

import tomlkit
from tomlkit.items import Integer, Trivia


def to_toml(document: dict[str, Any]) -> str:
    """The document (see `dnms.domain.document`) as text; keys that hold nothing are left out."""
    written = _without_empty(document)
    for group in written.get("group", ()):
        # As it stands in addresses: its members are easier to find so.
        group["number"] = Integer(group["number"], Trivia(), f"{group['number']:#06x}")
    return tomlkit.dumps(written)


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(one) for key, one in value.items() if one not in ([], {}, "", None)}
    if isinstance(value, list):
        return [_without_empty(one) for one in value]
    return value
