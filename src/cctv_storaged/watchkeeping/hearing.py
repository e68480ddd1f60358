"""What is known of each camera from the segments that are registered as they come. In memory, no I/O.

After a start every camera counts as heard just then: nobody knows what it did while nobody listened.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.journal.watchrows import Cadence
from cctv_storaged.model import Segment, SegmentFlag
from cctv_storaged.recorder.admission import closed_at

FRESH = timedelta(minutes=10)
"""A file that was written to no longer ago is recorded now; an older one is if it goes on from the last."""
AHEAD = timedelta(minutes=1)
"""Clocks of recorders differ by less."""
IN_A_ROW = 3
"""So many segments in a row put a camera's clock in doubt, and as many end it: one may be a copy."""


@dataclass(slots=True)
class Heard:
    """One camera."""

    silent_s: float = 0.0  # watched time since a segment was registered
    anew: bool = True  # it was, since the last look: the time before it does not count
    root: str | None = None  # that it lies under; None: not asked yet
    last: datetime | None = None  # start of the segment that was heard last
    cadence: Cadence | None = None  # as the journal told it during this silence; None: not asked yet
    doubtful: int = 0  # segments in a row whose time is
    trusty: int = 0  # and whose time is not
    doubt: str = ""  # the last, for people


@dataclass(slots=True)
class Hearing:
    """All cameras. On the event loop only."""

    clock: Clock
    distrust: Callable[[], str | None]  # why the host's own clock is not trusted now
    cameras: dict[UUID, Heard] = field(default_factory=dict)

    def of(self, camera_id: UUID) -> Heard:
        return self.cameras.setdefault(camera_id, Heard())

    def hear(self, segment: Segment) -> None:
        """A segment that was registered this moment. Footage of another day that is brought in is no sign of
        a recorder that works.
        """
        heard, now = self.of(segment.camera_id), self.clock.now()
        fresh = now - closed_at(segment.source.identity) <= FRESH
        if not fresh and (heard.last is None or segment.span.start <= heard.last):
            return
        heard.silent_s, heard.anew, heard.cadence = 0.0, True, None
        heard.root, heard.last = segment.source.root, segment.span.start
        if fresh and self.distrust() is None:
            self._time_of(segment, heard, now)

    def keep_only(self, camera_ids: frozenset[UUID]) -> None:
        """Forgets cameras that the journal has nothing of any more."""
        for gone in self.cameras.keys() - camera_ids:
            del self.cameras[gone]

    def _time_of(self, segment: Segment, heard: Heard, now: datetime) -> None:
        doubt = time_doubt(segment, now)
        if doubt is None:
            heard.trusty, heard.doubtful = heard.trusty + 1, 0
        else:
            heard.doubtful, heard.trusty, heard.doubt = heard.doubtful + 1, 0, doubt


def time_doubt(segment: Segment, now: datetime) -> str | None:
    """Why a segment that was recorded just now was not recorded when its name says; None: it was. Pure."""
    if segment.span.start > now + AHEAD:
        return f"begins {_apart(segment.span.start - now)} from now by its name"
    if SegmentFlag.TIME_SUSPECT in segment.flags:
        apart = closed_at(segment.source.identity) - segment.span.end
        where = "later" if apart > timedelta(0) else "earlier"
        return f"was closed {_apart(abs(apart))} {where} than its name says"
    return None


def _apart(span: timedelta) -> str:
    return str(timedelta(seconds=round(span.total_seconds())))
