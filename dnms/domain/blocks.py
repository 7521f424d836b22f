"""Which /64 belongs to which client, where every client has one of its own (RFC 8273)."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from dnms.events.plan import Pool
from dnms.kit.overlay import overlaid


def block_of(address: bytes) -> bytes:
    """The first address of the /64 that an address lies in; it stands for the whole block, and is given to nobody."""
    return address[:8] + bytes(8)


class Blocks:
    """The blocks in which somebody has addresses."""

    def __init__(self) -> None:
        self._owners: MutableMapping[bytes, tuple[bytes, int]] = {}  # by block: client, and how many addresses
        self._blocks: MutableMapping[bytes, tuple[bytes, ...]] = {}  # by client

    def draft(self) -> Blocks:
        """A copy that may be thrown away."""
        draft = Blocks()
        draft._owners, draft._blocks = overlaid(self._owners), overlaid(self._blocks)
        return draft

    def dump(self) -> tuple[tuple[bytes, bytes, int], ...]:
        """Of each block: its first address, its client, and how many addresses of it that has."""
        return tuple((block, client, count) for block, (client, count) in self._owners.items())

    def load(self, dump: tuple[tuple[bytes, bytes, int], ...]) -> None:
        """Take what `dump` gave, into one that is empty."""
        for block, client, count in dump:
            self._owners[block] = client, count
            self._blocks[client] = (*self._blocks.get(client, ()), block)

    def owner(self, address: bytes) -> bytes | None:
        """The client that has addresses in the same block."""
        owned = self._owners.get(block_of(address))
        return None if owned is None else owned[0]

    def count(self, block: bytes) -> int:
        """How many addresses its client has in it."""
        return self._owners[block][1]

    def of(self, client: bytes, pool: Pool) -> bytes | None:
        """The client's block in a pool."""
        return next((block for block in self._blocks.get(client, ()) if pool.first <= block <= pool.last), None)

    def taken(self) -> list[bytes]:
        """All blocks that belong to somebody."""
        return list(self._owners)

    def take(self, address: bytes, client: bytes) -> bytes | None:
        """The client has this address from now on. Its block, if that was nobody's."""
        block = block_of(address)
        owned = self._owners.get(block)
        if owned is not None:
            self._owners[block] = owned[0], owned[1] + 1
            return None
        self._owners[block] = client, 1
        self._blocks[client] = (*self._blocks.get(client, ()), block)
        return block

    def leave(self, address: bytes) -> bytes | None:
        """Nobody has this address any more. Its block, if that is nobody's now."""
        block = block_of(address)
        owned = self._owners.get(block)
        if owned is None:
            return None
        client, count = owned
        if count > 1:
            self._owners[block] = client, count - 1
            return None
        del self._owners[block]
        left = tuple(each for each in self._blocks[client] if each != block)
        if left:
            self._blocks[client] = left
        else:
            del self._blocks[client]
        return block


class KeptBlocks:
    """The blocks in which addresses are kept for somebody, who need not have one yet.

    What it says depends on what is kept and not on the order in which that came, since a snapshot has another one.
    """

    def __init__(self) -> None:
        self._clients: MutableMapping[bytes, tuple[bytes, ...]] = {}  # by block: for each address, for whom it is kept
        self._blocks: MutableMapping[bytes, tuple[bytes, ...]] = {}  # by client: of each address kept for it

    def draft(self) -> KeptBlocks:
        """A copy that may be thrown away."""
        draft = KeptBlocks()
        draft._clients, draft._blocks = overlaid(self._clients), overlaid(self._blocks)
        return draft

    def __contains__(self, block: bytes) -> bool:
        """Whether anything in it is kept for somebody."""
        return block in self._clients

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._clients)

    def is_open_to(self, address: bytes, client: bytes) -> bool:
        """Whether nothing in the same block is kept for another client."""
        return all(each == client for each in self._clients.get(block_of(address), ()))

    def of(self, client: bytes, pool: Pool) -> bytes | None:
        """The first block in a pool in which addresses are kept for this client alone."""
        blocks = (each for each in self._blocks.get(client, ()) if pool.first <= each <= pool.last)
        return min((each for each in blocks if self.is_open_to(each, client)), default=None)

    def keep(self, address: bytes, client: bytes) -> None:
        """The address is kept for this client from now on."""
        block = block_of(address)
        self._clients[block] = (*self._clients.get(block, ()), client)
        self._blocks[client] = (*self._blocks.get(client, ()), block)

    def leave(self, address: bytes, client: bytes) -> None:
        """The address is kept for this client no longer; nothing where it was not, since its pool was another one."""
        block = block_of(address)
        if client in self._clients.get(block, ()):
            _without_one(self._clients, block, client)
            _without_one(self._blocks, client, block)


def _without_one(several: MutableMapping[bytes, tuple[bytes, ...]], key: bytes, value: bytes) -> None:
    values = several[key]
    where = values.index(value)
    left = (*values[:where], *values[where + 1 :])
    if left:
        several[key] = left
    else:
        del several[key]
