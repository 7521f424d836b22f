"""The leases of one ledger in compact form: a row of bytes each, found by address and by what it is held for.

A lease takes some 110 bytes so, indexes and all, where two dicts of small objects took 480; and what lies in a few
buffers is written to a disk and read again at the speed of the disk.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Final, TypeVar, overload

import msgspec

from dnms.events.address import AddressAllocated, OutageGranted
from dnms.events.ip import MAPPED, family
from dnms.kit.index import Index

Binding = tuple[bytes, int, int]
"""Client id, IAID and family: what an address is held for."""

_ROW: Final = struct.Struct(">16s16sIBHHqqq")  # address; client, IAID, family; pool, group, valid, horizon, drained
_WIDTH: Final = _ROW.size
_CLIENT: Final = 16  # in a row: where the binding begins, which is the key of `bindings`
_POOL: Final = 37
_NUMBERED: Final = struct.Struct(">IB")

D = TypeVar("D")


class Lease(msgspec.Struct, frozen=True, gc=False):
    """One address held by one client."""

    address: bytes
    client: bytes
    iaid: int
    pool: str
    group: int
    valid_until: int
    horizon: int
    drained_at: int = 0  # another takes its place: until then the client may use it; 0: it is no such one

    @property
    def binding(self) -> Binding:
        """What it is held for."""
        return self.client, self.iaid, family(self.address)


def leased(event: AddressAllocated | OutageGranted) -> Lease:
    """What is given by it. By place, and not by name, since a start makes a million of them."""
    return Lease(event.address, event.client, event.iaid, event.pool, event.group, event.valid_until, event.horizon)


class LeasesDump(msgspec.Struct, frozen=True, array_like=True):
    """All but the buffers of `Leases.dump`."""

    pools: tuple[str, ...]
    free: tuple[int, ...]
    sizes: tuple[int, ...]  # bytes of each buffer
    by_address: tuple[int, ...]  # places in each segment of the index
    by_binding: tuple[int, ...]


class Leases(MutableMapping[bytes, Lease]):
    """By address, in no order that means anything, but the same for all who fold the same log.

    `bindings` names the first lease of each binding. It is the caller's to keep: a lease must be there before a binding
    is put on its address, and the binding gone before the lease is.
    """

    def __init__(self) -> None:
        self._rows = bytearray()
        self._free: list[int] = []  # rows of no lease
        self._pools: list[str] = []  # the names, which rows know by their places here
        self._by_address = Index(self._rows, width=_WIDTH, begin=0, end=_CLIENT)
        self._newest = b"", -1  # address and number of the row that was written last
        self.bindings = Bindings(self._rows, self._number)

    def __len__(self) -> int:
        return len(self._rows) // _WIDTH - len(self._free)

    def __iter__(self) -> Iterator[bytes]:
        rows = self._rows
        for at in range(0, len(rows), _WIDTH):
            if rows[at + _POOL - 1]:  # a free row is of no family
                yield bytes(rows[at : at + _CLIENT])

    def __contains__(self, address: object) -> bool:
        return isinstance(address, bytes) and self._by_address.find(address) >= 0

    def __getitem__(self, address: bytes) -> Lease:
        return self._lease(self._number(address))

    @overload
    def get(self, address: bytes, /) -> Lease | None: ...
    @overload
    def get(self, address: bytes, default: Lease, /) -> Lease: ...
    @overload
    def get(self, address: bytes, default: D, /) -> Lease | D: ...

    def get(self, address: bytes, default: object = None, /) -> object:
        """The lease, or `default`; without the KeyError by which Mapping finds that there is none."""
        number = self._by_address.find(address)
        return default if number < 0 else self._lease(number)

    def __setitem__(self, address: bytes, lease: Lease) -> None:
        row = self._pack(lease)
        rows, fresh = self._rows, self._free[-1] if self._free else len(self._rows) // _WIDTH
        number = self._by_address.add(address, fresh)
        if number == len(rows) // _WIDTH:
            rows += row
        else:
            rows[number * _WIDTH : (number + 1) * _WIDTH] = row
            if number == fresh:
                self._free.pop()
        self._newest = address, number

    def add(self, lease: Lease) -> bytes | None:
        """Put a lease, and on its binding if nothing is there; the first address of that. None if it is leased already.

        It does at once what takes four looks by the methods of a mapping.
        """
        rows, address = self._rows, lease.address
        number = self._free[-1] if self._free else len(rows) // _WIDTH
        if self._by_address.add(address, number) != number:
            return None
        row = self._pack(lease)
        if number * _WIDTH == len(rows):
            rows += row
        else:
            rows[number * _WIDTH : (number + 1) * _WIDTH] = row
            self._free.pop()
        first = self.bindings.add(row[_CLIENT:_POOL], number)
        return address if first == number else bytes(rows[first * _WIDTH : first * _WIDTH + _CLIENT])

    @property
    def free_rows(self) -> int:
        """How many leases the next ones take the places of that have ended."""
        return len(self._free)

    def extend(self, events: Sequence[AddressAllocated]) -> int:
        """Put what these give behind the others, while there are no free rows; how many, up to the first whose address
        is leased or whose binding has something.
        """
        rows, first, pack, pool = self._rows, len(self._rows) // _WIDTH, _ROW.pack, ""
        number = 0
        new: list[bytes] = []
        for each in events:
            if each.pool != pool:
                pool, number = each.pool, self._pool(each.pool)
            address = each.address
            kind = 4 if address.startswith(MAPPED) else 6
            new.append(
                pack(address, each.client, each.iaid, kind, number, each.group, each.valid_until, each.horizon, 0)
            )
        rows += b"".join(new)
        found = self._by_address.extend([row[:_CLIENT] for row in new], first)
        taken = self.bindings.extend([row[_CLIENT:_POOL] for row in new[:found]], first)
        for row in new[taken:found]:
            self._by_address.remove(row[:_CLIENT])
        del rows[(first + taken) * _WIDTH :]
        return taken

    def _pack(self, lease: Lease) -> bytes:
        return _ROW.pack(
            lease.address,
            lease.client,
            lease.iaid,
            family(lease.address),
            self._pool(lease.pool),
            lease.group,
            lease.valid_until,
            lease.horizon,
            lease.drained_at,
        )

    def __delitem__(self, address: bytes) -> None:
        number = self._number(address)
        self._by_address.remove(address)
        self._newest = b"", -1
        self._rows[number * _WIDTH : (number + 1) * _WIDTH] = bytes(_WIDTH)
        self._free.append(number)

    def horizons(self) -> Iterator[tuple[int, bytes]]:
        """When each ends, and its address, without making a lease of it."""
        for address, _, _, kind, _, _, _, horizon, _ in _ROW.iter_unpack(self._rows):
            if kind:
                yield horizon, address

    def drained(self) -> Iterator[Lease]:
        """Those that others take the place of."""
        for number, row in enumerate(_ROW.iter_unpack(self._rows)):
            if row[-1]:
                yield self._lease(number)

    def dump(self) -> tuple[LeasesDump, tuple[bytes, ...]]:
        """All there is, as buffers that stay as they are."""
        by_address, by_binding = self._by_address.dump(), self.bindings.dump()
        buffers = (bytes(self._rows), by_address[1], by_binding[1])
        rest = LeasesDump(
            pools=tuple(self._pools),
            free=tuple(self._free),
            sizes=tuple(map(len, buffers)),
            by_address=tuple(by_address[0]),
            by_binding=tuple(by_binding[0]),
        )
        return rest, buffers

    def load(self, dump: LeasesDump, buffers: memoryview) -> None:
        """Take what `dump` gave, its buffers one behind the other, into one that is empty. ValueError."""
        rows, by_address, by_binding = dump.sizes
        if rows % _WIDTH or rows + by_address + by_binding != len(buffers):
            raise ValueError("the leases have other sizes")
        self._rows += buffers[:rows]
        self._free, self._pools = list(dump.free), list(dump.pools)
        self._by_address.load(dump.by_address, buffers[rows : rows + by_address])
        self.bindings.load(dump.by_binding, buffers[rows + by_address :])

    def _lease(self, number: int) -> Lease:
        address, client, iaid, _, pool, group, valid_until, horizon, drained_at = _ROW.unpack_from(
            self._rows, number * _WIDTH
        )
        return Lease(address, client, iaid, self._pools[pool], group, valid_until, horizon, drained_at)

    def _number(self, address: bytes) -> int:
        """Of the address's row. KeyError."""
        newest, number = self._newest  # which is what a binding is mostly put on
        if address is not newest:
            number = self._by_address.find(address)
            if number < 0:
                raise KeyError(address)
        return number

    def _pool(self, name: str) -> int:
        try:
            return self._pools.index(name)
        except ValueError:
            self._pools.append(name)
            return len(self._pools) - 1


