"""When a backend is left alone."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.breaker import (
    AT_ONCE,
    OPEN_BASE_S,
    OPEN_CAP_S,
    REFUSALS,
    RETRY_CAP,
    Breaker,
    BreakerState,
    Pace,
    retry_delay,
)


def longest(low: float, high: float) -> float:
    return high


def test_one_timeout_does_not_close_the_way_for_other_objects() -> None:
    breaker = Breaker(uniform=longest)
    assert not breaker.failed("network", 0.0)
    assert not breaker.failed("network", 0.0)
    assert breaker.admit(0.0)
    assert breaker.failed("network", 0.0), "the third in a row opens it"
    assert not breaker.admit(0.0)


def test_what_the_next_object_would_meet_as_well_opens_at_once() -> None:
    for reason in AT_ONCE:
        breaker = Breaker(uniform=longest)
        assert breaker.failed(reason, 0.0)
        assert breaker.reason == reason


def test_only_one_tries_when_the_pause_is_over() -> None:
    breaker = Breaker(uniform=longest)
    breaker.failed("auth", 0.0)
    assert breaker.admit(100.0)
    assert breaker.state(100.0) is BreakerState.TRYING
    assert not breaker.admit(100.0)
    assert breaker.succeeded()
    assert breaker.admit(100.0)


def test_a_try_that_never_reached_the_backend_leaves_the_turn_to_another() -> None:
    breaker = Breaker(uniform=longest)
    breaker.failed("auth", 0.0)
    assert breaker.admit(100.0)
    breaker.untried()
    assert breaker.admit(100.0)


def test_puts_that_were_under_way_do_not_prolong_the_pause() -> None:
    breaker = Breaker(uniform=longest)
    breaker.failed("auth", 0.0)
    before = breaker.wait_s(0.0)
    for _ in range(20):
        breaker.failed("network", 0.0)
    assert breaker.wait_s(0.0) == before
    assert breaker.admit(before)
    breaker.failed("network", before)
    assert breaker.wait_s(before) == 2 * before, "one trial in vain, whatever was under way"


@given(st.integers(1, 200))
def test_a_recovered_backend_never_waits_longer_than_the_cap(failures: int) -> None:
    breaker = Breaker(uniform=longest)
    now = 0.0
    for _ in range(failures):
        now += breaker.wait_s(now)
        assert breaker.admit(now)
        breaker.failed("network", now)
    assert breaker.wait_s(now) <= OPEN_CAP_S


@given(st.integers(1, 10_000))
def test_an_object_waits_at_most_five_minutes(attempts: int) -> None:
    assert timedelta(0) < retry_delay(attempts) <= RETRY_CAP


def test_a_throttled_backend_gets_half_and_then_one_more_a_minute() -> None:
    pace = Pace(8)
    pace.throttled(1000.0, None)
    assert pace.limit(1000.0) == 4
    pace.throttled(1000.1, None)
    assert pace.limit(1000.1) == 4, "several answers of one moment count once"
    pace.throttled(1002.0, None)
    assert pace.limit(1002.0) == 2
    assert pace.limit(1063.0) == 3
    assert pace.limit(1002.0 + 3600) == 8


def test_retry_after_is_kept_to_and_bounded() -> None:
    pace = Pace(4)
    pace.throttled(10.0, 5.0)
    assert pace.wait_s(10.0) == 5.0
    pace.throttled(10.0, 10_000.0)
    assert pace.wait_s(10.0) == 60.0


def test_one_worker_is_left_however_often_a_backend_complains() -> None:
    pace = Pace(4)
    for moment in range(100):
        pace.throttled(moment * 10.0, None)
    assert pace.limit(1000.0) == 1


def test_a_backend_that_refuses_everything_is_asked_ever_more_seldom_until_it_takes_one() -> None:
    pace, now, waits = Pace(4, longest), 0.0, []
    for _ in range(REFUSALS - 1):
        pace.refused(now)
    assert pace.wait_s(now) == 0.0, "they may be odd, one and all"
    assert not pace.refuses_all
    for _ in range(10):
        pace.refused(now)
        waits.append(pace.wait_s(now))
        now += waits[-1]
    assert pace.refuses_all
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (OPEN_BASE_S, OPEN_CAP_S)
    pace.taken()
    pace.refused(now)
    assert not pace.refuses_all
    assert pace.wait_s(now) == 0.0
