"""One try at one export, and what the journal is told of how it ended.

Something that is away ends a try in order: the export waits and is tried again. Whatever else goes wrong ends
the export. A try that is cancelled says nothing: whoever cancelled it does.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from cctv_storaged.breaker import retry_delay
from cctv_storaged.clock import Clock
from cctv_storaged.errors import (
    BackendUnavailable,
    JournalError,
    JournalFull,
    MediaToolMissing,
    NoRoom,
    StoragedError,
)
from cctv_storaged.exporting.admission import Admission
from cctv_storaged.exporting.making import Making
from cctv_storaged.exporting.telling import Telling
from cctv_storaged.exporting.work import NO_ROOM, NO_ROOM_WORDS, WorkFolders, in_thread
from cctv_storaged.journal.exportrows import Export, ExportResult, ExportStatus
from cctv_storaged.journal.exports import Exports

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_STARTS = 3
"""Work that began so often and never came to an orderly end is what ends the process."""
LONGEST_WAIT = timedelta(hours=24)
"""An export waits so long for what is away."""
TELL_S = 1.0
"""How often progress is written down and told."""
FULL_S = 5.0
"""How long a full journal is waited for before the next try."""
SPACE = "space"
"""The reason of a store that is full: waiting would keep the work folder's disk full as well."""


class _Waiting(Exception):
    """The try ended in order: something is away."""


class _Failed(Exception):
    """Nothing will come of the export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryingParts:
    """What a try needs."""

    exports: Exports
    admission: Admission
    making: Making
    work: WorkFolders
    clock: Clock
    telling: Telling
    expire: timedelta
    star: Callable[[str], str]  # hides secrets in what is told


class Trying:
    """Tries exports, any number at a time."""

    def __init__(self, parts: TryingParts) -> None:
        self._parts = parts
        self._waits: Counter[UUID] = Counter()
        self._begun: dict[UUID, float] = {}  # monotonic, by export: for how long it took

    async def once(self, export_id: UUID) -> None:
        """One try. Raises JournalError where the process must end."""
        try:
            export = await self._parts.exports.begin(export_id)
        except JournalFull:
            await asyncio.sleep(FULL_S)
            return
        if export is None:
            return
        self._begun.setdefault(export.id, self._parts.clock.monotonic())
        try:
            await self._complete(export, await self._made(export))
        except _Waiting as exc:
            await self._wait(export, self._parts.star(str(exc)))
        except _Failed as exc:
            await self._end(export, self._parts.star(str(exc)))

    def over(self, export: Export, status: ExportStatus) -> None:
        """The export has ended: how long it took is told."""
        self._waits.pop(export.id, None)
        begun = self._begun.pop(export.id, None)
        if begun is not None:
            self._parts.telling.took(status, self._parts.clock.monotonic() - begun)

    async def _made(self, export: Export) -> ExportResult:
        if export.starts > MOST_STARTS:
            raise _Failed(f"the daemon ended {MOST_STARTS} times while this was made: it is given up")
        if export.starts == 1 and export.waiting_since is None:
            self._parts.telling.reached(export, ExportStatus.PROCESSING)
        try:
            made_bytes = await asyncio.to_thread(self._parts.work.size, export.id)
            await self._parts.admission.require_room(export.request, made_bytes=made_bytes)
            async with self._progress(export) as progress:
                return await self._parts.making.make(export, progress.advance, progress.step_done)
        except (BackendUnavailable, MediaToolMissing, NoRoom, JournalFull) as exc:
            if isinstance(exc, BackendUnavailable) and exc.reason == SPACE:
                raise _Failed(f"the store has no room for it: {exc}") from exc
            raise _Waiting(str(exc)) from exc
        except JournalError:
            raise
        except OSError as exc:
            full = exc.errno in NO_ROOM
            raise _Failed(self._no_room() if full else f"{self._parts.work.base}: {exc}") from exc
        except StoragedError as exc:
            raise _Failed(self._no_room() if NO_ROOM_WORDS in str(exc) else str(exc)) from exc
        except Exception as exc:  # the item boundary: behind one odd export no other would ever be made
            log.exception("making export %s", export.id, extra={"export_id": str(export.id)})
            raise _Failed(f"{type(exc).__name__}: {exc}") from exc

    def _no_room(self) -> str:
        return f"no room was left in {self._parts.work.base} while this was made: make some, and ask again"

    @asynccontextmanager
    async def _progress(self, export: Export) -> AsyncIterator["_Progress"]:
        """Progress is written down and told now and then while the block lasts."""
        progress = _Progress(self._parts.exports, export)
        ticking = asyncio.create_task(self._tick(export, progress))
        try:
            yield progress
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _tick(self, export: Export, progress: "_Progress") -> None:
        told = export.progress
        while True:
            await asyncio.sleep(TELL_S)
            if progress.share > told:
                told = progress.share
                await progress.write()
                self._parts.telling.progress(export, told)

    async def _complete(self, export: Export, result: ExportResult) -> None:
        parts = self._parts

        async def complete() -> bool:
            now = parts.clock.now()
            return await parts.exports.complete(export.id, result, now, now + parts.expire)

        if await _patiently(complete):
            parts.telling.reached(export, ExportStatus.COMPLETED)  # first: a deletion cancels what follows
            self.over(export, ExportStatus.COMPLETED)
            try:
                await in_thread(parts.work.remove, export.id)
            except OSError as exc:
                log.warning("the work folder of export %s stays until the next start: %s", export.id, exc)
        # else it was cancelled, and whoever did removes what it left

    async def _wait(self, export: Export, why: str) -> None:
        now = self._parts.clock.now()
        if export.waiting_since is not None and now - export.waiting_since > LONGEST_WAIT:
            await self._end(export, f"given up after {LONGEST_WAIT} of waiting: {why}")
            return
        self._waits[export.id] += 1
        delay = retry_delay(self._waits[export.id])
        # Whatever the journal has no room for now: a start without its orderly end would count as a crash.
        await _patiently(lambda: self._parts.exports.wait(export.id, f"waiting: {why}", now, now + delay))
        self._parts.telling.waits(export, why, delay.total_seconds())

    async def _end(self, export: Export, error: str) -> None:
        parts = self._parts
        if await _patiently(lambda: parts.exports.fail(export.id, error, parts.clock.now())):
            parts.telling.reached(export, ExportStatus.FAILED, error)
            self.over(export, ExportStatus.FAILED)


@dataclass(slots=True)
class _Progress:
    """How far a try is."""

    exports: Exports
    export: Export
    share: float = field(default=0.0)

    def advance(self, share: float) -> None:
        self.share = max(self.share, min(share, 1.0))

    async def step_done(self) -> None:
        """A step that an earlier try had done as well ends no wait: it would be given up never."""
        await self.write(step_done=self.share > self.export.progress)

    async def write(self, *, step_done: bool = False) -> None:
        """A full journal does without: it is no more than a number for people."""
        with contextlib.suppress(JournalFull):
            await self.exports.advance(self.export.id, self.share, step_done=step_done)


async def _patiently(write: Callable[[], Awaitable[T]]) -> T:
    """The write's answer, once the journal has room for it."""
    while True:
        try:
            return await write()
        except JournalFull:
            await asyncio.sleep(FULL_S)
