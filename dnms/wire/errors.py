"""Whose fault it is, by a stable word that is counted, logged and sent."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Every word that this side says in an `error`, counts as dropped, or gives as the reason for a session's end."""

    # datagrams
    HOP_LIMIT = "hop-limit"  # below 255: from off the link (RFC 5082)
    TOO_SHORT = "too-short"
    MAGIC = "magic"
    KIND = "kind"
    UNPADDED = "unpadded"  # a solicit smaller than the largest offer would amplify
    NONCE = "nonce"
    DIRECTION = "direction"  # a solicit to a node, an offer to an agent
    RATE = "rate"
    PEER_RATE = "peer-rate"
    TOO_MANY = "too-many"
    CLIENT_ID = "client-id"  # a DHCPv6 message without one, or of another client (RFC 8415, 16)
    SERVER_ID = "server-id"  # a DHCPv6 message for another server, or with or without one against RFC 8415, 16
    # both
    VERSION = "version"
    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    # frames and sessions
    UNKNOWN_KIND = "unknown-kind"
    UNEXPECTED = "unexpected"  # this message has no place here
    LATE = "late"  # an answer to nothing that is asked
    STALE = "stale"  # an assignment of a lower generation, or a report of one that was not assigned
    REPEATED = "repeated"  # a request that is being answered
    TOO_FAST = "too-fast"
    TRUNCATED = "truncated"  # the stream ended in the middle of a frame
    HELLO_TIMEOUT = "hello-timeout"
    REGISTER_TIMEOUT = "register-timeout"
    TIMEOUT = "timeout"  # a request has no answer
    DEAD_PEER = "dead-peer"  # not a byte, not a pong
    END = "end"  # the stream ended
    BYE = "bye"  # the peer took its leave
    REFUSED = "refused"  # the peer sent an error that ends the session
    REBIND = "rebind"  # T2 passed: look for any agent
    LEAVING = "leaving"  # this side ends the session
    RELEASED = "released"
    EXPIRED = "expired"
    # between a relay and an agent
    NO_HELLO = "no-hello"  # what a node says first is no ClientHello of TLS
    NO_AGENT = "no-agent"  # none that the relay knows takes a node now
    UNTRUSTED = "untrusted"  # the relay's certificate is none of the site's, or not valid now
    SIGNATURE = "signature"  # that of the relay is not one of what it says
    NOT_AUTHORISED = "not-authorised"  # the agent was not told of that relay
    OTHER_SUBNET = "other-subnet"  # the relay is on the link of another one
    # answers to a request
    BUSY = "busy"
    DIGEST = "digest"  # the agent does not know the snapshot that this one follows: register a whole one
    NOT_ON_LINK = "not-on-link"  # RFC 8415, 21.13
    NO_BINDING = "no-binding"  # RFC 8415, 21.13


class PeerError(Exception):
    """The peer sent what it must not; `why` is counted and, in a session, sent to it before the session closes."""

    def __init__(self, why: Code, text: str = "") -> None:
        super().__init__(text or str(why))
        self.why = why
        self.text = text
