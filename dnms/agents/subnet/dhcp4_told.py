"""What DHCPv4 clients are told: what their group is told of the link, and how long they have their address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_names import Who
from dnms.domain import gateways, rollouts
from dnms.domain.assignment import addresses_of, times_of
from dnms.domain.dhcp_table import boot_of
from dnms.domain.leases import Lease
from dnms.domain.ledger import Ledger
from dnms.events.ip import MAPPED, MAPPED_BITS, Prefix, family
from dnms.events.plan import AdoptedPlan, Stateless
from dnms.wire.dhcp4.messages import NOBODY
from dnms.wire.dhcp4.server import Question, Told

T1, T2 = 1 / 2, 7 / 8
"""When a client renews and rebinds at the latest, as parts of its lease (RFC 2131, 4.4.5)."""

_DEFAULT = Prefix(MAPPED + bytes(4), MAPPED_BITS)


class _OfLink(NamedTuple):
    """What is made of a plan, of a group's part of it, and of what is known of the gateways."""

    plan: AdoptedPlan
    said: Stateless
    gateways: gateways.Gateways
    told: Told


class Telling:
    """Of one server."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._of_link: dict[int, _OfLink] = {}  # by group, since most clients are told the same

    def told(self, ledger: Ledger, asked: Question, who: Who, lease: Lease | None) -> Told:
        """All that a client is told in this subnet, and its address, if it has that yet."""
        said = rollouts.told(ledger, who.client, who.group)
        of_link = self._told_of_link(ledger, said, who.group)
        address, mask = NOBODY, of_link.mask
        valid = t1 = t2 = 0
        for each in addresses_of(ledger, () if lease is None else (lease,), at=self._books.now()):
            address, mask, valid = each.address, each.prefix_length, each.valid
            renew_after, rebind_after = times_of(said.policy.mode, [each.preferred])
            t1, t2 = min(renew_after, int(valid * T1)), min(rebind_after, int(valid * T2))
        boot = boot_of(said.dhcp, 4, asked.architectures)
        return msgspec.structs.replace(
            of_link,
            address=address,
            mask=mask,
            lease=valid,
            t1=t1,
            t2=t2,
            boot_server=NOBODY if boot is None or boot.server is None else boot.server,
            boot_file="" if boot is None else boot.file,
        )

    def _told_of_link(self, ledger: Ledger, said: Stateless, group: int) -> Told:
        known = self._of_link.get(group)
        if known is None or (ledger.plan, said, ledger.gateways) != known[:3]:
            known = self._of_link[group] = _OfLink(ledger.plan, said, ledger.gateways, _of_link(ledger, said))
        return known.told


def _of_link(ledger: Ledger, said: Stateless) -> Told:
    routers = _ipv4(gateways.told(ledger.gateways, said.gateways or ()))
    routes = tuple(
        (each.destination, each.gateway)
        for each in said.routes or ()
        if each.destination.family == 4 and family(each.gateway) == 4
    )
    # Who heeds these heeds no other router (RFC 3442).
    default = tuple((_DEFAULT, each) for each in routers[:1]) if routes else ()
    prefixes = () if ledger.plan.subnet is None else ledger.plan.subnet.prefixes
    return Told(
        mask=next((each.length for each in prefixes if each.family == 4), None),
        routers=routers,
        routes=(*routes, *default),
        dns=_ipv4(said.dns or ()),
        search=said.search or (),
        ntp=_ipv4(said.ntp or ()),
        mtu=said.mtu,
        ipv6_only=said.dhcp.ipv6_only or 0,
        others=tuple((each.code, each.value) for each in said.dhcp.options or () if each.family == 4),
    )


def _ipv4(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(each for each in addresses if family(each) == 4)
