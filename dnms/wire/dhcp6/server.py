"""A server's end of DHCPv6: what a client's message asks, and the message that answers it (RFC 8415, 18.3).

Nothing is remembered between two messages: what a client has is the ledger's to know.
"""

from __future__ import annotations

import msgspec

from dnms.events.ip import Address, Prefix
from dnms.wire.dhcp6.associations import IaAddress, IaNa, IaPd, IaPrefix, StatusOption, failed, read_address
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.identities import name_in
from dnms.wire.dhcp6.messages import Message
from dnms.wire.dhcp6.options import Options
from dnms.wire.errors import Code, PeerError

MAX_ASSOCIATIONS = 8
"""Of each kind, of one message; a client with more than that is one nobody has."""

MAX_ADDRESSES = 8
"""Or prefixes, of one association: as many as one client is given there."""

T1, T2 = 0.5, 0.8
"""When a client renews and rebinds, as parts of the shortest preferred lifetime (RFC 8415, 21.4 and 21.21)."""

_FOR_THIS_SERVER = frozenset({Kind.REQUEST, Kind.RENEW, Kind.RELEASE, Kind.DECLINE})
_FOR_ANY = frozenset({Kind.SOLICIT, Kind.CONFIRM, Kind.REBIND, Kind.ADDR_REG_INFORM})
_OF_ADDRESSES = frozenset({Kind.CONFIRM, Kind.DECLINE})
_LONGEST = 64  # bits of a block
_HTTP_CLIENT = b"HTTPClient"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One association of prefixes of a client (IA_PD), as it speaks of it."""

    iaid: int
    prefixes: tuple[Prefix, ...] = ()  # that it has, or would like
    length: int = 0  # that it would like (RFC 8415, 18.2.4); 0: it does not say


class WantedAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """One association of addresses of a client (IA_NA), as it speaks of it."""

    iaid: int
    addresses: tuple[Address, ...] = ()  # that it has, or would like


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks."""

    kind: Kind
    transaction: bytes
    client: bytes  # its DUID
    wanted: tuple[Wanted, ...] = ()
    addresses: tuple[WantedAddresses, ...] = ()
    requested: frozenset[int] = frozenset()  # codes of options
    rapid_commit: bool = False
    name: str = ""  # as it calls itself (RFC 4704)
    registered: IaAddress | None = None  # that it has made itself (RFC 9686)
    registered_as: bytes = b""  # the value of the option that says so
    accepts_reconfigure: bool = False  # it asks again when it is told to
    architectures: tuple[int, ...] = ()  # of what it boots (RFC 5970, 3.3)
    vendor_class: bytes = b""  # with its enterprise number

    @property
    def commits(self) -> bool:
        """Whether what it is told is given to it; else it is only offered."""
        return self.kind is not Kind.SOLICIT or self.rapid_commit

    @property
    def decisions(self) -> int:
        """How much it asks to be decided."""
        if not self.commits or self.kind in (Kind.CONFIRM, Kind.INFORMATION_REQUEST):
            return 0
        if self.kind in (Kind.RELEASE, Kind.DECLINE):
            return sum(len(each.addresses) for each in self.addresses) + sum(len(each.prefixes) for each in self.wanted)
        return len(self.addresses) + len(self.wanted)

    @property
    def excludes(self) -> bool:
        """Whether it understands an excluded prefix (RFC 6603, 4.1)."""
        return Option.PD_EXCLUDE in self.requested


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told of one association: prefixes, of which one with no lifetime is over, or why not."""

    iaid: int
    prefixes: tuple[IaPrefix, ...] = ()
    status: StatusOption | None = None


class GivenAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told of one association: addresses, of which one with no lifetime is over, or why not."""

    iaid: int
    addresses: tuple[IaAddress, ...] = ()
    status: StatusOption | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of the link to who requests it."""

    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[Address, ...] = ()
    boot_file: str = ""
    boot_parameters: tuple[str, ...] = ()
    others: tuple[tuple[int, bytes], ...] = ()  # codes and values


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """All that a client is told."""

    prefixes: tuple[Given, ...] = ()
    addresses: tuple[GivenAddresses, ...] = ()
    status: StatusOption | None = None  # of the message
    told: Told = Told()
    authentication: bytes = b""  # by which it knows who tells it to ask again (RFC 8415, 20.4.2)

    @property
    def gives(self) -> bool:
        """Whether the client has something by it."""
        return any(p.valid for each in self.prefixes for p in each.prefixes) or any(
            a.valid for each in self.addresses for a in each.addresses
        )


def question(message: Message, *, server: bytes) -> Question:
    """What a message asks of the server with this DUID. PeerError for what is discarded (RFC 8415, 16 and 18.3)."""
    try:
        kind = Kind(message.kind)
    except ValueError:
        raise PeerError(Code.KIND, f"a message of type {message.kind}") from None
    options = message.options
    _check_ids(kind, options, server)
    if kind is Kind.INFORMATION_REQUEST and (options.na or options.pd or options.temporary):
        raise PeerError(Code.MALFORMED, "an Information-request with an association (RFC 8415, 16.12)")
    if max(len(options.pd), len(options.na)) > MAX_ASSOCIATIONS:
        raise PeerError(Code.TOO_MANY)
    if any(len(each.addresses) > MAX_ADDRESSES for each in options.na):
        raise PeerError(Code.TOO_MANY, "too many addresses of one association")
    if any(len(each.prefixes) > MAX_ADDRESSES for each in options.pd):
        raise PeerError(Code.TOO_MANY, "too many prefixes of one association")
    registered = _registered(options) if kind is Kind.ADDR_REG_INFORM else None
    asked = Question(
        kind=kind,
        transaction=message.transaction,
        client=options.client_id,
        wanted=() if kind in _OF_ADDRESSES else tuple({each.iaid: _wanted(each) for each in options.pd}.values()),
        addresses=tuple({each.iaid: _wanted_addresses(each) for each in options.na}.values()),
        requested=frozenset(options.requested),
        rapid_commit=kind is Kind.SOLICIT and options.rapid_commit,
        name=name_in(options.fqdn),
        registered=registered,
        registered_as=options.registered[0] if registered is not None else b"",
        accepts_reconfigure=options.reconfigure_accept,
        architectures=options.architectures,
        vendor_class=options.vendor_class,
    )
    _check(asked)
    return asked


def _check_ids(kind: Kind, options: Options, server: bytes) -> None:
    """Whom it is from and for (RFC 8415, 16). PeerError."""
    if kind in _FOR_THIS_SERVER:
        if options.server_id != server:
            raise PeerError(Code.SERVER_ID)
    elif kind in _FOR_ANY:
        if options.server_id:
            raise PeerError(Code.SERVER_ID)
    elif kind is not Kind.INFORMATION_REQUEST:
        raise PeerError(Code.DIRECTION, f"a message of type {kind}")  # no client sends it
    elif options.server_id not in (b"", server):
        raise PeerError(Code.SERVER_ID)
    if kind is not Kind.INFORMATION_REQUEST and not options.client_id:
        raise PeerError(Code.CLIENT_ID)


def _check(asked: Question) -> None:
    """PeerError where there is nothing to answer."""
    if asked.kind in (Kind.INFORMATION_REQUEST, Kind.ADDR_REG_INFORM):
        return
    if asked.kind in _OF_ADDRESSES:
        if not any(each.addresses for each in asked.addresses):
            raise PeerError(Code.UNEXPECTED, "it speaks of no address (RFC 8415, 18.3.3 and 18.3.8)")
    elif not (asked.wanted or asked.addresses):
        raise PeerError(Code.UNEXPECTED, "it asks for neither an address nor a prefix")


def _registered(options: Options) -> IaAddress:
    """The one address of a registration. PeerError for what RFC 9686, 4.2.1 has discarded."""
    if len(options.registered) != 1 or options.requested:
        raise PeerError(Code.MALFORMED, "a registration of no address or of several, or that requests options")
    return read_address(options.registered[0])


def acknowledged(asked: Question) -> Message:
    """What says that a registration was heard, with the address as it came (RFC 9686, 4.3)."""
    return Message(int(Kind.ADDR_REG_REPLY), asked.transaction, Options(registered=(asked.registered_as,)))


def answer(asked: Question, answered: Answer, *, server: bytes) -> Message:
    """The message that answers a question."""
    t1, t2 = _times(answered)
    told = answered.told
    boots = bool(told.boot_file) and Option.BOOT_FILE_URL in asked.requested
    reconfigures = bool(answered.authentication) and asked.accepts_reconfigure
    options = Options(
        client_id=asked.client,
        server_id=server,
        reconfigure_accept=reconfigures,
        authentication=answered.authentication if reconfigures and asked.commits else b"",
        pd=tuple(
            [
                IaPd(iaid=each.iaid, t1=t1, t2=t2, prefixes=each.prefixes, status=each.status)
                if each.prefixes
                else IaPd(iaid=each.iaid, status=each.status)
                for each in answered.prefixes
            ]
        ),
        na=tuple(
            [
                IaNa(iaid=each.iaid, t1=t1, t2=t2, addresses=each.addresses, status=each.status)
                if each.addresses
                else IaNa(iaid=each.iaid, status=each.status)
                for each in answered.addresses
            ]
        ),
        status=answered.status,
        rapid_commit=asked.rapid_commit,
        dns=told.dns if Option.DNS_SERVERS in asked.requested else (),
        search=told.search if Option.DOMAIN_LIST in asked.requested else (),
        ntp=told.ntp if Option.NTP_SERVER in asked.requested else (),
        boot_file=told.boot_file if boots else "",
        boot_parameters=told.boot_parameters if boots and Option.BOOT_FILE_PARAMETERS in asked.requested else (),
        vendor_class=_http_client(asked.vendor_class) if boots else b"",
        registers=Option.ADDR_REG_ENABLE in asked.requested,
        others=tuple(each for each in told.others if each[0] in asked.requested),
    )
    return Message(int(Kind.REPLY if asked.commits else Kind.ADVERTISE), asked.transaction, options)


def _http_client(vendor_class: bytes) -> bytes:
    """The class of firmware that boots by HTTP, which wants to hear it again (UEFI 2.10, 24.7.3); else nothing."""
    if _HTTP_CLIENT not in vendor_class:
        return b""
    return vendor_class[:4] + len(_HTTP_CLIENT).to_bytes(2) + _HTTP_CLIENT


def _times(answered: Answer) -> tuple[int, int]:
    """T1 and T2, the same of all associations, so that a client asks for all of them at once (RFC 8415, 21.4)."""
    lifetimes = [each.preferred for one in answered.prefixes for each in one.prefixes if each.preferred]
    lifetimes += [each.preferred for one in answered.addresses for each in one.addresses if each.preferred]
    shortest = min(lifetimes, default=0)
    return int(shortest * T1), int(shortest * T2)


def over(prefix: Prefix) -> IaPrefix:
    """What says that a prefix is the client's no more (RFC 8415, 18.3.4)."""
    return IaPrefix(prefix=prefix)


