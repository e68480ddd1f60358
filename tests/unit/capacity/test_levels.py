"""When a volume is low, must be cleaned and is in danger; and that none of it flutters."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.capacity.levels import Level, Limit, Limits, Marks, judged, marks

TOTAL = 1_000_000
LIMITS = Limits(
    warn=Limit(0.2, timedelta(hours=6)),
    clean=Limit(0.1, timedelta(hours=2)),
    emergency=Limit(0.05, timedelta(minutes=30)),
)
BY_SHARE = marks(LIMITS, TOTAL, None)


def test_levels_begin_at_their_share() -> None:
    assert (BY_SHARE.warn_bytes, BY_SHARE.clean_bytes, BY_SHARE.emergency_bytes) == (200_000, 100_000, 50_000)
    told = [judged(Level.WELL, free, BY_SHARE) for free in (200_000, 199_999, 99_999, 49_999)]
    assert told == [Level.WELL, Level.LOW, Level.CLEAN, Level.EMERGENCY]


def test_or_with_their_time_left_where_that_comes_first() -> None:
    found = marks(LIMITS, TOTAL, 20.0)  # 6 h: 432,000; 2 h: 144,000; 30 min: 36,000
    assert (found.warn_bytes, found.clean_bytes, found.emergency_bytes) == (432_000, 144_000, 50_000)


def test_hours_of_many_cameras_never_ask_for_all_of_a_small_volume() -> None:
    found = marks(LIMITS, TOTAL, 1e9)
    assert (found.warn_bytes, found.clean_bytes, found.emergency_bytes) == (500_000, 250_000, 125_000)
    assert judged(Level.WELL, TOTAL, found) is Level.WELL


@pytest.mark.parametrize(
    ("before", "free", "level"),
    [
        (Level.CLEAN, 149_999, Level.CLEAN),  # until 1.5 times the level is free
        (Level.CLEAN, 150_000, Level.LOW),
        (Level.LOW, 219_999, Level.LOW),  # above 1.1 times
        (Level.LOW, 220_000, Level.WELL),
        (Level.WELL, 210_000, Level.WELL),
        (Level.LOW, 120_000, Level.LOW),  # what has not begun does not go on
        (Level.EMERGENCY, 74_999, Level.EMERGENCY),
        (Level.EMERGENCY, 75_000, Level.CLEAN),
        (Level.EMERGENCY, 160_000, Level.LOW),
    ],
)
def test_a_level_that_began_ends_with_its_margin(before: Level, free: int, level: Level) -> None:
    assert judged(before, free, BY_SHARE) is level


shares = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)
times = st.lists(st.timedeltas(timedelta(0), timedelta(days=30)), min_size=3, max_size=3).map(sorted)


@st.composite
def any_marks(draw: st.DrawFn) -> Marks:
    (emergency, clean, warn), (short, middle, long) = draw(shares), draw(times)
    limits = Limits(warn=Limit(warn, long), clean=Limit(clean, middle), emergency=Limit(emergency, short))
    return marks(limits, draw(st.integers(1, 10**15)), draw(st.none() | st.floats(0, 1e10)))


@given(any_marks(), st.sampled_from(Level), st.data())
def test_what_is_judged_is_judged_so_again(found: Marks, before: Level, data: st.DataObject) -> None:
    free = data.draw(st.integers(0, found.total_bytes))
    level = judged(before, free, found)
    assert judged(level, free, found) is level


@given(any_marks(), st.sampled_from(Level), st.data())
def test_more_room_is_never_a_worse_level_and_a_memory_never_a_better_one(
    found: Marks, before: Level, data: st.DataObject
) -> None:
    free, more = sorted(data.draw(st.lists(st.integers(0, found.total_bytes), min_size=2, max_size=2)))
    assert judged(before, more, found) <= judged(before, free, found)
    assert judged(before, free, found) >= judged(Level.WELL, free, found)


@given(any_marks())
def test_levels_are_in_order_and_each_can_be_left(found: Marks) -> None:
    assert found.emergency_bytes <= found.clean_bytes <= found.warn_bytes <= found.total_bytes
    assert found.emergency_bytes <= found.rescued_bytes <= found.total_bytes
    assert found.clean_bytes <= found.cleaned_bytes <= found.total_bytes
    assert judged(Level.EMERGENCY, found.total_bytes, found) is Level.WELL
