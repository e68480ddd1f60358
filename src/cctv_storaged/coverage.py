"""Where footage of a camera exists, and where not and why. The decisions are pure."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Absence
from cctv_storaged.model import TimeSpan

TOLERANCE = timedelta(seconds=1)
"""Recorders cut at whole seconds in the name and at key frames in the stream: less than this is no gap."""
STEP = 5000
"""Segments or lines of the ledger looked at in one go: a year's coverage must not hold up the journal."""


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
    after, more = None, True
    while more:
        footage = await journal.segments.footage(camera_id, span, TOLERANCE, STEP, after)
        merge_into(merged, footage.spans)
        after, more = footage.next, footage.next is not None
    return covered(merged, await _absences(journal, camera_id, span), span)


async def _absences(journal: Journal, camera_id: UUID, span: TimeSpan) -> list[Absence]:
    absences: list[Absence] = []
    page = await journal.ledger.absences(camera_id, span, TOLERANCE, STEP, None)
    while True:
        absences += page.parts
        if page.next is None:
            return absences
        page = await journal.ledger.absences(camera_id, span, TOLERANCE, STEP, page.next)


def merge_into(merged: list[TimeSpan], spans: Iterable[TimeSpan]) -> None:
    """Adds spans in order of their start to a list of merged ones, joining what touches within TOLERANCE."""
    for span in spans:
        if merged and span.start <= merged[-1].end + TOLERANCE:
            if span.end > merged[-1].end:
                merged[-1] = TimeSpan(merged[-1].start, span.end)
        else:
            merged.append(span)


def covered(merged: Sequence[TimeSpan], absences: Sequence[Absence], span: TimeSpan) -> Coverage:
    """Footage clipped to the span, and what is missing of it with its cause from the ledger."""
    footage = tuple(clipped for each in merged if (clipped := each.clipped_to(span)) is not None)
    gaps: list[Gap] = []
    coming, near = deque(absences), deque[Absence]()
    for gap in _between(footage, span):
        while coming and coming[0].span.start < gap.end:
            near.append(coming.popleft())
        near = deque(absence for absence in near if absence.span.end > gap.start)
        gaps.extend(_explained(gap, near))
    return Coverage(spans=footage, gaps=tuple(gaps))


def _between(footage: Sequence[TimeSpan], span: TimeSpan) -> Iterator[TimeSpan]:
    """What of the span is not footage."""
    cursor = span.start
    for each in footage:
        if each.start > cursor:
            yield TimeSpan(cursor, each.start)
        cursor = each.end
    if span.end > cursor:
        yield TimeSpan(cursor, span.end)


def _explained(gap: TimeSpan, absences: Iterable[Absence]) -> list[Gap]:
    """The gap, cut where the ledger says why: its parts are known or unknown. Absences by their start."""
    known: list[tuple[TimeSpan, str]] = []
    for absence in absences:
        part = absence.span.clipped_to(gap)
        if part is not None and (not known or part.end > known[-1][0].end):
            begin = max(part.start, known[-1][0].end) if known else part.start
            _append(known, TimeSpan(begin, part.end), str(absence.kind))
    return list(_with_unknown_between(gap, known))


def _append(known: list[tuple[TimeSpan, str]], part: TimeSpan, cause: str) -> None:
    """Adds a part; what goes on with the same cause is one (two pages of the ledger meet somewhere)."""
    if known and known[-1][1] == cause and part.start <= known[-1][0].end + TOLERANCE:
        part = TimeSpan(known.pop()[0].start, part.end)
    known.append((part, cause))


def _with_unknown_between(gap: TimeSpan, known: Iterable[tuple[TimeSpan, str]]) -> Iterator[Gap]:
    cursor = gap.start
    for part, cause in known:
        if part.start > cursor:
            yield Gap(span=TimeSpan(cursor, part.start), cause="unknown")
        yield Gap(span=part, cause=cause)
        cursor = part.end
    if cursor < gap.end:
        yield Gap(span=TimeSpan(cursor, gap.end), cause="unknown")