def address_over(address: Address) -> IaAddress:
    """What says that an address is the client's no more (RFC 8415, 18.3.4)."""
    return IaAddress(address=address)


def no_prefix(text: str) -> StatusOption:
    """Why an association gets nothing."""
    return failed(Status.NO_PREFIX_AVAIL, text)


def no_address(text: str) -> StatusOption:
    """Why an association of addresses gets nothing."""
    return failed(Status.NO_ADDRS_AVAIL, text)


def not_on_link() -> StatusOption:
    """What a client speaks of is of another link."""
    return failed(Status.NOT_ON_LINK, "of another link")


def no_binding() -> StatusOption:
    """An association that is not known."""
    return failed(Status.NO_BINDING, "not known here")


def success(text: str) -> StatusOption:
    """It went well."""
    return StatusOption(int(Status.SUCCESS), text)


def _wanted(pd: IaPd) -> Wanted:
    lengths = (each.prefix.length for each in pd.prefixes if 0 < each.prefix.length <= _LONGEST)
    prefixes = tuple(dict.fromkeys(each.prefix for each in pd.prefixes if each.prefix.first))
    return Wanted(iaid=pd.iaid, prefixes=prefixes, length=next(lengths, 0))


def _wanted_addresses(na: IaNa) -> WantedAddresses:
    told = dict.fromkeys([each.address for each in na.addresses if any(each.address)])
    return WantedAddresses(iaid=na.iaid, addresses=tuple(told))
