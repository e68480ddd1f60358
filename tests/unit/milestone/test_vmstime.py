"""What a time that XProtect gives tells of its clock."""

from datetime import UTC, datetime, timedelta

import pytest

from cctv_storaged.backends.milestone.vmstime import skew_of

ASKED = datetime(2026, 11, 20, 12, tzinfo=UTC)


def seconds(theirs: float, took: float) -> float:
    return skew_of(ASKED + timedelta(seconds=theirs), ASKED, ASKED + timedelta(seconds=took)).total_seconds()


@pytest.mark.parametrize("given_at", [0, 0.1, 4, 7.9, 8])
def test_a_right_clock_has_no_skew_whenever_in_a_slow_exchange_its_time_was_given(given_at: float) -> None:
    assert seconds(given_at, 8) == 0


@pytest.mark.parametrize(("theirs", "skew"), [(8.5, 0.5), (180, 172), (-0.5, -0.5), (-90, -90)])
def test_of_a_slow_exchange_only_what_it_cannot_explain_is_skew(theirs: float, skew: float) -> None:
    assert seconds(theirs, 8) == skew


@pytest.mark.parametrize("skew", [-59.5, 0, 180])
def test_of_an_exchange_without_length_all_is_skew(skew: float) -> None:
    assert seconds(skew, 0) == skew


def test_our_own_clock_set_back_meanwhile_adds_nothing() -> None:
    assert seconds(-3, -2) == -3
