"""What a node is doing (RFC 8415, 18.2), as a table: the sessions run it, and the published diagram is drawn from it.

Beside the exchange stands one boolean, *configured* (`node_state`): it survives the loss of any session.
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

    OFFER = "offer"
    WELCOME = "welcome"
    REGISTERED_NEW = "registered, not configured"
    REGISTERED_CONFIGURED = "registered, configured"
    REGISTERED_LATE = "registered, T2 passed"
    ASSIGN = "assign"
    EXTENDED = "extended"
    APPLIED = "applied"
    T1 = "T1"
    T2 = "T2"
    LINK_UP = "link came back"
    ASK_AGAIN = "not configured, time to ask"
    DECLINED = "duplicate found"
    NO_BINDING = "error no-binding"
    NOT_ON_LINK = "error not-on-link"
    REFUSED = "another error"
    EXPIRED = "expired"
    RELEASE = "release"
    ENDED = "session ended"


_E = Exchange

NEXT: Mapping[tuple[Exchange, On], Exchange] = {
    (_E.DISCOVERING, On.OFFER): _E.CONNECTING,
    (_E.CONNECTING, On.WELCOME): _E.REGISTERING,
    (_E.REGISTERING, On.REGISTERED_NEW): _E.REQUESTING,
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
        (exchange, On.RELEASE): _E.RELEASING
        for exchange in (_E.REQUESTING, _E.APPLYING, _E.IDLE, _E.RENEWING, _E.REBINDING, _E.CONFIRMING)
    },
    (_E.RELEASING, On.ASSIGN): _E.RELEASING,  # crossed the release on its way
    (_E.RELEASING, On.EXTENDED): _E.RELEASING,
    **{(exchange, On.ENDED): _E.DISCOVERING for exchange in _E if exchange is not _E.DISCOVERING},
}
"""Every legal transition. A message that has none here is the peer's error."""


def following(exchange: Exchange, on: On) -> Exchange:
    """The exchange that follows; PeerError `unexpected` if there is none."""
    try:
        return NEXT[exchange, on]
    except KeyError:
        raise PeerError(Code.UNEXPECTED, f"{on} while {exchange}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram: one line a pair of exchanges, and one for the end of any session."""
    labels: dict[tuple[Exchange, Exchange], list[str]] = {}
    for (exchange, on), then in NEXT.items():
        if on is not On.ENDED:
            labels.setdefault((exchange, then), []).append(on)
    arrows = {pair: f"{pair[0]} --> {pair[1]}: {' / '.join(on)}" for pair, on in labels.items()}
    discovering = Exchange.DISCOVERING
    inside = [arrow for pair, arrow in arrows.items() if discovering not in pair]
    outside = [arrow for pair, arrow in arrows.items() if discovering in pair]
    lines = ["stateDiagram-v2", f"    [*] --> {discovering}", "    state session {"]
    lines += [f"        {arrow}" for arrow in inside]
    lines += ["    }", *(f"    {arrow}" for arrow in outside)]
    lines += [f"    session --> {discovering}: {On.ENDED}"]
    return "\n".join(lines) + "\n"
