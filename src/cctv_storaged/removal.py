"""Deleting a segment on request: tombstone → bytes everywhere → row. Resumed until it is done."""

import asyncio
import logging
from collections.abc import Sequence
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.breaker import retry_delay
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, NotASegment, SourceChanged
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment, SourceState
from cctv_storaged.prune import unlink_source

log = logging.getLogger(__name__)

BATCH = 100


class Remover:
    """Carries out deletions; one that a backend cannot do now is tried again."""

    def __init__(
        self, journal: Journal, backends: Sequence[Backend], clock: Clock, metrics: Metrics, hub: EventHub
    ) -> None:
        self._journal = journal
        self._backends = {backend.name: backend for backend in backends}
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self._at_work = asyncio.Lock()

    async def delete(self, segment_id: UUID) -> None:
        """From here on the segment is gone for everybody; its bytes follow, at once where possible.

        Raises NotFound, and Conflict while it is held.
        """
        segment = await self._journal.deletions.begin(segment_id)
        async with self._at_work:
            await self._finish(segment)

    async def run_once(self) -> None:
        """Goes on with every tombstone that is due, those of an earlier process among them."""
        async with self._at_work:
            for segment in await self._journal.deletions.unfinished(BATCH, self._clock.now()):
                await self._finish(segment)

    async def _finish(self, segment: Segment) -> None:
        try:
            for copy in segment.copies:
                if copy.path is not None:
                    await self._delete_copy(segment, copy.backend, copy.path)
            await asyncio.to_thread(_unlink_if_there, segment)
        except (BackendError, OSError) as exc:
            log.warning("segment %s not deleted yet: %s", segment.id, exc)
            due = self._clock.now() + retry_delay(4)
            await self._journal.deletions.postpone(segment.id, str(exc), due)
            return
        now = self._clock.now()
        await self._journal.deletions.done(segment, "deleted_on_request", now)
        log.info("segment %s deleted on request", segment.id, extra={"segment_id": str(segment.id)})
        self._hub.publish(
            Event(kind=EventKind.DELETED, at=now, camera_id=segment.camera_id, segment_id=segment.id)
        )

    async def _delete_copy(self, segment: Segment, name: str, path: str) -> None:
        backend = self._backends.get(name)
        if backend is None:
            raise BackendError(f"backend {name} is not configured, its copy cannot be deleted")
        if await self._journal.deletions.shared(segment.id, name, path):
            return  # a twin with the same bytes stands on this very object
        await backend.delete(path)
        self._metrics.segments_deleted.labels(name).inc()


def _unlink_if_there(segment: Segment) -> None:
    if segment.source_state not in (SourceState.PRESENT, SourceState.PRUNING):
        return
    try:
        unlink_source(segment)
    except (SourceChanged, NotASegment):
        return  # what is there now is not this segment; the scan registers it as what it is
