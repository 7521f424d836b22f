"""The ledger's promises under each strategy, for IPv4 and IPv6, with groups and with a /64 for each client."""

from __future__ import annotations

from tests.properties.domain.ledger_machine import BOUNDED, LedgerMachine
from tests.properties.domain.ledger_model import FEW, OWN, WHOLE, Setting


def _plans(strategy: str) -> tuple[Setting, ...]:
    return (
        Setting(strategy, FEW),
        Setting(strategy, WHOLE, grouped=True),
        Setting(strategy, FEW, grouped=True),
        Setting(strategy, OWN),
    )


class HashMachine(LedgerMachine):
    plans = _plans("hash")


class RandomMachine(LedgerMachine):
    plans = _plans("random")


class SequentialMachine(LedgerMachine):
    plans = _plans("sequential")


class ReservedMachine(LedgerMachine):
    plans = _plans("reserved")


TestHash, TestRandom = HashMachine.TestCase, RandomMachine.TestCase
TestSequential, TestReserved = SequentialMachine.TestCase, ReservedMachine.TestCase
TestHash.settings = TestRandom.settings = TestSequential.settings = TestReserved.settings = BOUNDED
