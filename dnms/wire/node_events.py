"""What a node's session tells its shell."""

from __future__ import annotations

import msgspec

from dnms.events.configuration import Assignment
from dnms.wire import messages
from dnms.wire.channel import Closed
from dnms.wire.exchanges import Exchange
from dnms.wire.node_state import Unconfigured


class Welcomed(msgspec.Struct, frozen=True):
    """The agent took us in. Check its certificate against its time now, then call `register`."""

    welcome: messages.Welcome


class Assigned(msgspec.Struct, frozen=True):
    """The complete wanted configuration: apply it, then call `applied`. Lifetimes count from `began`."""

    assignment: Assignment
    began: float
    refused: dict[str, str]
    outage: bool = False  # the agent cannot reach the log


class Extended(msgspec.Struct, frozen=True):
    """The lifetimes of all that is held, in seconds from `began`. Permanent addresses stay as they are."""

    preferred: int
    valid: int
    began: float


class Refused(msgspec.Struct, frozen=True):
    """The agent did not do what was asked in this exchange; the session asks again by itself."""

    exchange: Exchange
    code: str
    text: str


class Answered(msgspec.Struct, frozen=True):
    """The agent is there: it has answered what the shell asked by `NodeSession.ask`, and since then."""


NodeEvent = Welcomed | Assigned | Extended | Refused | Answered | Unconfigured | Closed
