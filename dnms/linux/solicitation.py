"""Router Solicitation (RFC 4861, 4.1): the kernel sends one when a link comes up, not when accept_ra is set again."""

from __future__ import annotations

import socket

from dnms.linux.errors import KernelError

ALL_ROUTERS = "ff02::2"
ROUTER_SOLICITATION = bytes([133, 0, 0, 0, 0, 0, 0, 0])  # the kernel fills in the checksum
HOPS = 255


def solicit_routers(interface: int) -> None:
    """Ask the routers of this interface (its index) for an advertisement now; KernelError."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS)
            sock.sendto(ROUTER_SOLICITATION, (ALL_ROUTERS, 0, 0, interface))
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, "solicit routers") from error
