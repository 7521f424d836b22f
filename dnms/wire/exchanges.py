"""What a node is doing (RFC 8415, 18.2), as tables: the sessions run them, and the published diagram shows them.

Beside the exchange stands one boolean, *configured* (`node_state`): it survives the loss of any session. `timers` has
how long each exchange waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dnms.wire.errors import Code, PeerError


class Exchange(StrEnum):
    """What goes on between the node and its agent."""

    DISCOVERING = "discovering"  # no session
    CONNECTING = "connecting"
    REGISTERING = "registering"
    REQUESTING = "requesting"
    APPLYING = "applying"  # the kernel has the assignment, and DAD goes on
    IDLE = "idle"
    RENEWING = "renewing"
    REBINDING = "rebinding"
    CONFIRMING = "confirming"
    RELEASING = "releasing"


class On(StrEnum):
    """What moves a node from one exchange to another."""

    SOLICIT = "time to solicit"
    OFFER = "offers collected"
    WELCOME = "welcome"
    REGISTERED_LACKING = "registered, addresses wanted"  # not configured, or a duplicate is to be replaced
    REGISTERED_CONFIGURED = "registered"
    REGISTERED_LATE = "registered, T2 passed"
    ASSIGN = "assign"
    EXTENDED = "extended"
    APPLIED = "applied"
    T1 = "T1"
    T2 = "T2"
    LINK_UP = "link came back"
    ASK_AGAIN = "addresses wanted, time to ask"
    DECLINED = "duplicate found"
    NO_BINDING = "error no-binding"
    NOT_ON_LINK = "error not-on-link"
    REFUSED = "another error"
    EXPIRED = "expired"
    RELEASE = "release"
    NO_ANSWER = "no answer"
    SILENCE = "agent is silent"
    ENDED = "session ended"


_E = Exchange

NEXT: Mapping[tuple[Exchange, On], Exchange] = {
    (_E.DISCOVERING, On.SOLICIT): _E.DISCOVERING,
    (_E.DISCOVERING, On.OFFER): _E.CONNECTING,
    (_E.CONNECTING, On.WELCOME): _E.REGISTERING,
    (_E.REGISTERING, On.REGISTERED_LACKING): _E.REQUESTING,
    (_E.REGISTERING, On.REGISTERED_CONFIGURED): _E.CONFIRMING,
    (_E.REGISTERING, On.REGISTERED_LATE): _E.REBINDING,
    (_E.REQUESTING, On.ASSIGN): _E.APPLYING,
    (_E.REQUESTING, On.EXTENDED): _E.REQUESTING,
    (_E.REQUESTING, On.DECLINED): _E.REQUESTING,
    (_E.REQUESTING, On.REFUSED): _E.IDLE,
    (_E.APPLYING, On.APPLIED): _E.IDLE,
    (_E.APPLYING, On.ASSIGN): _E.APPLYING,
    (_E.APPLYING, On.EXTENDED): _E.APPLYING,
    (_E.APPLYING, On.DECLINED): _E.REQUESTING,
    (_E.APPLYING, On.EXPIRED): _E.REQUESTING,
    (_E.IDLE, On.ASSIGN): _E.APPLYING,
    (_E.IDLE, On.EXTENDED): _E.IDLE,
    (_E.IDLE, On.T1): _E.RENEWING,
    (_E.IDLE, On.T2): _E.DISCOVERING,
    (_E.IDLE, On.LINK_UP): _E.CONFIRMING,
    (_E.IDLE, On.ASK_AGAIN): _E.REQUESTING,
    (_E.IDLE, On.DECLINED): _E.REQUESTING,
    (_E.IDLE, On.EXPIRED): _E.REQUESTING,
    (_E.RENEWING, On.ASSIGN): _E.APPLYING,
    (_E.RENEWING, On.EXTENDED): _E.IDLE,
    (_E.RENEWING, On.T2): _E.DISCOVERING,
    (_E.RENEWING, On.DECLINED): _E.REQUESTING,
    (_E.RENEWING, On.NO_BINDING): _E.REQUESTING,
    (_E.RENEWING, On.NOT_ON_LINK): _E.REQUESTING,
    (_E.RENEWING, On.REFUSED): _E.IDLE,
    (_E.RENEWING, On.EXPIRED): _E.REQUESTING,
    (_E.REBINDING, On.ASSIGN): _E.APPLYING,
    (_E.REBINDING, On.EXTENDED): _E.IDLE,
    (_E.REBINDING, On.DECLINED): _E.REQUESTING,
    (_E.REBINDING, On.NO_BINDING): _E.REQUESTING,
    (_E.REBINDING, On.NOT_ON_LINK): _E.REQUESTING,
    (_E.REBINDING, On.EXPIRED): _E.REQUESTING,
    (_E.CONFIRMING, On.ASSIGN): _E.APPLYING,
    (_E.CONFIRMING, On.EXTENDED): _E.IDLE,
    (_E.CONFIRMING, On.T2): _E.DISCOVERING,
    (_E.CONFIRMING, On.DECLINED): _E.REQUESTING,
    (_E.CONFIRMING, On.NO_BINDING): _E.REQUESTING,
    (_E.CONFIRMING, On.NOT_ON_LINK): _E.REQUESTING,
    (_E.CONFIRMING, On.REFUSED): _E.IDLE,
    (_E.CONFIRMING, On.EXPIRED): _E.REQUESTING,
    **{
        (exchange, On.EXPIRED): exchange  # what it asks for next is asked without what it had
        for exchange in (_E.DISCOVERING, _E.CONNECTING, _E.REGISTERING, _E.REQUESTING)
    },
    **{
        (exchange, On.RELEASE): _E.RELEASING
        for exchange in (_E.REQUESTING, _E.APPLYING, _E.IDLE, _E.RENEWING, _E.REBINDING, _E.CONFIRMING)
    },
    (_E.RELEASING, On.ASSIGN): _E.RELEASING,  # crossed the release on its way
    (_E.RELEASING, On.EXTENDED): _E.RELEASING,
    **{
        (exchange, on): _E.DISCOVERING
        for on in (On.NO_ANSWER, On.SILENCE, On.ENDED)
        for exchange in _E
        if exchange is not _E.DISCOVERING
    },
}
"""Every legal transition. A message that has none here is the peer's error."""

IF_CONFIGURED = frozenset({On.REGISTERED_CONFIGURED, On.REGISTERED_LATE, On.LINK_UP, On.T1, On.T2, On.EXPIRED})
"""What concerns a node only while it is configured."""

STRIPS: Mapping[On, Code] = {
    On.EXPIRED: Code.EXPIRED,
    On.NOT_ON_LINK: Code.NOT_ON_LINK,
    On.RELEASE: Code.RELEASED,
}
"""After these a node is not configured, whatever exchange goes on: what it held is stripped, and why."""


def may(exchange: Exchange, on: On, *, configured: bool) -> bool:
    """Whether this can move a node that is so."""
    return (exchange, on) in NEXT and (configured or on not in IF_CONFIGURED)


def following(exchange: Exchange, on: On) -> Exchange:
    """The exchange that follows; PeerError `unexpected` if there is none."""
    try:
        return NEXT[exchange, on]
    except KeyError:
        raise PeerError(Code.UNEXPECTED, f"{on} while {exchange}") from None
