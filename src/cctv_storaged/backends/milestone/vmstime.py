"""XProtect's times in text (ISO 8601, up to seven digits of a second, UTC or an offset), and its clock."""

import re
from datetime import UTC, datetime, timedelta

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)


def parse_time(text: str) -> datetime | None:
    """Aware UTC, tenths of microseconds cut off; without an offset it is UTC. None: no time, or "not set"."""
    found = _TIME.fullmatch(text.strip())
    if found is None or found[1].startswith("0001"):  # 0001-01-01T00:00:00Z stands for "not set"
        return None
    fraction = (found[3] or "")[:6].ljust(6, "0")
    offset = (found[4] or "Z").upper().replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}.{fraction}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def render_time(moment: datetime) -> str:
    """With seven digits and Z, as XProtect itself writes."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def skew_of(theirs: datetime, asked_at: datetime, answered_at: datetime) -> timedelta:
    """The server's clock minus ours, by a time that it gave within an exchange: taken at its middle."""
    return theirs - (asked_at + (answered_at - asked_at) / 2)
