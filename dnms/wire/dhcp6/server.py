"""A delegating router's end of DHCPv6: what a client's message asks, and the message that answers it (RFC 8415, 18.3).

Nothing is remembered between two messages: what a client has is the ledger's to know. Addresses are refused here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dnms.events.ip import Address, Prefix
from dnms.wire.dhcp6.associations import IaNa, IaPd, IaPrefix, StatusOption, failed
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.messages import Message
from dnms.wire.dhcp6.options import Options
from dnms.wire.errors import Code, PeerError

MAX_ASSOCIATIONS = 8
"""Of one message; a router with more than that is one nobody has."""

T1, T2 = 0.5, 0.8
"""When a client renews and rebinds, as parts of the shortest preferred lifetime (RFC 8415, 21.21)."""

_FOR_THIS_SERVER = frozenset({Kind.REQUEST, Kind.RENEW, Kind.RELEASE})
_FOR_ANY = frozenset({Kind.SOLICIT, Kind.REBIND})
_LONGEST = 64  # bits of a block


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One association of a client (IA_PD), as it speaks of it."""

    iaid: int
    prefixes: tuple[Prefix, ...] = ()  # that it has, or would like
    length: int = 0  # that it would like (RFC 8415, 18.2.4); 0: it does not say


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks."""

    kind: Kind
    transaction: bytes
    client: bytes  # its DUID
    wanted: tuple[Wanted, ...] = ()
    requested: frozenset[int] = frozenset()  # codes of options
    rapid_commit: bool = False
    addresses: tuple[int, ...] = ()  # IAIDs of what it wants beside prefixes

    @property
    def commits(self) -> bool:
        """Whether what it is told is given to it; else it is only offered."""
        return self.kind is not Kind.SOLICIT or self.rapid_commit

    @property
    def excludes(self) -> bool:
        """Whether it understands an excluded prefix (RFC 6603, 4.1)."""
        return Option.PD_EXCLUDE in self.requested


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told of one association: prefixes, of which one with no lifetime is over, or why not."""

    iaid: int
    prefixes: tuple[IaPrefix, ...] = ()
    status: StatusOption | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of the link to who requests it."""

    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[Address, ...] = ()


def question(message: Message, *, server: bytes) -> Question:
    """What a message asks of the server with this DUID. PeerError for what is discarded (RFC 8415, 16 and 18.3)."""
    try:
        kind = Kind(message.kind)
    except ValueError:
        raise PeerError(Code.KIND, f"a message of type {message.kind}") from None
    options = message.options
    if kind in _FOR_THIS_SERVER:
        if options.server_id != server:
            raise PeerError(Code.SERVER_ID)
    elif kind in _FOR_ANY:
        if options.server_id:
            raise PeerError(Code.SERVER_ID)
    elif kind is not Kind.INFORMATION_REQUEST:
        # Confirm and Decline are about addresses (RFC 8415, 18.3.3 and 18.3.8); the others no client sends.
        raise PeerError(Code.DIRECTION, f"a message of type {message.kind}")
    elif options.server_id not in (b"", server):
        raise PeerError(Code.SERVER_ID)
    if kind is Kind.INFORMATION_REQUEST:
        if options.na or options.pd or options.temporary:
            raise PeerError(Code.MALFORMED, "an Information-request with an association (RFC 8415, 16.12)")
    elif not options.client_id:
        raise PeerError(Code.CLIENT_ID)
    elif not options.pd:
        raise PeerError(Code.UNEXPECTED, "it asks for no prefix")
    if len(options.pd) > MAX_ASSOCIATIONS:
        raise PeerError(Code.TOO_MANY)
    return Question(
        kind=kind,
        transaction=message.transaction,
        client=options.client_id,
        wanted=tuple({each.iaid: _wanted(each) for each in options.pd}.values()),
        requested=frozenset(options.requested),
        rapid_commit=kind is Kind.SOLICIT and options.rapid_commit,
        addresses=tuple(each.iaid for each in options.na),
    )


def answer(asked: Question, given: Iterable[Given], *, server: bytes, told: Told) -> Message:
    """The message that answers a question."""
    kind = Kind.REPLY if asked.commits else Kind.ADVERTISE
    released = asked.kind is Kind.RELEASE
    options = Options(
        client_id=asked.client,
        server_id=server,
        pd=tuple(_association(each) for each in given),
        na=tuple(IaNa(iaid=iaid, status=_no_address(asked.kind)) for iaid in asked.addresses),
        status=StatusOption(int(Status.SUCCESS), "released") if released else None,
        rapid_commit=asked.rapid_commit,
        dns=told.dns if Option.DNS_SERVERS in asked.requested else (),
        search=told.search if Option.DOMAIN_LIST in asked.requested else (),
        ntp=told.ntp if Option.NTP_SERVER in asked.requested else (),
    )
    return Message(int(kind), asked.transaction, options)


def over(prefix: Prefix) -> IaPrefix:
    """What says that a prefix is the client's no more (RFC 8415, 18.3.4)."""
    return IaPrefix(prefix=prefix)


def no_prefix(text: str) -> StatusOption:
    """Why an association gets nothing."""
    return failed(Status.NO_PREFIX_AVAIL, text)


def no_binding() -> StatusOption:
    """An association that is not known."""
    return failed(Status.NO_BINDING, "not known here")


def _no_address(kind: Kind) -> StatusOption:
    if kind in (Kind.SOLICIT, Kind.REQUEST):
        return failed(Status.NO_ADDRS_AVAIL, "prefixes only")
    return no_binding()


def _wanted(pd: IaPd) -> Wanted:
    lengths = (each.prefix.length for each in pd.prefixes if 0 < each.prefix.length <= _LONGEST)
    prefixes = tuple(dict.fromkeys(each.prefix for each in pd.prefixes if each.prefix.first))
    return Wanted(iaid=pd.iaid, prefixes=prefixes, length=next(lengths, 0))


def _association(given: Given) -> IaPd:
    shortest = min((each.preferred for each in given.prefixes if each.preferred), default=0)
    t1, t2 = int(shortest * T1), int(shortest * T2)
    return IaPd(iaid=given.iaid, t1=t1, t2=t2, prefixes=given.prefixes, status=given.status)
