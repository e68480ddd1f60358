"""Where footage of a camera exists, and where not and why.

Footage and causes are read from the journal in slices; causes.py decides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.causes import TOLERANCE, Gap, explained, jumped_over, silent_in
from cctv_storaged.journal.gaps import Absence, CameraTimes
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import GapCause, TimeSpan

STEP = 500
"""Segments or lines of the ledger looked at in one go: a year's coverage must not hold up the journal."""
GAPS = 200
"""Gaps whose neighbours are looked up in one go."""
NEWS = timedelta(seconds=90)
"""So long after its end a segment is journalled: its file stands still for a minute, then a scan meets it."""
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Within the calendar, by more than any segment is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Footage and gaps together cover the whole span asked for, in order of time."""

    spans: tuple[TimeSpan, ...]
    gaps: tuple[Gap, ...]


async def coverage_of(journal: Journal, camera_id: UUID, span: TimeSpan, now: datetime) -> Coverage:
    """Coverage of a camera over a span, from the journal as it is `now`."""
    times = await journal.gaps.times(camera_id, now)
    merged: list[TimeSpan] = []
    known = list(by_time(times, span, now))
    wide = _with_its_neighbours(span)
    after, more = None, True
    while more:
        footage = await journal.segments.footage(camera_id, wide, TOLERANCE, STEP, after)
        merge_into(merged, footage.spans)
        known += footage.going
        after, more = footage.next, footage.next is not None
    missing = list(between(clipped(merged, span), span))
    if missing:
        known += await _told(journal, camera_id, span)
        known += await _invalid(journal, camera_id, span, times.usual)
        known += jumped_over(missing, await journal.gaps.steps(span))
    found = covered(merged, known, span)
    silent = await _silent(journal, camera_id, span, found.gaps, times)
    return covered(merged, [*known, *silent], span) if silent else found


def _with_its_neighbours(span: TimeSpan) -> TimeSpan:
    """What begins or ends this near to the span leaves no gap at its ends."""
    if span.start < EARLIEST or span.end > LATEST:
        return span
    return TimeSpan(span.start - TOLERANCE, span.end + TOLERANCE)


def undecided_since(times: CameraTimes, now: datetime) -> datetime:
    """Footage of later may be in a segment that is not closed yet, or not looked at."""
    return now - times.usual - NEWS


def by_time(times: CameraTimes, span: TimeSpan, now: datetime) -> Iterator[Absence]:
    """What follows from when a moment is: before all footage, or not over yet."""
    since = undecided_since(times, now)
    if span.end > since:
        yield Absence(span=TimeSpan(max(span.start, since), span.end), cause=GapCause.NOT_YET)
    before = span.end if times.first is None else min(span.end, times.first)
    since_when = span.start if times.known_since is None else max(span.start, times.known_since)
    if since_when < before:
        yield Absence(span=TimeSpan(since_when, before), cause=GapCause.BEFORE_FIRST)


async def _told(journal: Journal, camera_id: UUID, span: TimeSpan) -> list[Absence]:
    """What the ledger says."""
    absences: list[Absence] = []
    page = await journal.gaps.absences(camera_id, span, TOLERANCE, STEP, None)
    absences += page.parts
    while page.next is not None:
        page = await journal.gaps.absences(camera_id, span, TOLERANCE, STEP, page.next)
        absences += page.parts
    return absences


async def _invalid(journal: Journal, camera_id: UUID, span: TimeSpan, usual: timedelta) -> list[Absence]:
    """What files of the camera that were set aside stand for."""
    absences: list[Absence] = []
    after = None
    while True:
        files = await journal.segments.set_aside_of(camera_id, span, usual, STEP, after)
        absences += (Absence(span=each, cause=GapCause.INVALID) for each in files)
        if len(files) < STEP:
            return absences
        after = files[-1].start


async def _silent(
    journal: Journal, camera_id: UUID, span: TimeSpan, gaps: Iterable[Gap], times: CameraTimes
) -> list[Absence]:
    """Of what is unexplained: when all roots were watched that footage could have been in.

    In a rebuilt journal not before it was: times watched are taken over, and what was deleted then is not.
    """
    since, usual = times.known_since or span.start, times.usual
    unexplained = (gap.span for gap in gaps if gap.cause is GapCause.UNKNOWN)
    parts = [TimeSpan(max(part.start, since), part.end) for part in unexplained if part.end > since]
    if not parts:
        return []
    roots = frozenset(await journal.gaps.roots())
    watched = {root: await _watched(journal, root, span, usual + NEWS) for root in roots}
    silent: list[Absence] = []
    for first in range(0, len(parts), GAPS):
        batch = parts[first : first + GAPS]
        around = (
            [roots] * len(batch) if len(roots) == 1 else await journal.gaps.roots_around(camera_id, batch)
        )
        for part, possible in zip(batch, around, strict=True):
            looked = [watched.get(root, []) for root in possible]
            silent += silent_in(looked, part, usual + NEWS)
    return silent


async def _watched(journal: Journal, root: str, span: TimeSpan, beyond: timedelta) -> list[TimeSpan]:
    """When a root was looked at whole; `beyond` the span too, for what shows later."""
    asked = TimeSpan(span.start, min(span.end, LATEST) + beyond)
    found = await journal.watched.spans(root, asked)
    merged: list[TimeSpan] = []
    while found:
        merge_into(merged, found, timedelta(0))
        found = await journal.watched.spans(root, asked, found[-1].start)
    return merged


def merge_into(merged: list[TimeSpan], spans: Iterable[TimeSpan], slack: timedelta = TOLERANCE) -> None:
    """Adds spans in order of their start to a list of merged ones, joining what touches within the slack."""
    for span in spans:
        if merged and span.start <= merged[-1].end + slack:
            if span.end > merged[-1].end:
                merged[-1] = TimeSpan(merged[-1].start, span.end)
        else:
            merged.append(span)


def covered(merged: Sequence[TimeSpan], known: Sequence[Absence], span: TimeSpan) -> Coverage:
    """Footage clipped to the span, and what is missing of it with its causes."""
    footage = clipped(merged, span)
    return Coverage(spans=footage, gaps=tuple(explained(between(footage, span), known)))


def clipped(merged: Sequence[TimeSpan], span: TimeSpan) -> tuple[TimeSpan, ...]:
    """What of the footage lies within the span."""
    return tuple(part for each in merged if (part := each.clipped_to(span)) is not None)


def between(footage: Sequence[TimeSpan], span: TimeSpan) -> Iterator[TimeSpan]:
    """What of the span is not footage."""
    cursor = span.start
    for each in footage:
        if each.start > cursor:
            yield TimeSpan(cursor, each.start)
        cursor = each.end
    if span.end > cursor:
        yield TimeSpan(cursor, span.end)
