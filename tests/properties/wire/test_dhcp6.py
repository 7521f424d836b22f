"""DHCPv6 messages: written and read again, of hostile bytes, at every cut, and as scapy has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import dhcp6 as scapy

from dnms.events.ip import Prefix, format_address, parse_address, parse_prefix, prefix_of
from dnms.wire.dhcp6.associations import IaAddress, IaNa, IaPd, IaPrefix, StatusOption
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.messages import (
    MAX_HOPS,
    Message,
    Relay,
    Relayed,
    decode,
    encode,
    encode_forward,
    encode_reply,
)
from dnms.wire.dhcp6.options import Options
from dnms.wire.errors import Code, PeerError

SECONDS, BYTE, SHORT = st.integers(0, 0xFFFFFFFF), st.integers(0, 255), st.integers(0, 0xFFFF)
ADDRESS = st.binary(min_size=16, max_size=16)
DUID = st.binary(min_size=3, max_size=130)
STATUS = st.none() | st.builds(StatusOption, SHORT, st.text(max_size=20))
LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@st.composite
def ia_prefixes(draw: st.DrawFn) -> IaPrefix:
    prefix = prefix_of(draw(ADDRESS), draw(st.integers(1, 128)))
    exclude = None
    if prefix.length < 128 and draw(st.booleans()):
        length = draw(st.integers(prefix.length + 1, 128))
        bits = int.from_bytes(draw(ADDRESS)) & ((1 << (128 - prefix.length)) - 1)
        exclude = prefix_of((prefix.first | bits).to_bytes(16), length)
    return IaPrefix(prefix=prefix, preferred=draw(SECONDS), valid=draw(SECONDS), exclude=exclude, status=draw(STATUS))


NA = st.builds(
    IaNa,
    iaid=SECONDS,
    t1=SECONDS,
    t2=SECONDS,
    addresses=st.lists(
        st.builds(IaAddress, address=ADDRESS, preferred=SECONDS, valid=SECONDS, status=STATUS), max_size=3
    ).map(tuple),
    status=STATUS,
)
PD = st.builds(
    IaPd,
    iaid=SECONDS,
    t1=SECONDS,
    t2=SECONDS,
    prefixes=st.lists(ia_prefixes(), max_size=3).map(tuple),
    status=STATUS,
)


def some(strategy: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


OPTIONS = st.builds(
    Options,
    client_id=st.just(b"") | DUID,
    server_id=st.just(b"") | DUID,
    na=some(NA),
    pd=some(PD),
    temporary=some(SECONDS),
    requested=some(SHORT),
    preference=st.none() | BYTE,
    elapsed=st.none() | SHORT,
    unicast=st.none() | ADDRESS,
    status=STATUS,
    rapid_commit=st.booleans(),
    user_class=some(st.binary(max_size=20)),
    vendor_class=st.binary(max_size=20),
    authentication=st.binary(max_size=20),
    reconfigure=st.none() | BYTE,
    reconfigure_accept=st.booleans(),
    dns=some(ADDRESS),
    search=some(NAME),
    ntp=some(ADDRESS),
    information_refresh=st.none() | SECONDS,
    fqdn=st.binary(max_size=20),
    boot_file=st.text(max_size=20),
    boot_parameters=some(st.text(max_size=20)),
    architectures=some(SHORT),
    sol_max_rt=st.none() | SECONDS,
    inf_max_rt=st.none() | SECONDS,
)
MESSAGE = st.builds(
    Message,
    st.sampled_from([kind for kind in Kind if kind not in (Kind.RELAY_FORW, Kind.RELAY_REPL)]).map(int),
    st.binary(min_size=3, max_size=3),
    OPTIONS,
)
RELAY = st.builds(
    Relay,
    hops=BYTE,
    link=ADDRESS,
    peer=ADDRESS,
    interface_id=st.binary(max_size=20),
    remote_id=st.binary(max_size=20),
    link_layer=st.binary(max_size=20),
)


@given(MESSAGE)
def test_what_is_written_is_read_again(message: Message) -> None:
    assert decode(encode(message)) == Relayed(message)


@given(MESSAGE, st.lists(RELAY, max_size=MAX_HOPS).map(tuple))
def test_relays_are_seen_the_outermost_first_and_an_answer_goes_back_through_them(
    message: Message, relays: tuple[Relay, ...]
) -> None:
    data = encode(message)
    for relay in reversed(relays):
        data = encode_forward(data, relay)
    assert decode(data) == Relayed(message, relays)
    back = decode(encode_reply(message, relays))
    assert back.message == message
    assert [(each.hops, each.link, each.peer, each.interface_id) for each in back.relays] == [
        (each.hops, each.link, each.peer, each.interface_id) for each in relays
    ]


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"\x01abc" + rest))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except PeerError as error:
        assert error.why is Code.MALFORMED


@given(MESSAGE, st.data())
@settings(max_examples=50)
def test_what_is_cut_is_refused_or_has_fewer_options(message: Message, data: st.DataObject) -> None:
    whole = encode(message)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        assert decode(cut) != Relayed(message)
    except PeerError as error:
        assert error.why is Code.MALFORMED


def test_a_loop_of_relays_is_refused() -> None:
    data = encode(Message(Kind.SOLICIT, b"abc"))
    for _ in range(MAX_HOPS + 2):
        data = encode_forward(data, Relay())
    with pytest.raises(PeerError, match="too many relays"):
        decode(data)


@pytest.mark.parametrize(
    "exclude", [parse_prefix("2001:db8:1::/64"), parse_prefix("2001:db8::/48"), parse_prefix("2001:db8::/56")]
)
def test_what_is_not_in_the_prefix_cannot_be_excluded_from_it(exclude: Prefix) -> None:
    each = IaPrefix(prefix=parse_prefix("2001:db8::/56"), exclude=exclude)
    with pytest.raises(ValueError, match="cannot be excluded"):
        encode(Message(Kind.REPLY, b"abc", Options(pd=(IaPd(iaid=1, prefixes=(each,)),))))


# --- scapy


def theirs(*options: Any, kind: Any = scapy.DHCP6_Reply) -> bytes:
    message = kind(trid=0x616263)
    for each in options:
        message /= each
    return bytes(message)


def ours(options: Options, kind: int = Kind.REPLY) -> Message:
    return Message(kind, b"abc", options)


DUID_LL = bytes.fromhex("00030001020000000001")
SERVER = parse_address("2001:db8::53")

PAIRS: list[tuple[Options, list[Any]]] = [
    (
        Options(client_id=DUID_LL, server_id=DUID_LL),
        [
            scapy.DHCP6OptClientId(duid=scapy.DUID_LL(lladdr="02:00:00:00:00:01")),
            scapy.DHCP6OptServerId(duid=scapy.DUID_LL(lladdr="02:00:00:00:00:01")),
        ],
    ),
    (
        Options(
            na=(
                IaNa(
                    iaid=7,
                    t1=1800,
                    t2=2880,
                    addresses=(IaAddress(address=parse_address("2001:db8::7"), preferred=2700, valid=3600),),
                    status=StatusOption(Status.SUCCESS, "fine"),
                ),
            )
        ),
        [
            scapy.DHCP6OptIA_NA(
                iaid=7,
                T1=1800,
                T2=2880,
                ianaopts=[
                    scapy.DHCP6OptIAAddress(addr="2001:db8::7", preflft=2700, validlft=3600),
                    scapy.DHCP6OptStatusCode(statuscode=0, statusmsg=b"fine"),
                ],
            )
        ],
    ),
    (
        Options(
            pd=(
                IaPd(
                    iaid=9,
                    t1=1,
                    t2=2,
                    prefixes=(IaPrefix(prefix=parse_prefix("2001:db8:0:ff00::/56"), preferred=3, valid=4),),
                ),
            )
        ),
        [
            scapy.DHCP6OptIA_PD(
                iaid=9,
                T1=1,
                T2=2,
                iapdopt=[scapy.DHCP6OptIAPrefix(prefix="2001:db8:0:ff00::", plen=56, preflft=3, validlft=4)],
            )
        ],
    ),
    (Options(requested=(23, 24, 82)), [scapy.DHCP6OptOptReq(reqopts=[23, 24, 82])]),
    (Options(elapsed=120), [scapy.DHCP6OptElapsedTime(elapsedtime=120)]),
    (Options(rapid_commit=True), [scapy.DHCP6OptRapidCommit()]),
    (Options(status=StatusOption(Status.NOT_ON_LINK, "no")), [scapy.DHCP6OptStatusCode(statuscode=4, statusmsg=b"no")]),
    (Options(preference=255), [scapy.DHCP6OptPref(prefval=255)]),
    (Options(reconfigure=Kind.RENEW), [scapy.DHCP6OptReconfMsg(msgtype=5)]),
    (Options(reconfigure_accept=True), [scapy.DHCP6OptReconfAccept()]),
    (Options(dns=(SERVER,)), [scapy.DHCP6OptDNSServers(dnsservers=["2001:db8::53"])]),
    (
        Options(search=("home.example", "example")),
        [scapy.DHCP6OptDNSDomains(dnsdomains=["home.example.", "example."])],
    ),
    (
        Options(ntp=(SERVER,)),
        [scapy.DHCP6OptNTPServer(ntpserver=[scapy.DHCP6NTPSubOptSrvAddr(addr="2001:db8::53")])],
    ),
    (Options(information_refresh=600), [scapy.DHCP6OptInfoRefreshTime(reftime=600)]),
    (Options(unicast=SERVER), [scapy.DHCP6OptServerUnicast(srvaddr="2001:db8::53")]),
    (Options(architectures=(7, 9)), [scapy.DHCP6OptClientArchType(archtypes=[7, 9])]),
    (Options(boot_file="tftp://[2001:db8::1]/x"), [scapy.DHCP6OptBootFileUrl(optdata="tftp://[2001:db8::1]/x")]),
    (
        Options(boot_parameters=("root=/dev/nfs", "quiet")),
        [scapy.DHCP6OptUnknown(optcode=60, data=b"\x00\x0droot=/dev/nfs\x00\x05quiet")],
    ),
    (
        Options(vendor_class=bytes.fromhex("00000157000a") + b"HTTPClient"),
        [scapy.DHCP6OptVendorClass(enterprisenum=343, vcdata=[scapy.VENDOR_CLASS_DATA(data=b"HTTPClient")])],
    ),
    (
        Options(user_class=(b"one", b"two")),
        [
            scapy.DHCP6OptUserClass(
                userclassdata=[scapy.USER_CLASS_DATA(data=b"one"), scapy.USER_CLASS_DATA(data=b"two")]
            )
        ],
    ),
]


@pytest.mark.parametrize(
    ("mine", "other"), PAIRS, ids=lambda value: type(value[0]).__name__ if isinstance(value, list) else ""
)
def test_the_bytes_are_those_of_scapy(mine: Options, other: list[Any]) -> None:
    assert encode(ours(mine)) == theirs(*other)
    assert decode(theirs(*other)) == Relayed(ours(mine))


def test_a_relayed_message_is_as_scapy_has_it() -> None:
    relay = Relay(
        hops=1,
        link=SERVER,
        peer=parse_address("fe80::7"),
        interface_id=b"eth7",
        remote_id=bytes.fromhex("00007ed9") + b"port 7",
        link_layer=bytes.fromhex("0001020000000001"),
    )
    message = ours(Options(elapsed=1), Kind.SOLICIT)
    inner = scapy.DHCP6_Solicit(trid=0x616263) / scapy.DHCP6OptElapsedTime(elapsedtime=1)
    other = (
        scapy.DHCP6_RelayForward(hopcount=1, linkaddr=format_address(SERVER), peeraddr="fe80::7")
        / scapy.DHCP6OptRelayMsg(message=inner)
        / scapy.DHCP6OptIfaceId(ifaceid=b"eth7")
        / scapy.DHCP6OptRemoteID(enterprisenum=0x7ED9, remoteid=b"port 7")
        / scapy.DHCP6OptClientLinkLayerAddr(clladdr="02:00:00:00:00:01")
    )
    assert encode_forward(encode(message), relay) == bytes(other)
    assert decode(bytes(other)) == Relayed(message, (relay,))


def test_an_excluded_prefix_is_as_rfc_6603_has_it() -> None:
    prefix, exclude = parse_prefix("2001:db8:0:10::/60"), parse_prefix("2001:db8:0:1f::/64")
    data = encode(
        Message(Kind.REPLY, b"abc", Options(pd=(IaPd(iaid=1, prefixes=(IaPrefix(prefix=prefix, exclude=exclude),)),)))
    )
    assert data.endswith(Option.PD_EXCLUDE.to_bytes(2) + bytes.fromhex("0002 40 f0"))
