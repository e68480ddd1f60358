"""How fast cameras record is told by when their footage ended, not by when it was found."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cctv_storaged.capacity.rates import DAY, HOUR, Buckets
from cctv_storaged.clock import to_us
from cctv_storaged.journal.capacity import BUCKET, Recorded

NOW = datetime(2026, 11, 22, 12, 5, tzinfo=UTC)
GATE, YARD = uuid4(), uuid4()


def filled(first: datetime, until: datetime, per_bucket: int, *, root: str = "/r") -> Buckets:
    buckets = Buckets()
    moment = first
    while moment < until:
        bucket = to_us(moment) // (BUCKET // timedelta(microseconds=1))
        buckets.add(Recorded(camera_id=GATE, root=root, bucket=bucket, bytes=per_bucket))
        moment += BUCKET
    return buckets


def test_the_rate_of_the_last_hour_in_whole_buckets() -> None:
    buckets = filled(NOW - timedelta(hours=5), NOW + BUCKET, 6000)
    assert buckets.rate(buckets.known(), NOW, HOUR) == pytest.approx(10.0)


def test_a_camera_that_has_just_begun_is_measured_from_its_beginning() -> None:
    buckets = filled(NOW - timedelta(minutes=25), NOW, 6000)
    assert buckets.rate(buckets.known(), NOW, DAY) == pytest.approx(10.0)


def test_old_footage_that_is_found_now_and_footage_of_the_future_are_no_rate() -> None:
    for first in (NOW - timedelta(days=400), NOW + timedelta(hours=1)):
        buckets = filled(first, first + timedelta(hours=3), 6_000_000)
        assert not buckets.rate(buckets.known(), NOW, HOUR)


def test_nothing_known_is_no_rate_of_zero() -> None:
    assert Buckets().rate([(YARD, "/r")], NOW, HOUR) is None
    running = filled(NOW, NOW + BUCKET, 6000)
    assert running.rate(running.known(), NOW, HOUR) is None


def test_a_camera_that_stopped_counts_for_as_long_as_the_window() -> None:
    buckets = filled(NOW - timedelta(hours=3), NOW - timedelta(hours=2), 6000)
    assert buckets.rate(buckets.known(), NOW, HOUR) == 0.0
    assert buckets.rate(buckets.known(), NOW, timedelta(hours=4)) == pytest.approx(10.0 * 6 / 18, rel=0.1)


def test_what_is_older_than_a_day_takes_no_memory() -> None:
    buckets = filled(NOW - timedelta(days=3), NOW - timedelta(days=2), 1)
    buckets.forget_before(NOW - DAY)
    assert buckets.known() == frozenset()
