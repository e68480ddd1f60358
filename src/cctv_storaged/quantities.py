"""How much, and for how long, in words for people: units that suit the size. Pure."""

from datetime import timedelta

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000
_MINUTE_S, _HOUR_S, _DAY_S, _YEAR_S = 60.0, 3600.0, 86_400.0, 365.25 * 86_400
_LONGEST_YEARS = 100


def size_text(size_bytes: float) -> str:
    """As in `12.3 GB`."""
    for unit in _UNITS:
        if abs(size_bytes) < _STEP or unit == _UNITS[-1]:
            break
        size_bytes /= _STEP
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def lasting_text(duration: timedelta | float) -> str:
    """As in `40 minutes`, `5.2 days`, `4.1 years`; a number is of seconds."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} seconds"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} minutes"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} hours"
    if seconds < 2 * _YEAR_S:
        return f"{seconds / _DAY_S:.1f} days"
    if seconds < _LONGEST_YEARS * _YEAR_S:
        return f"{seconds / _YEAR_S:.1f} years"
    return f"more than {_LONGEST_YEARS} years"
