"""A stretch of a camera's time, summed up so that days can be joined without reading their segments. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from typing import Any

from cctv_storaged.clock import MICROSECOND, from_us, to_us
from cctv_storaged.coverage import Coverage
from cctv_storaged.model import GapCause, TimeSpan

NO_HOLE = frozenset({GapCause.NOT_YET, GapCause.BEFORE_FIRST})
"""Without footage, and nothing is missing."""

Times = Mapping[GapCause, timedelta]


@dataclass(frozen=True, slots=True)
class Hole:
    """Time without footage in one piece, whatever its causes, and how much of it each explains."""

    span: TimeSpan
    causes: Times

    @property
    def cause(self) -> GapCause:
        """The one that explains most of it."""
        return max(self.causes, key=lambda cause: self.causes[cause])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What a stretch is made of. Footage and causes together are its whole length."""

    span: TimeSpan
    footage: timedelta = timedelta(0)
    causes: Times = field(default_factory=dict)
    holes: int = 0
    longest: Hole | None = None
    head: Hole | None = None  # the hole it begins with, if it does
    tail: Hole | None = None  # and the one it ends with; the same if it is nothing else


def stretch_of(coverage: Coverage, span: TimeSpan) -> Stretch:
    """The summary of a span's coverage."""
    parts = [Stretch(span=each, footage=each.duration) for each in coverage.spans]
    for gap in coverage.gaps:
        causes = {gap.cause: gap.span.duration}
        hole = None if gap.cause in NO_HOLE else Hole(gap.span, causes)
        parts.append(
            Stretch(
                span=gap.span,
                causes=causes,
                holes=0 if hole is None else 1,
                longest=hole,
                head=hole,
                tail=hole,
            )
        )
    parts.sort(key=lambda part: part.span)
    whole = joined(parts)
    assert whole is not None and whole.span == span
    return whole


def joined(stretches: Iterable[Stretch]) -> Stretch | None:
    """Stretches that follow each other as one; None of none. Where time between two is left out, no hole
    goes over it."""
    parts = list(stretches)
    return reduce(_join, parts) if parts else None


def _join(one: Stretch, other: Stretch) -> Stretch:
    touch = one.span.end == other.span.start and one.tail is not None and other.head is not None
    between = _one_hole(one.tail, other.head) if touch else None
    return Stretch(
        span=TimeSpan(one.span.start, other.span.end),
        footage=one.footage + other.footage,
        causes=_added(one.causes, other.causes),
        holes=one.holes + other.holes - (1 if touch else 0),
        longest=_longest(one.longest, between, other.longest),
        head=between if between is not None and _is_all(one) else one.head,
        tail=between if between is not None and _is_all(other) else other.tail,
    )


def _is_all(stretch: Stretch) -> bool:
    return stretch.head is not None and stretch.head.span == stretch.span


def _one_hole(one: Hole | None, other: Hole | None) -> Hole:
    assert one is not None and other is not None
    return Hole(TimeSpan(one.span.start, other.span.end), _added(one.causes, other.causes))


def _longest(*holes: Hole | None) -> Hole | None:
    """The first of the longest; they are given as they come."""
    return max(
        (hole for hole in holes if hole is not None), key=lambda hole: hole.span.duration, default=None
    )


def _added(one: Times, other: Times) -> Times:
    zero = timedelta(0)
    return {
        cause: one.get(cause, zero) + other.get(cause, zero)
        for cause in GapCause
        if cause in one or cause in other
    }


# As text


def written(stretch: Stretch) -> str:
    """One line of JSON, in microseconds."""
    return json.dumps(
        [
            *(to_us(stretch.span.start), to_us(stretch.span.end), stretch.footage // MICROSECOND),
            *(_times(stretch.causes), stretch.holes),
            *map(_hole, (stretch.longest, stretch.head, stretch.tail)),
        ],
        separators=(",", ":"),
    )


def read(text: str) -> Stretch:
    """The inverse of `written`. Raises ValueError, TypeError, KeyError for anything else."""
    start, end, footage, causes, holes, longest, head, tail = json.loads(text)
    return Stretch(
        span=TimeSpan(from_us(start), from_us(end)),
        footage=footage * MICROSECOND,
        causes=_times_from(causes),
        holes=holes,
        longest=_hole_from(longest),
        head=_hole_from(head),
        tail=_hole_from(tail),
    )


def _times(times: Times) -> dict[str, int]:
    return {str(cause): length // MICROSECOND for cause, length in times.items()}


def _times_from(times: Mapping[str, int]) -> Times:
    return {GapCause(cause): length * MICROSECOND for cause, length in times.items()}


def _hole(hole: Hole | None) -> list[Any] | None:
    return None if hole is None else [to_us(hole.span.start), to_us(hole.span.end), _times(hole.causes)]


def _hole_from(hole: list[Any] | None) -> Hole | None:
    return None if hole is None else Hole(TimeSpan(from_us(hole[0]), from_us(hole[1])), _times_from(hole[2]))
