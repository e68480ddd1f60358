"""Bringing copies about, for one backend: claim, put, verify, mark. The only place that decides retry.

A segment's way: claimed in memory → its file opened and hashed → put under a name that says its content
→ verified → one commit to `verified`. A kill at any point leaves the journal at `pending` (or `stored`),
and doing it again is harmless. While the commit is on its way to the disk the next segment is put.

Whose fault a failure is decides what follows. The backend's (network, credentials, space): the breaker
opens, nothing counts against the segment. The segment's own: it alone waits, with back-off. The source's:
the recorder side looks again. No path here deletes bytes.
"""

import asyncio
import contextlib
import errno
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from cctv_storaged.backends.base import Backend, Payload, StoredObject
from cctv_storaged.breaker import Breaker, Pace, Suspects, retry_delay
from cctv_storaged.clock import Clock
from cctv_storaged.config import TimeWindow
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    JournalError,
    JournalFull,
    NotASegment,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SegmentError,
    SourceChanged,
)
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.journal.copies import Proof
from cctv_storaged.journal.journal import Journal
from cctv_storaged.lanes import Lanes
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.losses import tell_loss
from cctv_storaged.marking import FULL_PAUSE_S, Marking
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Copy, CopyState, Segment, SourceState, key_family, object_key, spare_key
from cctv_storaged.objectlocks import ObjectLocks
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.payloads import Payloads
from cctv_storaged.probing import probe
from cctv_storaged.recorder.admission import closed_at
from cctv_storaged.whereabouts import Whereabouts, whereabouts

log = logging.getLogger(__name__)

IDLE_S = 5.0
"""How often the journal is asked for what nobody announced: another part made it due, or urgent."""
LONGEST_WAIT_S = 60.0
"""No wait is longer without a look at what it waits for: the clock may have been set."""
ATTEMPTS = 20
"""Failures of its own after which a copy waits for a human: some hours with back-off to 5 min."""
MARKING = 64
"""Segments that may wait for their commit while others are put."""
SPARE_KEYS = 2
"""Names to try besides the first where spoiled objects stand that may not be overwritten."""
UNMARKED = 1000
"""Segments whose hash is remembered though the journal has nothing of their put."""
AWAY_PAUSE = timedelta(seconds=60)
"""When sources on a disk that is not there are tried again."""
NOT_FOUND = "the source is not there; it is looked for once more"
SECOND_LOOK = timedelta(seconds=30)
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
"""Errors of reading a source that say nothing about the file."""
STAR_SHAPES = Redactor()
"""Stars what looks like a secret; a daemon knows its own as well."""


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
    roots: Roots = UNGUARDED  # which of them are the disks that they were
    star: Callable[[str], str] = STAR_SHAPES  # what a store says goes to clients too: no secrets in it


