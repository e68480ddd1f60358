"""How long things may last and footage may wait, by time in which somebody looked."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.config import TimeWindow
from cctv_storaged.watchkeeping.lasting import Lasting, watched_s
from cctv_storaged.watchkeeping.rules import DAY, AlertRules, alert_rules, open_for, waited
from tests.unit.config.given import load

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@given(st.lists(st.floats(0, 1e6), max_size=30))
def test_a_look_left_out_is_no_time_watched(pauses: list[float]) -> None:
    """A host that slept, a process that was stopped: the pause is long, and counts as two looks at most."""
    now_s, before_s, watched = 5.0, None, 0.0
    for pause in pauses:
        watched += watched_s(before_s, now_s, 10.0)
        before_s, now_s = now_s, now_s + pause
    assert watched <= 20.0 * len(pauses)
    assert watched <= sum(pauses) + 1e-3


def test_the_first_look_counts_nothing_and_a_clock_that_goes_back_neither() -> None:
    assert watched_s(None, 1e9, 10.0) == 0.0
    assert watched_s(100.0, 50.0, 10.0) == 0.0
    assert watched_s(100.0, 110.0, 10.0) == 10.0


def test_being_away_is_reckoned_from_the_first_look_that_found_it_so() -> None:
    lasting = Lasting()
    assert [lasting.away("S3", 10.0) for _ in range(3)] == [0.0, 10.0, 20.0]
    assert lasting.away("MINIO", 10.0) == 0.0
    lasting.back("S3")
    lasting.back("never away")
    assert lasting.away("S3", 10.0) == 0.0


@pytest.mark.parametrize(("window", "hours"), [("22:00-06:00", 8), ("06:00-22:00", 16), ("12:00-24:00", 12)])
def test_hours_in_which_delivery_rests_are_added(window: str, hours: int) -> None:
    parsed = TimeWindow.parse(window)
    assert open_for(parsed) == hours * HOUR
    rules = AlertRules(undelivered=HOUR, window=parsed)
    assert rules.longest_wait("S3") == HOUR + DAY - hours * HOUR


def test_a_backend_may_have_a_limit_of_its_own_and_none() -> None:
    rules = AlertRules(undelivered=HOUR, undelivered_at={"MILESTONE": 3 * HOUR, "S3": timedelta(0)})
    assert rules.longest_wait("MINIO") == HOUR
    assert rules.longest_wait("MILESTONE") == 3 * HOUR
    assert rules.longest_wait("S3") is None


@given(st.timedeltas(-DAY, 400 * DAY), st.timedeltas(-DAY, 400 * DAY))
def test_footage_of_another_year_that_came_today_has_not_waited(begun: timedelta, came: timedelta) -> None:
    found = waited(NOW - begun, NOW - came, NOW)
    assert timedelta(0) <= found <= max(timedelta(0), came)
    assert begun < timedelta(0) or found <= begun
    assert waited(NOW - 365 * DAY, NOW - HOUR, NOW) == HOUR


def test_a_name_in_the_future_does_not_shorten_a_wait() -> None:
    assert waited(NOW + DAY, NOW - 2 * HOUR, NOW) == 2 * HOUR


def test_what_came_while_the_clock_was_at_1970_has_not_waited_since() -> None:
    assert waited(NOW - HOUR, datetime(1970, 1, 1, tzinfo=UTC), NOW) == HOUR


def test_the_settings_are_taken_as_they_are_written(tmp_path: Path) -> None:
    text = """
delivery: {window: 22:00-06:00}
alerts:
  silent_intervals: 5
  silent_after: {123E4567-E89B-12D3-A456-426614174000: 12h, yard/*: 0}
  undelivered: 2h
  undelivered_at: {MILESTONE: 3h}
  down: 0
  disk_left: 1d
  loss: 7d
"""
    rules = alert_rules(load(tmp_path, text))
    assert rules.silence.intervals == 5
    assert rules.silence.after == {
        "123e4567-e89b-12d3-a456-426614174000": 12 * HOUR,
        "yard/*": timedelta(0),
    }
    assert rules.longest_wait("MILESTONE") == (3 + 16) * HOUR
    assert (rules.down, rules.disk_left, rules.loss) == (timedelta(0), DAY, 7 * DAY)


@pytest.mark.parametrize(
    ("alerts", "hours"), [("{}", 3), ("{undelivered: 0}", None), ("{undelivered_at: {MILESTONE: 5h}}", 5)]
)
def test_xprotect_has_its_deadline_before_its_footage_is_late(
    tmp_path: Path, alerts: str, hours: int | None
) -> None:
    milestone = "{url: https://vms.example, deadline_s: 7200}"
    rules = alert_rules(load(tmp_path, f"milestone: {milestone}\nalerts: {alerts}\n"))
    assert rules.longest_wait("MILESTONE") == (None if hours is None else hours * HOUR)
