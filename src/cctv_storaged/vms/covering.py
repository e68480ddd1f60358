"""Whether what XProtect says it has recorded covers a segment. Pure.

XProtect tells its recordings by sequences, whose ends are those of pictures and groups of them: a segment may
seem to lack some moments at its ends that nobody lost. How much may be missing is bounded three times:

- of a segment: `coverage_tolerance_ms`, and a tenth of its length (or LEAST, if that is more), and always
  less than half of it: of a segment of which nothing was recorded nothing is covered;
- of what was asked for together: the tolerance once, for what all of its segments miss. Where they miss more,
  those are covered of which nothing is missing, and no others.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import timedelta

from cctv_storaged.model import TimeSpan

NOTHING = timedelta(0)
LEAST = timedelta(milliseconds=300)
"""A tenth of a short segment is less than a sequence's ends are exact to."""


def bearable(span: TimeSpan, tolerance: timedelta) -> timedelta:
    """How much of one segment may be missing."""
    return min(tolerance, max(LEAST, span.duration / 10))


def merged(spans: Iterable[TimeSpan]) -> tuple[TimeSpan, ...]:
    """The same times, sorted, none of them overlapping or touching another."""
    joined: list[TimeSpan] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].end:
            joined[-1] = TimeSpan(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return tuple(joined)


class Recorded:
    """What was recorded, to be held against many segments."""

    def __init__(self, spans: Iterable[TimeSpan]) -> None:
        """In any order; they may overlap, as those of different streams do."""
        self.spans: Sequence[TimeSpan] = merged(spans)
        self._starts = [span.start for span in self.spans]

    def missing(self, span: TimeSpan) -> timedelta:
        """How much of the span was not recorded, in all."""
        missing = span.duration
        at = max(0, bisect_right(self._starts, span.start) - 1)
        while at < len(self.spans) and self._starts[at] < span.end:
            part = self.spans[at].clipped_to(span)
            if part is not None:
                missing -= part.duration
            at += 1
        return missing

    def covers(self, span: TimeSpan, tolerance: timedelta) -> bool:
        """Whether no more of it is missing than is bearable, and never half of it or more."""
        missing = self.missing(span)
        return missing == NOTHING or (missing <= bearable(span, tolerance) and 2 * missing < span.duration)

    def cover(self, spans: Sequence[TimeSpan], tolerance: timedelta) -> list[bool]:
        """The same for each of what was asked for together: the tolerance is what all of them may miss."""
        covered = [self.covers(each, tolerance) for each in spans]
        missing = [self.missing(each) for each in spans]
        if sum((lack for lack, fine in zip(missing, covered, strict=True) if fine), NOTHING) <= tolerance:
            return covered
        return [lack == NOTHING for lack in missing]
