"""What a node has, as it told it last, and what became of it between two moments: as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from dnms.cli.rendering import facts, table
from dnms.projections.nodes.configured import ConfigurationChange

_PROTOCOLS = {0: "unspecified", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp", 200: "dnms"}
"""Of routes, as iproute2 calls them."""

_FLAGS = {0x04: "optimistic", 0x08: "duplicate", 0x20: "deprecated", 0x40: "tentative"}
"""Of addresses (if_addr.h), those that say whether one can be used."""

_PREFERENCES = {-1: "low", 0: "medium", 1: "high"}


def flags_of(configuration: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Of each address of the kernel, what keeps it from being used like any other."""
    held = (configuration or {}).get("addresses", ())
    return {one["address"]: [name for bit, name in _FLAGS.items() if one.get("flags", 0) & bit] for one in held}


def tables(configuration: Mapping[str, Any]) -> Iterator[RenderableType]:
    """All of it but the addresses."""
    links = configuration.get("links", ())
    names = {link["index"]: link["name"] for link in links}
    yield table(
        ("Link", "State", "Kind", "Hardware", "MTU", "Master"),
        (
            (
                link["name"],
                link.get("state") or ("up" if link.get("carrier") else "down"),
                link.get("kind"),
                link.get("hardware"),
                link.get("mtu"),
                names.get(link.get("master")),
            )
            for link in links
        ),
        title="Links",
    )
    yield table(("Destination", "Gateway", "Link", "Metric", "Protocol"), _routes(configuration, names), title="Routes")
    if configuration.get("routers") or configuration.get("advertisements"):
        yield table(
            ("Router", "Link", "Advertises", "Preference", "Lifetime", "Prefixes", "DNS"),
            _routers(configuration, names),
            title="Routers",
        )
    resolver = configuration.get("resolver", {})
    yield facts(
        [
            ("host name", configuration.get("host")),
            ("DNS servers", resolver.get("servers")),
            ("search", resolver.get("search")),
            ("routes not listed", configuration.get("routes_not_listed")),
        ]
    )
    settings = configuration.get("sysctls", {})
    if settings:
        yield table(
            ("Setting", "Value"), sorted(settings.items()), title="Settings: the defaults, and where a link differs"
        )


def changes(found: Sequence[ConfigurationChange], links: Mapping[int, str]) -> RenderableType:
    """What is otherwise at the later of two moments."""
    rows = ((each.change, each.what, _told(each.before, links), _told(each.after, links)) for each in found)
    return table(("Change", "What", "Before", "After"), rows)


def _routes(configuration: Mapping[str, Any], names: Mapping[int, str]) -> Iterable[tuple[object, ...]]:
    for route in configuration.get("routes", ()):
        protocol = route.get("protocol", 0)
        destination = route["destination"]
        yield (
            "default" if destination in ("::/0", "0.0.0.0/0") else destination,
            route.get("gateway"),
            names.get(route["interface"], route["interface"]),
            route.get("metric", 0),
            _PROTOCOLS.get(protocol, protocol),
        )


def _routers(configuration: Mapping[str, Any], names: Mapping[int, str]) -> Iterable[tuple[object, ...]]:
    said = {(each["interface"], each["router"]): each for each in configuration.get("advertisements", ())}
    silent = {(each["interface"], each["address"]) for each in configuration.get("routers", ())} - said.keys()
    for (interface, router), each in said.items():
        flags = [name for name, key in (("M", "managed"), ("O", "other")) if each.get(key)]
        yield (
            router,
            names.get(interface, interface),
            ["default route"] * bool(each.get("lifetime")) + flags,
            _PREFERENCES.get(each.get("preference", 0)),
            f"{each.get('lifetime', 0)} s",
            [f"{one['prefix']} ({_how(one)})" for one in each.get("prefixes", ())],
            each.get("dns"),
        )
    for interface, router in sorted(silent):
        yield (router, names.get(interface, interface), "nothing heard", None, None, None, None)


def _how(prefix: Mapping[str, Any]) -> str:
    words = [word for word, key in (("on link", "on_link"), ("SLAAC", "autonomous")) if prefix.get(key)]
    return ", ".join(words) or "neither on link nor SLAAC"


def _told(thing: Any, links: Mapping[int, str]) -> Any:
    """A thing in few words: what it is called, and what else it says."""
    if not isinstance(thing, dict):
        return thing
    words = dict(thing)
    if "interface" in words:
        words["interface"] = links.get(words["interface"], words["interface"])
    if "protocol" in words:
        words["protocol"] = _PROTOCOLS.get(words["protocol"], words["protocol"])
    if "flags" in words:
        words["flags"] = [name for bit, name in _FLAGS.items() if words["flags"] & bit] or None
    return {name: value for name, value in words.items() if value not in (None, [], ())}
