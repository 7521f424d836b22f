"""What changed between two configurations of a node, and what a configuration is after a change.

Lifetimes run down and are begun anew by every advertisement: they alone are no change. That one has ended is, since the
kernel flags a deprecated address; and so is whether a lifetime ends at all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from dnms.events.configuration import (
    AdvertisedPrefix,
    Advertisement,
    Assignment,
    Difference,
    Generation,
    InterfaceAddress,
    Link,
    Route,
    Router,
    Snapshot,
)

T = TypeVar("T", Link, InterfaceAddress, Route, Router, Advertisement)

NO_DIFFERENCE = Difference()
_NO_GENERATION = Generation()


def essence(assignment: Assignment) -> Assignment:
    """What is assigned, whenever that was and for however long: two that are equal so change nothing."""
    addresses = tuple(
        msgspec.structs.replace(each, preferred=min(each.preferred, 1), valid=1) for each in assignment.addresses
    )
    prefixes = tuple(
        msgspec.structs.replace(each, preferred=min(each.preferred, 1), valid=1) for each in assignment.prefixes
    )
    return msgspec.structs.replace(assignment, generation=_NO_GENERATION, addresses=addresses, prefixes=prefixes)


def difference(before: Snapshot, after: Snapshot) -> Difference:
    """What is otherwise after; `NO_DIFFERENCE` if nothing is but lifetimes."""
    links, links_gone = _differing(before.links, after.links)
    addresses, addresses_gone = _differing(before.addresses, after.addresses)
    routes, routes_gone = _differing(before.routes, after.routes)
    routers, routers_gone = _differing(before.routers, after.routers)
    advertisements, advertisements_gone = _differing(before.advertisements, after.advertisements)
    return Difference(
        links=links,
        links_gone=tuple(link.index for link in links_gone),
        addresses=addresses,
        addresses_gone=addresses_gone,
        routes=routes,
        routes_gone=routes_gone,
        routes_not_listed=_if_new(before.routes_not_listed, after.routes_not_listed),
        resolver=_if_new(before.resolver, after.resolver),
        sysctls={name: value for name, value in after.sysctls.items() if before.sysctls.get(name) != value}
        | dict.fromkeys(sorted(before.sysctls.keys() - after.sysctls.keys()), ""),
        kernel=_if_new(before.kernel, after.kernel),
        host=_if_new(before.host, after.host),
        routers=routers,
        routers_gone=routers_gone,
        advertisements=advertisements,
        advertisements_gone=tuple(
            Router(interface=each.interface, address=each.router) for each in advertisements_gone
        ),
    )


def changed(snapshot: Snapshot, change: Difference) -> Snapshot:
    """The configuration after a change. What stays keeps its place, and what is new comes last."""
    gone_links = frozenset(change.links_gone)
    gone_advertisements = {(each.interface, each.address) for each in change.advertisements_gone}
    return msgspec.structs.replace(
        snapshot,
        links=_after(snapshot.links, change.links, dict.fromkeys(gone_links)),
        addresses=_after(snapshot.addresses, change.addresses, _by_key(change.addresses_gone)),
        routes=_after(snapshot.routes, change.routes, _by_key(change.routes_gone)),
        routes_not_listed=_new_or(change.routes_not_listed, snapshot.routes_not_listed),
        resolver=_new_or(change.resolver, snapshot.resolver),
        sysctls={name: value for name, value in (snapshot.sysctls | change.sysctls).items() if value},
        kernel=_new_or(change.kernel, snapshot.kernel),
        host=_new_or(change.host, snapshot.host),
        routers=_after(snapshot.routers, change.routers, _by_key(change.routers_gone)),
        advertisements=_after(snapshot.advertisements, change.advertisements, dict.fromkeys(gone_advertisements)),
    )


def _key(each: T) -> Hashable:
    """By what it is known that two are the same one, perhaps changed."""
    match each:
        case Link():
            return each.index
        case InterfaceAddress():
            return each.interface, each.address, each.prefix_length
        case Advertisement():
            return each.interface, each.router
    return each  # a route or a router is all that it is


def _by_key(several: Iterable[T]) -> dict[Hashable, T]:
    return {_key(each): each for each in several}


def _differing(before: tuple[T, ...], after: tuple[T, ...]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Those that are new or otherwise, and those that are gone."""
    then, now = _by_key(before), _by_key(after)
    new = tuple(each for key, each in now.items() if key not in then or _lasting(then[key]) != _lasting(each))
    return new, tuple(each for key, each in then.items() if key not in now)


def _after(before: tuple[T, ...], new: tuple[T, ...], gone: Mapping[Any, object]) -> tuple[T, ...]:
    kept = {key: each for key, each in _by_key(before).items() if key not in gone}
    return tuple((kept | _by_key(new)).values())


def _lasting(each: T) -> Any:
    """What it is but for lifetimes, of which counts only whether there is any, and whether it ends."""
    if isinstance(each, InterfaceAddress):
        return msgspec.structs.replace(each, preferred=_ends(each.preferred), valid=_ends(each.valid))
    if isinstance(each, Advertisement):
        prefixes = tuple(map(_lasting_prefix, each.prefixes))
        return msgspec.structs.replace(each, lifetime=min(each.lifetime, 1), prefixes=prefixes)
    return each


def _lasting_prefix(each: AdvertisedPrefix) -> AdvertisedPrefix:
    return msgspec.structs.replace(each, valid=min(each.valid, 1), preferred=min(each.preferred, 1))


def _ends(seconds: int | None) -> int | None:
    return None if seconds is None else 0


def _if_new(before: Any, after: Any) -> Any:
    return None if before == after else after


def _new_or(new: Any, old: Any) -> Any:
    return old if new is None else new
