"""Which segment of a camera shows a moment, or comes near it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, rfc3339
from cctv_storaged.errors import NotFound
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.playback import Nearby
from cctv_storaged.model import Segment, TimeSpan

FARTHEST = timedelta(minutes=1)
"""A picture from farther away would be taken for what it is not."""
_TWINS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A segment and the moment in it that is nearest to what was asked for; its end is in it here."""

    segment: Segment
    moment: datetime


async def nearest_footage(journal: Journal, camera_id: UUID, moment: datetime) -> Place:
    """Raises NotFound where there is none within `FARTHEST`, and says where the nearest is."""
    instant = TimeSpan(moment, moment + MICROSECOND)
    if (segment := await _at(journal, camera_id, instant)) is not None:
        return Place(segment, moment)
    nearby = await journal.playback.nearby(camera_id, instant)
    near = _nearer(nearby, moment)
    if near is None or abs(near - moment) > FARTHEST:
        limit_s = FARTHEST.total_seconds()
        raise NotFound(f"camera {camera_id} has no footage within {limit_s:g} s of {told(moment, nearby)}")
    around = (
        TimeSpan(near - MICROSECOND, near) if near == nearby.before else TimeSpan(near, near + MICROSECOND)
    )
    segment = await _at(journal, camera_id, around)
    if segment is None:
        raise NotFound(f"the footage of camera {camera_id} at {rfc3339(near)} was deleted just now")
    return Place(segment, near)


def told(where: object, nearby: Nearby) -> str:
    """A place without footage, and where there is some; for people."""
    parts = [rfc3339(where) if isinstance(where, datetime) else str(where)]
    if nearby.before is not None:
        parts.append(f"the last before it ends at {rfc3339(nearby.before)}")
    if nearby.after is not None:
        parts.append(f"the first after it begins at {rfc3339(nearby.after)}")
    return "; ".join(parts)


async def _at(journal: Journal, camera_id: UUID, instant: TimeSpan) -> Segment | None:
    """Of several the one that began last: segments overlap by a frame, or were recorded twice."""
    page = await journal.segments.page(camera_id, instant, _TWINS)
    return page.segments[-1] if page.segments else None


def _nearer(nearby: Nearby, moment: datetime) -> datetime | None:
    there = [near for near in (nearby.before, nearby.after) if near is not None]
    return min(there, key=lambda near: abs(near - moment), default=None)
