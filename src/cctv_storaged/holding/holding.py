"""Holds as a service: made, changed, released, marked, reviewed, expired."""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.errors import Fault, JournalFull, Unprocessable
from cctv_storaged.holding.mirror import Mirror
from cctv_storaged.holding.wish import HoldWish, hold_of, require_ahead
from cctv_storaged.journal.holdmarks import Walk
from cctv_storaged.journal.holds import Hold
from cctv_storaged.journal.idempotency import RepeatKey
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.vmsmarks import MarkCounts
from cctv_storaged.metrics import Metrics
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.vms.holdmarks import ROUND_S, HoldMarking

log = logging.getLogger(__name__)

IDLE_S = 30.0
FULL_S = 5.0
EXPIRED_AT_ONCE = 1
"""Holds in one commit: a hold of 256 cameras writes as many lines, and others wait for the journal."""
MOST_REVIEWS = 100
MOST_COUNTED = 500
"""Readings for one answer: a quarter of a million segments."""


class MirrorState(StrEnum):
    """Whether the bucket knows of a hold."""

    MIRRORED = "mirrored"
    IN_PROGRESS = "in_progress"
    LOCAL_ONLY = "local_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsView:
    """What XProtect has of a hold."""

    marks: MarkCounts
    reason: str | None  # why there are not as many as there should be


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldView:
    """A hold with what it holds now."""

    hold: Hold
    segments: int
    bytes: int
    complete: bool  # False: there is more than was counted
    locked: int  # copies with a legal hold
    state: MirrorState | None  # None: nothing is held by it any more
    reason: str | None  # why it is not mirrored
    vms: VmsView | None = None  # None: no XProtect has anything to do with it


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingParts:
    """What holding needs."""

    journal: Journal
    cameras: CameraBook
    mirror: Mirror
    clock: Clock
    clock_guard: ClockGuard
    alarms: Alarms
    metrics: Metrics
    marking: HoldMarking | None = None  # None: no XProtect is configured


