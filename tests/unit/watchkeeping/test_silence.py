"""When a camera is silent for too long: by its own cadence, whatever else it did."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.model import Camera
from cctv_storaged.watchkeeping.silence import (
    HISTORY,
    LEAST,
    SilenceRules,
    expected_interval,
    longest_silence,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
GATE = Camera(id=UUID(int=7), name="Main gate", folder="yard/gate")


def starts(*intervals_s: float) -> list[datetime]:
    """Starts that lie so far apart."""
    found = [START]
    for interval in intervals_s:
        found.append(found[-1] + timedelta(seconds=interval))
    return found


def seconds(*intervals_s: float) -> float | None:
    expected = expected_interval(starts(*intervals_s))
    return None if expected is None else expected.total_seconds()


def test_the_cadence_is_what_most_intervals_do_not_exceed() -> None:
    assert seconds(*[60] * 100) == 60
    assert seconds(*[60] * 95, *[36_000] * 5) == 60, "outages do not stretch it"


def test_of_a_camera_that_records_on_motion_the_longest_interval_is_no_surprise() -> None:
    assert seconds(*[10] * 50, *[60] * 40, *[600] * 19, 36_000) == 36_000
    assert seconds(*[58, 62] * 50, 36_000) == 62, "jitter is no motion"


def test_a_recorder_set_to_longer_segments_is_believed_at_once() -> None:
    told = starts(*[10] * 100, 600)
    assert expected_interval(told, timedelta(seconds=600)) == timedelta(seconds=600)
    assert expected_interval(told, timedelta(seconds=10)) == timedelta(seconds=10)


def test_of_a_camera_without_history_nothing_is_expected() -> None:
    assert seconds(*[60] * (HISTORY - 1)) is None
    assert seconds(*[60] * HISTORY) == 60
    assert expected_interval([]) is None
    assert seconds(*[0] * 100) is None, "copies of one segment are no history"


@given(st.lists(st.integers(1, 10_000), min_size=HISTORY, max_size=100), st.randoms())
def test_it_is_one_of_the_intervals_in_whatever_order_they_are_told(
    intervals: list[int], random: object
) -> None:
    told = starts(*intervals)
    expected = expected_interval(told)
    assert expected is not None
    assert expected.total_seconds() in intervals
    no_longer = sum(each <= expected.total_seconds() for each in intervals)
    assert no_longer >= 0.9 * len(intervals)
    random.shuffle(told)  # type: ignore[attr-defined]
    assert expected_interval(told) == expected


@given(st.timedeltas(timedelta(0), timedelta(days=30)), st.integers(2, 1000))
def test_the_limit_is_never_below_two_minutes_and_so_many_intervals(expected: timedelta, n: int) -> None:
    limit = longest_silence(expected, SilenceRules(intervals=n))
    assert limit >= LEAST and limit >= n * expected
    assert limit in (LEAST, n * expected)


@pytest.mark.parametrize(
    ("said", "hours"),
    [
        ({}, None),
        ({"yard/gate": timedelta(hours=3)}, 3),
        ({str(GATE.id): timedelta(hours=2), "yard/gate": timedelta(hours=3)}, 2),
        ({"yard/*": timedelta(hours=5)}, 5),
        ({"yard/*": timedelta(hours=5), "yard/gate": timedelta(0)}, 0),
        ({"*": timedelta(hours=6)}, 6),
        ({"yard/shed": timedelta(hours=1), "Main gate": timedelta(hours=1)}, None),
    ],
)
def test_what_is_said_of_a_camera_counts_the_nearest_first(
    said: dict[str, timedelta], hours: float | None
) -> None:
    found = SilenceRules(after=said).own_limit(GATE)
    assert found == (None if hours is None else timedelta(hours=hours))
