"""What a requesting router does, and what follows when, as a table (RFC 8415, 18.2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dnms.wire.dhcp6 import retransmission
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.retransmission import Timing


class Exchange(StrEnum):
    """What a client is doing."""

    SOLICITING = "soliciting"
    REQUESTING = "requesting"
    BOUND = "bound"  # nothing: it waits for T1
    RENEWING = "renewing"
    CONFIRMING = "confirming"  # a Rebind with the times of a Confirm (RFC 8415, 18.2.12)
    REBINDING = "rebinding"
    RELEASING = "releasing"
    ENDED = "ended"


class On(StrEnum):
    """What ends an exchange."""

    ADVERTISE = "advertise"
    BOUND = "bound"  # a Reply with prefixes
    NOTHING = "nothing"  # a Reply after which it has none, or the last one expired
    NO_BINDING = "no-binding"  # a Reply of a server that does not know it
    REFUSED = "refused"  # a Reply that gives nothing
    NO_ANSWER = "no-answer"
    T1 = "t1"
    T2 = "t2"
    LINK = "link"  # it came back
    RELEASE = "release"
    RELEASED = "released"


NEXT: Mapping[tuple[Exchange, On], Exchange] = {
    (Exchange.SOLICITING, On.ADVERTISE): Exchange.REQUESTING,
    (Exchange.SOLICITING, On.BOUND): Exchange.BOUND,
    (Exchange.REQUESTING, On.BOUND): Exchange.BOUND,
    (Exchange.REQUESTING, On.REFUSED): Exchange.SOLICITING,
    (Exchange.REQUESTING, On.NO_ANSWER): Exchange.SOLICITING,
    (Exchange.REQUESTING, On.NOTHING): Exchange.SOLICITING,
    (Exchange.REQUESTING, On.LINK): Exchange.SOLICITING,
    (Exchange.BOUND, On.T1): Exchange.RENEWING,
    **{
        (exchange, on): then
        for exchange in (Exchange.BOUND, Exchange.RENEWING, Exchange.CONFIRMING, Exchange.REBINDING)
        for on, then in (
            (On.BOUND, Exchange.BOUND),
            (On.NO_BINDING, Exchange.REQUESTING),
            (On.NOTHING, Exchange.SOLICITING),
            (On.T2, Exchange.REBINDING),
            (On.NO_ANSWER, Exchange.REBINDING),
            (On.LINK, Exchange.CONFIRMING),
        )
    },
    **{
        (exchange, On.RELEASE): Exchange.RELEASING
        for exchange in (Exchange.BOUND, Exchange.RENEWING, Exchange.CONFIRMING, Exchange.REBINDING)
    },
    (Exchange.SOLICITING, On.RELEASE): Exchange.ENDED,
    (Exchange.REQUESTING, On.RELEASE): Exchange.ENDED,
    (Exchange.RELEASING, On.RELEASED): Exchange.ENDED,
    (Exchange.RELEASING, On.NO_ANSWER): Exchange.ENDED,
}
"""What follows. `NO_ANSWER` of one that rebinds already never comes: it asks until the last prefix has expired."""

ASKS: Mapping[Exchange, tuple[Kind, Timing]] = {
    Exchange.SOLICITING: (Kind.SOLICIT, retransmission.SOLICIT),
    Exchange.REQUESTING: (Kind.REQUEST, retransmission.REQUEST),
    Exchange.RENEWING: (Kind.RENEW, retransmission.RENEW),
    Exchange.CONFIRMING: (Kind.REBIND, retransmission.CONFIRM),
    Exchange.REBINDING: (Kind.REBIND, retransmission.REBIND),
    Exchange.RELEASING: (Kind.RELEASE, retransmission.RELEASE),
}
"""The message of each exchange that has one, and when it is sent."""

TO_ONE = frozenset({Kind.REQUEST, Kind.RENEW, Kind.RELEASE})
"""Messages that name the server that they are for."""
