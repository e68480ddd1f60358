"""Quantities: what is written comes out exact, comes back the same, and is refused where it may mislead."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.config.units import (
    LARGEST_BYTES,
    LONGEST_DURATION,
    MILLISECOND,
    BadValueError,
    format_duration,
    format_rate,
    format_share,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)


@settings(deadline=None)
@given(st.integers(0, LONGEST_DURATION // MILLISECOND))
def test_a_formatted_duration_is_the_same_duration(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@settings(deadline=None)
@given(st.integers(0, LARGEST_BYTES))
def test_a_formatted_size_is_the_same_size(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_a_formatted_rate_is_the_same_rate(bytes_per_s: int) -> None:
    assert parse_rate(format_rate(bytes_per_s)) == bytes_per_s


@settings(deadline=None)
@given(st.floats(0, 1, allow_subnormal=False).filter(lambda share: share == 0 or share > 1e-12))
def test_a_formatted_share_is_the_same_share(share: float) -> None:
    assert parse_share(format_share(share)) == share


@settings(deadline=None)
@given(st.text(max_size=20) | st.integers() | st.floats() | st.booleans() | st.none() | st.binary(max_size=4))
def test_whatever_is_written_is_a_quantity_or_refused(value: object) -> None:
    for parse in (parse_duration, parse_size, parse_rate, parse_share):
        try:
            quantity = parse(value)
        except BadValueError:
            continue
        assert quantity >= type(quantity)(0)  # type: ignore[operator]  # each kind compares with its own zero


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1.5h", 5400),
        ("24h", 86_400),
        ("30d", 2_592_000),
        ("5 m", 300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("250MB", 250_000_000), ("8MiB", 8_388_608), ("1.5kB", 1500), ("7B", 7), ("2TiB", 2 * 2**40)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "bytes_per_s"), [("20Mbit/s", 2_500_000), ("5MB/s", 5_000_000), ("8bit/s", 1), ("1KiB/s", 1024)]
)
def test_rates(text: str, bytes_per_s: int) -> None:
    assert parse_rate(text) == bytes_per_s


@pytest.mark.parametrize(("value", "share"), [("20%", 0.2), ("0.5%", 0.005), (0.3, 0.3), (1, 1.0), (0, 0.0)])
def test_shares(value: object, share: float) -> None:
    assert parse_share(value) == share


def test_zero_needs_no_unit() -> None:
    assert (parse_duration(0), parse_size(0), parse_rate(0)) == (timedelta(0), 0, 0)


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_rate])
@pytest.mark.parametrize(
    "value", [30, 1.5, True, False, None, "30", "", "s", "1e3s", "٣s", "1 0s", "30 s s", "0x1s"]
)
def test_a_number_without_its_unit_or_no_number_at_all_is_refused(parse: object, value: object) -> None:
    assert callable(parse)
    with pytest.raises(BadValueError):
        parse(value)


@pytest.mark.parametrize("value", ["30%%", "130%", -0.1, 20, "0.3", float("nan"), float("inf"), True])
def test_a_share_beyond_the_whole_is_refused(value: object) -> None:
    with pytest.raises(BadValueError):
        parse_share(value)


@pytest.mark.parametrize(
    ("refused", "hint"),
    [
        (lambda: parse_duration("-5m"), "must not be negative"),
        (lambda: parse_duration(-5), "must not be negative"),
        (lambda: parse_duration("5min"), "ms, s, m, h, d"),
        (lambda: parse_size("250mb"), "kB"),
        (lambda: parse_rate("20Mb/s"), "Mbit/s"),
        (lambda: parse_share(20), "20%"),
    ],
)
def test_a_refusal_says_what_to_write(refused: object, hint: str) -> None:
    assert callable(refused)
    with pytest.raises(BadValueError) as caught:
        refused()
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "refused",
    [
        lambda: parse_duration("0.5ms"),
        lambda: parse_size("0.5B"),
        lambda: parse_rate("4bit/s"),
        lambda: parse_duration("999999d"),
        lambda: parse_size("9999999999TiB"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(refused: object) -> None:
    assert callable(refused)
    with pytest.raises(BadValueError):
        refused()


def test_durations_read_as_people_write_them() -> None:
    assert [format_duration(timedelta(hours=hours)) for hours in (0, 1, 24, 36, 48, 720)] == [
        "0s",
        "1h",
        "24h",
        "36h",
        "2d",
        "30d",
    ]