class Holding:
    """Everything about holds but their answers."""

    def __init__(self, parts: HoldingParts) -> None:
        self._parts = parts
        self._holds = parts.journal.holds
        self._marks = parts.journal.hold_marks
        self._wake = asyncio.Event()

    # Asking

    async def create(self, wish: HoldWish, repeat: RepeatKey | None = None) -> tuple[Hold, bool]:
        """The hold, which counts from now on, and whether it is new: it is not where its key was used before.

        Raises Unprocessable, and Conflict for a key used with another body.
        """
        if repeat is not None and (earlier := await self._holds.made_by(repeat)) is not None:
            return earlier, False
        now = self._parts.clock.now()
        new = hold_of(wish, now)
        await self._make_known(new.camera_ids)
        hold = await self._holds.add(new, repeat, now)
        if hold.id == new.id:
            log.info("hold %s is in force: %s", hold.id, hold.title)
        await self._changed()
        return hold, hold.id == new.id

    async def change(
        self, hold_id: UUID, *, review_at: datetime | None, expires_at: datetime | None, never: bool
    ) -> Hold:
        """Another day for its review, or a later one for its end (`never`: none any more).

        Raises NotFound, Unprocessable, and Conflict where it was released or would end earlier.
        """
        now = self._parts.clock.now()
        require_ahead("review_at", review_at, now)
        require_ahead("expires_at", expires_at, now)
        hold = await self._holds.change(hold_id, review_at, expires_at, never=never)
        if hold.review_at is None or hold.review_at > now:
            self._parts.alarms.end(AlarmName.HOLD_REVIEW, str(hold_id))
        return hold

    async def release(self, hold_id: UUID, reason: str, by: str | None) -> Hold:
        """Nothing is held by it from now on. Raises NotFound, Conflict where it was released already."""
        hold = await self._holds.release(hold_id, reason, by, self._parts.clock.now())
        for name in (AlarmName.HOLD_REVIEW, AlarmName.HELD_LOST):
            self._parts.alarms.end(name, str(hold_id))
        log.info("hold %s was released: %s", hold_id, reason)
        await self._changed()
        return hold

    async def view(self, hold: Hold) -> HoldView:
        """What it holds now, counted as far as one answer may take."""
        if not hold.in_force:
            return HoldView(
                hold=hold,
                segments=0,
                bytes=0,
                complete=hold.marked,
                locked=0,
                state=None,
                reason=None,
                vms=await self._vms_view(hold),
            )
        segments = size_bytes = 0
        locked: Counter[str] = Counter()
        unlocked: Counter[str] = Counter()
        walk: Walk | None = None
        for _ in range(MOST_COUNTED):
            part = await self._marks.contents(hold.no, walk)
            segments, size_bytes = segments + part.segments, size_bytes + part.bytes
            locked.update(part.locked)
            unlocked.update(part.unlocked)
            walk = part.next
            if walk is None:
                break
        copies = (locked, unlocked) if segments else None
        state, reason = await self._mirror_state(hold, copies, complete=walk is None)
        return HoldView(
            hold=hold,
            segments=segments,
            bytes=size_bytes,
            complete=walk is None,
            locked=locked.total(),
            state=state,
            reason=reason,
            vms=await self._vms_view(hold),
        )

    async def _vms_view(self, hold: Hold) -> VmsView | None:
        marks, marking = await self._parts.journal.vms_marks.counts(hold.id), self._parts.marking
        if marking is None and not marks.any:
            return None
        unconfigured = "no XProtect is configured (milestone) that they could be removed from"
        reason = unconfigured if marking is None else marking.reason(hold) or _why_waiting(marks)
        return VmsView(marks=marks, reason=reason if hold.in_force or marks.any else None)

    async def _mirror_state(
        self, hold: Hold, copies: tuple[Counter[str], Counter[str]] | None, *, complete: bool
    ) -> tuple[MirrorState, str | None]:
        """`copies`: by backend those with a legal hold, and those without; None: it holds no footage yet."""
        standing = self._parts.mirror.standing
        able = [name for name, each in standing.items() if each.local_only is None]
        if not able:
            return MirrorState.LOCAL_ONLY, "; ".join(str(each.local_only) for each in standing.values())
        away = [f"{name} is away: {standing[name].away}" for name in able if standing[name].away]
        if away:
            return MirrorState.IN_PROGRESS, "; ".join(away)
        if not hold.marked:
            return MirrorState.IN_PROGRESS, "its footage is still being marked"
        locked, unlocked = copies or (Counter(), Counter())
        left = sum(unlocked[name] for name in able)
        if copies is not None and complete and not left and not sum(locked[name] for name in able):
            return MirrorState.LOCAL_ONLY, f"none of its footage is at {', '.join(able)}"
        if left or (not complete and any([await self._parts.mirror.waiting(name) for name in able])):
            return MirrorState.IN_PROGRESS, f"{left} copies are still to be delivered or locked"
        return MirrorState.MIRRORED, None

    async def _make_known(self, camera_ids: tuple[UUID, ...]) -> None:
        """A camera that has recorded nothing yet can be held as well. Raises Unprocessable."""
        cameras, faults = self._parts.journal.cameras, []
        for number, camera_id in enumerate(camera_ids):
            if await cameras.camera(camera_id) is not None:
                continue
            configured = self._parts.cameras.configured.get(camera_id)
            if configured is None:
                faults.append(Fault(f"camera_ids.{number}", f"no camera {camera_id} on this host"))
            else:
                await cameras.ensure(configured)
        if faults:
            raise Unprocessable(faults)

    # Following up

    async def run(self) -> None:
        """Marks what is held and what is no longer, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.settle()
            except JournalFull:  # it has said so itself; where the walk stood is found again
                await asyncio.sleep(FULL_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()

    async def settle(self) -> None:
        """Slice by slice, until every mark says what the holds say."""
        walk = await self._marks.settle(None)
        worked = walk is not None
        while walk is not None:
            walk = await self._marks.settle(walk)
        if worked:
            self._parts.mirror.wake()

    async def run_once(self) -> None:
        """What the clock brings: holds past their day, and reviews that are due."""
        parts = self._parts
        now = parts.clock.now()
        if parts.clock_guard.distrust() is None:
            while past := await self._holds.expire(now, EXPIRED_AT_ONCE):
                for hold in past:
                    log.info("hold %s has expired: %s", hold.id, hold.title)
                self._wake_all()
        due = await self._holds.due_for_review(now, MOST_REVIEWS)
        for hold in due:
            since = "" if hold.review_at is None else f" since {rfc3339(hold.review_at)}"
            told = f"{hold.title!r} is to be reviewed{since}: set another day for it, or release it"
            parts.alarms.sound(AlarmName.HOLD_REVIEW, str(hold.id), told)
        parts.alarms.keep_only(AlarmName.HOLD_REVIEW, frozenset(str(hold.id) for hold in due))
        parts.metrics.holds.set(await self._holds.count())

    def _wake_all(self) -> None:
        self._wake.set()
        if self._parts.marking is not None:
            self._parts.marking.wake()

    async def _changed(self) -> None:
        self._wake_all()
        self._parts.metrics.holds.set(await self._holds.count())


def _why_waiting(marks: MarkCounts) -> str | None:
    """Of a hold that nothing general stands against."""
    if not marks.waiting:
        return None
    if marks.refusal is None:
        return f"XProtect is asked for it within {ROUND_S:.0f} s"
    return f"XProtect has refused, and is asked again: {marks.refusal}"
