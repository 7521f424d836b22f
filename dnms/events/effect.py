"""Family `effect`: what a subscriber did. Subject `effect.<subscriber>.<instance>`, written by that instance alone."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dnms.events.recorded import Event

MAX_ITEMS = 100
"""That one event lists; a subscriber that is started anew may add as many as a site has."""

Items = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ITEMS)]


class EffectApplied(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The world of a subscriber is as the log says up to a position."""

    NAME = "effect.applied"
    position: int  # sequence of the newest commit that it knew
    added: Items = ()  # the first of what it added, as people read it; none: it was so already
    dropped: Items = ()
    more: int = 0  # that it added or dropped beside these
    waited: int = 0  # microseconds since the log had the first commit that made it necessary; 0: there was none


class EffectFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber cannot make its world so. It tries on, and says so when it could: `effect.applied`."""

    NAME = "effect.failed"
    position: int
    why: str  # a stable word
    text: str


EVENTS = (EffectApplied, EffectFailed)
