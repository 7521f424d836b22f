"""The messages between Node Agent and Subnet Agent, version 1, as typed values.

A datagram of discovery is `"DNMS" | version | kind | msgpack map`; a frame of a session is a 4-byte big-endian length
and a msgpack array `[kind, id, body]`. A field is added by adding a key; unknown keys are ignored.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from dnms.events.configuration import Assignment, Generation, Iaid
from dnms.events.ip import Address
from dnms.events.plan import Family
from dnms.events.recorded import Part
from dnms.events.seen import AppliedItem, DriftItem

VERSION = 1
LOWEST_VERSION = 1
"""The range of versions that this release speaks."""
PORT = 61047
GROUP = "ff12::8d4e:4d53"
"""Link-local scope, transient, a group id of RFC 3307's dynamic range."""
ALL_NODES = "ff02::1"
AGENT_NAME = "subnet-agent.dnms"
"""The DNS name in every Subnet Agent's certificate. A link-local address with its scope cannot be checked, so a node
checks that the site's root has signed for this name."""

MAX_ENDPOINTS = 32  # one agent has a few addresses; more is a broken or hostile peer
MAX_ASSOCIATIONS = 64  # interfaces times families of one node on one link; more is a broken or hostile peer
MAX_PREFIX_ASSOCIATIONS = 8  # of one node on one link, each with its prefixes
MAX_TEXT = 255  # of names and reasons
MAX_REGISTRATION = 256 * 1024  # bytes of an encoded snapshot; routes beyond are counted and not listed
MAX_DRIFT = 64  # items of one message; more at once are counted and not listed
MAX_CHUNKS = 64  # of one registration; more, smaller ones only cost the agent

MIN_PING_EVERY, MAX_PING_EVERY = 1, 3_600  # seconds; agents say 3 to 15
MIN_T1 = 1  # seconds; a node that renews at once would do so for ever

FOREVER = 0xFFFF_FFFF
"""A lifetime that does not end (RFC 8415, 7.7)."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=FOREVER)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""SHA-256 of the bytes of an encoded snapshot."""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class Message(Part, frozen=True, kw_only=True, omit_defaults=True):
    """A frame's body; KIND is its name on the wire."""

    KIND: ClassVar[str]


class Endpoint(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An address and TCP port that an agent listens on; a link-local one is on the link of the datagram."""

    address: Address
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Solicit(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Multicast by a node: who serves this link? Padded, so that no answer is larger than it."""

    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Offer(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An agent's answer. Carries nothing that is believed before TLS has proven the agent."""

    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    site: Text
    subnet: Text
    agent: Text
    endpoints: Annotated[tuple[Endpoint, ...], msgspec.Meta(min_length=1, max_length=MAX_ENDPOINTS)]
    load: Annotated[int, msgspec.Meta(ge=0)] = 0  # open sessions
    preference: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    root: Annotated[bytes, msgspec.Meta(max_length=32)] = b""  # SHA-256 of the site's root certificate


class PrefixAssociation(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An association for prefix delegation (RFC 8415, 6.3): the node wants a prefix to cut its own links from."""

    iaid: Iaid
    length: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # the hint (RFC 8415, 18.2.4); 0: none


class Hello(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: who it is, and the range of versions that it speaks."""

    KIND = "hello"
    lowest: int
    highest: int
    duid: Annotated[bytes, msgspec.Meta(min_length=3, max_length=130)]  # RFC 8415, 11.1
    name: Text
    interface: Text  # its own name of the interface on this link
    capabilities: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] = ()
    prefixes: Annotated[tuple[PrefixAssociation, ...], msgspec.Meta(max_length=MAX_PREFIX_ASSOCIATIONS)] = ()
    """What it wants as long as the session lasts: with every assignment it is told what it has of that."""


class Welcome(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Agent: the version chosen, who and where it is."""

    KIND = "welcome"
    version: int
    agent: Text
    site: Text
    subnet: Text
    mode: Text = "manage"  # observe, manage, manage-ra-gateway
    time: int  # the agent's wall clock, microseconds since 1970-01-01 UTC
    ping_every: Annotated[int, msgspec.Meta(ge=MIN_PING_EVERY, le=MAX_PING_EVERY)] = 15  # seconds
    capabilities: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] = ()
    outage: bool = False  # it cannot reach the log


class Register(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: a piece of its whole configuration: the encoded snapshot, cut, with the digest of the whole."""

    KIND = "register"
    digest: Digest  # of the whole
    chunk: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNKS)]
    chunks: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNKS)]
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_REGISTRATION)]
    follows: Annotated[bytes, msgspec.Meta(max_length=32)] = b""  # digest of what an agent has confirmed to it last


