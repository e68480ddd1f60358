"""Whether what XProtect says it has recorded covers a segment. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import timedelta

from cctv_storaged.model import TimeSpan

NOTHING = timedelta(0)


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
        """Whether no more than `tolerance` of it is missing in all, and never half of it or more.

        Without the second rule a segment shorter than the tolerance would be covered by nothing at all.
        """
        missing = self.missing(span)
        return missing == NOTHING or (missing <= tolerance and 2 * missing < span.duration)
