"""A server's end of DHCPv4: what a client's message asks, the message that answers it, and by which way (RFC 2131, 4).

Nothing is remembered between two messages: what a client has is the ledger's to know.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dnms.events.ip import MAPPED, Address, format_address
from dnms.wire.dhcp4.codes import BROADCAST, CLIENT_PORT, ETHERNET, SERVER_PORT, SMALLEST, Kind, Op, Option
from dnms.wire.dhcp4.messages import MAX_FILE, NOBODY, Message
from dnms.wire.dhcp4.options import Options
from dnms.wire.dhcp4.values import Route, text
from dnms.wire.dhcp6.values import read_names
from dnms.wire.errors import Code, PeerError

EVERYBODY = MAPPED + b"\xff" * 4
MAX_HOPS = 16
"""Relays that a message has come through (RFC 1542, 4.1.1): more are a loop."""

LARGEST = 1_500
"""Bytes of an IP datagram that is sent, whatever a client takes: it is not to be fragmented on the link."""

MOST_REPEATED = 255
"""Bytes of client id and relay's option together in the answer to who takes no more than the smallest message."""

_UNASKED = (Option.MASK, Option.ROUTERS, Option.DNS_SERVERS, Option.DOMAIN)
"""What is told to who does not say what it wants."""

_HTTP_CLIENT = b"HTTPClient"
"""Begins the vendor class of firmware that boots by HTTP, which wants to hear it again (UEFI 2.10, 24.7.3)."""

_CANONICAL = 0x04
"""Flag of a name that is written as in DNS (RFC 4702, 2.1)."""


