"""When a pass waits for a yes: what time explains never does, a surprise that is large always."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.journal.retention import Swept
from cctv_storaged.retention.amounts import Amount
from cctv_storaged.retention.brake import Explained, Pass, explained, stops

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DAY, MONTH = timedelta(days=1), timedelta(days=30)

lengths = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400))


def surprise(segments: int, duration: timedelta, of: int = 1000) -> Pass:
    return Pass(unexplained=Amount(segments=segments, bytes=1, duration=duration), of_segments=of)


def test_more_than_a_tenth_and_more_than_a_day_waits() -> None:
    assert stops(surprise(101, 2 * DAY), MONTH, Swept(), NOW)
    assert not stops(surprise(100, 2 * DAY), MONTH, Swept(), NOW)
    assert not stops(surprise(1000, DAY), MONTH, Swept(), NOW)
    assert stops(surprise(600, 6 * DAY), MONTH, Swept(), NOW), "T-32: 60 % candidates"


@given(lengths, lengths)
def test_time_explains_what_expired_since_the_last_pass_under_the_same_rule(
    at_most: timedelta, off: timedelta
) -> None:
    """However long the host was off."""
    swept = Swept(ended_by=NOW - at_most, at=NOW)
    later = NOW + off
    span = explained(swept, None, later)
    assert span == Explained(since=NOW - at_most, until=later - at_most)
    assert not span.has(NOW - at_most), "what the last pass should have taken is a surprise"


@given(lengths, lengths, lengths)
def test_a_shortened_rule_is_not_explained(at_most: timedelta, shorter: timedelta, off: timedelta) -> None:
    span = explained(Swept(ended_by=NOW - at_most, at=NOW), None, NOW + off)
    assert span is not None
    cutoff = NOW + off - (at_most - shorter)
    assert span.until <= cutoff


def test_the_clock_that_only_grows_is_asked_how_long_it_was() -> None:
    swept = Swept(ended_by=NOW - MONTH, at=NOW)
    jumped = explained(swept, timedelta(minutes=5), NOW + timedelta(days=400))
    assert jumped == Explained(since=NOW - MONTH, until=NOW - MONTH + timedelta(minutes=5))
    back = explained(swept, timedelta(minutes=5), NOW - DAY)
    assert back == Explained(since=NOW - MONTH, until=NOW - MONTH)


def test_without_a_pass_before_nothing_is_explained() -> None:
    assert explained(Swept(), None, NOW) is None


def test_a_yes_counts_for_its_time_and_for_no_shorter_rule() -> None:
    what, yes = surprise(600, 6 * DAY), Swept(confirmed=MONTH, until=NOW + DAY)
    assert not stops(what, MONTH, yes, NOW)
    assert not stops(what, MONTH + DAY, yes, NOW)
    assert stops(what, MONTH - DAY, yes, NOW)
    assert stops(what, MONTH, yes, NOW + DAY)
