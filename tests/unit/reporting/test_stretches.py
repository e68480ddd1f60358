"""Days summed up say what the whole time would, wherever it is cut."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from cctv_storaged.coverage import covered, merge_into
from cctv_storaged.journal.gaps import Absence
from cctv_storaged.model import GapCause, TimeSpan
from cctv_storaged.reporting.stretches import joined, read, stretch_of, written

ZERO = datetime(2026, 11, 1, tzinfo=UTC)


def span(start: float, end: float) -> TimeSpan:
    return TimeSpan(ZERO + timedelta(seconds=start), ZERO + timedelta(seconds=end))


starts = st.integers(-5, 110)
spans = st.tuples(starts, st.integers(2, 40)).map(lambda pair: span(pair[0], pair[0] + pair[1]))
absences = st.builds(lambda span, cause: Absence(span=span, cause=cause), spans, st.sampled_from(GapCause))


@given(
    st.lists(spans, max_size=8),
    st.lists(absences, max_size=6),
    st.sets(st.integers(1, 99), max_size=5),
)
@example([span(19, 59), span(41, 81)], [], {3})  # the hole that is cut is as long as a later one
def test_a_stretch_cut_anywhere_and_joined_again_is_the_same(
    segments: list[TimeSpan], known: list[Absence], cuts: set[int]
) -> None:
    merged: list[TimeSpan] = []
    merge_into(merged, sorted(segments), timedelta(0))
    ends = [0, *sorted(cuts), 100]
    parts = [span(start, end) for start, end in itertools.pairwise(ends)]
    whole = stretch_of(covered(merged, known, span(0, 100)), span(0, 100))
    again = joined(stretch_of(covered(merged, known, part), part) for part in parts)
    assert again == whole
    assert whole.footage + sum(whole.causes.values(), timedelta(0)) == timedelta(seconds=100)
    assert read(written(whole)) == whole


def test_a_hole_goes_over_midnight_and_has_all_its_causes() -> None:
    known = [
        Absence(span=span(40, 60), cause=GapCause.LOST),
        Absence(span=span(60, 90), cause=GapCause.RECORDER_SILENT),
    ]
    merged = [span(0, 40), span(90, 100)]
    days = [stretch_of(covered(merged, known, each), each) for each in (span(0, 50), span(50, 100))]
    whole = joined(days)
    assert whole is not None and whole.longest is not None
    assert (whole.holes, whole.longest.span, whole.longest.cause) == (1, span(40, 90), "recorder_silent")
    assert whole.longest.causes == {
        GapCause.LOST: timedelta(seconds=20),
        GapCause.RECORDER_SILENT: timedelta(seconds=30),
    }


def test_what_is_still_to_come_is_no_hole() -> None:
    known = [Absence(span=span(50, 100), cause=GapCause.NOT_YET)]
    whole = stretch_of(covered([span(0, 40)], known, span(0, 100)), span(0, 100))
    assert (whole.holes, whole.longest is not None and whole.longest.span) == (1, span(40, 50))
