"""Names in evidence: sealed in the log and in the file's events, in clear in the answer, and gone with their key."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from dnms.bus.memory import MemoryLog
from dnms.disk.certificates import Issued, issue, issue_signer
from dnms.disk.signing import Signer
from dnms.events.address import AddressAllocated
from dnms.events.node import NodeForgotten, NodeIdentified
from dnms.events.recorded import FORGOTTEN, Event, Personal
from dnms.projections.evidence import checking, document
from dnms.projections.evidence.document import Evidence
from dnms.projections.evidence.verdict import Verified, verified
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, SITE, happened
from dnms.projections.text import instant
from tests.contracts.projections.logs import memory_log, write

NAME = "alice-own-name"


@pytest.fixture(scope="module")
def root() -> Issued:
    """The site's root."""
    return issue(SITE)[0]


async def sealed(log: MemoryLog, event: Event) -> Event:
    return (await log.keys.seal([event], patience=1))[0]


@pytest.fixture
async def log() -> MemoryLog:
    """ALICE and BOB each hold an address; who they are is sealed."""
    log = memory_log()
    for client, name, address in ((ALICE, NAME, FIRST), (BOB, "bob", SECOND)):
        identified = NodeIdentified(client=client, duid=Personal(b"\0\4"), name=Personal(name))
        lease = AddressAllocated(address=address, client=client, iaid=1, pool="six", valid_until=100, horizon=400)
        await write(log, happened(f"node.{client[0]:02x}", 5, await sealed(log, identified)))
        await write(log, happened("ledger.lan", 10, lease))
    return log


async def made(log: MemoryLog, root: Issued, **changes: object) -> Evidence:
    said = await checking.make(
        log, SITE, FIRST, instant(20), asked="then", zone="UTC", made=datetime.now(UTC), release="0"
    )
    made = issue_signer(root)
    signer = Signer(made.key, made.certificate)
    return document.decode(document.encode(msgspec.structs.replace(said, **changes), signer))


async def check(evidence: Evidence, log: MemoryLog, root: Issued) -> Verified:
    return await verified(evidence, root=root.certificate, log=log, site=SITE)


async def forget(log: MemoryLog, client: bytes) -> None:
    key = await log.keys.of(client)
    assert key is not None
    event = NodeForgotten(client=client, personal=True, key=key.id)
    await write(log, happened(f"node.{client[0]:02x}", 50, event))
    await log.keys.destroy(client, key.id)


async def test_who_it_was_is_said_by_name(log: MemoryLog, root: Issued) -> None:
    evidence = await made(log, root)
    assert [one.node for one in evidence.statement.answer] == [NAME]
    assert all(NAME.encode() not in record.data for record in log.records)
    found = await check(evidence, log, root)
    assert (found.holds, found.explanation) == (True, "the site signed it, and the log says the same")


async def test_another_name_does_not_hold(log: MemoryLog, root: Issued) -> None:
    evidence = await made(log, root)
    [answer] = evidence.statement.answer
    forged = await made(log, root, answer=[msgspec.structs.replace(answer, node="bob")])
    found = await check(forged, log, root)
    assert (found.holds, found.verdict) == (False, "answer-differs")


async def test_it_holds_when_the_node_was_forgotten_since_but_for_the_name(log: MemoryLog, root: Issued) -> None:
    evidence = await made(log, root)
    await forget(log, ALICE)
    found = await check(evidence, log, root)
    assert (found.holds, found.verdict) == (True, "holds")
    assert f"but for {NAME!r}: who had that name is forgotten" in found.explanation
    [answer] = evidence.statement.answer
    forged = await made(log, root, answer=[msgspec.structs.replace(answer, node=NAME, client=BOB.hex())])
    assert not (await check(forged, log, root)).holds


async def test_of_who_is_forgotten_it_says_no_name(log: MemoryLog, root: Issued) -> None:
    await forget(log, ALICE)
    evidence = await made(log, root)
    assert [(one.client, one.node) for one in evidence.statement.answer] in (
        [(ALICE.hex(), FORGOTTEN)],
        [(ALICE.hex(), None)],
    )
    assert (await check(evidence, log, root)).holds