class Registered(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Agent: the whole configuration has come and is in the log, or is going to be where that cannot be reached."""

    KIND = "registered"
    digest: Digest


class Observe(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: its configuration changed; a small one whole. `previous` is the digest that it follows."""

    KIND = "observe"
    previous: Digest
    digest: Digest
    snapshot: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_REGISTRATION)]  # encoded


class Association(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An identity association (RFC 8415, 4.2): one address of one family for one interface."""

    iaid: Iaid
    family: Family
    held: Address | None = None


Associations = Annotated[tuple[Association, ...], msgspec.Meta(max_length=MAX_ASSOCIATIONS)]


class RequestAddresses(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: the associations that it wants served."""

    KIND = "request"
    associations: Associations
    generation: Generation | None = None  # of what the node has from this subnet; an agent behind it catches up first


class Assign(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Agent: the complete wanted configuration, as an answer or pushed. `refused`: which families, and why."""

    KIND = "assign"
    assignment: Assignment
    renew_after: Seconds  # T1
    rebind_after: Seconds  # T2
    refused: Annotated[dict[str, Text], msgspec.Meta(max_length=8)] = {}  # "4" or "6" to a stable word
    outage: bool = False  # the agent cannot reach the log: this is what it may give by itself


class Binding(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An address that a node holds."""

    iaid: Iaid
    address: Address


Bindings = Annotated[tuple[Binding, ...], msgspec.Meta(max_length=MAX_ASSOCIATIONS)]


class Applied(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: what became of an assignment. After one that is `unproven` comes another, with the outcome of its proof."""

    KIND = "applied"
    generation: Generation
    items: Annotated[tuple[AppliedItem, ...], msgspec.Meta(max_length=MAX_ASSOCIATIONS)] = ()
    unproven: bool = False
    why: Text = ""  # it was rolled back: a stable word


class Drifted(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: what somebody else changed of what it was assigned, and what it did about that. Needs no answer; an agent
    that does not know this kind says so, and that is all."""

    KIND = "drifted"
    generation: Generation
    items: Annotated[tuple[DriftItem, ...], msgspec.Meta(min_length=1, max_length=MAX_DRIFT)]
    action: Text  # left, reported, restored, contested
    rival: Text = ""  # who manages the link beside DNMS, where that was recognised
    more: Annotated[int, msgspec.Meta(ge=0)] = 0  # items that are not listed
    restored: Annotated[int, msgspec.Meta(ge=0)] = 0  # contested: times that each was put back,
    within: Seconds = 0  # in so many seconds,
    hold: Seconds = 0  # and seconds until it is tried again


class Renew(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node, at T1, to the agent of its session."""

    KIND = "renew"
    bindings: Bindings
    wanted: Associations = ()  # what it has no binding for, and still wants (RFC 8415, 18.2.4)
    generation: Generation | None = None


class Rebind(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node, at T2, to any agent."""

    KIND = "rebind"
    bindings: Bindings
    wanted: Associations = ()  # what it has no binding for, and still wants (RFC 8415, 18.2.4)
    generation: Generation | None = None


class Confirm(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node, after a link flap or a reboot: are these still right on this link?"""

    KIND = "confirm"
    bindings: Bindings
    wanted: Associations = ()  # what it has no binding for, and still wants
    generation: Generation | None = None


class Release(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: gives these back."""

    KIND = "release"
    bindings: Bindings


class Decline(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Node: found these in use by another. Answered by an `assign` with others."""

    KIND = "decline"
    bindings: Bindings
    wanted: Associations = ()  # what it lacks besides: a node may come to an agent with this


class Extended(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Agent: the lifetimes of all that the node holds begin anew."""

    KIND = "extended"
    preferred: Seconds
    valid: Seconds
    renew_after: Seconds
    rebind_after: Seconds


class Ping(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Either: are you there?"""

    KIND = "ping"


class Pong(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Either: yes."""

    KIND = "pong"


class Error(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Either: what was asked was not done."""

    KIND = "error"
    code: Text  # a stable word
    text: Text = ""  # for people
    retry_after: Seconds = 0  # 0: not as it is


class Bye(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Either: the session ends here. An agent that leaves may say where to go."""

    KIND = "bye"
    why: Text  # a stable word
    go_to: Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=MAX_ENDPOINTS)] = ()


MESSAGES: tuple[type[Message], ...] = (
    Hello,
    Welcome,
    Register,
    Registered,
    Observe,
    RequestAddresses,
    Assign,
    Applied,
    Drifted,
    Renew,
    Rebind,
    Confirm,
    Release,
    Decline,
    Extended,
    Ping,
    Pong,
    Error,
    Bye,
)
