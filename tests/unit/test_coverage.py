"""Footage and gaps: together they are the whole span, whatever the segments look like."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.coverage import covered, merge_into
from cctv_storaged.journal.gaps import Absence
from cctv_storaged.model import GapCause, TimeSpan

ZERO = datetime(2026, 11, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def span(start: float, end: float) -> TimeSpan:
    return TimeSpan(at(start), at(end))


def lost(start: float, end: float, cause: GapCause = GapCause.LOST) -> Absence:
    return Absence(span=span(start, end), cause=cause)


def merged(*spans: TimeSpan) -> list[TimeSpan]:
    result: list[TimeSpan] = []
    merge_into(result, sorted(spans))
    return result


def test_segments_that_touch_are_one_span() -> None:
    assert merged(span(0, 10), span(10, 20), span(20.9, 30)) == [span(0, 30)]


def test_a_gap_of_more_than_the_tolerance_is_told() -> None:
    result = covered(merged(span(0, 10), span(12, 20)), [], span(0, 20))
    assert [gap.span for gap in result.gaps] == [span(10, 12)]
    assert result.gaps[0].cause == "unknown"


def test_a_long_segment_is_not_cut_by_a_short_one_inside_it() -> None:
    assert merged(span(0, 100), span(10, 20)) == [span(0, 100)]


def test_the_ledger_names_its_part_of_a_gap_and_the_rest_stays_unknown() -> None:
    result = covered(merged(span(0, 10), span(40, 50)), [lost(20, 30)], span(0, 50))
    assert [(gap.span, gap.cause) for gap in result.gaps] == [
        (span(10, 20), "unknown"),
        (span(20, 30), "lost"),
        (span(30, 40), "unknown"),
    ]


def test_overlapping_ledger_lines_explain_each_moment_once() -> None:
    result = covered([], [lost(0, 20), lost(10, 30, GapCause.DELETED)], span(0, 40))
    assert [(gap.span, gap.cause) for gap in result.gaps] == [
        (span(0, 20), "lost"),
        (span(20, 30), "deleted"),
        (span(30, 40), "unknown"),
    ]


def test_what_goes_on_with_one_cause_is_one_gap() -> None:
    result = covered([], [lost(0, 10), lost(10, 20), lost(20, 30, GapCause.DELETED)], span(0, 30))
    assert [(gap.span, gap.cause) for gap in result.gaps] == [
        (span(0, 20), "lost"),
        (span(20, 30), "deleted"),
    ]


moments = st.integers(-50, 150)
spans = st.tuples(moments, st.integers(1, 60)).map(lambda pair: span(pair[0], pair[0] + pair[1]))


@given(st.lists(spans, max_size=12), st.lists(spans, max_size=4))
def test_footage_and_gaps_partition_what_was_asked(segments: list[TimeSpan], losses: list[TimeSpan]) -> None:
    asked = span(0, 100)
    absences = sorted(
        (lost((s.start - ZERO).total_seconds(), (s.end - ZERO).total_seconds()) for s in losses),
        key=lambda absence: absence.span,
    )
    result = covered(merged(*segments), absences, asked)
    pieces = sorted([*result.spans, *(gap.span for gap in result.gaps)])
    assert pieces[0].start == asked.start
    assert pieces[-1].end == asked.end
    assert all(one.end == two.start for one, two in itertools.pairwise(pieces))
    for segment in segments:
        for gap in result.gaps:
            overlap = gap.span.clipped_to(segment)
            assert overlap is None, f"{segment} exists and is told as a gap {gap.span}"
