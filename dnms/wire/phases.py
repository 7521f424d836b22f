"""What an agent takes from a node, by how far the node has come: a table, which `agent_session` runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from dnms.wire import messages


class Phase(StrEnum):
    """How far a node has come."""

    GREETING = "greeting"  # it has not said who it is
    WELCOMING = "welcoming"  # the shell has not answered that
    REGISTERING = "registering"
    OPEN = "open"
    CLOSED = "closed"


_LEAVING: frozenset[type[Any]] = frozenset({messages.Bye, messages.Error})

ACCEPTS: Mapping[Phase, frozenset[type[Any]]] = {
    Phase.GREETING: _LEAVING | {messages.Hello},
    Phase.WELCOMING: _LEAVING,
    Phase.REGISTERING: _LEAVING | {messages.Register},
    Phase.OPEN: _LEAVING
    | {
        messages.Register,
        messages.Observe,
        messages.RequestAddresses,
        messages.Applied,
        messages.Drifted,
        messages.Renew,
        messages.Rebind,
        messages.Confirm,
        messages.Release,
        messages.Decline,
    },
    Phase.CLOSED: frozenset(),
}
"""What a node may say in each phase, beside `ping` and `pong`. Anything else is its error."""
