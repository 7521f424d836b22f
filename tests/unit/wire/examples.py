"""One of everything that goes over the wire, as in the story of one node that joins: the golden bytes are of these."""

from __future__ import annotations

import hashlib

from dnms.events.configuration import (
    AssignedAddress,
    AssignedRoute,
    Assignment,
    Generation,
    InterfaceAddress,
    Link,
    Resolver,
    Route,
    Snapshot,
)
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.recorded import Personal
from dnms.events.seen import AppliedItem, DriftItem
from dnms.wire import messages as m
from dnms.wire import relaying
from dnms.wire.messages import Association, Binding, Endpoint
from dnms.wire.registration import digest_of, encode_snapshot

DUID = bytes.fromhex("0004") + bytes(range(16))
NONCE = bytes(range(0xA0, 0xB0))
ADDRESS = parse_address("2001:db8:1:1:0:9a2f:4e11:c0de")
OTHER = parse_address("2001:db8:1:1:0:77:1234:5678")
ADDRESS4 = parse_address("192.0.2.10")
GENERATION = Generation(1, 17, 4_242)
T1, T2, VALID = 1_800, 2_880, 7_200

SNAPSHOT = Snapshot(
    links=(
        Link(index=2, name="eth0", kind="veth", hardware=Personal(bytes.fromhex("02000000000a")), mtu=1_500, up=True),
    ),
    addresses=(
        InterfaceAddress(
            interface=2, address=parse_address("fe80::ff:fe00:a"), prefix_length=64, origin="link-local", flags=0x80
        ),
    ),
    routes=(Route(destination=parse_prefix("::/0"), interface=2, gateway=parse_address("fe80::1"), metric=1_024),),
    resolver=Resolver(servers=(parse_address("2001:db8::53"),), search=("example.net",)),
    sysctls={"net.ipv6.conf.eth0.accept_ra": "1"},
    kernel="6.18.0",
)
ENCODED = encode_snapshot(SNAPSHOT)
LATER = encode_snapshot(Snapshot(kernel="6.18.1"))

ASSIGNMENT = Assignment(
    generation=GENERATION,
    addresses=(
        AssignedAddress(address=ADDRESS, prefix_length=64, iaid=7, preferred=3_600, valid=VALID),
        AssignedAddress(address=ADDRESS4, prefix_length=120, iaid=7, preferred=3_600, valid=VALID),
    ),
    gateways=(parse_address("fe80::1"), parse_address("192.0.2.1")),
    routes=(AssignedRoute(destination=parse_prefix("2001:db8:2::/48"), gateway=parse_address("fe80::2")),),
    resolver=Resolver(servers=(parse_address("2001:db8::53"),), search=("example.net",)),
    mtu=1_500,
)
BINDINGS = (Binding(iaid=7, address=ADDRESS), Binding(iaid=7, address=ADDRESS4))

SOLICIT = m.Solicit(nonce=NONCE)
OFFER = m.Offer(
    nonce=NONCE,
    site="example",
    subnet="office",
    agent="agent-1",
    endpoints=(
        Endpoint(address=parse_address("fe80::ff:fe00:1"), port=m.PORT),
        Endpoint(address=parse_address("2001:db8:1:1::1"), port=m.PORT),
    ),
    load=12,
    preference=100,
    root=hashlib.sha256(b"root").digest(),
)

SAID: dict[str, relaying.Said] = {
    "relayed": relaying.Relayed(
        subnet="office",
        node=parse_address("fe80::ff:fe00:2"),
        interface="eth1",
        hello=hashlib.sha256(b"hello").digest(),
    ),
    "asking": relaying.Asking(subnet="office"),
}
ANSWERS: dict[str, relaying.Answer] = {
    "here": relaying.Here(
        site="example", subnet="office", agent="agent-1", load=12, preference=100, root=hashlib.sha256(b"root").digest()
    ),
    "refused": relaying.Refused(code="not-authorised", text="the agent was not told of relay 'edge'"),
}

FRAMES: tuple[tuple[int, m.Message], ...] = (
    (1, m.Hello(lowest=1, highest=1, duid=DUID, name="laptop", interface="eth0", capabilities=("observe",))),
    (1, m.Welcome(version=1, agent="agent-1", site="example", subnet="office", time=1_750_000_000_000_000)),
    (2, m.Register(digest=digest_of(ENCODED), chunk=0, chunks=1, data=ENCODED)),
    (2, m.Registered(digest=digest_of(ENCODED))),
    (3, m.RequestAddresses(associations=(Association(iaid=7, family=6), Association(iaid=7, family=4, held=ADDRESS4)))),
    (3, m.Assign(assignment=ASSIGNMENT, renew_after=T1, rebind_after=T2, refused={"4": "no-addresses"})),
    (
        0,
        m.Applied(
            generation=GENERATION,
            items=(AppliedItem(address=ADDRESS, outcome="usable"), AppliedItem(address=ADDRESS4, outcome="duplicate")),
        ),
    ),
    (
        0,
        m.Drifted(
            generation=GENERATION,
            items=(
                DriftItem(kind="address", name="2001:db8:1:1:0:9a2f:4e11:c0de/64", change="removed"),
                DriftItem(kind="sysctl", name="net/ipv6/conf/eth0/accept_ra", change="changed", was="0", now="1"),
            ),
            action="contested",
            rival="dhcpcd",
            restored=5,
            within=60,
            hold=900,
        ),
    ),
    (4, m.Decline(bindings=BINDINGS[1:])),
    (5, m.Observe(previous=digest_of(ENCODED), digest=digest_of(LATER), snapshot=LATER)),
    (0, m.Extended(preferred=3_600, valid=VALID, renew_after=T1, rebind_after=T2)),
    (6, m.Renew(bindings=BINDINGS[:1], wanted=(Association(iaid=7, family=4),), generation=GENERATION)),
    (7, m.Rebind(bindings=BINDINGS, generation=GENERATION)),
    (8, m.Confirm(bindings=BINDINGS, generation=GENERATION)),
    (9, m.Ping()),
    (9, m.Pong()),
    (8, m.Error(code="not-on-link", text="this is subnet office", retry_after=0)),
    (10, m.Release(bindings=BINDINGS)),
    (0, m.Bye(why="leaving", go_to=(Endpoint(address=parse_address("fe80::ff:fe00:2"), port=m.PORT),))),
)
