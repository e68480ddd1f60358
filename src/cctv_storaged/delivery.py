"""Bringing copies about, for one backend: claim, put, verify, mark. The only place that decides retry.

A segment's way: claimed in memory → its file opened and hashed → put under a name that says its content
→ verified → one commit to `verified`. A kill at any point leaves the journal at `pending` (or `stored`),
and doing it again is harmless.

Whose fault a failure is decides what follows. The backend's (network, credentials, space): the breaker
opens, nothing counts against the segment. The segment's own: it alone waits, with back-off. The source's:
the recorder side looks again. No path here deletes bytes.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from cctv_storaged.backends.base import Backend, Capabilities, Preparing, StoredObject
from cctv_storaged.breaker import Breaker, Pace, retry_delay
from cctv_storaged.clock import Clock
from cctv_storaged.config import TimeWindow
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    JournalFull,
    NotASegment,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.journal.copies import Proof
from cctv_storaged.journal.journal import Journal
from cctv_storaged.lanes import Lanes
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Copy, CopyState, Segment, SourceState, object_key
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.payloads import Payloads
from cctv_storaged.recorder.admission import closed_at

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_S = 5.0
"""How often the journal is asked for copies that came due, with nothing else happening."""
ATTEMPTS = 20
"""Failures of its own after which a copy waits for a human: some hours with back-off to 5 min."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How one backend is delivered to."""

    workers: int
    prefix: str  # of object keys
    mode: str  # for the metric
    window: TimeWindow | None
    newest_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryContext:
    """What every delivery of a daemon shares."""

    journal: Journal
    clock: Clock
    metrics: Metrics
    hub: EventHub
    budget: ByteBudget
    look_again: Callable[[Segment], Awaitable[None]]  # the recorder side's look at a source that changed
    delivered: Callable[[Segment], None]  # a copy was verified


