"""Metrics that are states, not events: read from the journal and the disks now and then."""

import asyncio
import os
from collections.abc import Sequence

from cctv_storaged.backends.base import Backend
from cctv_storaged.clock import Clock
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, CopyState

INTERVAL_S = 10.0


class Gauges:
    """Sets the gauges every INTERVAL_S until cancelled."""

    def __init__(
        self,
        journal: Journal,
        backends: Sequence[Backend],
        disks: Sequence[str],
        clock: Clock,
        metrics: Metrics,
        *,
        catalogued: bool,
    ) -> None:
        self._journal = journal
        self._backends = tuple(backends)
        self._disks = tuple(disks)
        self._clock = clock
        self._metrics = metrics
        self._catalogued = catalogued
        self._reasons: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Reads and sets."""
        while True:
            await self.set_all()
            await asyncio.sleep(INTERVAL_S)

    async def set_all(self) -> None:
        """One round."""
        self._metrics.journal_full.set(1 if self._journal.full else 0)
        for backend in self._backends:
            await self._set_backlog(backend.name)
        await self._set_bytes()
        await self._set_cameras()
        await self._set_quarantined()
        if self._catalogued:  # read here as well: while the catalog is away, nobody tells it anything
            self._metrics.catalog_lag.set(await self._journal.outbox.lag())
        for disk in self._disks:
            free = await asyncio.to_thread(_free_bytes, disk)
            if free is not None:
                self._metrics.disk_free.labels(disk).set(free)

    async def _set_backlog(self, backend: str) -> None:
        backlog = await self._journal.copies.backlog(backend)
        metrics = self._metrics
        metrics.backlog_segments.labels(backend).set(backlog.segments)
        metrics.backlog_bytes.labels(backend).set(backlog.bytes)
        metrics.copies_failed.labels(backend).set(backlog.failed)
        age = 0.0 if backlog.oldest is None else (self._clock.now() - backlog.oldest).total_seconds()
        metrics.oldest_undelivered.labels(backend).set(max(0.0, age))

    async def _set_bytes(self) -> None:
        kept = {backend.name: 0 for backend in self._backends}
        for tally in await self._journal.copies.tallies():
            if tally.backend in kept and tally.state in (CopyState.STORED, CopyState.VERIFIED):
                kept[tally.backend] += tally.bytes
        for backend in self._backends:
            if backend.name == BackendKind.MILESTONE:
                continue  # what XProtect keeps are its own recordings, of a size that nobody tells
            self._metrics.bytes_used.labels(backend.name, backend.location).set(kept[backend.name])

    async def _set_quarantined(self) -> None:
        counts = await self._journal.segments.set_aside_counts()
        for reason in counts.keys() | self._reasons:
            self._metrics.segments_quarantined.labels(reason).set(counts.get(reason, 0))
        self._reasons = frozenset(counts.keys() | self._reasons)

    async def _set_cameras(self) -> None:
        for camera_id, segments in (await self._journal.cameras.segment_counts()).items():
            self._metrics.segments_count.labels(str(camera_id)).set(segments)


def _free_bytes(path: str) -> int | None:
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