@dataclass(slots=True)
class _Turn:
    """One segment's turn at the backend: a worker of the few there are, and whether it tries a backend that
    was away. Given back before the commit is waited for.
    """

    give_back: Callable[["_Turn"], None]
    trial: bool
    is_over: bool = False

    def over(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.give_back(self)


class Delivery:
    """Delivers this host's segments to one backend until cancelled."""

    def __init__(self, backend: Backend, settings: DeliverySettings, context: DeliveryContext) -> None:
        self._backend = backend
        self._settings = settings
        self._context = context
        self._journal = context.journal
        self._clock = context.clock
        self._breaker = Breaker()
        self._pace = Pace(settings.workers)
        self._suspects = Suspects()
        self._lanes = Lanes(backend.name, context.journal.copies, context.clock, settings.newest_share)
        self._marking = Marking(backend.name, context.journal.copies, context.clock)
        self._locks = ObjectLocks()
        self._payloads = Payloads(settings.workers, context.journal.host_id)
        self._unmarked: OrderedDict[UUID, bytes] = OrderedDict()  # hashes of what may be there unknown
        self._away_until: dict[tuple[str, int], float] = {}  # disks that are not there, by root and device
        self._wake = asyncio.Event()
        self._look_at = 0.0  # when the journal is to be asked again, monotonic
        self._putting = 0
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
        return self._breaker.trouble

    def change(self, *, window: TimeWindow | None, newest_share: float) -> None:
        """Other limits from now on (SIGHUP)."""
        self._settings = replace(self._settings, window=window, newest_share=newest_share)
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

    def withheld(self, segment_id: UUID) -> AbstractContextManager[bool]:
        """Keeps a segment from being put while the block lasts. False: that is happening right now."""
        return self._lanes.withheld(segment_id)

    def exclusive(self, *keys: str) -> AbstractAsyncContextManager[None]:
        """Keeps all objects of the keys' families from being put and marked while the block lasts."""
        return self._locks.hold(*(key_family(key)[0] for key in keys))

    def possible_keys(self, segment: Segment) -> tuple[str, ...]:
        """Where the segment's bytes may be at the backend, also after a kill before that was written down.

        Nowhere that anybody could tell, if neither a path nor the SHA-256 is known.
        """
        copy = segment.copy_at(self.name)
        known = None if copy is None else copy.path
        sha256 = segment.sha256 or self._unmarked.get(segment.id)
        if known is None and sha256 is None:
            return ()
        first = known or object_key(self._settings.prefix, replace(segment, sha256=sha256))
        return key_family(spare_key(key_family(first)[0], SPARE_KEYS))

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, and waits for what is in hand at most so long."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._lanes.idle.wait()

    async def run(self) -> None:
        """Works until cancelled; what is in hand then is simply pending again."""
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as tasks:
                await self._hand_out(tasks)
        finally:
            self._payloads.close()

    # Getting ready

    async def _prepare(self) -> None:
        """Finds out what the backend can do, as soon as it can be asked."""
        while True:
            while (wait_s := self._not_before_s()) > 0:
                self._wake.clear()
                await self._woken(wait_s)
            self._breaker.admit(self._clock.monotonic())
            try:
                found = await probe(self._backend, self._journal.copies)
            except JournalError:
                raise
            except BackendUnavailable as exc:
                self._backend_failed(exc, trial=True)
            except BackendError as exc:
                self._backend_failed(BackendUnavailable(str(exc), reason="server"), trial=True)
            except Exception as exc:  # an answer nobody thought of must not end the host's recording
                log.exception("probing %s", self.name)
                error = BackendUnavailable(f"{type(exc).__name__}: {exc}", reason="server")
                self._backend_failed(error, trial=True)
            else:
                self._backend_works()
                log.info(
                    "backend %s at %s answers; it can: %s", self.name, self._backend.location, found.told()
                )
                return

    # Handing out

    async def _hand_out(self, tasks: asyncio.TaskGroup) -> None:
        """Gives segment after segment its turn, as window, breaker, pace and workers allow."""
        while True:
            self._wake.clear()  # before looking: what happens from here on is not missed
            if (wait_s := max(self._not_before_s(), self._crowded_s(self._lanes.in_hand))) > 0:
                await self._woken(wait_s)
                continue
            self._look_again_in_time()
            segment = await self._lanes.take()
            if segment is None:
                await self._woken(self._look_at - self._clock.monotonic())
            elif max(self._not_before_s(), self._crowded_s(self._lanes.in_hand - 1)) > 0:  # meanwhile
                self._lanes.give_back(segment)
            else:
                tasks.create_task(self._one(segment, self._begun_turn()))

    def _not_before_s(self) -> float:
        """How long window, breaker and pace want nothing to be put; infinite: until something happens."""
        now = self._clock.monotonic()
        if self._draining or self._breaker.trying:
            return math.inf
        return max(self._window_opens_in_s(), self._breaker.wait_s(now), self._pace.wait_s(now))

    def _window_opens_in_s(self) -> float:
        window = self._settings.window
        if window is None:
            return 0.0
        today = self._clock.now()
        return 0.0 if window.contains(today) else (window.next_opening(today) - today).total_seconds()

    def _crowded_s(self, in_hand: int) -> float:
        """Infinite while no worker is free, or too much waits for the journal."""
        workers = self._pace.limit(self._clock.monotonic())
        if self._journal.full:
            return math.inf if in_hand else 0.0  # one goes on, and finds out when there is room
        crowded = self._putting >= workers or in_hand >= workers + MARKING
        return math.inf if crowded else 0.0

    def _look_again_in_time(self) -> None:
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + IDLE_S
            self._lanes.reopen()

    async def _woken(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(timeout_s, LONGEST_WAIT_S))):
                await self._wake.wait()

    def _begun_turn(self) -> _Turn:
        self._putting += 1
        self._breaker.admit(self._clock.monotonic())
        return _Turn(self._turn_over, trial=self._breaker.trying)

    def _turn_over(self, turn: _Turn) -> None:
        self._putting -= 1
        if turn.trial:
            self._breaker.untried()
        self._wake.set()

    # Delivering

    async def _one(self, segment: Segment, turn: _Turn) -> None:
        copy = segment.copy_at(self.name)
        try:
            if copy is not None:
                await self._without_surprises(segment, copy, turn)
        finally:
            turn.over()
            self._lanes.release(segment)
            self._wake.set()

    async def _without_surprises(self, segment: Segment, copy: Copy, turn: _Turn) -> None:
        try:
            await self._deliver(segment, copy, turn)
        except JournalError:
            raise  # the process must end; what the journal has no room for waits in `Marking`
        except Exception as exc:  # the item boundary: one odd segment must not end delivery
            log.exception("delivery of %s to %s", segment.id, self.name, extra=self._fields(segment))
            turn.over()
            await self._segment_failed(segment, copy, f"{type(exc).__name__}: {exc}")

    async def _deliver(self, segment: Segment, copy: Copy, turn: _Turn) -> None:
        """One segment; every way it can end is named here."""
        try:
            await self._bring(segment, copy, turn)
        except BackendThrottled as exc:
            self._pace.throttled(self._clock.monotonic(), exc.retry_after_s)
            self._tried_in_vain(segment, exc, turn)
        except BackendUnavailable as exc:
            await self._unavailable(segment, exc, turn)
        except ObjectRejected as exc:
            self._backend_works()  # it answered
            turn.over()
            await self._segment_failed(segment, copy, str(exc))
        except (ObjectMissing, ObjectMismatch) as exc:
            self._backend_works()
            turn.over()
            await self._not_held(segment, copy, str(exc))
        except (SourceChanged, NotASegment) as exc:
            turn.over()
            await self._source_changed(segment, copy, str(exc))
        except SegmentError as exc:
            turn.over()
            await self._segment_failed(segment, copy, str(exc))
        except OSError as exc:  # the recorder's disk, not the backend
            turn.over()
            await self._source_unreadable(segment, copy, exc)

    async def _bring(self, segment: Segment, copy: Copy, turn: _Turn) -> None:
        async with AsyncExitStack() as until_marked:
            held = await self._held(segment, copy, until_marked)
            proof = Proof(path=held.path, sha256=held.sha256, etag=held.etag)
            try:
                await self._backend.verify(held)
            except BackendUnavailable:
                await self._marking.stored(segment.id, proof)
                raise
            self._backend_works()
            self._suspects.succeeded(segment.id)
            turn.over()
            if await self._marking.verified(segment.id, proof):
                self._unmarked.pop(segment.id, None)
                self._tell_verified(segment)

    async def _held(self, segment: Segment, copy: Copy, until_marked: AsyncExitStack) -> StoredObject:
        """What the backend holds by now: stored earlier and not proven yet, or put here."""
        if copy.state is CopyState.STORED and copy.path is not None and segment.sha256 is not None:
            await until_marked.enter_async_context(self.exclusive(copy.path))
            return StoredObject(
                path=copy.path,
                size_bytes=segment.size_bytes,
                sha256=segment.sha256,
                etag=copy.etag,
                doubted=True,  # by a reader perhaps, who got other bytes than the head tells of
            )
        async with self._payloads.of(segment) as (payload, hashed):
            key = object_key(self._settings.prefix, hashed)
            self._remember(hashed)
            await until_marked.enter_async_context(self.exclusive(key))
            return await self._put(key, payload)

    def _remember(self, hashed: Segment) -> None:
        """Should its source go before anybody writes down what was put, a deletion must find it still."""
        if hashed.sha256 is not None:
            self._unmarked[hashed.id] = hashed.sha256
            if len(self._unmarked) > UNMARKED:
                self._unmarked.popitem(last=False)

    async def _put(self, key: str, payload: Payload) -> StoredObject:
        """Under the first of its names that is free or has these very bytes. Nothing is overwritten."""
        for spare in range(SPARE_KEYS):
            try:
                return await self._backend.put(spare_key(key, spare), payload, self._context.budget)
            except ObjectMismatch as exc:
                self._context.metrics.errors.labels("put", self.name).inc()
                log.error("%s stays and is not used: %s", self.name, exc)
        return await self._backend.put(spare_key(key, SPARE_KEYS), payload, self._context.budget)

    # What comes of it

    def _backend_works(self) -> None:
        if self._breaker.succeeded():
            self._context.metrics.backend_up.labels(self.name).set(1)
            self._alert(f"backend {self.name} works again")
            self._lanes.start_over()  # those that were tried in vain have lost their places
            self._wake.set()

    def _backend_failed(self, error: BackendUnavailable, *, trial: bool) -> None:
        self._context.metrics.errors.labels("put", self.name).inc()
        if self._breaker.trying and not trial:
            return  # a put from before the trial: the trial's outcome is newer
        detail = self._context.star(str(error))
        if self._breaker.failed(error.reason, self._clock.monotonic(), detail):
            self._context.metrics.backend_up.labels(self.name).set(0)
            self._alert(f"backend {self.name} is away ({error.reason}): {detail}")

    async def _unavailable(self, segment: Segment, error: BackendUnavailable, turn: _Turn) -> None:
        """Where others are taken meanwhile the fault is this segment's: it waits, but is never given up.

        A right can be missing for one camera's folder, and room for a large object only.
        """
        own = self._suspects.failed(segment.id)
        if not own:
            self._tried_in_vain(segment, error, turn)
            return
        if self._breaker.reason is not None:
            self._backend_failed(error, trial=turn.trial)
        log.warning("%s alone fails: %s", segment.id, error, extra=self._fields(segment))
        turn.over()
        await self._postpone(segment, str(error), retry_delay(own), counts=False)

    def _tried_in_vain(self, segment: Segment, error: BackendUnavailable, turn: _Turn) -> None:
        """It is due as before; but the next to find out whether the backend is back shall be another."""
        self._backend_failed(error, trial=turn.trial)
        if turn.trial:
            self._lanes.others_first(segment)
        self._lanes.reopen()

    async def _segment_failed(self, segment: Segment, copy: Copy, error: str) -> None:
        self._context.metrics.errors.labels("put", self.name).inc()
        if copy.attempts + 1 >= ATTEMPTS:
            await self._give_up(segment, error)
            return
        log.warning("%s not delivered to %s: %s", segment.id, self.name, error, extra=self._fields(segment))
        await self._postpone(segment, error, retry_delay(copy.attempts + 1))

    async def _not_held(self, segment: Segment, copy: Copy, error: str) -> None:
        """The backend lost the bytes or holds others: they are put anew, while there is a source."""
        self._context.metrics.errors.labels("verify", self.name).inc()
        if copy.attempts + 1 >= ATTEMPTS:
            await self._give_up(segment, error)
            return
        log.error("%s at %s: %s", segment.id, self.name, error, extra=self._fields(segment))
        delay = self._looking_again_in(retry_delay(copy.attempts + 1))
        self._tell_if_lost(await self._marking.put_again(segment.id, error, delay))

    async def _give_up(self, segment: Segment, error: str) -> None:
        lost = await self._marking.failed(segment.id, error)
        self._alert(f"segment {segment.id} cannot be delivered to {self.name}: {error}")
        self._tell_if_lost(lost)

    async def _source_unreadable(self, segment: Segment, copy: Copy, error: OSError) -> None:
        if error.errno in PASSING:
            await self._postpone(segment, str(error), retry_delay(5), counts=False)
        else:
            await self._segment_failed(segment, copy, f"source cannot be read: {error}")

    async def _source_changed(self, segment: Segment, copy: Copy, error: str) -> None:
        """Gone, rewritten, or on a disk that is not there. What is there now is registered first."""
        where = await self._payloads.run(lambda: whereabouts(segment, self._context.roots))
        if where is Whereabouts.AWAY:
            await self._disk_away(segment)
            return
        log.warning("%s: %s", segment.id, error, extra=self._fields(segment))
        if where is Whereabouts.GONE:
            await self._not_found(segment, copy)
            return
        if not await self._looked_again(segment):
            return
        if where is Whereabouts.ANOTHER and copy.attempts + 1 >= ATTEMPTS:
            # Nobody registers what stands there: it lies outside all roots, or is never closed.
            await self._source_gone(segment, SourceState.REPLACED, "overwritten_by_recorder")
        else:
            await self._postpone(segment, error, retry_delay(copy.attempts + 1))

    async def _looked_again(self, segment: Segment) -> bool:
        """Whether what stands there was looked at. While the journal has no room it waits as it is."""
        try:
            await self._context.look_again(segment)
        except JournalFull:  # it has said so itself
            await asyncio.sleep(FULL_PAUSE_S)
            return False
        return True

    async def _not_found(self, segment: Segment, copy: Copy) -> None:
        """Not there twice is gone: once may be the moment in which somebody moves a folder back."""
        if copy.error == NOT_FOUND:
            await self._source_gone(segment, SourceState.MISSING, "source_vanished")
        else:
            await self._postpone(segment, NOT_FOUND, SECOND_LOOK, counts=False)

    async def _source_gone(self, segment: Segment, state: SourceState, cause: str) -> None:
        self._tell_if_lost(await self._marking.source_gone(segment.id, state, cause), cause)

    async def _disk_away(self, segment: Segment) -> None:
        """All that wait for this disk wait a while: asked once, not by each of a hundred thousand."""
        root, device = segment.source.root, segment.source.identity.device
        now = self._clock.monotonic()
        if self._away_until.get((root, device), 0.0) > now:
            return
        self._away_until = {disk: until for disk, until in self._away_until.items() if until > now}
        self._away_until[root, device] = now + AWAY_PAUSE.total_seconds() / 2
        error = f"{root} or its disk is not there; its segments wait for it"
        log.warning("%s", error)
        await self._marking.postpone_disk(root, device, error, AWAY_PAUSE)

    async def _postpone(self, segment: Segment, error: str, delay: timedelta, *, counts: bool = True) -> None:
        await self._marking.postpone(segment.id, error, self._looking_again_in(delay), counts=counts)

    def _looking_again_in(self, delay: timedelta) -> timedelta:
        self._look_at = min(self._look_at, self._clock.monotonic() + delay.total_seconds())
        return delay

    # Telling

    def _tell_verified(self, segment: Segment) -> None:
        metrics, now = self._context.metrics, self._clock.now()
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

    def _tell_if_lost(self, lost: Segment | None, cause: str = "copy_failed_without_source") -> None:
        if lost is not None:
            now = self._clock.now()
            tell_loss(self._context.metrics, self._context.hub, lost, lost.span, cause, now)

    def _fields(self, segment: Segment) -> dict[str, str]:
        return {
            "camera_id": str(segment.camera_id),
            "segment_id": str(segment.id),
            "backend": self.name,
        }

    def _alert(self, text: str) -> None:
        log.warning("%s", text, extra={"backend": self.name})
        now = self._clock.now()
        self._context.hub.publish(Event(kind=EventKind.ALERT, at=now, backend=self.name, detail=text))
