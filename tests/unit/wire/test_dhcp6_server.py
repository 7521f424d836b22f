"""What a server takes of a client's message, what it discards, and what the answer says."""

from __future__ import annotations

from typing import Any

import pytest

from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.wire.dhcp6.associations import IaAddress, IaNa, IaPd, IaPrefix
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.messages import Message, decode, encode
from dnms.wire.dhcp6.options import Options
from dnms.wire.dhcp6.server import (
    MAX_ADDRESSES,
    MAX_ASSOCIATIONS,
    Answer,
    Given,
    GivenAddresses,
    Told,
    Wanted,
    WantedAddresses,
    address_over,
    answer,
    no_address,
    no_binding,
    no_prefix,
    over,
    question,
    success,
)
from dnms.wire.errors import Code, PeerError

CLIENT, SERVER, OTHER = b"\x00\x04client", b"\x00\x04server", b"\x00\x04other"
BLOCK, EXCLUDED = parse_prefix("2001:db8:100::/56"), parse_prefix("2001:db8:100:5::/64")
PD = IaPd(iaid=7)
ONE, TWO = parse_address("2001:db8::1"), parse_address("2001:db8::2")
NA = IaNa(iaid=3, addresses=(IaAddress(address=ONE),))


def message(kind: int, **said: Any) -> Message:
    return Message(int(kind), b"abc", Options(**{"client_id": CLIENT, "pd": (PD,), **said}))


def has_to_name_it(kind: Kind) -> bool:
    return kind in (Kind.REQUEST, Kind.RENEW, Kind.RELEASE, Kind.DECLINE)


@pytest.mark.parametrize("kind", [Kind.SOLICIT, Kind.REQUEST, Kind.RENEW, Kind.REBIND, Kind.RELEASE])
def test_what_is_to_be_answered(kind: Kind) -> None:
    named = {"server_id": SERVER} if has_to_name_it(kind) else {}
    prefixes = (IaPrefix(prefix=Prefix(bytes(16), 60)), IaPrefix(prefix=BLOCK), IaPrefix(prefix=BLOCK))
    pd = (IaPd(iaid=7, prefixes=prefixes), IaPd(iaid=8))
    asked = question(message(kind, pd=pd, requested=(Option.PD_EXCLUDE, 23), **named), server=SERVER)
    assert (asked.kind, asked.transaction, asked.client) == (kind, b"abc", CLIENT)
    assert asked.wanted == (Wanted(iaid=7, prefixes=(BLOCK,), length=60), Wanted(iaid=8))
    assert asked.excludes
    assert asked.commits == (kind is not Kind.SOLICIT)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind <= Kind.DECLINE and kind not in (2, 7)])
def test_addresses_are_asked_for_alone_or_beside_prefixes(kind: Kind) -> None:
    named = {"server_id": SERVER} if has_to_name_it(kind) else {}
    twice = IaAddress(address=TWO)
    na = (NA, IaNa(iaid=4, addresses=(IaAddress(address=bytes(16)), twice, twice)))
    for pd in ((), (PD,)):
        asked = question(message(kind, pd=pd, na=na, fqdn=b"\0\x02pc", **named), server=SERVER)
        wanted = (WantedAddresses(iaid=3, addresses=(ONE,)), WantedAddresses(iaid=4, addresses=(TWO,)))
        assert asked.addresses == wanted
        assert len(asked.wanted) == (0 if kind in (Kind.CONFIRM, Kind.DECLINE) else len(pd))
        assert asked.name == "pc"
        assert asked.commits == (kind is not Kind.SOLICIT)


def test_how_much_is_asked_to_be_decided() -> None:
    def decisions(kind: Kind, **said: Any) -> int:
        named = {"server_id": SERVER} if has_to_name_it(kind) else {}
        return question(message(kind, na=(NA, IaNa(iaid=4)), **named, **said), server=SERVER).decisions

    assert decisions(Kind.SOLICIT) == decisions(Kind.CONFIRM) == 0
    assert decisions(Kind.SOLICIT, rapid_commit=True) == decisions(Kind.REBIND) == decisions(Kind.REQUEST) == 3
    assert decisions(Kind.RELEASE) == decisions(Kind.DECLINE) == 1


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        (Kind.SOLICIT, {"client_id": b""}, Code.CLIENT_ID),
        (Kind.SOLICIT, {"server_id": SERVER}, Code.SERVER_ID),
        (Kind.REBIND, {"client_id": b""}, Code.CLIENT_ID),
        (Kind.REBIND, {"server_id": SERVER}, Code.SERVER_ID),
        *((kind, {}, Code.SERVER_ID) for kind in (Kind.REQUEST, Kind.RENEW, Kind.RELEASE, Kind.DECLINE)),
        *((kind, {"server_id": OTHER}, Code.SERVER_ID) for kind in (Kind.REQUEST, Kind.RENEW, Kind.RELEASE)),
        *(
            (kind, {"server_id": SERVER, "client_id": b""}, Code.CLIENT_ID)
            for kind in (Kind.REQUEST, Kind.RENEW, Kind.RELEASE, Kind.DECLINE)
        ),
        (Kind.SOLICIT, {"pd": ()}, Code.UNEXPECTED),
        (Kind.SOLICIT, {"na": tuple(IaNa(iaid=iaid) for iaid in range(MAX_ASSOCIATIONS + 1))}, Code.TOO_MANY),
        (Kind.SOLICIT, {"na": (IaNa(iaid=3, addresses=NA.addresses * (MAX_ADDRESSES + 1)),)}, Code.TOO_MANY),
        (Kind.SOLICIT, {"pd": (IaPd(iaid=3, prefixes=(over(BLOCK),) * (MAX_ADDRESSES + 1)),)}, Code.TOO_MANY),
        (Kind.SOLICIT, {"pd": tuple(IaPd(iaid=iaid) for iaid in range(MAX_ASSOCIATIONS + 1))}, Code.TOO_MANY),
        (Kind.CONFIRM, {}, Code.UNEXPECTED),
        (Kind.CONFIRM, {"na": (IaNa(iaid=3),)}, Code.UNEXPECTED),
        (Kind.CONFIRM, {"na": (NA,), "client_id": b""}, Code.CLIENT_ID),
        (Kind.CONFIRM, {"na": (NA,), "server_id": SERVER}, Code.SERVER_ID),
        (Kind.DECLINE, {"server_id": SERVER}, Code.UNEXPECTED),
        (Kind.ADVERTISE, {"server_id": SERVER}, Code.DIRECTION),
        (Kind.REPLY, {"server_id": SERVER}, Code.DIRECTION),
        (Kind.RECONFIGURE, {"server_id": SERVER}, Code.DIRECTION),
        (Kind.INFORMATION_REQUEST, {}, Code.MALFORMED),
        (Kind.INFORMATION_REQUEST, {"pd": (), "server_id": OTHER}, Code.SERVER_ID),
        (200, {}, Code.KIND),
    ],
)
def test_what_is_discarded(kind: int, said: dict[str, Any], why: Code) -> None:
    with pytest.raises(PeerError) as error:
        question(message(kind, **said), server=SERVER)
    assert error.value.why == why


