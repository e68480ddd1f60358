"""The scrub: every verified copy is read back and hashed once per rotation, slowly, and mended if possible.

By segment number, from where the last process was. While delivery has much to do, or a store asks for a
slower pace, it rests. What is not as it should be is proven twice before anything is done about it. Nothing
is deleted: a damaged object stays beside the one that takes its place.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.base import Backend, StoredObject
from cctv_storaged.clock import Clock
from cctv_storaged.delivery import Delivery
from cctv_storaged.errors import BackendError, BackendThrottled, BackendUnavailable
from cctv_storaged.events import EventHub
from cctv_storaged.journal.copies import COPY_FAILED
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.scrubbed import MOST_DAMAGED
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Copy, CopyState, Segment
from cctv_storaged.scrubbing.pace import Credit, Rotation, bytes_per_s, read_before
from cctv_storaged.scrubbing.repair import Repairing, is_damage

log = logging.getLogger(__name__)

AT_ONCE = 50
"""Copies read in one go of the schedule, at most."""
BUSY_SEGMENTS = 500
"""With so much undelivered the store has other things to do."""
REST_S, THROTTLED_REST_S, BRAKED_REST_S = 60.0, 600.0, 3600.0
BRAKE = 20
"""So many damaged ones after another, and none good between them, are a store that is not itself."""


WORTH_TELLING = timedelta(hours=1)
"""A rotation over a few segments is over every few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubRules:
    """How fast; `rotation` None: not at all."""

    rotation: timedelta | None
    rate_limit: float | None  # bytes per second


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubContext:
    """What the scrub works with."""

    journal: Journal
    deliveries: Sequence[Delivery]
    repairing: Repairing
    alarms: Alarms
    clock: Clock
    metrics: Metrics
    hub: EventHub


class _End(Enum):
    """What came of one copy."""

    GOOD = "good"
    REPAIRED = "repaired"
    DAMAGED = "damaged"  # and nothing good is left
    CHANGED = "changed"  # the journal says something else of it by now


class Scrub:
    """Reads back what all backends hold."""

    def __init__(self, context: ScrubContext, rules: ScrubRules) -> None:
        self._context = context
        self._lanes = [_Lane(context, delivery) for delivery in context.deliveries]
        self.rules = rules

    async def run_once(self) -> None:
        """Reads what is due by now, and tells what is damaged, whoever found it. Raises JournalError."""
        for lane in self._lanes:
            await lane.tell_damaged()
        if self.rules.rotation is None:
            return
        for lane in self._lanes:
            await lane.run_once(self.rules.rotation, self.rules.rate_limit)

    def close(self) -> None:
        self._context.repairing.close()


