"""Losses of the last time, a camera each. Read from the ledger, which has every loss from whatever path.

A loss is an event and no state: the alarm sounds until so long after the camera's last one, in whose time
somebody should have seen it. The ledger keeps it for good.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.watchrows import Loss
from cctv_storaged.quantities import lasting_text


@dataclass(slots=True)
class Lost:
    """What one camera lost, and did not cease to lose for long."""

    last: Loss
    name: str | None = None  # None: not asked yet
    segments: int = 0


class LostFootage:
    """Sounds `loss`."""

    def __init__(self, journal: Journal, alarms: Alarms) -> None:
        self._journal = journal
        self._alarms = alarms
        self._after: int | None = None  # the line of the ledger that was read last
        self._of_camera: dict[UUID, Lost] = {}

    async def look(self, now: datetime, lasts: timedelta, *, ages_count: bool) -> None:
        """Reads on. Not `ages_count`: the clock is in doubt, and nothing ends by it."""
        if self._after is None:
            self._after = await self._journal.watch_rows.line_at(now - lasts)
        more = True
        while more:
            page = await self._journal.watch_rows.losses(self._after)
            for loss in page.found:
                self._add(loss)
            self._after, more = page.after, page.more
        if ages_count:
            over = [camera_id for camera_id, lost in self._of_camera.items() if now - lost.last.at > lasts]
            for camera_id in over:
                del self._of_camera[camera_id]
        await self._tell(lasts)

    def _add(self, loss: Loss) -> None:
        lost = self._of_camera.setdefault(loss.camera_id, Lost(loss))
        lost.last, lost.segments = loss, lost.segments + 1

    async def _tell(self, lasts: timedelta) -> None:
        for camera_id, lost in self._of_camera.items():
            if lost.name is None:
                camera = await self._journal.cameras.camera(camera_id)
                lost.name = str(camera_id) if camera is None else camera.name
            self._alarms.sound(AlarmName.LOSS, str(camera_id), _text(lost.name, lost, lasts))
        self._alarms.keep_only(AlarmName.LOSS, frozenset(map(str, self._of_camera)))


def _text(name: str, lost: Lost, lasts: timedelta) -> str:
    count = "1 segment is" if lost.segments == 1 else f"{lost.segments:,} segments are"
    return (
        f"camera {name}: {count} LOST, the last {lost.last.span}: {lost.last.cause}. GET /ledger tells of "
        "each; end what causes it, and bring back what a backup has. Sounds for "
        f"{lasting_text(lasts)} after the last"
    )
