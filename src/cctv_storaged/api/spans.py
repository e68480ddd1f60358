"""The span and the page that a request asks for, with what it leaves out filled in. Pure."""

import base64
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.model import TimeSpan

DEFAULT_SPAN = timedelta(hours=24)
LONGEST_COVERAGE = timedelta(days=366)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_CURSOR = struct.Struct(">q16s")

Position = tuple[datetime, UUID]
"""Start and id of the last row of a page: the next page begins behind it."""


def asked_span(start: datetime | None, end: datetime | None, now: datetime) -> TimeSpan:
    """Only `start`: until now, or for 24 h where it lies ahead. Only `end`: the 24 h before it. Neither: the
    last 24 h.

    Raises Unprocessable for a span that is none.
    """
    if end is None:
        end = now if start is None or start < now else _later(start, DEFAULT_SPAN)
    if start is None:
        start = _earlier(end, DEFAULT_SPAN)
    if end <= start:
        raise Unprocessable([Fault("end", "must be later than start")])
    return TimeSpan(start, end)


def coverage_span(start: datetime | None, end: datetime | None, now: datetime) -> TimeSpan:
    """As `asked_span`, of a bearable length. Raises Unprocessable."""
    span = asked_span(start, end, now)
    if span.duration > LONGEST_COVERAGE:
        raise Unprocessable([Fault("end", f"is more than {LONGEST_COVERAGE.days} days after start")])
    return span


def cursor_of(position: Position) -> str:
    """The position as a word that fits into a URL; callers hand it back and look no further."""
    packed = _CURSOR.pack(to_us(position[0]), position[1].bytes)
    return base64.urlsafe_b64encode(packed).decode()


def position_of(cursor: str) -> Position:
    """The inverse of `cursor_of`. Raises Unprocessable for what that never gave."""
    try:
        start_us, id_bytes = _CURSOR.unpack(base64.b64decode(cursor, altchars=b"-_", validate=True))
        position = from_us(start_us), UUID(bytes=id_bytes)
    except (ValueError, struct.error, OverflowError) as exc:
        raise Unprocessable([Fault("cursor", "is none that an answer gave")]) from exc
    return position


def _later(moment: datetime, by: timedelta) -> datetime:
    return moment + by if moment <= _LAST - by else _LAST


def _earlier(moment: datetime, by: timedelta) -> datetime:
    return moment - by if moment >= _FIRST + by else _FIRST
