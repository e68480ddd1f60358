"""What a camera keeps, held against its rule: nobody is blamed for what was never recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.model import Camera, GapCause, TimeSpan
from cctv_storaged.reporting.figures import (
    Figures,
    Kept,
    State,
    day_of,
    figures_of,
    first_day,
    held_from,
    parts_to_look_at,
)
from cctv_storaged.reporting.stretches import Stretch
from cctv_storaged.retention.rules import Rule

NOW = datetime(2026, 11, 26, 15, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
THIRTY = Rule(at_least=30 * DAY)


def kept(
    *,
    rule: Rule = THIRTY,
    first: float | None = 400,
    oldest: float | None = 31,
    taken: str | None = None,
    days: tuple[Stretch, ...] = (),
) -> Kept:
    """A camera; `first` and `oldest` are days ago."""
    return Kept(
        camera=Camera(id=UUID(int=1), name="gate", folder="gate"),
        rule=rule,
        first=None if first is None else NOW - first * DAY,
        usual=timedelta(seconds=10),
        oldest=None if oldest is None else NOW - oldest * DAY,
        oldest_held=None,
        taken=taken,
        days=days,
    )


def day(ago: int, **causes: float) -> Stretch:
    """A day, with the hours that are missing of it."""
    start = MIDNIGHT - ago * DAY
    missing = {GapCause(cause): hours * HOUR for cause, hours in causes.items()}
    return Stretch(
        span=TimeSpan(start, start + DAY),
        footage=DAY - sum(missing.values(), timedelta(0)),
        causes=missing,
        holes=len(missing),
    )


def figures(**what: object) -> Figures:
    return figures_of(kept(**what), NOW)  # type: ignore[arg-type]


def test_a_camera_that_keeps_what_it_should_is_well() -> None:
    line = figures()
    assert (line.state, line.required, line.achieved, line.why) == (State.OK, 30 * DAY, 31 * DAY, None)


def test_a_camera_whose_older_footage_was_taken_is_short_and_says_by_what() -> None:
    line = figures(oldest=12, taken="capacity_shortened")
    assert (line.state, line.achieved, line.missing) == (State.SHORT, 12 * DAY, 18 * DAY)
    assert line.why is not None and "capacity_shortened" in line.why


def test_a_camera_that_recorded_nothing_for_a_while_is_not_short() -> None:
    """Motion recording: its last event but one was 40 days ago, and went when it had to."""
    line = figures(oldest=5)
    assert (line.state, line.achieved, line.age) == (State.OK, 30 * DAY, 5 * DAY)


def test_a_new_camera_does_not_fail() -> None:
    line = figures(first=3, oldest=3)
    assert (line.state, line.required, line.achieved) == (State.NEW, 3 * DAY, 3 * DAY)
    line = figures(first=None, oldest=None)
    assert (line.state, line.required, line.achieved) == (State.NEW, timedelta(0), timedelta(0))


def test_a_camera_of_a_rebuilt_journal_is_not_called_new() -> None:
    line = figures_of(replace(kept(first=3, oldest=3), forgotten=True), NOW)
    assert (line.state, line.required, line.kept.installed) == (State.UNKNOWN, 3 * DAY, None)
    assert figures_of(replace(kept(), forgotten=True), NOW).state is State.OK


def test_a_new_camera_that_lost_what_it_had_does() -> None:
    line = figures(first=3, oldest=1, taken="source_vanished")
    assert (line.state, line.achieved) == (State.SHORT, DAY)


@pytest.mark.parametrize("cause", ["lost", "deleted", "retention", "capacity"])
def test_footage_that_is_gone_from_the_middle_is_missing(cause: str) -> None:
    line = figures(days=(day(3, **{cause: 6}), day(2), day(1)))
    assert (line.state, line.missing, line.gone) == (State.SHORT, 6 * HOUR, 6 * HOUR)
    assert line.achieved == 30 * DAY - 6 * HOUR
    assert line.why == f"6.0 h {cause}"


def test_older_footage_does_not_make_up_for_what_is_gone_of_the_required() -> None:
    line = figures(oldest=60, days=(day(3, lost=6),))
    assert (line.state, line.required, line.achieved) == (State.SHORT, 30 * DAY, 30 * DAY - 6 * HOUR)


def test_days_that_were_asked_for_change_nothing_of_what_is_kept() -> None:
    days = (day(9), day(3, lost=6), day(2))
    asked = (day_of(NOW - 9 * DAY), day_of(NOW - 9 * DAY))
    line = figures_of(replace(kept(days=days), asked=asked), NOW)
    assert (line.state, line.missing, line.why) == (State.SHORT, 6 * HOUR, "6.0 h lost")
    assert (line.footage, line.gone) == (DAY, timedelta(0))


@pytest.mark.parametrize("cause", ["recorder_silent", "unknown", "invalid", "clock_step", "not_yet"])
def test_what_nobody_took_is_told_and_blamed_on_nobody(cause: str) -> None:
    line = figures(days=(day(3, **{cause: 6}), day(2), day(1)))
    assert (line.state, line.achieved, line.footage) == (State.OK, 31 * DAY, 66 * HOUR)


def test_what_is_gone_but_older_than_required_is_nobodys_concern() -> None:
    line = figures(oldest=60, days=(day(45, lost=24), day(1)))
    assert (line.state, line.missing, line.gone) == (State.OK, timedelta(0), DAY)


def test_less_than_a_segment_does_not_sound_an_alarm() -> None:
    assert figures(days=(day(3, lost=1 / 60),)).state is State.OK
    assert figures(days=(day(3, lost=1 / 40),)).state is State.SHORT


def test_without_a_rule_nothing_is_required() -> None:
    line = figures(rule=Rule(at_most=30 * DAY), oldest=1)
    assert (line.state, line.required, line.achieved) == (State.NO_RULE, None, DAY)


def test_held_footage_counts_as_far_as_it_would_be_there_without_its_hold() -> None:
    assert held_from(Rule(at_least=3 * DAY, at_most=9 * DAY), NOW) == NOW - 3 * DAY
    assert held_from(Rule(at_most=9 * DAY), NOW) == NOW - 9 * DAY
    assert held_from(Rule(), NOW) == NOW


@given(st.floats(0, 90), st.floats(0, 90), st.booleans(), st.lists(st.floats(0, 24), max_size=5))
def test_achieved_and_missing_are_never_more_than_there_is(
    first: float, oldest: float, taken: bool, lost: list[float]
) -> None:
    days = tuple(day(ago, lost=hours) for ago, hours in zip(range(len(lost), 0, -1), lost, strict=True))
    line = figures(first=max(first, oldest), oldest=oldest, taken="lost" if taken else None, days=days)
    assert line.required is not None
    assert timedelta(0) <= line.achieved <= max(line.age, line.required)
    assert line.missing >= timedelta(0)
    assert (line.state is State.SHORT) == (line.missing > timedelta(seconds=70))
    assert (line.why is not None) == (line.state is State.SHORT)


# What is still to be looked at


def test_the_oldest_day_is_left_alone_but_for_a_camera_that_began_then() -> None:
    oldest = NOW - 9 * DAY
    assert first_day(NOW - 40 * DAY, oldest) == day_of(oldest) + 1
    assert first_day(oldest, oldest) == day_of(oldest)


def test_each_day_is_looked_at_once_and_today_for_its_new_time() -> None:
    today = day_of(NOW)
    known = {today: NOW - HOUR, today - 1: MIDNIGHT, today - 2: MIDNIGHT - DAY - HOUR}
    parts = parts_to_look_at(known, today - 3, NOW, timedelta(minutes=10))
    assert parts == [
        TimeSpan(NOW - HOUR, NOW),
        TimeSpan(MIDNIGHT - DAY - HOUR, MIDNIGHT - DAY),
        TimeSpan(MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY),
    ]
    known[today] = NOW - timedelta(minutes=5)
    assert parts_to_look_at(known, today - 1, NOW, timedelta(minutes=10)) == []
