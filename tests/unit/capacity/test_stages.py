"""What may go for room by its rule, and when a batch was of no use."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.capacity.stages import enough_of, expired_before, shortened_before, was_useful
from cctv_storaged.journal.capacity import Candidate
from cctv_storaged.retention.rules import Rule

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def days(count: float | None) -> timedelta | None:
    return None if count is None else timedelta(days=count)


def rule(at_least: float | None, desired: float | None, at_most: float | None) -> Rule:
    return Rule(at_least=days(at_least), desired=days(desired), at_most=days(at_most))


@pytest.mark.parametrize(
    ("limits", "expired", "shortened"),
    [
        ((None, None, None), None, None),  # no limit: nothing goes
        ((None, None, 30), 30, 30),  # nobody said that room may shorten it
        ((None, 14, 30), 14, 0),
        ((7, 14, 30), 14, 7),
        ((7, None, None), None, 7),
        ((7, None, 30), 30, 7),
        ((None, 14, None), 14, 0),
        ((20, 14, 10), 20, 20),  # what settings refuse: the promise counts
    ],
)
def test_the_ages_from_which_footage_may_go(
    limits: tuple[float | None, float | None, float | None], expired: float | None, shortened: float | None
) -> None:
    for cutoff, age in ((expired_before, expired), (shortened_before, shortened)):
        assert cutoff(rule(*limits), NOW) == (None if age is None else NOW - timedelta(days=age))


ages = st.none() | st.floats(0.01, 400)


@given(ages, ages, ages)
def test_nothing_younger_than_was_promised_ever_may(
    at_least: float | None, desired: float | None, at_most: float | None
) -> None:
    found = rule(at_least, desired, at_most)
    for cutoff in (expired_before(found, NOW), shortened_before(found, NOW)):
        assert cutoff is None or found.at_least is None or cutoff <= NOW - found.at_least
        assert cutoff is None or cutoff <= NOW


def candidate(size_bytes: int) -> Candidate:
    return Candidate(id=uuid4(), start=NOW, end=NOW, size_bytes=size_bytes)


@given(st.lists(st.integers(1, 100)), st.integers(0, 50), st.integers(-10, 1000))
def test_no_more_goes_than_is_needed(sizes: list[int], most: int, need: int) -> None:
    all_of_them = [candidate(size) for size in sizes]
    chosen = enough_of(all_of_them, most, need)
    assert chosen == all_of_them[: len(chosen)] and len(chosen) <= most
    assert sum(each.size_bytes for each in chosen[:-1]) < max(need, 1)
    if len(chosen) < min(most, len(sizes)):
        assert sum(each.size_bytes for each in chosen) >= need


@pytest.mark.parametrize(
    ("expected", "after", "recorded", "useful"),
    [
        (1000, 2000, 0.0, True),
        (1000, 1000, 0.0, False),  # links: the disk is as full as before
        (1000, 1050, 0.0, False),
        (1000, 800, 1200.0, True),  # cameras wrote more meanwhile
        (1000, 900, 100.0, False),
    ],
)
def test_bytes_count_as_freed_when_the_disk_says_so(
    expected: int, after: int, recorded: float, *, useful: bool
) -> None:
    assert was_useful(expected, 1000, after, recorded) is useful