class Delivery:
    """Delivers this host's segments to one backend until cancelled."""

    def __init__(self, backend: Backend, settings: DeliverySettings, context: DeliveryContext) -> None:
        self._backend = backend
        self._settings = settings
        self._context = context
        self._breaker = Breaker()
        self._pace = Pace(settings.workers)
        self._lanes = Lanes(backend.name, context.journal.copies, context.clock, settings.newest_share)
        self._payloads = Payloads(settings.workers)
        self._wake = asyncio.Event()
        self._taking = asyncio.Lock()
        self._draining = False
        context.metrics.backend_up.labels(backend.name).set(1)

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def trouble(self) -> str | None:
        """Why the backend is left alone right now; None while it works."""
        return self._breaker.reason

    def change(self, *, window: TimeWindow | None, newest_share: float) -> None:
        """Other limits from now on (SIGHUP)."""
        self._settings = DeliverySettings(
            workers=self._settings.workers,
            prefix=self._settings.prefix,
            mode=self._settings.mode,
            window=window,
            newest_share=newest_share,
        )
        self._lanes.newest_share = newest_share
        self._wake.set()

    def offer(self, segment: Segment) -> None:
        """A segment that was registered this moment and has a copy here."""
        if segment.copy_at(self.name) is not None:
            self._lanes.offer(segment)
            self._wake.set()

    def reopen(self) -> None:
        """Copies in the journal may have come due."""
        self._lanes.reopen()
        self._wake.set()

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, and waits for what is in hand at most so long."""
        self._draining = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lanes.idle.wait(), deadline_s)

    async def run(self) -> None:
        """Works until cancelled; what is in hand then is simply pending again."""
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._settings.workers):
                    tasks.create_task(self._work(), name=f"{self.name} worker {number}")
                tasks.create_task(self._reopen_now_and_then())
        finally:
            self._payloads.close()

    async def _prepare(self) -> None:
        """Finds out what the backend can do, as soon as it can be asked."""
        while True:
            await self._until_allowed()
            try:
                found = await self._probe()
            except BackendError as exc:
                reason = exc.reason if isinstance(exc, BackendUnavailable) else "server"
                self._breaker.admit(self._context.clock.monotonic())
                self._backend_failed(BackendUnavailable(str(exc), reason=reason))
                await asyncio.sleep(min(1.0, self._breaker.wait_s(self._context.clock.monotonic())))
            else:
                self._backend_works()
                log.info("backend %s at %s: %s", self.name, self._backend.location, found)
                return

    async def _probe(self) -> Capabilities:
        try:
            return await self._backend.probe()
        except BackendUnavailable as exc:
            if exc.reason != "bucket" or not isinstance(self._backend, Preparing):
                raise
            if await self._has_delivered():
                raise  # a bucket that held footage and is gone must not be hidden by a new one
            log.warning("%s: making it, as nothing was ever delivered there", exc)
            await self._backend.ensure_bucket()
            return await self._backend.probe()

    async def _has_delivered(self) -> bool:
        tallies = await self._context.journal.copies.tallies()
        return any(
            tally.backend == self.name
            and tally.state in (CopyState.STORED, CopyState.VERIFIED)
            and tally.segments
            for tally in tallies
        )

    # Taking

    async def _work(self) -> None:
        while True:
            segment = await self._next()
            try:
                await self._deliver(segment)
            finally:
                self._lanes.release(segment)
                self._breaker.untried()

    async def _next(self) -> Segment:
        """Waits for the window, the breaker, the pace and a segment, in this order."""
        while True:
            await self._until_allowed()
            async with self._taking:
                now = self._context.clock.monotonic()
                if (
                    self._draining
                    or self._lanes.in_hand >= self._pace.limit(now)
                    or not self._breaker.admit(now)
                ):
                    segment = None
                else:
                    segment = await self._lanes.take()
                    if segment is not None:
                        return segment
                    self._breaker.untried()
                self._wake.clear()
            await self._wait_for_wake(IDLE_S if self._lanes.exhausted else 0.2)

    async def _until_allowed(self) -> None:
        while (wait_s := self._wait_s()) > 0:
            await self._wait_for_wake(wait_s)
            if self._wait_s() > 0:
                await asyncio.sleep(min(1.0, self._wait_s()))  # woken early: not yet

    def _wait_s(self) -> float:
        now = self._context.clock.monotonic()
        closed_s = 0.0
        if (window := self._settings.window) is not None:
            today = self._context.clock.now()
            if not window.contains(today):
                closed_s = (window.next_opening(today) - today).total_seconds()
        return max(closed_s, self._breaker.wait_s(now), self._pace.wait_s(now))

    async def _wait_for_wake(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), min(timeout_s, 60.0))
        except TimeoutError:
            return

    async def _reopen_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S)
            backlog = await self._context.journal.copies.backlog(self.name)
            if backlog.segments > self._lanes.in_hand:
                self.reopen()

    # Delivering

    async def _deliver(self, segment: Segment) -> None:
        """One segment; every way it can end is named here."""
        copy = segment.copy_at(self.name)
        if copy is None:
            return
        try:
            await self._bring(segment, copy)
        except BackendThrottled as exc:
            self._pace.throttled(self._context.clock.monotonic(), exc.retry_after_s)
            self._backend_failed(exc)
        except BackendUnavailable as exc:
            self._backend_failed(exc)
        except (ObjectRejected, ObjectMissing) as exc:
            self._backend_works()  # it answered
            await self._segment_failed(segment, copy, str(exc))
        except ObjectMismatch as exc:
            self._backend_works()
            await self._mismatch(segment, copy, str(exc))
        except (SourceChanged, NotASegment) as exc:
            await self._source_changed(segment, str(exc))
        except JournalFull:
            await asyncio.sleep(1)  # nothing is marked, so nothing is lost; the journal has said it already
        except OSError as exc:  # the recorder's disk, not the backend
            await self._segment_failed(segment, copy, f"source cannot be read: {exc}")
        except Exception as exc:  # the item boundary: one odd segment must not end delivery
            log.exception("delivery of %s to %s", segment.id, self.name, extra=self._fields(segment))
            await self._segment_failed(segment, copy, f"{type(exc).__name__}: {exc}")

    async def _bring(self, segment: Segment, copy: Copy) -> None:
        if copy.state is CopyState.STORED and copy.path is not None and segment.sha256 is not None:
            stored = StoredObject(
                path=copy.path, size_bytes=segment.size_bytes, sha256=segment.sha256, etag=copy.etag
            )
        else:
            stored = await self._put(segment)
        proof = Proof(path=stored.path, sha256=stored.sha256, etag=stored.etag)
        try:
            await self._backend.verify(stored)
        except BackendUnavailable:
            await self._context.journal.copies.stored(segment.id, self.name, proof, self._context.clock.now())
            raise
        self._backend_works()
        await self._context.journal.copies.verified(segment.id, self.name, proof, self._context.clock.now())
        self._tell_verified(segment)

    async def _put(self, segment: Segment) -> StoredObject:
        async with self._payloads.of(segment) as (payload, hashed):
            path = object_key(self._settings.prefix, hashed)
            stored = await self._backend.put(path, payload, self._context.budget)
            self._payloads.check_unchanged(segment, payload)
            return stored

    # What comes of it

    def _backend_works(self) -> None:
        if self._breaker.succeeded():
            self._alert(f"backend {self.name} works again")
            self._context.metrics.backend_up.labels(self.name).set(1)
            self._wake.set()

    def _backend_failed(self, error: BackendUnavailable) -> None:
        self._context.metrics.errors.labels("put", self.name).inc()
        if self._breaker.failed(error.reason, self._context.clock.monotonic()):
            self._context.metrics.backend_up.labels(self.name).set(0)
            self._alert(f"backend {self.name} is away ({error.reason}): {error}")
        self._lanes.reopen()

    async def _segment_failed(self, segment: Segment, copy: Copy, error: str) -> None:
        self._context.metrics.errors.labels("put", self.name).inc()
        attempts = copy.attempts + 1
        if attempts >= ATTEMPTS:
            await self._give_up(segment, error)
            return
        due = self._context.clock.now() + retry_delay(attempts)
        log.warning("%s not delivered to %s: %s", segment.id, self.name, error, extra=self._fields(segment))
        await self._marked(self._context.journal.copies.postpone(segment.id, self.name, error, due))

    async def _mismatch(self, segment: Segment, copy: Copy, error: str) -> None:
        """The backend holds other bytes under the name that says these: put them anew, while we have them."""
        log.error("%s at %s: %s", segment.id, self.name, error, extra=self._fields(segment))
        self._context.metrics.errors.labels("verify", self.name).inc()
        if segment.source_state is not SourceState.PRESENT or copy.attempts + 1 >= ATTEMPTS:
            await self._give_up(segment, error)
            return
        due = self._context.clock.now() + retry_delay(copy.attempts + 1)
        await self._marked(self._context.journal.copies.put_again(segment.id, self.name, error, due))

    async def _give_up(self, segment: Segment, error: str) -> None:
        await self._marked(self._context.journal.copies.failed(segment.id, self.name, error))
        self._alert(f"segment {segment.id} cannot be delivered to {self.name}: {error}")

    async def _source_changed(self, segment: Segment, error: str) -> None:
        """Gone or rewritten: first the recorder side registers what is there now."""
        log.warning("%s: %s", segment.id, error, extra=self._fields(segment))
        await self._context.look_again(segment)
        if not source_is_gone(segment):
            due = self._context.clock.now() + timedelta(seconds=5)
            await self._marked(
                self._context.journal.copies.postpone(segment.id, self.name, error, due, counts=False)
            )
            return
        now = self._context.clock.now()
        cause = "source_vanished"
        lost = await self._marked(
            self._context.journal.copies.source_gone(segment.id, SourceState.MISSING, cause, now)
        )
        if lost is not None:
            tell_loss(self._context.metrics, self._context.hub, lost, lost.span, cause, now)

    async def _marked(self, write: Awaitable[T]) -> T | None:
        try:
            return await write
        except JournalFull:
            return None  # the copy is as it was; the next try meets the same

    def _tell_verified(self, segment: Segment) -> None:
        metrics, now = self._context.metrics, self._context.clock.now()
        metrics.segments_stored.labels(self.name, self._settings.mode).inc()
        waited_s = (now - closed_at(segment.source.identity)).total_seconds()
        metrics.delivery_seconds.labels(self.name).observe(max(0.0, waited_s))
        log.info("segment verified at %s", self.name, extra=self._fields(segment))
        self._context.hub.publish(
            Event(
                kind=EventKind.COPY,
                at=now,
                camera_id=segment.camera_id,
                segment_id=segment.id,
                backend=self.name,
                state=CopyState.VERIFIED,
            )
        )
        self._context.delivered(segment)

    def _fields(self, segment: Segment) -> dict[str, str]:
        return {
            "camera_id": str(segment.camera_id),
            "segment_id": str(segment.id),
            "backend": self.name,
        }

    def _alert(self, text: str) -> None:
        log.warning("%s", text, extra={"backend": self.name})
        now = self._context.clock.now()
        self._context.hub.publish(Event(kind=EventKind.ALERT, at=now, backend=self.name, detail=text))


def source_is_gone(segment: Segment) -> bool:
    """Whether the file is truly not there: its root is, on the disk it was on, and the name is free.

    An unmounted root makes every file vanish; that is no loss, and nothing is to be marked for it.
    """
    source = segment.source
    try:
        if os.stat(source.root).st_dev != source.identity.device:
            return False
        os.lstat(os.path.join(source.root, source.path))
    except FileNotFoundError:
        return os.path.isdir(source.root)
    except OSError:
        return False
    return False
