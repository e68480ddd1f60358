"""The segments' own thumbnails on their shelf: one object each, named after the segment.

A shelf that is away is no reason to wait or to fail: it is left alone for a while and pictures are made
anew. Only a deletion insists, since nobody else knows of the object.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, ObjectMismatch, ObjectMissing
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment
from cctv_storaged.shelving import shelve_bytes

log = logging.getLogger(__name__)

FETCH_TIMEOUT_S = 1.0
"""What takes longer is made sooner."""
REST_S = 30.0
MOST_BYTES = 4 * 2**20


def thumbnail_key(segment: Segment) -> str:
    """`{camera}/{YYYY}/{MM}/{DD}/{HH}/{start}_{segment}.jpg`, whatever the picture's width."""
    start = segment.span.start
    return f"{segment.camera_id}/{start:%Y/%m/%d/%H}/{start:%Y%m%dT%H%M%S.%fZ}_{segment.id}.jpg"


class ThumbnailShelf:
    """Fetches, stores and deletes."""

    def __init__(self, shelf: Backend, host_id: str, clock: Clock, metrics: Metrics) -> None:
        self._shelf = shelf
        self._host_id = host_id
        self._clock = clock
        self._metrics = metrics
        self._rests_until_s = clock.monotonic()
        self._reading: set[asyncio.Task[bytes]] = set()

    async def fetch(self, segment: Segment) -> bytes | None:
        """None where there is none, or none to be had soon."""
        if self._rests:
            return None
        reading = asyncio.create_task(self._read(thumbnail_key(segment)))
        self._reading.add(reading)
        reading.add_done_callback(self._read_is_over)
        await asyncio.wait({reading}, timeout=FETCH_TIMEOUT_S)
        if not reading.done():  # left to itself: even a cancelled read waits for its thread
            self._rest("does not answer")
            return None
        try:
            return reading.result()
        except ObjectMissing:
            return None
        except BackendError as exc:
            self._rest(f"cannot be read: {exc}")
            return None

    async def put(self, segment: Segment, jpeg: bytes) -> bool:
        """Whether it is there now, in place of any other."""
        if self._rests:
            return False
        key, metadata = thumbnail_key(segment), {"segment-id": str(segment.id), "host": self._host_id}
        try:
            try:
                await shelve_bytes(self._shelf, jpeg, key, metadata)
            except ObjectMismatch:  # of another width, say
                await self._shelf.delete(key)
                await shelve_bytes(self._shelf, jpeg, key, metadata)
        except BackendError as exc:
            self._rest(f"takes none: {exc}")
            return False
        return True

    async def delete(self, segment: Segment) -> None:
        """Raises BackendError."""
        await self._shelf.delete(thumbnail_key(segment))

    async def delete_many(self, segments: Sequence[Segment]) -> Mapping[UUID, BackendError]:
        """Of which they are not gone, and why."""
        keys = {thumbnail_key(each): each.id for each in segments}
        try:
            failed = await self._shelf.delete_many(tuple(keys))
        except BackendError as exc:
            return dict.fromkeys(keys.values(), exc)
        return {keys[key]: error for key, error in failed.items()}

    @property
    def _rests(self) -> bool:
        return self._clock.monotonic() < self._rests_until_s

    async def _read(self, key: str) -> bytes:
        async with self._shelf.open(key, 0, MOST_BYTES) as blocks:
            return b"".join([block async for block in blocks])

    def _read_is_over(self, reading: asyncio.Task[bytes]) -> None:
        self._reading.discard(reading)
        if not reading.cancelled():
            reading.exception()  # told by `fetch`, if that still waits

    def _rest(self, trouble: str) -> None:
        if not self._rests:
            log.warning("thumbnails at %s: the shelf %s", self._shelf.location, trouble)
        self._rests_until_s = self._clock.monotonic() + REST_S
        self._metrics.thumbnail_failures.labels("store").inc()
