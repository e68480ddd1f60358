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
