"""Family `effect`: what a subscriber did. Subject `effect.<subscriber>.<instance>`, written by that instance alone.

But for what operators ask of an instance, on `effect.<subscriber>.<instance>.asked`, which the API writes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from dnms.events.recorded import Event, Part

MAX_ITEMS = 100
"""That one event lists; a subscriber that is started anew may add as many as a site has."""

MAX_LACKING = 10_000
"""That one event lists of what could not be had: who waits for one of them has to find it."""

Lacking = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_LACKING)]

Items = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ITEMS)]


class EffectApplied(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The world of a subscriber is as the log says up to a position."""

    NAME = "effect.applied"
    position: int  # sequence of the newest commit that it knew
    added: Items = ()  # the first of what it added, as people read it; none: it was so already
    dropped: Items = ()
    more: int = 0  # that it added or dropped beside these
    lacks: Lacking = ()  # what it wants and cannot have now, as people read it
    waited: int = 0  # microseconds since the log had the first commit that made it necessary; 0: there was none


class EffectFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber cannot make its world so. It tries on, and says so when it could: `effect.applied`."""

    NAME = "effect.failed"
    position: int
    why: str  # a stable word
    text: str


MAX_CALLS = 1_000
"""That one event lists; a burst takes several."""


class Place(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One event of the log."""

    sequence: int
    index: int = 0


class Call(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The call for one event was done."""

    sequence: int
    index: int = 0
    attempts: int = 1  # since the instance was started
    waited: int = 0  # microseconds since the log had the event


class EffectCalled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber that calls for each event has done these calls."""

    NAME = "effect.called"
    position: int  # sequence: of every event up to it the call is done, or the event is none of its kinds, or is dead
    calls: Annotated[tuple[Call, ...], msgspec.Meta(max_length=MAX_CALLS)] = ()
    waiting: int = 0  # events behind, of its kinds, of which the call is not done yet
    delayed: int = 0  # of these, on how many a call failed


class EffectDelayed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The call for an event failed for the first time. It is tried again, and what comes behind it waits."""

    NAME = "effect.delayed"
    sequence: int
    index: int = 0
    kind: str  # name of the event
    why: str  # a stable word
    text: str


class EffectDead(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The call for an event failed for too long: a dead letter. What comes behind it waits no longer."""

    NAME = "effect.dead"
    sequence: int
    index: int = 0
    kind: str  # name of the event
    why: str  # the last time: a stable word
    text: str
    attempts: int  # since the instance was started


class EffectAsked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An operator wants dead letters to be tried again."""

    NAME = "effect.asked"
    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=MAX_CALLS)] = ()  # none: all that there are


EVENTS = (EffectApplied, EffectFailed, EffectCalled, EffectDelayed, EffectDead, EffectAsked)