def reply(asked: Message, *given: Given, **said: Any) -> Message:
    answered = answer(question(asked, server=SERVER), Answer(prefixes=given, **said), server=SERVER)
    assert decode(encode(answered)).message == answered
    assert answered.transaction == asked.transaction
    assert (answered.options.client_id, answered.options.server_id) == (asked.options.client_id, SERVER)
    return answered


def test_an_offer_and_a_reply_with_times_to_renew() -> None:
    given = Given(iaid=7, prefixes=(IaPrefix(prefix=BLOCK, preferred=100, valid=200, exclude=EXCLUDED), over(BLOCK)))
    offer = reply(message(Kind.SOLICIT), given)
    assert offer.kind == Kind.ADVERTISE
    assert not offer.options.rapid_commit
    assert offer.options.pd == (IaPd(iaid=7, t1=50, t2=80, prefixes=given.prefixes),)
    committed = reply(message(Kind.SOLICIT, rapid_commit=True), given)
    assert (committed.kind, committed.options.rapid_commit) == (Kind.REPLY, True)
    renewed = reply(message(Kind.RENEW, server_id=SERVER), given)
    assert (renewed.kind, renewed.options.pd) == (Kind.REPLY, offer.options.pd)


def test_what_is_only_deprecated_leaves_the_times_to_the_client() -> None:
    given = Given(iaid=7, prefixes=(IaPrefix(prefix=BLOCK, preferred=0, valid=200),))
    (pd,) = reply(message(Kind.REBIND), given).options.pd
    assert (pd.t1, pd.t2) == (0, 0)


def test_why_there_is_none() -> None:
    (pd,) = reply(message(Kind.SOLICIT), Given(iaid=7, status=no_prefix("none is free"))).options.pd
    assert pd.status is not None
    assert (pd.status.code, pd.status.text) == (Status.NO_PREFIX_AVAIL, "none is free")


def test_a_release_went_well_but_for_what_is_not_known() -> None:
    asked = message(Kind.RELEASE, server_id=SERVER)
    assert reply(asked).options.pd == ()
    answered = reply(asked, Given(iaid=7, status=no_binding()), status=success("released"))
    assert answered.options.status is not None
    assert answered.options.status.code == Status.SUCCESS
    assert answered.options.pd[0].status is not None
    assert answered.options.pd[0].status.code == Status.NO_BINDING


def test_addresses_and_prefixes_are_renewed_together() -> None:
    addresses = (IaAddress(address=ONE, preferred=50, valid=90), address_over(TWO))
    given = Given(iaid=7, prefixes=(IaPrefix(prefix=BLOCK, preferred=100, valid=200),))
    several = (GivenAddresses(iaid=3, addresses=addresses), GivenAddresses(iaid=4, status=no_address("full")))
    options = reply(message(Kind.REBIND, na=(NA, IaNa(iaid=4))), given, addresses=several).options
    assert options.na[0] == IaNa(iaid=3, t1=25, t2=40, addresses=addresses)
    assert options.na[1] == IaNa(iaid=4, status=no_address("full"))
    assert (options.pd[0].t1, options.pd[0].t2) == (25, 40)


def test_what_gives_something() -> None:
    assert not Answer().gives
    assert not Answer(addresses=(GivenAddresses(iaid=3, addresses=(address_over(ONE),)),)).gives
    assert not Answer(prefixes=(Given(iaid=3, prefixes=(over(BLOCK),)),)).gives
    assert Answer(addresses=(GivenAddresses(iaid=3, addresses=(IaAddress(address=ONE, valid=1),)),)).gives
    assert Answer(prefixes=(Given(iaid=3, prefixes=(IaPrefix(prefix=BLOCK, valid=1),)),)).gives


def test_what_is_told_of_the_link_to_who_requests_it() -> None:
    told = Told(dns=(parse_address("2001:db8::53"),), search=("home.example",), ntp=(parse_address("2001:db8::123"),))
    asked = message(Kind.INFORMATION_REQUEST, pd=(), client_id=b"", requested=(23, 24))
    options = reply(asked, told=told).options
    assert (options.dns, options.search, options.ntp) == (told.dns, told.search, ())
    assert reply(message(Kind.SOLICIT), told=told).options.dns == ()