class _Lane:
    """The scrub of one backend."""

    def __init__(self, context: ScrubContext, delivery: Delivery) -> None:
        self._context = context
        self._journal = context.journal
        self._delivery = delivery
        self._backend: Backend = delivery.backend
        self._credit = Credit()
        self._rests_until_s = 0.0
        self._damaged_running = 0  # since the last good one
        self._found_damaged = 0  # since the start
        metrics = context.metrics
        self._bytes = metrics.scrubbed_bytes.labels(delivery.name)
        self._mismatches = metrics.scrub_mismatches.labels(delivery.name)
        self._age = metrics.scrub_age.labels(delivery.name)

    @property
    def name(self) -> str:
        return self._delivery.name

    async def run_once(self, rotation: timedelta, limit: float | None) -> None:
        now_s = self._context.clock.monotonic()
        state = Rotation.parse(await self._journal.scrubbed.state(self.name))
        state = state.begun(self._context.clock.now())
        await self._tell_age(state)
        rate = bytes_per_s(await self._held_bytes(), rotation, limit)
        if not self._credit.earned(now_s, rate) or now_s < self._rests_until_s or await self._is_busy():
            return
        before, mismatches = state, self._found_damaged
        try:
            state = await self._read_some(state)
        except BackendUnavailable as exc:
            throttled = isinstance(exc, BackendThrottled)
            self._rest(THROTTLED_REST_S if throttled else REST_S, str(exc))
        if state != before:
            await self._tell_age(state)
        if self._found_damaged != mismatches:
            await self.tell_damaged()

    async def _read_some(self, state: Rotation) -> Rotation:
        page = await self._journal.scrubbed.page(self.name, state.cursor, AT_ONCE)
        for number, segment in page.segments:
            end = await self._read(segment)
            self._credit.spent(segment.size_bytes)
            self._found_damaged += end is _End.DAMAGED
            state = await self._noted(replace(state, cursor=number))
            if self._credit.bytes < 0 or self._brakes(end):
                return state
        state = replace(state, cursor=page.looked_to)
        if page.at_end:
            state = await self._rotated(state)
        return await self._noted(state)

    async def _rotated(self, state: Rotation) -> Rotation:
        """Not before there was anything: an empty store's rotation would end ten times a minute."""
        if state.cursor == 0:
            return state
        damaged = await self._journal.scrubbed.damaged(self.name)
        over = state.over(self._context.clock.now())
        level = logging.INFO if over.lasted >= WORTH_TELLING else logging.DEBUG
        log.log(level, "everything at %s was read back once; %d copies are damaged", self.name, damaged)
        return over

    async def _noted(self, state: Rotation) -> Rotation:
        await self._journal.scrubbed.note(self.name, state.text())
        return state

    # One copy

    async def _read(self, segment: Segment) -> _End:
        damage = await self._damage(segment)
        if damage is None:
            return _End.GOOD
        known = await self._journal.segments.by_id(segment.id)
        if known is None or _copy_of(known, self.name) != _copy_of(segment, self.name):
            return _End.CHANGED
        damage = await self._damage(known)  # once more: a bad cable or memory is not a bad object
        if damage is None:
            log.warning("%s at %s read wrong once, and right the next time", segment.id, self.name)
            return _End.GOOD
        self._mismatches.inc()
        fields = {"segment_id": str(segment.id), "camera_id": str(segment.camera_id), "backend": self.name}
        log.error("the copy at %s is damaged: %s", self.name, damage, extra=fields)
        return await self._mend(known, damage)

    async def _damage(self, segment: Segment) -> str | None:
        """What is wrong with the bytes; None where all is well. Raises BackendUnavailable."""
        copy = segment.copy_at(self.name)
        if copy is None or copy.path is None or segment.sha256 is None:
            return None
        held = StoredObject(
            path=copy.path,
            size_bytes=segment.size_bytes,
            sha256=segment.sha256,
            etag=copy.etag,
            doubted=True,
        )
        try:
            await self._backend.verify(held)
        except BackendError as exc:
            if not is_damage(exc):
                raise
            return str(exc)
        self._bytes.inc(segment.size_bytes)
        return None

    async def _mend(self, segment: Segment, damage: str) -> _End:
        try:
            origin = await self._context.repairing.repair(segment, self.name, damage)
        except BackendError as exc:
            if not is_damage(exc):
                raise
            log.error("%s at %s cannot be repaired: %s", segment.id, self.name, exc)
            origin = None
        if origin is not None:
            log.warning("segment %s at %s made anew from %s", segment.id, self.name, origin)
            return _End.REPAIRED
        now = await self._journal.segments.by_id(segment.id)
        if now is None or _copy_of(now, self.name) != _copy_of(segment, self.name):
            return _End.CHANGED
        return await self._give_up(segment, damage)

    async def _give_up(self, segment: Segment, damage: str) -> _End:
        """No good bytes: the copy is to be put again by delivery where there is a source, and fails else."""
        lost = await self._journal.copies.redeliver(segment.id, self.name, f"scrub: {damage}")
        self._delivery.reopen()
        if lost is not None:
            now = self._context.clock.now()
            tell_loss(self._context.metrics, self._context.hub, lost, lost.span, COPY_FAILED, now)
        return _End.DAMAGED

    # Resting, and telling

    async def _is_busy(self) -> bool:
        if self._delivery.trouble is not None or self._journal.full:
            return True
        return (await self._journal.copies.backlog(self.name)).segments > BUSY_SEGMENTS

    async def _held_bytes(self) -> int:
        tallies = await self._journal.copies.tallies()
        mine = (each for each in tallies if each.backend == self.name)
        return sum(each.bytes for each in mine if each.state is CopyState.VERIFIED)

    def _rest(self, seconds: float, why: str) -> None:
        log.info("reading back at %s rests for %g s: %s", self.name, seconds, why)
        self._rests_until_s = self._context.clock.monotonic() + seconds

    def _brakes(self, end: _End) -> bool:
        """A store that was emptied shows as damage everywhere: that is gone on with slowly."""
        self._damaged_running = self._damaged_running + 1 if end is _End.DAMAGED else 0
        if self._damaged_running < BRAKE:
            return False
        self._damaged_running = 0
        self._rest(BRAKED_REST_S, f"{BRAKE} copies after another are damaged")
        return True

    async def tell_damaged(self) -> None:
        """The alarm, as long as the journal has a damaged copy: reads and deliveries meet them too."""
        damaged = await self._journal.scrubbed.damaged(self.name)
        if damaged:
            many = f"{damaged} or more" if damaged == MOST_DAMAGED else str(damaged)
            text = (
                f"{many} copies at {self.name} are damaged or gone, and could not be made anew: GET /queue"
                " names them, each with its path; bring good bytes back there, then POST /queue/retry"
            )
            self._context.alarms.sound(AlarmName.DAMAGED_COPY, self.name, text)
        else:
            self._context.alarms.end(AlarmName.DAMAGED_COPY, self.name)

    async def _tell_age(self, state: Rotation) -> None:
        proven = await self._journal.scrubbed.verified_at(self.name, state.cursor)
        read = read_before(state, state.cursor)
        moments = [moment for moment in (proven, read) if moment is not None]
        age_s = (self._context.clock.now() - max(moments)).total_seconds() if proven is not None else 0.0
        self._age.set(max(0.0, age_s))


def _copy_of(segment: Segment, backend: str) -> tuple[CopyState, str | None] | None:
    copy: Copy | None = segment.copy_at(backend)
    return None if copy is None else (copy.state, copy.path)
