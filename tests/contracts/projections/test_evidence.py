"""Evidence says what the views say, holds against its log, and no forgery of it does."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnms.bus.memory import MemoryLog
from dnms.disk.certificates import Issued, issue, issue_signer
from dnms.disk.signing import Signer
from dnms.events.address import AddressAllocated, AddressReleased
from dnms.events.configuration import Difference, InterfaceAddress, Link
from dnms.events.ip import format_address
from dnms.events.node import NodeArrived, NodeIdentified, NodeJoined
from dnms.events.recorded import Personal
from dnms.events.seen import ConfigurationChanged
from dnms.projections.evidence import checking, document, gathering
from dnms.projections.evidence.document import Evidence, EvidenceError, Refuted, Statement
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, SITE, Happened, happened
from dnms.projections.history import queries
from dnms.projections.runner import rebuild
from dnms.projections.text import instant
from dnms.projections.views import Views
from tests.contracts.projections.logs import ADDRESSES, folder, logs, memory_log, write
from tests.contracts.projections.test_history import _registered

MADE = datetime.now(UTC)
AT = 35


@pytest.fixture(scope="module")
def root() -> Issued:
    """The site's root."""
    return issue(SITE)[0]


@pytest.fixture(scope="module")
def signer(root: Issued) -> Signer:
    """Who signs for the site."""
    made = issue_signer(root)
    return Signer(made.key, made.certificate)


@pytest.fixture
async def log() -> MemoryLog:
    """BOB held an address, then ALICE, who registered it too, and has a name that she was joined into."""
    log = memory_log()
    await write(
        log,
        happened("node.10", 1, NodeIdentified(client=BOB, duid=Personal(b"\0\4"), name=Personal("bob"))),
        happened("node.00", 2, NodeJoined(client=ALICE, into=BOB)),
        happened("ledger.lan", 10, _allocated(BOB)),
        happened("ledger.lan", 20, AddressReleased(address=FIRST, client=BOB, iaid=1)),
        happened("ledger.lan", 30, _allocated(ALICE)),
        happened("seen.lan.east", 32, _registered(ALICE, FIRST, SECOND)),
        happened("plan", 33),
        happened("seen.lan.east", 40, _registered(ALICE, SECOND)),
        happened("ledger.lan", 50, AddressReleased(address=FIRST, client=ALICE, iaid=1)),
    )
    return log


def _allocated(client: bytes) -> AddressAllocated:
    return AddressAllocated(address=FIRST, client=client, iaid=1, pool="six", valid_until=100, horizon=400)


async def said(log: MemoryLog, at: int = AT, address: bytes = FIRST) -> Statement:
    """Evidence, not yet signed."""
    return await checking.make(log, SITE, address, instant(at), asked="then", zone="UTC", made=MADE, release="0")


async def check(evidence: Evidence, root: Issued, log: MemoryLog) -> None:
    """As `dnms evidence verify` does."""
    document.check_signature(evidence, root.certificate)
    checking.check_itself(evidence.statement)
    await checking.check_log(evidence, log, SITE)


async def test_evidence_holds(log: MemoryLog, root: Issued, signer: Signer) -> None:
    statement = await said(log)
    assert [(one.client, one.source, one.node, one.opened, one.closed) for one in statement.answer] == [
        (ALICE.hex(), "lease", "bob", "5.0", "9.0"),
        (ALICE.hex(), "registered", "bob", "6.0", "8.0"),
    ]
    assert [one.position for one in statement.events] == ["1.0", "2.0", "5.0", "6.0", "8.0", "9.0"]
    [lease] = [one for one in statement.events if one.position == "5.0"]
    assert base64.b64decode(lease.event) in log.records[4].data
    assert (lease.predecessor, lease.actor, lease.subject) == (4, "agent/east", f"dnms.{SITE}.ledger.lan")
    content = document.encode(statement, signer)
    evidence = document.decode(content)
    assert evidence.statement == statement
    assert content.startswith(b'{"evidence":1,')
    await check(evidence, root, log)
    await write(log, happened("ledger.lan", 60, _allocated(BOB)))  # a log that has grown is still the same
    await check(evidence, root, log)


async def test_evidence_that_nobody_had_an_address_holds(log: MemoryLog, root: Issued, signer: Signer) -> None:
    statement = await said(log, at=25)
    assert (statement.answer, statement.events) == ([], [])
    await check(document.decode(document.encode(statement, signer)), root, log)


