"""Where a copy at MILESTONE is: the camera and the span in XProtect, as one line for journal and catalog."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.errors import ObjectRejected
from cctv_storaged.model import TimeSpan

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PATH = re.compile(rf"milestone://({_GUID})/({_GUID})/([0-9]{{1,15}})-([0-9]{{1,15}})")


@dataclass(frozen=True, slots=True)
class MilestonePath:
    """What a path says."""

    site: UUID  # the management server's
    camera: UUID  # XProtect's
    span: TimeSpan  # whole milliseconds

    def __str__(self) -> str:
        first, last = milliseconds(self.span.start), milliseconds_up(self.span.end)
        return f"milestone://{self.site}/{self.camera}/{first}-{last}"


def milestone_path(site: UUID, camera_id: UUID, span: TimeSpan) -> str:
    """`milestone://{site}/{camera}/{startMs}-{endMs}`; the milliseconds that the span touches."""
    return str(MilestonePath(site, camera_id, span))


def parse_milestone_path(path: str) -> MilestonePath:
    """Raises ObjectRejected where `milestone_path` cannot have made it."""
    found = _PATH.fullmatch(path)
    try:
        if found is not None:
            span = TimeSpan(from_milliseconds(int(found[3])), from_milliseconds(int(found[4])))
            return MilestonePath(UUID(found[1]), UUID(found[2]), span)
    except (ValueError, OverflowError):
        pass  # an end before its start, or years that no calendar has
    raise ObjectRejected(f"{path[:200]!r} is no path of MILESTONE: milestone://site/camera/start-end is one")


def milliseconds(time: datetime) -> int:
    """Since 1970; what is less than one is left out."""
    return (time - _EPOCH) // _MS


def milliseconds_up(time: datetime) -> int:
    """Since 1970; a begun one counts."""
    return -((_EPOCH - time) // _MS)


def from_milliseconds(count: int) -> datetime:
    """Raises OverflowError beyond the year 9999."""
    return _EPOCH + count * _MS
