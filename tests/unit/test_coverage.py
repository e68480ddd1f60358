"""Footage and gaps: together they are the whole span, whatever the segments look like."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.causes import jumped_over, silent_in
from cctv_storaged.coverage import by_time, covered, merge_into
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.gaps import Absence, CameraTimes, ClockStep, cause_of
from cctv_storaged.journal.ledger import Kind
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
known = st.builds(lambda span, cause: Absence(span=span, cause=cause), spans, st.sampled_from(GapCause))


@given(st.lists(spans, max_size=12), st.lists(known, max_size=8))
def test_footage_and_gaps_partition_what_was_asked_and_the_best_known_cause_is_told(
    segments: list[TimeSpan], absences: list[Absence]
) -> None:
    """Second by second: no cause invents footage, hides it, or is told where a better one is known."""
    asked = span(0, 100)
    result = covered(merged(*segments), absences, asked)
    pieces = sorted([*result.spans, *(gap.span for gap in result.gaps)])
    assert (pieces[0].start, pieces[-1].end) == (asked.start, asked.end)
    assert all(one.end == two.start for one, two in itertools.pairwise(pieces))
    assert all(
        one.cause != two.cause or one.span.end < two.span.start
        for one, two in itertools.pairwise(result.gaps)
    )
    footage = {second for each in merged(*segments) for second in seconds_of(each)}
    order = list(GapCause)
    for second in range(100):
        causes = [gap.cause for gap in result.gaps if second in seconds_of(gap.span)]
        speak = [each.cause for each in absences if second in seconds_of(each.span)]
        if second in footage:
            assert causes == []
        else:
            assert causes == [min([*speak, GapCause.UNKNOWN], key=order.index)]


def seconds_of(span: TimeSpan) -> range:
    first, last = ((moment - ZERO) // timedelta(seconds=1) for moment in (span.start, span.end))
    return range(first, last)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 5), st.sampled_from(GapCause)), max_size=12))
def test_whatever_rounding_leaves_a_gap_is_filled_by_causes_that_speak_for_it(
    parts: list[tuple[float, float, GapCause]],
) -> None:
    asked = span(0, 100)
    absences = [Absence(span=span(start, start + length), cause=cause) for start, length, cause in parts]
    gaps = covered([], absences, asked).gaps
    assert (gaps[0].span.start, gaps[-1].span.end) == (asked.start, asked.end)
    assert all(one.span.end == two.span.start for one, two in itertools.pairwise(gaps))
    assert {gap.cause for gap in gaps} <= {each.cause for each in absences} | {GapCause.UNKNOWN}


def test_what_lies_between_a_segment_and_its_lost_neighbour_is_no_gap_of_its_own() -> None:
    result = covered(merged(span(0, 10)), [lost(10.4, 20), lost(20.7, 30)], span(0, 30))
    assert [(gap.span, gap.cause) for gap in result.gaps] == [(span(10, 30), "lost")]


def test_a_step_of_the_clock_explains_what_it_jumped_over_and_the_little_beside_it() -> None:
    gap, step = span(0, 1000), ClockStep(at=at(970), by=timedelta(seconds=900))
    assert jumped_over([gap], [step]) == [Absence(span=span(70, 1000), cause=GapCause.CLOCK_STEP)]
    assert jumped_over([span(30, 1000)], [step]) == [Absence(span=span(30, 1000), cause=GapCause.CLOCK_STEP)]
    assert jumped_over([span(980, 1000)], [step]) == []


def test_silence_is_told_only_where_every_root_was_watched_until_a_segment_would_have_shown() -> None:
    part, segment = span(0, 1000), timedelta(seconds=60)
    assert [each.span for each in silent_in([[span(-10, 500)]], part, segment)] == [span(0, 440)]
    both = [[span(0, 500), span(600, 2000)], [span(100, 900)]]
    assert [each.span for each in silent_in(both, part, segment)] == [span(100, 440), span(600, 840)]
    assert list(silent_in([[span(0, 50)]], part, segment)) == []
    assert list(silent_in([[], [span(0, 2000)]], part, segment)) == []
    assert list(silent_in([], part, segment)) == [], "nobody knows where it could have been"


def test_what_is_not_over_is_no_gap_and_what_was_before_the_first_footage_nobodys() -> None:
    times = CameraTimes(first=at(50), usual=timedelta(seconds=10))
    told = [(each.span, each.cause) for each in by_time(times, span(0, 1000), at(500))]
    assert told == [(span(400, 1000), "not_yet"), (span(0, 50), "before_first")]
    never = CameraTimes(first=None, usual=timedelta(seconds=10))
    assert [each.cause for each in by_time(never, span(0, 100), at(500))] == ["before_first"]


def test_before_a_rebuild_nobody_knows_what_was_before_the_first_footage() -> None:
    """The journal before may have known of footage that was deleted."""
    times = CameraTimes(first=at(50), usual=timedelta(seconds=10), known_since=at(60))
    assert list(by_time(times, span(0, 100), at(500))) == []
    assert (times.forgotten, times.installed) == (True, None)
    later = CameraTimes(first=at(50), usual=timedelta(seconds=10), known_since=at(20))
    assert [each.span for each in by_time(later, span(0, 100), at(500))] == [span(20, 50)]
    assert (later.forgotten, later.installed) == (False, at(50)), "it came after the rebuild"


def test_every_cause_of_a_deletion_has_its_word() -> None:
    words = {cause: cause_of(Kind.DELETED, cause) for cause in Cause}
    assert words == {
        Cause.REQUEST: "deleted",
        Cause.AT_MOST: "retention",
        Cause.EXPIRED: "capacity",
        Cause.SHORTENED: "capacity",
        Cause.DISK_FULL: "lost",
    }
    assert cause_of(Kind.LOST, "source_vanished") == "lost"
