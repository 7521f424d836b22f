"""What can be asked about, as `ip route` and `nft` print it."""

from __future__ import annotations

import msgspec

from dnms.events.ip import Prefix, parse_address, parse_prefix

EXPECTED = (
    "expected an address, a prefix, a route as `ip route` prints it, or an element of a set, as in "
    "'2001:db8::5 in sales-6'"
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One thing."""

    prefix: Prefix  # of an address one with 128 bits
    is_route: bool = False
    via: str = ""  # the next hop of a route
    dev: str = ""
    unreachable: bool = False
    element_of: str = ""  # the name of a set

    @property
    def is_address(self) -> bool:
        """Whether it is a single address."""
        return self.prefix.length == 128


def asked(text: str) -> Asked:
    """What a text asks about; ValueError with a text for people."""
    words = text.replace("@", " ").split()
    unreachable = words[:1] == ["unreachable"]
    words = words[1:] if unreachable else words
    if not words:
        raise ValueError(EXPECTED)
    if words[0] == "default":
        raise ValueError("a default route is none that DNMS delegates; ask about an address or a prefix")
    try:
        prefix = parse_prefix(words[0]) if "/" in words[0] else Prefix(parse_address(words[0]), 128)
    except ValueError as error:
        raise ValueError(f"{error}; {EXPECTED}") from None
    if len(words) == 3 and words[1] == "in":
        return Asked(prefix=prefix, element_of=words[2])
    named = dict(zip(words[1::2], words[2::2], strict=False))
    if len(words) > 1 and not {"via", "dev"} & named.keys() and not unreachable:
        raise ValueError(f"{text!r}: {EXPECTED}")
    return Asked(
        prefix=prefix,
        is_route=unreachable or len(words) > 1,
        via=named.get("via", ""),
        dev=named.get("dev", ""),
        unreachable=unreachable,
    )