async def test_evidence_of_an_address_that_came_by_a_change_of_what_nobody_has_told_as_a_whole() -> None:
    """A Subnet Agent that is the first to record a node may hear of a change first."""
    log = memory_log()
    one = InterfaceAddress(interface=2, address=FIRST, prefix_length=64, origin="slaac")
    change = Difference(links=(Link(index=2, name="eth0"),), addresses=(one,))
    await write(log, happened("seen.lan.east", 10, ConfigurationChanged(client=ALICE, change=change)))
    [holding] = (await said(log)).answer
    assert (holding.client, holding.source, holding.opened) == (ALICE.hex(), "registered", "1.0")


@settings(max_examples=60)
@given(log=logs(), address=st.sampled_from(ADDRESSES), at=st.integers(0, 100))
async def test_evidence_says_what_the_views_say(log: list[Happened], address: bytes, at: int) -> None:
    written = memory_log()
    await write(written, *log)
    with folder() as directory:
        path = directory / "views.db"
        await rebuild(written, path, site=SITE)
        views = Views(path)
        async with views.read() as reading:
            everybody = await queries.who_had(reading.db, address, at)
            expected = [one for one in everybody if one.source != queries.DELEGATED]  # evidence is of addresses
        await views.close()
    statement = await said(written, at, address)
    assert statement.answer == expected
    checking.check_itself(statement)
    assert {one.opened for one in expected} <= {one.position for one in statement.events}


def changed(statement: Statement, **fields: object) -> Statement:
    return msgspec.structs.replace(statement, **fields)


def _another_holder(statement: Statement) -> Statement:
    [lease, *others] = statement.answer
    return changed(statement, answer=[msgspec.structs.replace(lease, client=BOB.hex()), *others])


def _another_name(statement: Statement) -> Statement:
    return changed(statement, answer=[msgspec.structs.replace(one, node="mallory") for one in statement.answer])


def _one_more(statement: Statement) -> Statement:
    return changed(statement, answer=[*statement.answer, statement.answer[-1]])


def _longer(statement: Statement) -> Statement:
    [lease, *others] = statement.answer
    return changed(statement, answer=[msgspec.structs.replace(lease, until=instant(10**9)), *others])


def _later(statement: Statement) -> Statement:
    return changed(statement, at=instant(25))


def _left_out(statement: Statement) -> Statement:
    [lease, *_] = statement.answer
    events = [one for one in statement.events if one.position not in ("6.0", "8.0")]
    return changed(statement, answer=[msgspec.structs.replace(lease, sure="single")], events=events)


def _of_another_address(statement: Statement) -> Statement:
    return changed(statement, address=format_address(SECOND))


def _event_changed(statement: Statement) -> Statement:
    *others, last = statement.events
    forged = base64.b64encode(base64.b64decode(last.event).replace(ALICE, BOB)).decode()
    assert forged != last.event
    return changed(statement, events=[*others, msgspec.structs.replace(last, event=forged)])


def _time_changed(statement: Statement) -> Statement:
    first, *others = statement.events
    return changed(statement, events=[msgspec.structs.replace(first, time=instant(99)), *others])


def _event_added(statement: Statement) -> Statement:
    return changed(statement, events=[*statement.events, msgspec.structs.replace(statement.events[0], position="7.0")])


def _unneeded_event(statement: Statement) -> Statement:
    released = [one for one in statement.events if one.position == "9.0"]
    return changed(statement, events=[*statement.events, msgspec.structs.replace(released[0], position="4.0")])


def _other_log(statement: Statement) -> Statement:
    return changed(statement, log_id="two")


def _other_site(statement: Statement) -> Statement:
    return changed(statement, site="another")


def _longer_log(statement: Statement) -> Statement:
    return changed(statement, log=msgspec.structs.replace(statement.log, last=10))


def _shorter_log(statement: Statement) -> Statement:
    return changed(statement, log=msgspec.structs.replace(statement.log, last=8))


def _other_digest(statement: Statement) -> Statement:
    return changed(statement, log=msgspec.structs.replace(statement.log, digest="00" * 32))


def _made_long_after(statement: Statement) -> Statement:
    return changed(statement, made=MADE + timedelta(days=20 * 365))


FORGERIES: list[tuple[Callable[[Statement], Statement], str]] = [
    (_another_holder, "answer-differs"),
    (_another_name, "answer-differs"),
    (_one_more, "answer-differs"),
    (_longer, "answer-differs"),
    (_later, "answer-differs"),
    (_of_another_address, "answer-differs"),
    (_left_out, "events-differ"),
    (_event_changed, "bytes-differ"),
    (_time_changed, "bytes-differ"),
    (_event_added, "event-missing"),
    (_unneeded_event, "bytes-differ"),
    (_other_log, "other-log"),
    (_other_site, "other-log"),
    (_longer_log, "shorter-log"),
    (_shorter_log, "event-missing"),
    (_other_digest, "log-differs"),
    (_made_long_after, "untrusted-key"),
]


