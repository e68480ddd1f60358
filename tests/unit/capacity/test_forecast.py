"""How long a volume lasts, and what of each camera it keeps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.capacity.forecast import DAY_S, Stream, Wish, full_in_s, kept_s
from cctv_storaged.retention.rules import Priority

DAYS = DAY_S


def test_what_nothing_ends_fills_a_volume_at_its_rate() -> None:
    assert full_in_s(1000.0, [Stream(rate=10.0, age_s=0.0, lifetime_s=None)]) == 100.0
    assert full_in_s(0.0, [Stream(rate=10.0, age_s=0.0, lifetime_s=None)]) == 0.0
    assert full_in_s(1000.0, []) == math.inf


def test_what_has_reached_its_lifetime_takes_no_more_room() -> None:
    steady = Stream(rate=10.0, age_s=30 * DAYS, lifetime_s=30 * DAYS)
    assert (full_in_s(1.0, [steady]), steady.expiring) == (math.inf, 10.0)
    growing = Stream(rate=10.0, age_s=20 * DAYS, lifetime_s=30 * DAYS)
    assert growing.expiring == 0.0
    assert full_in_s(10.0 * 10 * DAYS + 1, [growing]) == math.inf
    assert full_in_s(10.0 * 9 * DAYS, [growing]) == pytest.approx(9 * DAYS)


def test_streams_that_end_one_after_the_other_are_reckoned_piece_by_piece() -> None:
    first = Stream(rate=10.0, age_s=0.0, lifetime_s=100.0)
    second = Stream(rate=1.0, age_s=0.0, lifetime_s=None)
    assert full_in_s(1100.0, [first, second]) == pytest.approx(100.0)
    assert full_in_s(1200.0, [first, second]) == pytest.approx(200.0)


streams = st.lists(
    st.builds(
        Stream,
        rate=st.floats(0, 1e6),
        age_s=st.floats(0, 1e7),
        lifetime_s=st.none() | st.floats(1, 1e7),
    ),
    max_size=6,
)


@given(streams, st.floats(0, 1e12), st.floats(0, 1e12))
def test_more_room_never_lasts_for_less(found: list[Stream], one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert full_in_s(less, found) <= full_in_s(more, found)


def wish(
    rate: float,
    at_least: float | None = None,
    desired: float | None = None,
    at_most: float | None = None,
    priority: Priority = Priority.NORMAL,
) -> Wish:
    limits = [None if limit is None else limit * DAYS for limit in (at_least, desired, at_most)]
    return Wish(rate=rate, at_least_s=limits[0], desired_s=limits[1], at_most_s=limits[2], priority=priority)


def kept_days(capacity_days_at_1: float, *wishes: Wish) -> list[float]:
    return [round(each / DAYS, 3) for each in kept_s(capacity_days_at_1 * DAYS, wishes)]


def test_with_room_for_all_every_camera_reaches_its_limit() -> None:
    assert kept_days(100, wish(1.0, at_most=30), wish(2.0, at_most=20)) == [30, 20]


def test_past_what_is_desired_the_oldest_go_first_whosever_they_are() -> None:
    assert kept_days(40, wish(1.0, desired=10, at_most=30), wish(1.0, desired=5, at_most=30)) == [20, 20]
    assert kept_days(22, wish(1.0, desired=14, at_most=30), wish(1.0, desired=5, at_most=30)) == [14, 8]


def test_then_low_priority_is_shortened_down_to_its_promise_before_high() -> None:
    low = wish(1.0, at_least=3, desired=10, priority=Priority.LOW)
    high = wish(1.0, at_least=3, desired=10, priority=Priority.HIGH)
    assert kept_days(16, low, high) == [6, 10]
    assert kept_days(8, low, high) == [3, 5]


def test_promises_that_do_not_fit_are_broken_for_all_alike() -> None:
    assert kept_days(10, wish(1.0, at_least=10), wish(1.0, at_least=10)) == [5, 5]


def test_a_camera_that_records_nothing_keeps_what_its_rule_says() -> None:
    assert kept_days(10, wish(0.0, at_most=30), wish(1.0, at_least=2, desired=5)) == [30, 10]


@st.composite
def any_wish(draw: st.DrawFn) -> Wish:
    ordered = sorted(draw(st.lists(st.floats(0.1, 400), min_size=3, max_size=3)))
    at_least, desired, at_most = (limit if draw(st.booleans()) else None for limit in ordered)
    rate = draw(st.just(0.0) | st.floats(0.01, 100))
    return wish(rate, at_least, desired, at_most, priority=draw(st.sampled_from(Priority)))


@given(st.lists(any_wish(), min_size=1, max_size=5), st.floats(1, 1e6))
def test_what_is_kept_fits_and_no_promise_is_broken_that_could_be_kept(
    wishes: list[Wish], capacity_days: float
) -> None:
    capacity = capacity_days * DAYS
    kept = kept_s(capacity, wishes)
    used = sum(each.rate * length for each, length in zip(wishes, kept, strict=True) if each.rate > 0)
    assert used <= capacity * (1 + 1e-6)
    assert all(length <= each.longest_s for each, length in zip(wishes, kept, strict=True))
    least = sum(each.rate * min(each.shortest_s, capacity / each.rate) for each in wishes if each.rate > 0)
    if least <= capacity:
        for each, length in zip(wishes, kept, strict=True):
            assert length >= min(each.promised_s, length if each.rate == 0 else capacity / each.rate) - 1
