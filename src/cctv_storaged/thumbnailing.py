"""A thumbnail for each new segment, at leisure: newest first, one at a time, far less than a core of work.

A flood of segments makes no more work: the queue is short, and of what falls out of it a picture is made
when somebody asks for it.
"""

import asyncio
import logging
from collections import deque

from cctv_storaged.clock import Clock
from cctv_storaged.errors import JournalError, StoragedError
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment
from cctv_storaged.thumbnails import Thumbnails

log = logging.getLogger(__name__)

MOST_WAITING = 64
SHARE = 0.1
"""Of one core, at most: after each picture it rests for so much longer than the picture took."""


class Thumbnailing:
    """`offer` what was registered; `run` makes the pictures."""

    def __init__(
        self, thumbnails: Thumbnails, clock: Clock, metrics: Metrics, *, on_ingest: bool = True
    ) -> None:
        """Without `on_ingest` nothing is drawn unasked."""
        self._thumbnails = thumbnails
        self._clock = clock
        self._metrics = metrics
        self._on_ingest = on_ingest
        self._waiting: deque[Segment] = deque()
        self._wake = asyncio.Event()

    def offer(self, segment: Segment) -> None:
        """Takes its turn before those that wait; the one that waits longest may fall out."""
        if not self._on_ingest:
            return
        self._waiting.append(segment)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._metrics.thumbnails_skipped.inc()
        self._wake.set()

    def overwritten(self, segment: Segment) -> None:
        """The recorder wrote other bytes in the segment's place."""
        self._thumbnails.overwritten(segment)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            begun_s = self._clock.monotonic()
            await self._one(self._waiting.pop())
            took_s = self._clock.monotonic() - begun_s
            await asyncio.sleep(took_s * (1 / SHARE - 1))

    async def _one(self, segment: Segment) -> None:
        fields = {"segment_id": str(segment.id), "camera_id": str(segment.camera_id)}
        try:
            await self._thumbnails.on_ingest(segment)
        except JournalError:
            raise
        except (StoragedError, OSError) as exc:
            log.debug("no thumbnail of a new segment: %s", exc, extra=fields)
        except Exception:  # the item boundary: one odd segment must not end all thumbnails
            log.exception("thumbnail of a new segment", extra=fields)