@pytest.mark.parametrize(("forge", "why"), FORGERIES, ids=[forge.__name__ for forge, _ in FORGERIES])
async def test_what_was_forged_with_the_key_does_not_hold(
    forge: Callable[[Statement], Statement], why: str, log: MemoryLog, root: Issued, signer: Signer
) -> None:
    forged = document.decode(document.encode(forge(await said(log)), signer))
    with pytest.raises(Refuted) as refuted:
        await check(forged, root, log)
    assert refuted.value.why == why
    assert "\n" not in str(refuted.value)


async def test_no_byte_can_be_changed_without_the_key(log: MemoryLog, root: Issued, signer: Signer) -> None:
    content = document.encode(await said(log), signer)
    line = content.index(b"\n")
    for place in range(0, line, 7):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises((Refuted, EvidenceError)) as refuted:
            document.check_signature(document.decode(bytes(damaged)), root.certificate)
        assert getattr(refuted.value, "why", "bad-signature") in ("bad-signature", "untrusted-key")


async def test_a_key_of_another_site_or_of_an_agent_signs_nothing(log: MemoryLog, root: Issued) -> None:
    other_root, _ = issue(SITE)
    other = issue_signer(other_root)
    evidence = document.decode(document.encode(await said(log), Signer(other.key, other.certificate)))
    with pytest.raises(Refuted, match="not signed by the root of this site"):
        document.check_signature(evidence, root.certificate)
    own_root, agent = issue(SITE)
    by_agent = msgspec.structs.replace(evidence.signature, certificate=agent.certificate.decode())
    with pytest.raises(Refuted, match="not one that signs evidence"):
        document.check_signature(Evidence(evidence.statement, by_agent, evidence.line), own_root.certificate)


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ({"signature": "no base64!"}, "bad-signature"),
        ({"signature": base64.b64encode(bytes(64)).decode()}, "bad-signature"),
        ({"algorithm": "none"}, "bad-signature"),
        ({"certificate": "none"}, "untrusted-key"),
    ],
)
async def test_a_signature_that_is_none(
    signature: dict[str, str], why: str, log: MemoryLog, root: Issued, signer: Signer
) -> None:
    evidence = document.decode(document.encode(await said(log), signer))
    forged = Evidence(evidence.statement, msgspec.structs.replace(evidence.signature, **signature), evidence.line)
    with pytest.raises(Refuted) as refuted:
        document.check_signature(forged, root.certificate)
    assert refuted.value.why == why


@pytest.mark.parametrize("place", [0, 3, 6, 7])
async def test_a_log_that_was_changed_is_noticed(place: int, log: MemoryLog, root: Issued, signer: Signer) -> None:
    """In what concerns the address, and in what does not."""
    evidence = document.decode(document.encode(await said(log), signer))
    record = log.records[place]
    log.records[place] = msgspec.structs.replace(record, data=record.data.replace(b"agent/east", b"agent/best"))
    with pytest.raises(Refuted) as refuted:
        await check(evidence, root, log)
    assert refuted.value.why in ("bytes-differ", "log-differs")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x93", b"[1]\n{}", b'{"evidence":1}\n{}', b"null\nnull"])
def test_what_is_no_evidence_is_said(content: bytes) -> None:
    with pytest.raises(EvidenceError, match="it is no evidence"):
        document.decode(content)


async def test_evidence_of_a_newer_release_is_said(log: MemoryLog, signer: Signer) -> None:
    newer = document.encode(changed(await said(log), evidence=2), signer)
    with pytest.raises(EvidenceError, match="upgrade dnms"):
        document.decode(newer)


async def test_an_address_of_every_machine_is_no_evidence(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_USERS", 1)
    with pytest.raises(EvidenceError, match="more than 1 machines used"):
        await said(log)


async def test_names_come_from_the_shards_of_all_identities(log: MemoryLog) -> None:
    """And not where a node went: that is another question."""
    renamed = NodeIdentified(client=BOB, duid=Personal(b"\0\4"), name=Personal("robert"))
    await write(log, happened("node.10", 70, renamed, NodeArrived(client=BOB, subnet="lan")))
    statement = await said(log)
    assert {one.node for one in statement.answer} == {"robert"}
    assert [one.position for one in statement.events] == ["1.0", "2.0", "5.0", "6.0", "8.0", "9.0", "10.0"]