class State(StrEnum):
    """In which a client says REQUEST (RFC 2131, 4.3.2). RENEWING and REBINDING ask alike."""

    SELECTING = "selecting"
    INIT_REBOOT = "init-reboot"
    RENEWING = "renewing"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks."""

    kind: Kind
    transaction: bytes
    hardware: bytes
    state: State | None = None  # of a REQUEST
    wanted: Address = NOBODY  # that it has, or would like, or gives back
    client: Address = NOBODY  # that it has, and can be reached at
    client_id: bytes = b""
    name: str = ""
    requested: tuple[int, ...] = ()
    rapid_commit: bool = False
    size: int = SMALLEST  # bytes of the largest IP datagram that it takes
    flags: int = 0
    relay: Address = NOBODY
    agent: bytes = b""  # what the relay says of it
    vendor_class: bytes = b""
    architectures: tuple[int, ...] = ()  # of what it boots

    @property
    def is_ready_for_ipv6_only(self) -> bool:
        """Whether it can do without an address of IPv4 where that is said (RFC 8925, 3.2)."""
        return Option.IPV6_ONLY in self.requested


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told. Times are seconds; no address: only what is told of the link."""

    address: Address = NOBODY
    lease: int = 0
    t1: int = 0
    t2: int = 0
    mask: int | None = None  # prefix length, of 128
    routers: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[Address, ...] = ()
    mtu: int = 0
    ipv6_only: int = 0  # seconds; 0: it is needed here
    boot_server: Address = NOBODY
    boot_file: str = ""
    others: tuple[tuple[int, bytes], ...] = ()  # codes and values


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer goes."""

    address: Address
    port: int = CLIENT_PORT
    hardware: bytes = b""  # of who cannot be asked for it by ARP yet; empty: the kernel asks


def question(message: Message, *, server: Address) -> Question:
    """What a message asks of the server with this address. PeerError for what is discarded (RFC 2131, 4.3)."""
    kind, options = _kind(message), message.options
    if message.hardware_type != ETHERNET or len(message.hardware) != 6 or message.hardware[0] & 1:
        raise PeerError(Code.UNEXPECTED, "no Ethernet address")
    if message.hops > MAX_HOPS:
        raise PeerError(Code.TOO_MANY, "it has come through too many relays")
    is_named = options.server_id is not None
    if is_named and options.server_id != server and kind in (Kind.REQUEST, Kind.DECLINE, Kind.RELEASE):
        raise PeerError(Code.SERVER_ID)
    if not is_named and kind in (Kind.DECLINE, Kind.RELEASE):
        raise PeerError(Code.SERVER_ID)
    state = None
    wanted = options.requested_address or NOBODY
    if kind is Kind.REQUEST:
        state = _state(message, is_named=is_named)
    if kind in (Kind.RELEASE, Kind.INFORM) or state is State.RENEWING:
        wanted = message.client
    if wanted == NOBODY and kind is not Kind.DISCOVER:
        raise PeerError(Code.MALFORMED, "it names no address")
    size = min(LARGEST, max(SMALLEST, options.max_size or SMALLEST))
    if len(options.client_id) + len(options.agent) > size - SMALLEST + MOST_REPEATED:
        raise PeerError(Code.OVERSIZED, "the answer cannot repeat all that it has to")
    return Question(
        kind=kind,
        transaction=message.transaction,
        hardware=message.hardware,
        state=state,
        wanted=wanted,
        client=message.client,
        client_id=options.client_id,
        name=options.host_name or _name(options.fqdn),
        requested=options.requested,
        rapid_commit=kind is Kind.DISCOVER and options.rapid_commit,
        size=size,
        flags=message.flags & BROADCAST,
        relay=message.relay,
        agent=options.agent,
        vendor_class=options.vendor_class,
        architectures=options.architectures,
    )


def offer(asked: Question, told: Told, *, server: Address) -> Message:
    """What a client would have."""
    return _answer(asked, Kind.OFFER, told, server)


def acknowledge(asked: Question, told: Told, *, server: Address) -> Message:
    """What a client has, or, without an address, what is told of the link."""
    return _answer(asked, Kind.ACK, told, server)


def deny(asked: Question, text: str, *, server: Address) -> Message:
    """That a client has not what it thinks (RFC 2131, 4.3.2)."""
    return Message(
        op=Op.REPLY,
        kind=Kind.NAK,
        transaction=asked.transaction,
        hardware=asked.hardware,
        # Where it is now its address is of no use, so the relay has to broadcast it.
        flags=BROADCAST if asked.relay != NOBODY else asked.flags,
        relay=asked.relay,
        options=Options(server_id=server, client_id=asked.client_id, agent=asked.agent, message=text),
    )


def way(asked: Question, answer: Message) -> Way:
    """Where an answer goes (RFC 2131, 4.1)."""
    if asked.relay != NOBODY:
        return Way(address=asked.relay, port=SERVER_PORT)
    if answer.kind == Kind.NAK:
        return Way(address=EVERYBODY, hardware=b"\xff" * 6)
    if asked.client != NOBODY:
        return Way(address=asked.client)
    if asked.flags & BROADCAST:
        return Way(address=EVERYBODY, hardware=b"\xff" * 6)
    return Way(address=answer.yours, hardware=asked.hardware)


def _kind(message: Message) -> Kind:
    if message.op != Op.REQUEST or message.kind in (Kind.OFFER, Kind.ACK, Kind.NAK):
        raise PeerError(Code.DIRECTION, f"a message of type {message.kind}")
    try:
        return Kind(message.kind)
    except ValueError:
        raise PeerError(Code.KIND, f"a message of type {message.kind}") from None


def _state(message: Message, *, is_named: bool) -> State:
    if is_named:
        return State.SELECTING
    return State.INIT_REBOOT if message.client == NOBODY else State.RENEWING


def _name(fqdn: bytes) -> str:
    """The name that a client has (RFC 4702, 2); empty if it is none."""
    if len(fqdn) < 4:
        return ""
    if not fqdn[0] & _CANONICAL:
        return text(fqdn[3:]).rstrip(".")
    try:
        names = read_names(fqdn[3:] if fqdn.endswith(b"\0") else fqdn[3:] + b"\0")
    except PeerError:
        return ""
    return text(names[0].encode()) if len(names) == 1 else ""


def _answer(asked: Question, kind: Kind, told: Told, server: Address) -> Message:
    wants = frozenset(asked.requested or _UNASKED)
    has = told.address != NOBODY
    file, server_name = told.boot_file, ""
    if told.boot_server != NOBODY and Option.BOOT_SERVER in wants:
        server_name = format_address(told.boot_server)
    is_http = bool(file) and asked.vendor_class.startswith(_HTTP_CLIENT)
    options = Options(
        server_id=server,
        client_id=asked.client_id,
        agent=asked.agent,
        rapid_commit=kind is Kind.ACK and asked.rapid_commit,
        lease_time=told.lease if has else None,
        t1=told.t1 if has else None,
        t2=told.t2 if has else None,
        mask=told.mask,
        routers=told.routers if Option.ROUTERS in wants else (),
        routes=told.routes if Option.ROUTES in wants else (),
        dns=told.dns if Option.DNS_SERVERS in wants else (),
        domain=told.search[0] if told.search and Option.DOMAIN in wants else "",
        search=told.search if Option.SEARCH in wants else (),
        ntp=told.ntp if Option.NTP_SERVERS in wants else (),
        mtu=told.mtu if told.mtu and Option.MTU in wants else None,
        ipv6_only=told.ipv6_only if told.ipv6_only and Option.IPV6_ONLY in wants else None,
        vendor_class=_HTTP_CLIENT if is_http else b"",
        boot_server=server_name,
        boot_file=file if Option.BOOT_FILE in wants or len(file) > MAX_FILE else "",
        others=tuple(each for each in told.others if each[0] in wants),
    )
    return Message(
        op=Op.REPLY,
        kind=kind,
        transaction=asked.transaction,
        hardware=asked.hardware,
        flags=asked.flags,
        client=asked.client if kind is Kind.ACK else NOBODY,
        yours=told.address,
        server=told.boot_server,
        file=file if len(file) <= MAX_FILE else "",
        relay=asked.relay,
        options=options,
    )
