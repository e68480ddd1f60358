"""Coverage against a count of milliseconds that knows no interval arithmetic."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.model import TimeSpan
from cctv_storaged.vms.covering import Recorded, merged

START = datetime(2026, 11, 1, tzinfo=UTC)
LENGTH = 60

Ticks = tuple[int, int]
ticks = st.tuples(st.integers(0, LENGTH), st.integers(1, 20)).map(lambda pair: (pair[0], sum(pair)))


def span(of: Ticks) -> TimeSpan:
    return TimeSpan(START + timedelta(milliseconds=of[0]), START + timedelta(milliseconds=of[1]))


def counted(spans: list[Ticks]) -> set[int]:
    return {tick for start, end in spans for tick in range(start, end)}


@given(recorded=st.lists(ticks, max_size=12), asked=ticks)
def test_what_is_missing_is_what_nobody_recorded(recorded: list[Ticks], asked: Ticks) -> None:
    missing = set(range(*asked)) - counted(recorded)
    found = Recorded(map(span, recorded)).missing(span(asked))
    assert found == timedelta(milliseconds=len(missing))


@given(recorded=st.lists(ticks, max_size=12))
def test_merged_spans_are_the_same_times_sorted_and_apart(recorded: list[Ticks]) -> None:
    found = merged(map(span, recorded))
    assert all(one.end < other.start for one, other in pairwise(found))
    times = [((each.start - START), (each.end - START)) for each in found]
    again = [(a // timedelta(milliseconds=1), b // timedelta(milliseconds=1)) for a, b in times]
    assert counted(again) == counted(recorded)


@given(recorded=st.lists(ticks, max_size=12), asked=ticks, tolerance=st.integers(0, 30))
def test_covered_is_never_said_of_what_misses_more_than_the_tolerance_or_half(
    recorded: list[Ticks], asked: Ticks, tolerance: int
) -> None:
    """So short a segment is held against the tolerance and its half alone."""
    missing = len(set(range(*asked)) - counted(recorded))
    whole = asked[1] - asked[0]
    expected = missing == 0 or (missing <= tolerance and 2 * missing < whole)
    assert Recorded(map(span, recorded)).covers(span(asked), timedelta(milliseconds=tolerance)) == expected


@given(recorded=st.lists(ticks, max_size=8), more=ticks, asked=ticks, tolerance=st.integers(0, 30))
def test_more_recordings_never_cover_less(
    recorded: list[Ticks], more: Ticks, asked: Ticks, tolerance: int
) -> None:
    bear = timedelta(milliseconds=tolerance)
    before = Recorded(map(span, recorded)).covers(span(asked), bear)
    assert Recorded(map(span, [*recorded, more])).covers(span(asked), bear) or not before


@pytest.mark.parametrize("length", [1, 500, 2000])
def test_a_segment_shorter_than_the_tolerance_is_not_covered_by_nothing(length: int) -> None:
    assert not Recorded([]).covers(span((0, length)), timedelta(milliseconds=2000))


def seconds(start: float, end: float) -> TimeSpan:
    return span((round(start * 1000), round(end * 1000)))


@pytest.mark.parametrize(
    ("length", "missing", "covered"),
    [
        (10, 1.0, True),
        (10, 1.01, False),
        (60, 2.0, True),
        (60, 2.01, False),
        (2, 0.3, True),
        (2, 0.31, False),
    ],
)
def test_no_more_than_a_tenth_of_a_segment_may_be_missing(
    length: float, missing: float, covered: bool
) -> None:
    recorded = Recorded([seconds(0, length - missing)])
    assert recorded.covers(seconds(0, length), timedelta(seconds=2)) is covered
    assert not recorded.covers(seconds(0, length), timedelta(0))


@pytest.mark.parametrize("recorded_s", [1.01, 1.8])
def test_what_each_of_many_may_lack_is_not_lacking_of_all_of_them(recorded_s: float) -> None:
    """A quarter of an hour in pieces of two seconds, of each of which a tenth or half is missing."""
    asked = [seconds(2 * number, 2 * number + 2) for number in range(450)]
    recorded = Recorded(seconds(2 * number, 2 * number + recorded_s) for number in range(450))
    assert not any(recorded.cover(asked, timedelta(seconds=2)))


def test_what_is_whole_is_covered_whatever_its_neighbours_lack() -> None:
    asked = [seconds(10 * number, 10 * number + 10) for number in range(10)]
    parts = [seconds(0, 30), *(seconds(10 * number, 10 * number + 9.5) for number in range(3, 10))]
    found = Recorded(parts).cover(asked, timedelta(seconds=2))
    assert found == [True] * 3 + [False] * 7
    assert Recorded([seconds(0, 99.5)]).cover(asked, timedelta(seconds=2)) == [True] * 10
    assert Recorded([seconds(0, 80)]).cover(asked, timedelta(seconds=2)) == [True] * 8 + [False] * 2
