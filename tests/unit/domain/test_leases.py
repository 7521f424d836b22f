"""The compact table of leases is a dict of leases, and one of bindings."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dnms.domain.leases import Binding, Lease, Leases, LeasesDump
from dnms.events.ip import MAPPED

ADDRESSES = [bytes(15) + bytes([n]) for n in range(5)] + [MAPPED + bytes(3) + bytes([n]) for n in range(3)]


def _lease(address: bytes, client: int, *, horizon: int = 1) -> Lease:
    return Lease(
        address=address,
        client=bytes([client]) * 16,
        iaid=client << 31,
        pool=f"pool-{client}",
        group=0xFFFF,
        valid_until=(1 << 62) + client,
        horizon=horizon,
        drained_at=-client,
    )


class LeasesMachine(RuleBasedStateMachine):
    """Does the same to the table and to two dicts."""

    @initialize()
    def begin(self) -> None:
        self.leases = Leases()
        self.model: dict[bytes, Lease] = {}
        self.bindings: dict[Binding, bytes] = {}

    def _unbind(self, address: bytes) -> None:
        lease = self.leases.get(address)
        if lease is not None and self.bindings.get(lease.binding) == address:
            del self.bindings[lease.binding]
            del self.leases.bindings[lease.binding]

    @rule(address=st.sampled_from(ADDRESSES), client=st.integers(0, 1), horizon=st.integers(0, 1 << 62))
    def put(self, address: bytes, client: int, horizon: int) -> None:
        self._unbind(address)
        self.leases[address] = self.model[address] = _lease(address, client, horizon=horizon)

    @rule(address=st.sampled_from(ADDRESSES))
    def bind(self, address: bytes) -> None:
        if address in self.model:
            binding = self.model[address].binding
            self.leases.bindings[binding] = self.bindings[binding] = address

    @rule(address=st.sampled_from(ADDRESSES))
    def drop(self, address: bytes) -> None:
        self._unbind(address)
        assert self.leases.pop(address, None) == self.model.pop(address, None)

    @precondition(lambda self: self.model)
    @rule()
    def dumped_and_loaded(self) -> None:
        rest, buffers = self.leases.dump()
        rest = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=LeasesDump)
        order = list(self.leases)
        self.leases = Leases()
        self.leases.load(rest, memoryview(b"".join(buffers)))
        assert list(self.leases) == order

    @invariant()
    def same(self) -> None:
        assert dict(self.leases) == self.model
        assert len(self.leases) == len(self.model)
        assert dict(self.leases.bindings) == self.bindings
        assert len(self.leases.bindings) == len(self.bindings)
        assert sorted(self.leases.horizons()) == sorted((each.horizon, each.address) for each in self.model.values())
        for address in ADDRESSES:
            assert (address in self.leases) == (address in self.model)
            assert self.leases.get(address) == self.model.get(address)


TestLeases = LeasesMachine.TestCase


def test_what_is_not_there_is_a_key_error() -> None:
    leases = Leases()
    for wrong in (
        lambda: leases[ADDRESSES[0]],
        lambda: leases.pop(ADDRESSES[0]),
        lambda: leases.bindings[bytes(16), 1, 6],
        lambda: leases.bindings.pop((bytes(16), 1, 6)),
        lambda: leases.bindings.__setitem__((bytes(16), 1, 6), ADDRESSES[0]),
    ):
        with pytest.raises(KeyError):
            wrong()


def test_rows_of_ended_leases_are_used_again() -> None:
    leases = Leases()
    for address in ADDRESSES * 20:
        leases[address] = _lease(address, 1)
        del leases[address]
    (rows, *_) = leases.dump()[1]
    leases[ADDRESSES[0]] = _lease(ADDRESSES[0], 1)
    assert len(leases.dump()[1][0]) == len(rows)
    assert len(leases) == 1


def test_buffers_of_another_size_are_not_loaded() -> None:
    leases = Leases()
    leases[ADDRESSES[0]] = _lease(ADDRESSES[0], 1)
    rest, buffers = leases.dump()
    with pytest.raises(ValueError, match="other sizes"):
        Leases().load(rest, memoryview(b"".join(buffers) + b"1"))
