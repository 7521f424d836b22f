"""A router between three links, each with a host, and datagrams that get through or do not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from dnms.events.ip import family, parse_address
from dnms.linux.namespaces import Bridge, Namespace

if TYPE_CHECKING:
    from tests.netns.subscribers.conftest import Machine

PASSES = 2.0  # seconds in which what passes has arrived, on any machine
FALLS = 0.3  # seconds in which what is dropped has not
CARRIES = 10.0  # seconds in which a cable carries
AGAIN = 0.02  # seconds between two datagrams

DESK_6, PHONE_6, STRANGER_6 = "2001:db8:1:1:5a1e::1", "2001:db8:1:2:701::1", "2001:db8:f::1"
DESK_4, PHONE_4, STRANGER_4 = "192.0.2.1", "192.0.2.65", "192.0.2.129"

LINKS = {
    "desk": ("lan-a", (f"{DESK_6}/64", f"{DESK_4}/26"), ("2001:db8:1:1::fe/64", "192.0.2.62/26")),
    "phone": ("lan-b", (f"{PHONE_6}/64", f"{PHONE_4}/26"), ("2001:db8:1:2::fe/64", "192.0.2.126/26")),
    "stranger": ("lan-c", (f"{STRANGER_6}/64", f"{STRANGER_4}/26"), ("2001:db8:f::fe/64", "192.0.2.190/26")),
}
HARDWARE = {"desk": "02:00:00:00:00:0a", "phone": "02:00:00:00:00:0b", "stranger": "02:00:00:00:00:0c"}


@contextmanager
def routed(router: Machine) -> Iterator[dict[str, Namespace]]:
    """The hosts by name. The router's links are lan-a, lan-b and lan-c, the host's own is eth0."""
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(Namespace.create(name)) for name in LINKS}
        router.namespace.set_sysctls({"ipv6.conf.all.forwarding": 1, "ipv4.ip_forward": 1})
        for each in (router.namespace, *hosts.values()):
            each.set_sysctls({"ipv6.conf.default.dad_transmits": 0})  # else nobody is heard in the first second
        for name, (link, own, gateways) in LINKS.items():
            router.namespace.ip(
                [f"link add {link} type veth peer name eth0 netns /proc/self/fd/{hosts[name].fileno()}"],
                pass_fds=[hosts[name].fileno()],
            )
            router.namespace.ip([f"link set {link} up", *(_address(one, link) for one in gateways)])
            hosts[name].ip(
                [
                    f"link set eth0 address {HARDWARE[name]} up",
                    *(_address(one, "eth0") for one in own),
                    *(f"route add default via {one.partition('/')[0]}" for one in gateways),
                ]
            )
        for host in hosts.values():
            carries(host, "eth0")
        for link, _, _ in LINKS.values():
            carries(router.namespace, link)
        yield hosts


@contextmanager
def bridged(host: Machine) -> Iterator[dict[str, Namespace]]:
    """Hosts on one bridge, which all are in one /64; the bridge's ports are br0-1, br0-2 and br0-3."""
    with ExitStack() as stack:
        guests = {name: stack.enter_context(Namespace.create(name)) for name in LINKS}
        bridge = Bridge.create(host.namespace, "br0")
        bridge.plug(list(guests.values()), "eth0")
        for number, (name, guest) in enumerate(guests.items(), start=1):
            guest.ip(
                [
                    f"link set eth0 address {HARDWARE[name]} up",
                    _address(f"2001:db8:1:1:{GROUPS[name]}::{number}/64", "eth0"),
                    _address(f"192.0.2.{number}/24", "eth0"),
                ]
            )
        for guest in guests.values():
            carries(guest, "eth0")
        yield guests


GROUPS = {"desk": "5a1e", "phone": "701", "stranger": "0"}


def carries(machine: Namespace, interface: str) -> None:
    """Wait until an interface is up: the kernel says so a while after both its ends are, in a queue of its own."""
    end = time.monotonic() + CARRIES
    while "state UP" not in machine.run("ip", "-o", "link", "show", "dev", interface):
        assert time.monotonic() < end
        time.sleep(0.01)


def _address(text: str, interface: str) -> str:
    return f"address add {text} dev {interface}{' nodad' if ':' in text else ''}"


def passes(
    source: Namespace, sender: str, destination: Namespace, receiver: str, port: int = 5060, *, within: float = PASSES
) -> bool:
    """Whether a datagram arrives."""
    kind = socket.AF_INET6 if family(parse_address(receiver)) == 6 else socket.AF_INET
    with destination.entered():
        hearing = socket.socket(kind, socket.SOCK_DGRAM)
    with source.entered():
        saying = socket.socket(kind, socket.SOCK_DGRAM)
    with hearing, saying:
        hearing.bind((receiver, port))
        hearing.settimeout(AGAIN)
        saying.bind((sender, 0))
        end = time.monotonic() + within
        while time.monotonic() < end:
            saying.sendto(b"ping", (receiver, port))
            try:
                hearing.recv(4)
            except TimeoutError:
                continue
            return True
    return False


def falls(source: Namespace, sender: str, destination: Namespace, receiver: str, port: int = 5060) -> bool:
    """Whether no datagram arrives."""
    return not passes(source, sender, destination, receiver, port, within=FALLS)
