"""Evidence made of a log, and compared with it."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

import msgspec

from dnms.bus.port import Log
from dnms.events.ip import format_address, parse_address
from dnms.events.recorded import FORGOTTEN
from dnms.projections.evidence.document import Evidence, LogDigest, Refuted, Statement, Told
from dnms.projections.evidence.gathering import Gathered, gather
from dnms.projections.history.holding import Holding
from dnms.projections.text import instant, microseconds, position


async def make(
    log: Log, site: str, address: bytes, at: datetime, *, asked: str, zone: str, made: datetime, release: str
) -> Statement:
    """Who had the address at a time, by the whole log. LogError."""
    found = await gather(log, site, address, microseconds(at))
    return Statement(
        site=site,
        log_id=log.log_id,
        made=made,
        release=release,
        address=format_address(address),
        at=instant(microseconds(at)),
        asked=asked,
        zone=zone,
        answer=found.holdings,
        events=_told(found),
        log=LogDigest(last=found.last, time=instant(found.time), digest=found.digest.hex()),
    )


def check_itself(statement: Statement) -> None:
    """Refuted `answer-differs` where its answer does not name events that it has, and that say so.

    That is all that can be seen without the log: whether events were left out can not.
    """
    events = {told.position: told for told in statement.events}
    address = _bytes_of(statement.address)
    for holding in statement.answer:
        begin = events.get(holding.opened)
        if holding.address != statement.address or begin is None or not _says(begin, holding, address):
            raise Refuted("answer-differs", f"the event at {holding.opened} does not say what is answered of it")
        end = None if holding.closed is None else events.get(holding.closed)
        if holding.closed is not None and (end is None or end.name != holding.closed_by):
            raise Refuted("answer-differs", f"the event at {holding.closed} does not say what is answered of it")
        if holding.since > statement.at or (holding.until is not None and holding.until < statement.at):
            raise Refuted("answer-differs", f"what began at {holding.opened} was not so at the time that is asked for")


async def check_log(evidence: Evidence, log: Log, site: str) -> list[str]:
    """Compare with the log: it is this one, it is unchanged, the events are in it, and they make the answer.

    The names that it says and the log no more, since their nodes are forgotten: they are the word of who signed.

    Refuted `other-log`, `shorter-log`, `event-missing`, `bytes-differ`, `log-differs`, `events-differ`,
    `answer-differs`. LogError.
    """
    said = evidence.statement
    if (said.site, said.log_id) != (site, log.log_id):
        raise Refuted(
            "other-log", f"it is of the log {said.log_id} of {said.site!r}, and this is {log.log_id} of {site!r}"
        )
    end = await log.end()
    if end < said.log.last:
        raise Refuted("shorter-log", f"it is of a log up to {said.log.last}, and this one ends at {end}")
    found = await gather(log, site, _bytes_of(said.address), microseconds(said.at), last=said.log.last)
    own = {told.position: told for told in _told(found)}
    for told in said.events:
        true = own.get(told.position) or _at(found, told.position)
        if true is None:
            raise Refuted("event-missing", f"the log has no event about this at {told.position}")
        if told != true:
            raise Refuted("bytes-differ", f"the log has other bytes at {told.position}: {_differing(told, true)}")
    if (found.digest.hex(), instant(found.time)) != (said.log.digest, said.log.time):
        raise Refuted("log-differs", f"the log up to {said.log.last} is not the one that it was made of")
    if {told.position for told in said.events} != own.keys():
        lacking = ", ".join(sorted(own.keys() - {told.position for told in said.events})) or "none"
        raise Refuted("events-differ", f"its events are not those of the log; lacking: {lacking}")
    pairs = list(zip(said.answer, found.holdings, strict=False))
    if len(said.answer) != len(found.holdings) or any(_nameless(one, own) != own for one, own in pairs):
        raise Refuted("answer-differs", "its answer is not what follows from the log")
    return sorted({one.node for one, own in pairs if one.node is not None and one.node != own.node})


def _nameless(said: Holding, own: Holding) -> Holding:
    """What is said, without a name that cannot be read any more."""
    return msgspec.structs.replace(said, node=own.node) if own.node == FORGOTTEN else said


def _told(found: Gathered) -> list[Told]:
    wanted = {_place(one.opened) for one in found.holdings} | set(found.naming)
    wanted |= {_place(one.closed) for one in found.holdings if one.closed is not None}
    return [_event(found, sequence, index) for sequence, index in sorted(wanted)]


def _at(found: Gathered, place: str) -> Told | None:
    """An event that is about the address and no part of the answer."""
    try:
        sequence, index = _place(place)
        return _event(found, sequence, index)
    except (ValueError, LookupError):
        return None


def _event(found: Gathered, sequence: int, index: int) -> Told:
    source = found.sources[sequence]
    commit = source.stored.commit
    return Told(
        position=position(sequence, index),
        subject=source.record.subject,
        name=commit.events[index].NAME,
        time=instant(commit.time),
        actor=commit.actor,
        commit=commit.id.hex(),
        predecessor=commit.predecessor,
        sha256=source.digest,
        event=base64.b64encode(source.events[index]).decode(),
    )


def _place(text: str) -> tuple[int, int]:
    sequence, _, index = text.partition(".")
    return int(sequence), int(index)


def _says(told: Told, holding: Holding, address: bytes) -> bool:
    """Whether an event is of the kind and client that are answered, and has the address in it."""
    try:
        content = base64.b64decode(told.event, validate=True)
        name, _, fields = msgspec.msgpack.decode(content, type=tuple[str, int, dict[str, Any]])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return False
    return (
        name == told.name == holding.opened_by
        and fields.get("client") == bytes.fromhex(holding.client)
        and address in content
    )


def _differing(told: Told, true: Told) -> str:
    fields = told.__struct_fields__
    return ", ".join(name for name in fields if getattr(told, name) != getattr(true, name))


def _bytes_of(address: str) -> bytes:
    try:
        return parse_address(address)
    except ValueError as error:
        raise Refuted("answer-differs", str(error)) from None
