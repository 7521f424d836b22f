"""Commits in which names, DUIDs, hardware addresses, client ids and addresses are replaced, each by one alone.

Everything is keyed by a secret that is drawn for one file and kept nowhere, so nobody can try out who a pseudonym is.

Addresses keep their prefixes, as those of Crypto-PAn do (J. Xu, J. Fan, M. Ammar, S. Moon, "Prefix-preserving IP
address anonymization", ICNP 2002): two that share n bits share n bits afterwards, so subnets stay subnets, and a group
in its /64 a group. A bit is flipped or not by a keyed hash (BLAKE2b, RFC 7693) of the bits before it. The first 8 bits
stay, so that link-local, unique local and multicast addresses are seen to be such; of link-local ones 64 stay, of IPv4
ones the mapping, and of ::1 all.

Names of the plan (subnets, pools, groups), stable words, times, lifetimes and positions stay. What
clients of DHCP boot, and options that nothing is known of here, are left out: addresses may be anywhere in them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from dnms.events.commit import Commit, Decision
from dnms.events.configuration import ClientId, Iaid
from dnms.events.ip import MAPPED, MAPPED_BITS, Address, Prefix
from dnms.events.plan import Dhcp, Pool
from dnms.events.recorded import Personal

KEY_BYTES: Final = 32

MAX_REMEMBERED: Final = 1 << 16
"""Addresses of which the pseudonym is remembered: one costs 128 hashes, and most come again."""

_LINK_LOCAL: Final = 0xFE
_HARDWARE: Final = 6  # bytes

_Change = Callable[[Any], Any]


def _as_it_is(value: Any) -> Any:
    return value


def _without_places(value: Dhcp) -> Dhcp:
    """What is booted and other options may have addresses anywhere in them."""
    return Dhcp(ipv6_only=value.ipv6_only)


def _stays(place: int, before: int) -> bool:
    """Whether a bit stays behind these; it is asked of the bits before it alone, so that prefixes are kept."""
    if place < 8 or not before:
        return True
    if before >> (place - 8) == _LINK_LOCAL:
        return place < 64
    return place < MAPPED_BITS and before == int.from_bytes(MAPPED) >> (MAPPED_BITS - place)


class Pseudonyms:
    """Replaces what is personal, by one key."""

    def __init__(self, key: bytes) -> None:
        """`key`: KEY_BYTES random bytes, for one file."""
        self._key = key
        self._changes: dict[Any, _Change] = {}
        self.address = lru_cache(maxsize=MAX_REMEMBERED)(self._address)

    def subject(self, subject: str) -> str:
        """A subject: agents, and instances of subscribers, are often named as their machines."""
        site, name, family, *rest = subject.split(".")
        if family == "seen":
            rest = [rest[0], *(self._word("agent", each) for each in rest[1:])]
        elif family == "effect":
            rest = [rest[0], *(self._word("instance", each) for each in rest[1:2]), *rest[2:]]
        return ".".join((site, name, family, *rest))

    def commit(self, commit: Commit) -> Commit:
        """A commit. Random bits are left out, since they and a pseudonym would give an address away."""
        kind, slash, who = commit.actor.partition("/")
        return Commit(
            id=self._hash(b"commit", commit.id, 16),
            time=commit.time,
            predecessor=commit.predecessor,
            actor=f"{kind}/{self._word(kind, who)}" if slash else self._word("actor", kind),
            plan=commit.plan,
            decisions=tuple(
                Decision(
                    request=self.value(each.request),
                    at=each.at,
                    first=each.first,
                    count=each.count,
                    refused=each.refused,
                    times=each.times,
                )
                for each in commit.decisions
            ),
            events=tuple(map(self.value, commit.events)),
        )

    def value(self, value: msgspec.Struct) -> Any:
        """An event or a request."""
        return self._of(type(value))(value)

    def client(self, client: bytes) -> bytes:
        """A client id; it stays in its shard of nodes."""
        return client[:1] + self._hash(b"client", client, len(client) - 1)

    def iaid(self, iaid: int) -> int:
        """An IAID, which may be made of a hardware address."""
        return int.from_bytes(self._hash(b"iaid", iaid.to_bytes(4), 4))

    def prefix(self, prefix: Prefix) -> Prefix:
        """A prefix; an address in it stays in it."""
        first = int.from_bytes(self.address(prefix.network))
        shift = 128 - prefix.length
        return Prefix((first >> shift << shift).to_bytes(16), prefix.length)

    def personal(self, personal: Personal) -> Personal:
        """A name, a hardware address or a DUID, each as one of its kind."""
        value = personal.value
        if value is None:
            return Personal("sealed")
        if isinstance(value, str):
            return Personal(self._word("node", value))
        if len(value) == _HARDWARE:
            return Personal(b"\x02" + self._hash(b"hardware", value, 5))  # locally administered (IEEE 802, 8.2.2)
        return Personal(b"\x00\x04" + self._hash(b"duid", value, 16))  # DUID-UUID (RFC 6355, 4)

    def _address(self, address: bytes) -> bytes:
        bits, changed = int.from_bytes(address), 0
        for place in range(128):
            before = bits >> (128 - place)
            flip = not _stays(place, before) and self._hash(b"bit", place.to_bytes(1) + before.to_bytes(16), 1)[0] & 1
            changed = changed << 1 | (bits >> (127 - place) & 1) ^ flip
        return changed.to_bytes(16)

    def _pool(self, pool: Pool) -> Pool:
        """Its range as the smallest prefix that has all of it: order is what pseudonyms do not keep."""
        first, last = int.from_bytes(pool.first), int.from_bytes(pool.last)
        free = (first ^ last).bit_length()
        network = int.from_bytes(self.address(pool.first)) >> free << free
        return msgspec.structs.replace(
            pool, first=network.to_bytes(16), last=(network | ((1 << free) - 1)).to_bytes(16)
        )

    def _hash(self, kind: bytes, value: bytes, size: int) -> bytes:
        return hashlib.blake2b(value, key=self._key, person=kind, digest_size=size).digest()

    def _word(self, kind: str, text: str) -> str:
        stem = re.sub("[^a-z]", "", kind.lower()) or "word"
        return f"{stem}-{self._hash(b'word', f'{kind}/{text}'.encode(), 6).hex()}"

    def _of(self, hint: Any) -> _Change:
        """What is done with a value of this type; worked out once."""
        known = self._changes.get(hint)
        if known is None:
            known = self._changes[hint] = self._made(hint)
        return known

    def _made(self, hint: Any) -> _Change:  # noqa: PLR0911  # one return a type
        leaves: dict[Any, _Change] = {
            Address: self.address,
            ClientId: self.client,
            Iaid: self.iaid,
            Prefix: self.prefix,
            Personal: self.personal,
            Pool: self._pool,
            Dhcp: _without_places,
        }
        if hint in leaves:
            return leaves[hint]
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            [one] = [each for each in inner if each is not NoneType]
            change = self._of(one)
            return lambda value: None if value is None else change(value)
        if origin is tuple:
            change = self._of(inner[0])
            return lambda value: tuple(map(change, value))
        if origin is dict:
            change = self._of(inner[1])
            return lambda value: {key: change(each) for key, each in value.items()}
        if hasattr(hint, "__metadata__"):
            return self._of(hint.__origin__)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and not hint.__struct_config__.array_like:
            return self._struct(hint)
        return _as_it_is

    def _struct(self, kind: type[msgspec.Struct]) -> _Change:
        hints = get_type_hints(kind, include_extras=True)
        changes: dict[str, _Change] = {}
        for name in kind.__struct_fields__:
            change = self._texts(kind, name) or self._of(hints[name])
            if change is not _as_it_is:
                changes[name] = change

        def changed(value: Any) -> Any:
            return msgspec.structs.replace(
                value, **{name: change(getattr(value, name)) for name, change in changes.items()}
            )

        return changed

    def _texts(self, kind: type[msgspec.Struct], name: str) -> _Change | None:  # noqa: PLR0911  # one return a field
        """Texts that are not of the plan alone: whom a group is of, domains, interfaces, what a kernel says."""
        match kind.__name__, name:
            case "Group", "nodes":
                return lambda value: tuple(self._word("pattern", each) for each in value)
            case _, "search":
                return lambda value: None if value is None else tuple(self._domain(each) for each in value)
            case ("Link", "name") | (
                ("Reservation" | "PrefixDelegated" | "PrefixRenewed" | "DelegatePrefix"),
                "interface",
            ):
                return lambda value: value and self._word("if", value)
            case "Downlink", "routers":
                return lambda value: tuple(self._word("instance", each) for each in value)
            case "Source", "name":
                return lambda value: self._word("source", value)
            case "EffectApplied", ("added" | "dropped"):
                return lambda value: tuple(self._word("item", each) for each in value)
            case (("EffectFailed" | "EffectDelayed" | "EffectDead"), "text"):
                return lambda _: ""
            case _, "digest":
                return lambda value: self._hash(b"digest", value, len(value))
            case (("NodeForgotten" | "ForgetNode"), "key"):
                return lambda _: b""
            case _, "sysctls":
                return lambda _: {}
            case _, "kernel":
                return lambda _: ""
        return None

    def _domain(self, domain: str) -> str:
        return f"{self._word('domain', domain)}.invalid"  # RFC 2606, 2
