"""The delivery window: by wall clock, over midnight, on the days the clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.config import TimeWindow
from cctv_storaged.config.units import BadValueError
from cctv_storaged.config.window import zone_named

OSLO = ZoneInfo("Europe/Oslo")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        ("22:00-06:00", "2026-01-10T21:59:59", False),
        ("22:00-06:00", "2026-01-10T22:00:00", True),
        ("22:00-06:00", "2026-01-11T05:59:59", True),
        ("22:00-06:00", "2026-01-11T06:00:00", False),
        ("08:00-17:30", "2026-01-11T12:00:00", True),
        ("08:00-17:30", "2026-01-11T17:30:00", False),
        ("18:00-24:00", "2026-01-11T23:59:59", True),
        ("18:00-24:00", "2026-01-12T00:00:00", False),
        ("22:00-06:00 Europe/Oslo", "2026-01-10T21:00:00", True),
        ("22:00-06:00 Europe/Oslo", "2026-07-10T20:00:00", True),
        ("22:00-06:00 Europe/Oslo", "2026-07-10T19:59:00", False),
    ],
)
def test_a_window_is_open_from_its_first_moment_until_just_before_its_last(
    window: str, moment: str, is_open: bool
) -> None:
    assert TimeWindow.parse(window).contains(utc(moment)) is is_open


def test_an_open_window_opens_now() -> None:
    moment = utc("2026-01-10T23:12:13.5")
    assert TimeWindow.parse("22:00-06:00").next_opening(moment) == moment


def test_a_closed_window_opens_at_its_time() -> None:
    window = TimeWindow.parse("22:00-06:00 Europe/Oslo")
    assert window.next_opening(utc("2026-01-10T07:00:01")) == utc("2026-01-10T21:00:00")
    assert window.next_opening(utc("2026-07-10T07:00:01")) == utc("2026-07-10T20:00:00")


def test_an_opening_that_the_clocks_skip_is_the_moment_after_the_skip() -> None:
    """On 2026-03-29 Oslo goes from 02:00 to 03:00 at 01:00 UTC."""
    window = TimeWindow.parse("02:30-05:00 Europe/Oslo")
    assert window.next_opening(utc("2026-03-28T12:00:00")) == utc("2026-03-29T01:00:00")


def test_a_window_that_the_clocks_skip_altogether_opens_the_day_after() -> None:
    window = TimeWindow.parse("02:10-02:50 Europe/Oslo")
    assert window.next_opening(utc("2026-03-28T12:00:00")) == utc("2026-03-30T00:10:00")


def test_an_hour_that_comes_twice_opens_twice() -> None:
    """On 2026-10-25 Oslo has 02:00 to 03:00 at 00:00 UTC and again at 01:00 UTC."""
    window = TimeWindow.parse("02:10-02:50 Europe/Oslo")
    assert window.next_opening(utc("2026-10-24T12:00:00")) == utc("2026-10-25T00:10:00")
    assert window.next_opening(utc("2026-10-25T00:50:00")) == utc("2026-10-25T01:10:00")
    assert window.next_opening(utc("2026-10-25T01:50:00")) == utc("2026-10-26T01:10:00")


clocks = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
moments = st.integers(0, 3 * 366 * 86_400).map(lambda second: utc("2025-01-01") + timedelta(seconds=second))


@settings(deadline=None)
@given(
    clocks,
    clocks,
    st.sampled_from(["UTC", "Europe/Oslo", "America/St_Johns", "Australia/Lord_Howe"]),
    moments,
)
def test_the_next_opening_is_open_and_nothing_before_it_is(
    opens: str, closes: str, zone: str, moment: datetime
) -> None:
    if opens == closes:
        return
    window = TimeWindow.parse(f"{opens}-{closes} {zone}")
    opening = window.next_opening(moment)
    assert window.contains(opening)
    assert moment <= opening <= moment + timedelta(days=3)
    if opening > moment:
        assert not window.contains(moment)
        assert not window.contains(opening - timedelta(microseconds=1))


@settings(deadline=None)
@given(clocks, clocks, st.sampled_from(["UTC", "Europe/Oslo"]))
def test_a_window_reads_back_from_its_text(opens: str, closes: str, zone: str) -> None:
    if opens != closes:
        window = TimeWindow.parse(f"{opens}-{closes} {zone}")
        assert TimeWindow.parse(str(window)) == window


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22:00",
        "22-06",
        "24:00-06:00",
        "22:60-06:00",
        "22:00-25:00",
        "22:00 - 06:00",
        "22:00-06:00 UTC UTC",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(BadValueError):
        TimeWindow.parse(text)


@pytest.mark.parametrize("text", ["00:00-24:00", "08:00-08:00"])
def test_a_window_that_closes_as_it_opens_is_refused(text: str) -> None:
    with pytest.raises(BadValueError, match="same time"):
        TimeWindow.parse(text)


@pytest.mark.parametrize(
    "name", ["Europe/Oslow", "Europe", "../../../etc/passwd", "/etc/localtime", "", "UTC\0"]
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(BadValueError):
        zone_named(name)


def test_a_moment_without_a_zone_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="aware"):
        TimeWindow.parse("22:00-06:00").contains(datetime(2026, 1, 1))  # noqa: DTZ001  # the very mistake
