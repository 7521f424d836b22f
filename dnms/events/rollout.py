"""Family `rollout`: what a new plan has nodes told, in waves. Subject `ledger.<subnet>`.

A rollout is named by the position of the plan that it brings.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from dnms.events.configuration import ClientId
from dnms.events.recorded import Event

MAX_CLIENTS = 1_000
"""In one event and request; who has more to say does so again."""

Clients = Annotated[tuple[ClientId, ...], msgspec.Meta(max_length=MAX_CLIENTS)]
Failed = Literal["rolled-back", "refused", "silent"]
"""The node went back to what it had, could not do it, or has not said what became of it."""


class RolloutBegun(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The plan that is adopted next in this commit has nodes told something else, and they are told it in waves."""

    NAME = "rollout.begun"
    position: int


class RolloutTold(Event, frozen=True, kw_only=True, omit_defaults=True):
    """These nodes are told from now on what the plan says. The log says it before anybody tells them."""

    NAME = "rollout.told"
    position: int
    clients: Clients


class RolloutProven(Event, frozen=True, kw_only=True, omit_defaults=True):
    """These nodes have what they were told, and it can be used."""

    NAME = "rollout.proven"
    position: int
    clients: Clients


class RolloutAdvanced(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The next wave begins: what was told so far is proven."""

    NAME = "rollout.advanced"
    position: int
    wave: int  # 0: the canaries, or the first wave where there are none


class RolloutStopped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Nobody else is told, since this node could not take it."""

    NAME = "rollout.stopped"
    position: int
    client: ClientId
    why: Failed


class RolloutPaused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An operator wants nobody else to be told for now."""

    NAME = "rollout.paused"
    position: int


class RolloutResumed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """It goes on, and what was not proven until now is not waited for."""

    NAME = "rollout.resumed"
    position: int


class RolloutAborted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All nodes are told what they were before, until another plan comes."""

    NAME = "rollout.aborted"
    position: int


class RolloutEnded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Every node is told what the plan says from now on."""

    NAME = "rollout.ended"
    position: int
    why: Literal["proven", "replaced"]  # replaced: another plan has come that goes to all at once, or back


EVENTS = (
    RolloutBegun,
    RolloutTold,
    RolloutProven,
    RolloutAdvanced,
    RolloutStopped,
    RolloutPaused,
    RolloutResumed,
    RolloutAborted,
    RolloutEnded,
)
