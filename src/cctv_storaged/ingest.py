"""From a path to a journalled segment: look at the file, decide what it is, write it down.

Called for every hint, by every scan and for POST /segments; all three end in the same row. Nothing here
waits for a backend, and nothing here touches a file's bytes or name.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.errors import AnothersDisk, Conflict, JournalFull, NotASegment, SourceChanged, WrongDisk
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.segments import Recorded
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import NewSegment, Segment, SourceFile, TimeSpan
from cctv_storaged.recorder.admission import Found, Root, closed_at, inspect, meant, unread, whole
from cctv_storaged.recorder.ffprobe import ffprobe_duration
from cctv_storaged.recorder.source import Writer, open_source

log = logging.getLogger(__name__)

T = TypeVar("T")

FFPROBES = 1
"""How many run at once: each reads a whole file, and the recorder comes first."""
FAULTS = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
"""A fault of ours in reading one file costs that file a delay: it must not end the daemon at each start."""
AHEAD = timedelta(minutes=1)
"""Clocks of recorders differ by less; footage that begins later than this from now is told."""
AHEAD_TOLD_S = 3600.0
"""How often it is told of one camera: each of its files may lie ahead."""
LET_US_READ = "let this daemon's user read it (the recorder's group, or an ACL)"
MOST_TOLD = 10_000
"""Postponed files remembered as told; more begin anew, so that memory is bounded."""


class Outcome(Enum):
    """What looking at a path came to. FINAL ones need no second look until the file changes."""

    REGISTERED = "registered"
    KNOWN = "known"
    SET_ASIDE = "set_aside"
    OPEN = "open"  # somebody is writing to it
    CHANGED = "changed"  # somebody wrote to it while it was looked at
    UNSETTLED = "unsettled"  # nobody can tell yet whether it is closed
    GONE = "gone"
    UNREADABLE = "unreadable"  # the rights or the disk refused; the next scan tries again
    POSTPONED = "postponed"  # the journal refused, or a fault of ours; the next scan tries again


FINAL = frozenset({Outcome.REGISTERED, Outcome.KNOWN, Outcome.SET_ASIDE, Outcome.GONE})


@dataclass(frozen=True, slots=True)
class IngestContext:
    """What registering needs besides the file."""

    journal: Journal
    backends: tuple[str, ...]  # where every new segment must have a copy
    clock: Clock
    metrics: Metrics
    hub: EventHub
    roots: Roots = UNGUARDED  # which of them are the disks that they were


class Ingest:
    """Registers files. `on_registered` is called for each new segment, after its commit.

    Looks at one path follow each other, so that the last to be written down is the last to have looked. Each
    root has threads of its own: a network mount that hangs holds up nobody else.
    """

    def __init__(
        self,
        context: IngestContext,
        on_registered: Callable[[Segment], None],
        threads: int = 2,
        on_overwritten: Callable[[Segment], None] | None = None,
    ) -> None:
        """`on_overwritten` is called for a version that other bytes took the place of."""
        self._context = context
        self._on_registered = on_registered
        self._on_overwritten = on_overwritten
        self._told: set[tuple[str, str]] = set()
        self._ahead_told: dict[UUID, float] = {}  # when it was told of a camera, monotonic
        self._threads_a_root = threads
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._looks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._ffprobe = asyncio.Semaphore(FFPROBES)

    def close(self) -> None:
        """Waits for the looks in hand."""
        for threads in self._threads.values():
            threads.shutdown(wait=True, cancel_futures=True)

    async def consider(self, root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Outcome:
        """Looks at `path` and registers it if it is a closed segment.

        `closed` decides where the kernel does not tell whether somebody still writes to the file; it is
        called from a thread.
        """
        async with self._looks.setdefault((root.path, path), asyncio.Lock()):
            wrong = await self._run(root, lambda: self._context.roots.wrong(root.path))
            if wrong is not None and await self._is_no_news(wrong, root.path, path):
                return Outcome.POSTPONED
            look = partial(self._inspected, root, path, closed, doubted=wrong is not None)
            return await self._consider(root, path, look)

    async def _consider(self, root: Root, path: str, look: Callable[[], Found]) -> Outcome:
        try:
            found = await self._run(root, look)
            if not found.read:
                return Outcome.OPEN if found.writer is Writer.PRESENT else Outcome.UNSETTLED
            return await self._register(root, found)
        except SourceChanged as exc:
            return await self._changed(root, path, exc)
        except NotASegment as exc:  # before the file could be read: a link, a FIFO, a bad name
            return await self._set_aside_unread(root, path, exc)
        except OSError as exc:
            self._postponed(path, exc, hint=LET_US_READ if isinstance(exc, PermissionError) else "")
            return Outcome.UNREADABLE
        except (JournalFull, *FAULTS) as exc:
            self._postponed(path, exc)
            return Outcome.POSTPONED

    async def register(self, new: NewSegment) -> Recorded:
        """Writes down a segment that somebody has described in full (POST /segments).

        Raises Conflict where its root is on another place's disk, or on another than it was and another file
        had its name there.
        """
        source = new.source
        wrong = await asyncio.to_thread(self._context.roots.wrong, source.root)
        if wrong is not None and await self._is_no_news(wrong, source.root, source.path):
            raise Conflict(f"{source.path!r} is not registered from another disk: {wrong}")
        return await self._record(new)

    def _inspected(
        self, root: Root, path: str, closed: Callable[[SourceFile], bool], *, doubted: bool
    ) -> Found:
        """Blocking. Raises WrongDisk where the disk was changed meanwhile, and what `inspect` does."""
        found = inspect(root, path, closed)
        wrong = self._context.roots.wrong(root.path) if found.read else None
        if wrong is not None and not (doubted and type(wrong) is WrongDisk):
            raise wrong
        return found

    async def _is_no_news(self, wrong: WrongDisk, root: str, path: str) -> bool:
        """On a disk without an identity new names are registered: a recorder may write to what lies under one
        that is not mounted. A known name says nothing of its file, and another place's disk nothing at all.
        """
        if isinstance(wrong, AnothersDisk):
            return True
        folder, name = os.path.split(path)
        return name in await self._context.journal.segments.known_in(root, folder)

    async def _register(self, root: Root, found: Found) -> Outcome:
        if found.refusal is not None:
            await self._set_aside(root, found.source, found.refusal)
            return Outcome.SET_ASIDE
        if found.facts is not None and found.facts.duration is None:
            found = await self._with_duration_from_ffprobe(root, found)
        try:
            new = whole(root, found)
        except NotASegment as exc:
            await self._set_aside(root, found.source, exc)
            return Outcome.SET_ASIDE
        recorded = await self._record(new)
        if recorded.created:
            self._measure(new)
        return Outcome.REGISTERED if recorded.created else Outcome.KNOWN

    async def _with_duration_from_ffprobe(self, root: Root, found: Found) -> Found:
        with open_source(root.path, found.source.path) as source:
            async with self._ffprobe:
                duration = await ffprobe_duration(source.descriptor)
            if source.identity != found.source.identity or not source.unchanged():
                raise SourceChanged(f"{found.source.path!r} changed while it was probed")
        assert found.facts is not None
        return replace(found, facts=replace(found.facts, duration=duration))

    async def _record(self, new: NewSegment) -> Recorded:
        context = self._context
        recorded = await context.journal.segments.record(new, context.backends, context.clock.now())
        if recorded.lost is not None and recorded.replaced is not None:
            self._tell_loss(recorded.replaced, recorded.lost)
        if recorded.replaced is not None and self._on_overwritten is not None:
            self._on_overwritten(recorded.replaced)
        if recorded.created:
            self._tell_registered(recorded.segment)
        return recorded

    def _tell_registered(self, segment: Segment) -> None:
        log.info(
            "segment journalled: %s %s",
            segment.source.path,
            segment.span,
            extra={"camera_id": str(segment.camera_id), "segment_id": str(segment.id)},
        )
        self._context.hub.publish(
            Event(
                kind=EventKind.SEGMENT,
                at=segment.created_at,
                camera_id=segment.camera_id,
                segment_id=segment.id,
                detail=str(segment.span),
            )
        )
        self._on_registered(segment)
        if segment.span.start > self._now() + AHEAD:
            self._tell_ahead(segment)

    def _tell_ahead(self, segment: Segment) -> None:
        now = self._context.clock.monotonic()
        self._ahead_told = {id_: at for id_, at in self._ahead_told.items() if now - at < AHEAD_TOLD_S}
        if segment.camera_id in self._ahead_told:
            return
        self._ahead_told[segment.camera_id] = now
        log.warning(
            "footage from the future: %s begins at %s; check the recorder's clock and the root's `timezone` "
            "(told once an hour for each camera)",
            segment.source.path,
            rfc3339(segment.span.start),
            extra={"camera_id": str(segment.camera_id), "segment_id": str(segment.id)},
        )

    def _tell_loss(self, segment: Segment, span: TimeSpan) -> None:
        tell_loss(
            self._context.metrics, self._context.hub, segment, span, "overwritten_by_recorder", self._now()
        )

    def _measure(self, new: NewSegment) -> None:
        waited = (self._now() - closed_at(new.source.identity)).total_seconds()
        self._context.metrics.ingest_seconds.observe(max(0.0, waited))

    async def _set_aside(self, root: Root, source: SourceFile, refusal: NotASegment) -> None:
        context, reason = self._context, refusal.reason
        done = await context.journal.segments.set_aside(
            source, reason, str(refusal), self._now(), meant(root, source)
        )
        if done.lost is not None:
            self._tell_loss(done.lost, done.lost.span)
            if self._on_overwritten is not None:
                self._on_overwritten(done.lost)
        if not done.news:
            return  # told already
        log.warning("file set aside (%s): %s: %s", reason, source.path, done.detail)
        context.hub.publish(Event(kind=EventKind.SET_ASIDE, at=self._now(), state=reason, detail=source.path))

    async def _changed(self, root: Root, path: str, error: SourceChanged) -> Outcome:
        if isinstance(error, WrongDisk):
            return Outcome.POSTPONED
        there = await self._run(root, lambda: unread(root, path))
        return Outcome.GONE if there is None else Outcome.CHANGED

    async def _set_aside_unread(self, root: Root, path: str, refusal: NotASegment) -> Outcome:
        source = await self._run(root, lambda: unread(root, path))
        if source is None:
            return Outcome.GONE
        await self._set_aside(root, source, refusal)
        return Outcome.SET_ASIDE

    def _postponed(self, path: str, error: Exception, hint: str = "") -> None:
        """Counted each time, told once for each path and reason: scans repeat."""
        self._context.metrics.errors.labels("ingest", "").inc()
        told = (path, str(error))
        if told in self._told:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add(told)
        fault = error if isinstance(error, FAULTS) else None
        why = f"{error}; {hint}" if hint else str(error)
        log.warning("%s not registered yet: %s; every scan tries again", path, why, exc_info=fault)

    def _now(self) -> datetime:
        return self._context.clock.now()

    async def _run(self, root: Root, work: Callable[[], T]) -> T:
        if root.path not in self._threads:
            self._threads[root.path] = ThreadPoolExecutor(self._threads_a_root, thread_name_prefix="probe")
        return await asyncio.get_running_loop().run_in_executor(self._threads[root.path], work)