class Bindings(MutableMapping[Binding, bytes]):
    """The address of the first lease of each binding."""

    def __init__(self, rows: bytearray, number: Callable[[bytes], int]) -> None:
        """`number`: of an address's row. KeyError."""
        self._rows = rows
        self._number = number
        self._index = Index(rows, width=_WIDTH, begin=_CLIENT, end=_POOL)

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[Binding]:
        for address, client, iaid, kind, *_ in _ROW.iter_unpack(self._rows):
            binding = client, iaid, kind
            if kind and self.get(binding) == address:
                yield binding

    def __getitem__(self, binding: Binding) -> bytes:
        address = self.get(binding)
        if address is None:
            raise KeyError(binding)
        return address

    @overload
    def get(self, binding: Binding, /) -> bytes | None: ...
    @overload
    def get(self, binding: Binding, default: bytes, /) -> bytes: ...
    @overload
    def get(self, binding: Binding, default: D, /) -> bytes | D: ...

    def get(self, binding: Binding, default: object = None, /) -> object:
        """The address, or `default`."""
        number = self._index.find(_key(binding))
        if number < 0:
            return default
        return bytes(self._rows[number * _WIDTH : number * _WIDTH + _CLIENT])

    def __contains__(self, binding: object) -> bool:
        return self._index.find(_key(binding)) >= 0  # type: ignore[arg-type]  # nobody looks for anything else

    def __setitem__(self, binding: Binding, address: bytes) -> None:
        number, key = self._number(address), _key(binding)
        if self._index.add(key, number) != number:
            self._index.remove(key)
            self._index.add(key, number)

    def add(self, key: bytes, number: int) -> int:
        """This row has the binding whose bytes are `key`, unless another has it: the number of the one that has."""
        return self._index.add(key, number)

    def extend(self, keys: Sequence[bytes], first: int) -> int:
        """See `Index.extend`."""
        return self._index.extend(keys, first)

    def __delitem__(self, binding: Binding) -> None:
        try:
            self._index.remove(_key(binding))
        except KeyError:
            raise KeyError(binding) from None

    def dump(self) -> tuple[list[int], bytes]:
        """See `Index.dump`."""
        return self._index.dump()

    def load(self, sizes: tuple[int, ...], entries: memoryview) -> None:
        """See `Index.load`."""
        self._index.load(sizes, entries)


def _key(binding: Binding) -> bytes:
    client, iaid, kind = binding
    return client + _NUMBERED.pack(iaid, kind)


def without(addresses: MutableMapping[Binding, tuple[bytes, ...]], binding: Binding, address: bytes) -> None:
    """Take one address out of those of a binding."""
    left = tuple(each for each in addresses.get(binding, ()) if each != address)
    if left:
        addresses[binding] = left
    else:
        addresses.pop(binding, None)
