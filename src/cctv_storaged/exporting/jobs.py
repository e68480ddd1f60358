"""The exports of a daemon: taken in after checks, worked on a few at a time, removed when nobody wants them.

The journal is the queue: what a killed process had under way is due like everything else. What an export has
put on its shelf or left in its work folder is removed in two phases, so that a kill between leaves nothing.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cctv_storaged.backends.shelf import Shelf
from cctv_storaged.clock import Clock
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    Conflict,
    JournalError,
    JournalFull,
    ObjectMissing,
    QueueFull,
)
from cctv_storaged.exporting.admission import Admission
from cctv_storaged.exporting.putting import Puts
from cctv_storaged.exporting.request import Wish
from cctv_storaged.exporting.result import possible_keys
from cctv_storaged.exporting.telling import Telling
from cctv_storaged.exporting.trying import Trying
from cctv_storaged.exporting.work import WorkFolders, in_thread
from cctv_storaged.journal.exportrows import Export, ExportStatus
from cctv_storaged.journal.exports import Ending, Exports
from cctv_storaged.journal.idempotency import RepeatKey

log = logging.getLogger(__name__)

IDLE_S = 2.0
"""How often a worker without work looks for some that has become due."""
PATIENCE_S = 2.0
"""A store that takes longer to delete is asked again by the clock."""
BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportingParts:
    """What exporting needs."""

    exports: Exports
    admission: Admission
    trying: Trying
    telling: Telling
    work: WorkFolders
    shelf: Shelf
    puts: Puts
    clock: Clock
    clock_guard: ClockGuard
    expire: timedelta  # after its completion


class Exporting:
    """Everything about exports but their answers."""

    def __init__(self, parts: ExportingParts, workers: int, queue: int) -> None:
        """`queue`: how many may wait for one of the `workers`."""
        self.holds_unknown: Callable[[], str | None] = lambda: None
        """Why there may be holds that the journal does not know; nothing that was made goes then."""
        self._parts = parts
        self._workers = workers
        self._queue = queue
        self._jobs: dict[UUID, asyncio.Task[None]] = {}
        self._removing: set[UUID] = set()
        self._elsewhere: set[UUID] = set()  # to be removed from a store that the settings no longer name
        self._wake = asyncio.Event()
        self._choosing = asyncio.Lock()

    def change(self, *, reserve_share: float) -> None:
        """Other settings from now on: what exports keep back of their disks."""
        self._parts.admission.change(reserve_share=reserve_share)

    # Asking

    async def create(self, wish: Wish, repeat: RepeatKey | None = None) -> Export:
        """A new export, waiting for its turn; the earlier one where its key was used before.

        Raises Unprocessable, QueueFull, NoRoom, and Conflict for a key used with another body.
        """
        parts = self._parts
        if repeat is not None and (earlier := await parts.exports.made_by(repeat)) is not None:
            return earlier
        request = await parts.admission.admitted(wish)
        export_id = uuid.uuid4()
        export = await parts.exports.add(export_id, request, self._queue, repeat, parts.clock.now())
        if export is None:
            raise QueueFull(f"{self._queue} exports are waiting already, which is the most (exports.queue)")
        if export.id == export_id:
            parts.telling.reached(export, ExportStatus.PENDING)
            self._wake.set()
        return export

    async def delete(self, export_id: UUID) -> None:
        """Cancels it, or deletes what it made. Raises NotFound, Held where a hold needs that, and Conflict
        where nobody can tell.

        From the first commit on it is certain; its bytes follow, at once where that is quick.
        """
        unknown = self.holds_unknown()
        if unknown is not None:
            raise Conflict(f"no export is deleted for now: {unknown}")
        export, ending = await self._parts.exports.delete(export_id, self._parts.clock.now())
        if ending is Ending.CANCEL:
            self._parts.telling.reached(export, ExportStatus.CANCELLED)
            self._parts.trying.over(export, ExportStatus.CANCELLED)
        job = self._jobs.get(export_id)
        if job is not None:
            job.cancel()  # whoever sees it through removes what it left
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._remove(export)

    # Working

    async def run(self) -> None:
        """Works until cancelled; what is under way is laid down in order then."""
        await self._sweep()
        with contextlib.suppress(JournalFull):
            await self.run_once()
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._workers):
                workers.create_task(self._work())

    async def run_once(self) -> None:
        """What the clock brings: exports that expire, and removals that something was in the way of."""
        parts = self._parts
        clock = parts.clock_guard
        if (clock.distrust() or self.holds_unknown()) is None:
            for export in await parts.exports.expire(parts.clock.now(), clock.right_from, parts.expire):
                parts.telling.expired(export)
        after = 0
        while batch := await parts.exports.removals(BATCH, after):
            after = batch[-1].no  # what stays for now holds up no other
            for export in batch:
                if not await self._remove(export):
                    return

    async def _sweep(self) -> None:
        """Work folders that nobody goes on with, from a process that was killed."""
        kept = await self._parts.exports.unended_ids()
        try:
            swept = await asyncio.to_thread(self._parts.work.sweep, kept)
        except OSError as exc:
            log.warning("work folders of ended exports stay: %s", exc)
            return
        if swept:
            log.info("%d work folders of ended exports removed", swept)

    async def _work(self) -> None:
        while True:
            job = await self._choose()
            if job is not None:
                await self._see_through(*job)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()

    async def _choose(self) -> tuple[Export, asyncio.Task[None]] | None:
        """The next export and a try at it, so that no other worker takes it."""
        async with self._choosing:
            self._wake.clear()  # before looking: what comes from here on is not missed
            busy = self._jobs.keys() | self._removing
            export = await self._parts.exports.due(self._parts.clock.now(), busy)
            if export is None:
                return None
            job = asyncio.create_task(self._parts.trying.once(export.id), name=f"export {export.id}")
            self._jobs[export.id] = job
            return export, job

    async def _see_through(self, export: Export, job: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:  # the process stops
            job.cancel()
            await asyncio.wait([job])
            with contextlib.suppress(JournalError):
                await self._parts.exports.lay_down(export.id)
            raise
        finally:
            del self._jobs[export.id]
        if not job.cancelled():
            job.result()
        await self._tidy_after(export.id)

    async def _tidy_after(self, export_id: UUID) -> None:
        """A try that ended the export has left things to remove."""
        for export in await self._parts.exports.removals(BATCH):
            if export.id == export_id:
                await self._remove(export)

    # Removing

    async def _remove(self, export: Export) -> bool:
        """Every byte of it, then the journal is told; what cannot be now is tried again by the clock.

        False where the others had better wait as well: the store is away.
        """
        if export.id in self._removing | self._jobs.keys() | self._elsewhere:
            return True
        self._removing.add(export.id)
        parts = self._parts
        try:
            if not await parts.puts.over(export.id, PATIENCE_S):
                return True  # what is being put would appear after its removal
            await in_thread(parts.work.remove, export.id)
            if await self._lies_elsewhere(export):
                return True
            for key in possible_keys(export):
                await parts.shelf.delete(key)
            await parts.exports.removed(export.id)
        except (BackendError, JournalFull, OSError) as exc:
            fields = {"export_id": str(export.id)}
            log.warning("what export %s left stays for now: %s", export.id, exc, extra=fields)
            return not isinstance(exc, BackendUnavailable)
        finally:
            self._removing.discard(export.id)
        return True

    async def _lies_elsewhere(self, export: Export) -> bool:
        """Whether its file was put into another store than today's, and not moved along; told once."""
        result, shelf = export.result, self._parts.shelf
        if result is None or result.place in (None, shelf.place):
            return False
        with contextlib.suppress(ObjectMissing):
            await shelf.stat(result.path)
            return False
        told = "export %s cannot be removed: it lies in %s, which the settings no longer name (%s)"
        hint = "name it again for a while, or remove it there by hand"
        log.warning(told, export.id, result.place, hint, extra={"export_id": str(export.id)})
        self._elsewhere.add(export.id)
        return True
