"""The stream beside its archive: what is in one of them, in both, or in none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import msgspec

from dnms.archive.records import ArchiveError
from dnms.archive.segments import Archive
from dnms.bus.port import LogForked, Record
from dnms.bus.survey import Survey

MAX_SPOKEN = 8  # of spans; the first ones tell where it begins


class Span(msgspec.Struct, frozen=True, order=True):
    """Sequences from the first to the last."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


class Comparison(msgspec.Struct, kw_only=True):
    """What a comparison found; sequences are those of the log."""

    site: str
    log_id: str
    archived: int  # the last message of the archive
    stored: int  # the last message of the stream, as the server counts them or its files have them
    missing: list[Span] = []  # in the archive, and not to be read in the stream
    lost: list[Span] = []  # to be read in neither, and there once
    changed: list[Span] = []  # in both, and not the same
    damaged: list[str] = []  # segments of the archive that cannot be used
    cut_off: int = 0  # bytes that the server found unreadable at its start and dropped
    not_archived: int = 0  # messages that the stream has after the archive's end

    @property
    def stream_is_whole(self) -> bool:
        """Whether the stream has every message, and the archive's as they are there."""
        return not (self.missing or self.lost or self.changed or self.cut_off)

    @property
    def whole(self) -> bool:
        """Whether the archive is whole too."""
        return self.stream_is_whole and not self.damaged


def begin(archive: Archive, survey: Survey, *, on_disk: int = 0) -> Comparison:
    """A comparison before it. LogForked if the two are not of one log.

    `on_disk` is up to where the stream's files go, if that is known: the server may know less.
    """
    if archive.log_id != survey.log_id:
        raise LogForked(
            f"{archive.directory} is the archive of the log {archive.log_id}, and the stream is {survey.log_id!r}"
        )
    state = survey.state
    stored = max(state.last_seq, on_disk)
    return Comparison(
        site=archive.site,
        log_id=archive.log_id,
        archived=archive.end,
        stored=stored,
        cut_off=state.lost.bytes if state.lost is not None else 0,
        not_archived=max(stored - archive.end, 0),
    )


async def compare(archive: Archive, survey: Survey, *, on_disk: int = 0) -> Comparison:
    """Read both from end to end. LogForked, Unavailable."""
    comparison = begin(archive, survey, on_disk=on_disk)
    async with aclosing(both(archive, survey, comparison)) as records:
        async for _ in records:
            pass
    return comparison


async def both(archive: Archive, survey: Survey, comparison: Comparison) -> AsyncGenerator[Record, None]:
    """Every message that one of the two has, in their order, as the archive has it.

    Notes in `comparison` what is wrong. Unavailable.
    """
    kept = _readable(archive, comparison.damaged.append)
    at = 0  # the last that came from either
    archived = next(kept, None)
    async with aclosing(survey.records()) as found:
        streamed = await anext(found, None)
        while archived is not None or streamed is not None:
            sequence = min(record.sequence for record in (archived, streamed) if record is not None)
            if sequence > at + 1:
                _add(comparison.lost, at + 1, sequence - 1)
            at = sequence
            one = archived if archived is not None and archived.sequence == sequence else None
            other = streamed if streamed is not None and streamed.sequence == sequence else None
            if other is None:
                _add(comparison.missing, sequence, sequence)
            elif one is not None and one != other:
                _add(comparison.changed, sequence, sequence)
            chosen = one or other
            assert chosen is not None
            yield chosen
            if one is not None:
                archived = next(kept, None)
            if other is not None:
                streamed = await anext(found, None)
    end = max(archive.end, comparison.stored)
    if end > at:
        _add(comparison.lost, at + 1, end)


def spoken(spans: list[Span]) -> str:
    """Sequences in a line for people."""
    more = ", …" if len(spans) > MAX_SPOKEN else ""
    return ", ".join(map(str, spans[:MAX_SPOKEN])) + more


def _readable(archive: Archive, damaged: Callable[[str], None]) -> Iterator[Record]:
    for segment in archive.segments:
        try:
            records = archive.messages(segment)
        except ArchiveError as error:
            damaged(str(error))
            continue
        yield from records


def _add(spans: list[Span], first: int, last: int) -> None:
    """Note sequences; those that follow each other together."""
    if spans and spans[-1].last + 1 == first:
        spans[-1] = Span(spans[-1].first, last)
    else:
        spans.append(Span(first, last))
