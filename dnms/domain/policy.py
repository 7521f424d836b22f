"""How nodes are managed: the policy as people write it, and what it is for one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from dnms.domain.written import AddressText, PrefixText, Table
from dnms.events.configuration import Drift, Mode, Policy, Rivals
from dnms.events.ip import format_address
from dnms.events.plan import PolicyChoice

MAX_CONFIRM = 3_600
"""Seconds; a node that is cut off is not to stay so for longer."""

_Drain = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Confirm = Annotated[int, msgspec.Meta(ge=0, le=MAX_CONFIRM)]


class PolicyTable(Table, kw_only=True):
    """What is said of a policy. What is left out is as it is for everybody there."""

    mode: Mode | None = None
    keep: list[PrefixText] | None = None
    drain: _Drain | None = None
    confirm: _Confirm | None = None
    probe: AddressText | None = None
    drift: Drift | None = None
    optimistic: bool | None = None
    rivals: Rivals | None = None


def choice_of(table: PolicyTable) -> PolicyChoice:
    """What is written, as the plan has it."""
    return PolicyChoice(
        mode=table.mode,
        keep=None if table.keep is None else tuple(prefix.value for prefix in table.keep),
        drain=table.drain,
        confirm=table.confirm,
        probe=None if table.probe is None else table.probe.value,
        drift=table.drift,
        optimistic=table.optimistic,
        rivals=table.rivals,
    )


def table_of(choice: PolicyChoice) -> dict[str, Any]:
    """As it is written; what nothing is said of is left out."""
    said = {name: value for name in choice.__struct_fields__ if (value := getattr(choice, name)) is not None}
    if choice.keep is not None:
        said["keep"] = [str(prefix) for prefix in choice.keep]
    if choice.probe is not None:
        said["probe"] = format_address(choice.probe)
    return said


def narrowest(choices: Sequence[PolicyChoice]) -> PolicyChoice:
    """Of each item what the first of the choices says that says something of it."""
    said = {
        name: next((value for choice in choices if (value := getattr(choice, name)) is not None), None)
        for name in PolicyChoice.__struct_fields__
    }
    return PolicyChoice(**said)


def policy_of(choice: PolicyChoice) -> Policy:
    """The policy, by its defaults where nothing is chosen."""
    said = {name: value for name in choice.__struct_fields__ if (value := getattr(choice, name)) is not None}
    return Policy(**said)
