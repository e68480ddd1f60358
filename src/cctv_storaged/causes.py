"""Why there is no footage of a time, from all that is known of it. Pure.

Every cause comes with the span it explains. A gap is cut where another cause begins to hold; where several
would do, the first in the order of GapCause is told.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cctv_storaged.journal.gaps import Absence, ClockStep
from cctv_storaged.model import GapCause, TimeSpan

TOLERANCE = timedelta(seconds=1)
"""Recorders cut at whole seconds in the name and at key frames in the stream: less than this is no gap."""
NOTICED = timedelta(seconds=60)
"""A step of the clock is noticed that much later, and the segment around it ends that much off."""
WEAK = frozenset({GapCause.UNKNOWN, GapCause.RECORDER_SILENT})
"""Causes that nothing in particular speaks for: slivers of them beside another cause are its rounding."""
_ORDER = {cause: rank for rank, cause in enumerate(GapCause)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span without footage, and why."""

    span: TimeSpan
    cause: GapCause


def explained(gaps: Iterable[TimeSpan], absences: Iterable[Absence]) -> list[Gap]:
    """Gaps in order of time, each cut into parts with one cause; what nothing explains is UNKNOWN."""
    coming, near = deque(sorted(absences, key=lambda each: each.span)), list[Absence]()
    parts: list[Gap] = []
    for gap in gaps:
        while coming and coming[0].span.start < gap.end:
            near.append(coming.popleft())
        near = [absence for absence in near if absence.span.end > gap.start]
        parts += _without_slivers(list(_cut(gap, near)))
    return parts


def _cut(gap: TimeSpan, absences: Sequence[Absence]) -> Iterator[Gap]:
    """Sweeps over begins and ends: what holds from one to the next has the first cause in force."""
    changes = sorted(
        change
        for absence in absences
        if (part := absence.span.clipped_to(gap)) is not None
        for change in ((part.start, 1, _ORDER[absence.cause]), (part.end, -1, _ORDER[absence.cause]))
    )
    causes = tuple(GapCause)
    in_force = [0] * len(causes)
    in_force[_ORDER[GapCause.UNKNOWN]] = 1
    begun, cause = gap.start, GapCause.UNKNOWN
    for moment, more, rank in changes:
        now = causes[next(rank for rank, count in enumerate(in_force) if count)]
        if moment > begun:
            if cause is not now:
                cause = now
            yield Gap(span=TimeSpan(begun, moment), cause=cause)
            begun = moment
        in_force[rank] += more
    if begun < gap.end:
        yield Gap(span=TimeSpan(begun, gap.end), cause=GapCause.UNKNOWN)


def _without_slivers(parts: Sequence[Gap]) -> list[Gap]:
    """Neighbours with one cause are one part, and so is what rounding left between or beside them."""
    merged: list[Gap] = []
    for part in parts:
        if merged and (merged[-1].cause is part.cause or _is_sliver(part)):
            merged[-1] = replace(merged[-1], span=TimeSpan(merged[-1].span.start, part.span.end))
        elif merged and _is_sliver(merged[-1]):
            merged[-1] = replace(part, span=TimeSpan(merged[-1].span.start, part.span.end))
        else:
            merged.append(part)
    return merged


def _is_sliver(part: Gap) -> bool:
    return part.cause in WEAK and part.span.duration < TOLERANCE


def jumped_over(gaps: Iterable[TimeSpan], steps: Sequence[ClockStep]) -> list[Absence]:
    """What forward steps of the clock explain of the gaps: the time that never was.

    Where a little of the gap is left at an end, that is the segment that was open and the time until somebody
    noticed: it belongs to the step.
    """
    found = []
    for gap in gaps if steps else ():
        for step in steps:
            part = _span_of(step).clipped_to(gap)
            if part is not None:
                start = gap.start if part.start - gap.start < NOTICED else part.start
                end = gap.end if gap.end - part.end < NOTICED else part.end
                found.append(Absence(span=TimeSpan(start, end), cause=GapCause.CLOCK_STEP))
    return found


def _span_of(step: ClockStep) -> TimeSpan:
    return TimeSpan(step.at - step.by, step.at)


def silent_in(
    watched: Sequence[Sequence[TimeSpan]], part: TimeSpan, until_seen: timedelta
) -> Iterator[Absence]:
    """When the recorder was silent within a part that nothing explains.

    `watched`: for each root that the footage may have been in, when it was looked at whole, by start. All
    must have been: footage of a moment shows up to `until_seen` later, when its segment is closed.
    """
    spans = [part] if watched else []
    for looked in watched:
        seen = [TimeSpan(each.start, each.end - until_seen) for each in looked if each.duration > until_seen]
        spans = [both for one in spans for other in seen if (both := one.clipped_to(other)) is not None]
    return (Absence(span=span, cause=GapCause.RECORDER_SILENT) for span in spans)
