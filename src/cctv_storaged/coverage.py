"""Where footage of a camera exists, and where not and why. The decisions are pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Entry
from cctv_storaged.model import TimeSpan

TOLERANCE = timedelta(seconds=1)
"""Recorders cut at whole seconds in the name and at key frames in the stream: less than this is no gap."""
STEP = 5000
"""Spans fetched at a time, so that a year's coverage does not hold up the journal's other users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span without footage. `cause`: lost, deleted, or unknown."""

    span: TimeSpan
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Footage and gaps together cover the whole span asked for, in order of time."""

    spans: tuple[TimeSpan, ...]
    gaps: tuple[Gap, ...]


async def coverage_of(journal: Journal, camera_id: UUID, span: TimeSpan) -> Coverage:
    """Coverage of a camera over a span, from the journal."""
    merged: list[TimeSpan] = []
    after = None
    while True:
        spans = await journal.segments.spans(camera_id, span, STEP, after)
        merge_into(merged, spans)
        if len(spans) < STEP or spans[-1].start == after:
            break
        after = spans[-1].start
    entries = await journal.ledger.of_camera(camera_id, span)
    return covered(merged, entries, span)


def merge_into(merged: list[TimeSpan], spans: Iterable[TimeSpan]) -> None:
    """Adds spans in order of their start to a list of merged ones, joining what touches within TOLERANCE."""
    for span in spans:
        if merged and span.start <= merged[-1].end + TOLERANCE:
            if span.end > merged[-1].end:
                merged[-1] = TimeSpan(merged[-1].start, span.end)
        else:
            merged.append(span)


def covered(merged: Sequence[TimeSpan], entries: Sequence[Entry], span: TimeSpan) -> Coverage:
    """Footage clipped to the span, and what is missing of it with its cause from the ledger."""
    footage = tuple(clipped for each in merged if (clipped := each.clipped_to(span)) is not None)
    gaps: list[Gap] = []
    cursor = span.start
    for each in footage:
        gaps.extend(_explained(cursor, each.start, entries))
        cursor = each.end
    gaps.extend(_explained(cursor, span.end, entries))
    return Coverage(spans=footage, gaps=tuple(gaps))


def _explained(start: datetime, end: datetime, entries: Sequence[Entry]) -> list[Gap]:
    """The gap `[start, end)`, cut where the ledger says why: its parts are known or unknown."""
    if end <= start:
        return []
    gap = TimeSpan(start, end)
    known: list[tuple[TimeSpan, str]] = []
    for entry in entries:
        part = entry.span.clipped_to(gap)
        if part is not None and (not known or part.end > known[-1][0].end):
            begin = max(part.start, known[-1][0].end) if known else part.start
            known.append((TimeSpan(begin, part.end), str(entry.kind)))
    return list(_with_unknown_between(gap, known))


def _with_unknown_between(gap: TimeSpan, known: Iterable[tuple[TimeSpan, str]]) -> Iterator[Gap]:
    cursor = gap.start
    for part, cause in known:
        if part.start > cursor:
            yield Gap(span=TimeSpan(cursor, part.start), cause="unknown")
        yield Gap(span=part, cause=cause)
        cursor = part.end
    if cursor < gap.end:
        yield Gap(span=TimeSpan(cursor, gap.end), cause="unknown")
