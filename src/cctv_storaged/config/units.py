"""Quantities as an operator writes them: `30s`, `8MiB`, `20Mbit/s`, `20%`. Pure.

Every kind has a `parse_…` and a `format_…`, and parsing what was formatted gives the same value again.
A bare number is refused where a unit is needed, because 30 may mean seconds to one reader and days to
another; 0 is the same in every unit and passes. Arithmetic is exact (fractions), never floating.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction

MILLISECOND = timedelta(milliseconds=1)
LONGEST_DURATION = timedelta(days=36_500)
"""A century: far beyond any retention, and `now - LONGEST_DURATION` is still a date."""
LARGEST_BYTES = 2**63 - 1

_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_BYTES = {
    "B": 1,
    "kB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
    "TB": 1000**4,
    "TiB": 1024**4,
}
_RATE_BITS = {"bit/s": 1, "kbit/s": 1000, "Mbit/s": 1000**2, "Gbit/s": 1000**3}
_RATE_BYTES = {f"{unit}/s": 8 * size for unit, size in _SIZE_BYTES.items()}  # in bits, as the row above
_QUANTITY = re.compile(r"(?P<number>[0-9]{1,19}(?:\.[0-9]{1,30})?) ?(?P<unit>[A-Za-z/%]{1,8})")


class BadValueError(ValueError):
    """A value that cannot be what it should be; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_duration(value: object) -> timedelta:
    """`250ms 30s 5m 1.5h 30d` or 0; whole milliseconds, at most a century."""
    if isinstance(value, timedelta):
        return value
    milliseconds = _whole(_amount(value, _DURATION_MS, "a duration such as 30s, 5m or 24h"), "milliseconds")
    if milliseconds > LONGEST_DURATION // MILLISECOND:
        raise BadValueError("is longer than a century")
    return timedelta(milliseconds=milliseconds)


def format_duration(value: timedelta) -> str:
    """In the largest unit that divides it; days from two days on, as 24h reads better than 1d."""
    milliseconds = value // MILLISECOND
    largest = "d" if value >= timedelta(days=2) else "h"
    units = {unit: size for unit, size in _DURATION_MS.items() if size <= _DURATION_MS[largest]}
    return _spelled(milliseconds, units, "s")


def parse_size(value: object) -> int:
    """`250MB 8MiB` or 0, in bytes. MB is a million bytes, MiB is 2^20 (IEC 80000-13)."""
    size_bytes = _whole(_amount(value, _SIZE_BYTES, "a size such as 250MB or 8MiB"), "bytes")
    if size_bytes > LARGEST_BYTES:
        raise BadValueError("is larger than any disk")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """In the largest unit that divides it."""
    return _spelled(size_bytes, _SIZE_BYTES, "B")


def parse_rate(value: object) -> int:
    """`20Mbit/s 5MB/s` or 0, in whole bytes per second."""
    bits_per_s = _amount(value, _RATE_BITS | _RATE_BYTES, "a rate such as 20Mbit/s or 5MB/s")
    bytes_per_s = _whole(bits_per_s / 8, "bytes per second")
    if bytes_per_s > LARGEST_BYTES:
        raise BadValueError("is faster than any network")
    return bytes_per_s


def format_rate(bytes_per_s: int) -> str:
    """In bits per second, as links are sold, where that comes out even in kbit/s; else in bytes."""
    bits_per_s = bytes_per_s * 8
    return _spelled(bits_per_s, _RATE_BITS if bits_per_s % 1000 == 0 else _RATE_BYTES, "B/s")


def parse_share(value: object) -> float:
    """`20%` or 0.2, as a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadValueError("must be a share such as 20% or 0.2")
    share = _percent(value) if isinstance(value, str) else float(value)
    if not 0 <= share <= 1:
        raise BadValueError("must lie between 0% and 100%", _percent_hint(value))
    return share


def format_share(share: float) -> str:
    """In percent, with every digit the number has."""
    percent = Fraction(repr(share)) * 100
    return f"{percent}%" if percent.denominator == 1 else f"{_decimal(percent)}%"


def _amount(value: object, units: Mapping[str, int], wanted: str) -> Fraction:
    """Number times unit, in the smallest unit of the table."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadValueError(f"must be {wanted}")
    if value == 0:
        return Fraction(0)
    if not isinstance(value, str):
        raise BadValueError(f"needs a unit: {wanted}", _negative_hint(value))
    match = _QUANTITY.fullmatch(value.strip())
    if match is None:
        raise BadValueError(f"must be {wanted}", _negative_hint(value))
    if match["unit"] not in units:
        raise BadValueError(f"must be {wanted}", f"the units are {', '.join(units)}")
    return Fraction(match["number"]) * units[match["unit"]]


def _whole(amount: Fraction, unit: str) -> int:
    if amount.denominator != 1:
        raise BadValueError(f"does not come out in whole {unit}")
    return amount.numerator


def _percent(text: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match["unit"] != "%":
        raise BadValueError("must be a share such as 20% or 0.2", _negative_hint(text))
    return float(Fraction(match["number"]) / 100)


def _percent_hint(value: object) -> str:
    return f"for {value} percent write {value}%" if isinstance(value, int | float) and value > 1 else ""


def _negative_hint(value: str | float) -> str:
    negative = value.strip().startswith("-") if isinstance(value, str) else value < 0
    return "it must not be negative" if negative else ""


def _spelled(amount: int, units: Mapping[str, int], zero_unit: str) -> str:
    if amount == 0:
        return f"0{zero_unit}"
    fitting = (unit for unit in units if amount % units[unit] == 0)
    best = max(fitting, key=lambda unit: units[unit])
    return f"{amount // units[best]}{best}"


def _decimal(amount: Fraction) -> str:
    """The exact decimal spelling; `amount` came from one, so it ends."""
    digits = 0
    while (amount * 10**digits).denominator != 1:
        digits += 1
    text = str((amount * 10**digits).numerator).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}"
