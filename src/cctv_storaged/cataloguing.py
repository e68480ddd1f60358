"""Telling the catalog what the journal knows, in batches, whenever PostgreSQL listens.

Nothing on this host waits for it. A batch told twice is told once; a row PostgreSQL will never take is
logged and passed over, so that it does not hold up the others.
"""

import asyncio
import contextlib
import logging
import random
from dataclasses import replace
from uuid import UUID

from cctv_storaged.catalog.base import Catalog, CatalogCopy, CatalogRow, whole_seconds
from cctv_storaged.catalog.exports import CatalogExport
from cctv_storaged.clock import Clock
from cctv_storaged.errors import CatalogUnavailable, JournalError, JournalFull
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.journal.exportrows import Export
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, Copy, CopyState, Segment

log = logging.getLogger(__name__)

BATCH = 500
IDLE_S = 5.0
GATHER_S = 0.5
"""After word of something new, so long for more of it: one batch instead of many."""
RETRY_CAP_S = 60.0
IDENTITY_S = 30.0
"""How often the catalog is asked whether it still is the one that was told."""


class Cataloguing:
    """Feeds the catalog until cancelled."""

    def __init__(
        self, journal: Journal, catalog: Catalog, host_id: str, clock: Clock, metrics: Metrics, hub: EventHub
    ) -> None:
        self._journal = journal
        self._catalog = catalog
        self._host_id = host_id
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self._wake = asyncio.Event()
        self._ask_at = 0.0  # when the catalog is asked who it is, monotonic
        self.trouble: str | None = None
        """Why the catalog takes nothing right now; None while it does."""

    def wake(self) -> None:
        """There is something to tell."""
        self._wake.set()

    async def run(self) -> None:
        """Tells the news as it comes."""
        failures = 0
        while True:
            self._wake.clear()  # before looking: what comes from here on is not missed
            try:
                await self._ask_who_listens()
                await self._tell_exports()
                more = await self._tell_once()
                self._is_back()
                failures = 0
            except CatalogUnavailable as exc:
                failures += 1
                self._metrics.errors.labels("catalog", "POSTGRES").inc()
                self._is_away(str(exc))
                await asyncio.sleep(random.uniform(0.5, min(RETRY_CAP_S, 2.0 ** min(failures, 10))))
            except JournalFull:
                await asyncio.sleep(IDLE_S)
            except JournalError:
                raise  # the process must end
            except Exception as exc:  # the item boundary: an odd row must not end the daemon
                failures += 1
                log.exception("telling the catalog")
                self._is_away(f"{type(exc).__name__}: {exc}")
                await asyncio.sleep(RETRY_CAP_S)
            else:
                if not more:
                    await self._wait()

    async def _ask_who_listens(self) -> None:
        """A database that was made anew has been told nothing, and looks the same until it is asked."""
        now = self._clock.monotonic()
        if now >= self._ask_at:
            await self._journal.outbox.address(await self._catalog.identity())
            self._ask_at = now + IDENTITY_S

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._wake.wait()
            await asyncio.sleep(GATHER_S)

    async def _tell_once(self) -> bool:
        """Whether there is more to tell. What is deleted goes first: a segment may have come back since."""
        news = await self._journal.outbox.news(BATCH)
        self._metrics.catalog_lag.set(await self._journal.outbox.lag())
        if news.empty:
            return False
        if news.forgotten:
            await self._catalog.remove(news.forgotten)
            if len(news.forgotten) >= BATCH:
                await self._journal.outbox.told(replace(news, changed=()))
                return True
        rows = [row for segment in news.changed if (row := catalog_row(segment, self._host_id)) is not None]
        if rows:
            result = await self._catalog.upsert(rows)
            for refused in result.refused:
                self._refused(refused.id, refused.reason)
        await self._journal.outbox.told(news)
        return len(news.changed) >= BATCH

    async def _tell_exports(self) -> None:
        """Those that changed: a few at a time, before the segments, of which a day may be waiting."""
        news = await self._journal.exports.news(BATCH)
        if news.forgotten:
            await self._catalog.remove_exports(news.forgotten)
        for refused in await self._catalog.upsert_exports(list(map(catalog_export, news.changed))):
            self._metrics.errors.labels("catalog", "POSTGRES").inc()
            fields = {"export_id": str(refused.id)}
            log.error("catalog refused export %s: %s", refused.id, refused.reason, extra=fields)
        if news.changed or news.forgotten:
            await self._journal.exports.told(news)

    def _refused(self, segment_id: UUID, reason: str) -> None:
        self._metrics.errors.labels("catalog", "POSTGRES").inc()
        log.error("catalog refused %s: %s", segment_id, reason, extra={"segment_id": str(segment_id)})

    def _is_away(self, reason: str) -> None:
        if self.trouble is None:
            self._alert(f"catalog is away: {reason}")
        self._ask_at = 0.0  # what comes back may be another database
        self.trouble = reason
        self._metrics.catalog_up.set(0)

    def _is_back(self) -> None:
        if self.trouble is not None:
            self._alert("catalog is back")
        self.trouble = None
        self._metrics.catalog_up.set(1)

    def _alert(self, text: str) -> None:
        log.warning("%s", text)
        self._hub.publish(Event(kind=EventKind.ALERT, at=self._clock.now(), backend="POSTGRES", detail=text))


def catalog_row(segment: Segment, host_id: str) -> CatalogRow | None:
    """The catalog's row of a segment; None while no backend was ever given it.

    The best copy stands for the row, and of two good ones the object store's. One whose bytes are gone
    stays a row: its copies say so.
    """
    placed = [copy for copy in segment.copies if copy.path is not None]
    main = min(placed, key=_rank, default=None)
    if main is None or main.path is None or segment.sha256 is None:
        return None
    return CatalogRow(
        id=segment.id,
        camera_id=segment.camera_id,
        start_time=segment.span.start,
        end_time=segment.span.end,
        duration_seconds=whole_seconds(segment.span),
        size_bytes=segment.size_bytes,
        storage_backend=main.backend,
        storage_path=main.path,
        checksum=segment.sha256.hex(),
        created_at=segment.created_at,
        host_id=host_id,
        flags=tuple(sorted(segment.flags)),
        copies=tuple(
            CatalogCopy(
                backend=copy.backend,
                path=copy.path,
                state=copy.state,
                stored_at=copy.stored_at,
                verified_at=copy.verified_at,
            )
            for copy in segment.copies
        ),
    )


def catalog_export(export: Export) -> CatalogExport:
    """The catalog's row of an export; without a path once its file is gone."""
    request, result = export.request, export.result
    return CatalogExport(
        id=export.id,
        camera_ids=request.camera_ids,
        start_time=request.span.start,
        end_time=request.span.end,
        format=request.format,
        reason=request.reason,
        status=export.status,
        file_path=None if result is None or export.removal is not None else result.path,
        file_size=None if result is None else result.size_bytes,
        expires_at=export.expires_at,
        created_by=request.created_by,
        created_at=export.created_at,
        completed_at=export.completed_at,
    )


def _rank(copy: Copy) -> tuple[bool, bool]:
    return copy.state not in (CopyState.VERIFIED, CopyState.STORED), copy.backend == BackendKind.MILESTONE
