"""Passes over all cameras: what is past `at_most` goes, oldest first, in small pieces.

Every few minutes a pass takes what expired since the one before. Every hour, after a start, and after rules
were changed a whole pass looks at everything old: what was adopted, released or let go of meanwhile. Only
a whole pass can take much at once, so it is weighed first, and stopped where nobody has said yes (brake.py).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock, from_us, to_us
from cctv_storaged.config.units import format_duration
from cctv_storaged.errors import BackendError, JournalFull, NotFound
from cctv_storaged.journal.deletions import Cause, Deletions
from cctv_storaged.journal.finding import LAST_NO
from cctv_storaged.journal.retention import (
    FIRST,
    OldSegment,
    Position,
    RetainedCamera,
    Retentions,
    Swept,
)
from cctv_storaged.model import Camera
from cctv_storaged.pins import Pins
from cctv_storaged.removal import Remover
from cctv_storaged.retention.amounts import Amount
from cctv_storaged.retention.brake import CONFIRMED_FOR, Pass, confirmed, explained, stops, was_weighed
from cctv_storaged.retention.preview import CameraPreview, preview
from cctv_storaged.retention.rules import Policy, Rule
from cctv_storaged.retention.weighing import limits_of, only_at_most, weigh

log = logging.getLogger(__name__)

EVERY_S = 300.0
WHOLE_S = 3600.0
SLACK = timedelta(minutes=1)
"""What the wall clock may gain between two passes, by small steps, and still be explained by time."""
AT_ONCE = 2
"""Batches under way: while the bytes of one are deleted the other has the journal."""
MOST_COUNTED = 100_000
KEPT, PUT_OFF, WAITING = "kept", "put off", "waiting"
"""Subjects of the alarms of what backends keep, and of what could not be deleted, or begun, for so long:"""
PUT_OFF_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionParts:
    """What passes work with."""

    rows: Retentions
    deletions: Deletions
    remover: Remover
    pins: Pins
    clock: Clock
    alarms: Alarms
    distrust: Callable[[], str | None]  # why ages mean nothing now
    trouble: Callable[[], str | None]  # what is wrong with the disks
    spares: Callable[[datetime, timedelta], bool] = lambda end, limit: False
    """Whether what ends then, by its name, may be younger than the limit: a wrong clock named it."""
    trusted_from: Callable[[], datetime | None] = lambda: None
    """Since when the clock is trusted without a break; None: always."""
    holds_unknown: Callable[[], str | None] = lambda: None
    """The part of `distrust` that no other alarm tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The last pass over a camera that this process has finished."""

    at_most: timedelta
    ended_by: datetime
    at_s: float  # monotonic
    whole_s: float  # monotonic, of the last whole one


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A camera over which no pass goes until somebody says yes."""

    camera_id: UUID
    at_most: timedelta
    unexplained: Amount


class _Interrupted(Exception):
    """Ages mean nothing any more, or a disk is wrong: nothing goes on."""


class Retention:
    """Runs passes; one at a time."""

    def __init__(self, parts: RetentionParts, policy: Policy) -> None:
        self._parts = parts
        self._policy = policy
        self._whole_at_s: float | None = None
        self._passed: dict[UUID, Passed] = {}
        self._stopped: dict[UUID, Stopped] = {}
        self._told: str | None = None  # why nothing was deleted by age when that was due last
        self._last_pass: datetime | None = None
        self._due_s: float | None = None  # monotonic, of the next pass by the schedule
        self._at_work = asyncio.Lock()
        self._wake = asyncio.Event()
        self._put_off_since_s: float | None = None
        self._waiting_since_s: float | None = None  # for the store to say which holds are in force
        self._strangers: list[str] = []  # rules that are no camera's, told already

    @property
    def policy(self) -> Policy:
        """The rules in force."""
        return self._policy

    @property
    def waiting(self) -> str | None:
        """Why nothing is deleted by age at this moment."""
        return self._parts.distrust() or self._parts.trouble()

    @property
    def last_pass(self) -> datetime | None:
        """When the last one under the rules in force ended, by this process; None: none did."""
        return self._last_pass

    def next_pass(self) -> datetime | None:
        """About when the next begins; None: the first, soon after the start."""
        if self._wake.is_set():
            return self._parts.clock.now()
        if self._due_s is None:
            return None
        left_s = max(0.0, self._due_s - self._parts.clock.monotonic())
        return self._parts.clock.now() + timedelta(seconds=left_s)

    @property
    def stopped(self) -> Mapping[UUID, Stopped]:
        """Cameras that wait for a yes."""
        return self._stopped

    async def unweighed(self, policy: Policy, cameras: Iterable[Camera]) -> frozenset[UUID]:
        """Those of which nothing may go by age, not for room either: they wait for a yes, or for the whole
        pass that shows whether their rule needs one.
        """
        swept = await self._parts.rows.swept()
        limits = {each.id: _limit(policy.rule_for(each)) for each in cameras}
        return frozenset(
            camera_id
            for camera_id, limit in limits.items()
            if limit is not None
            and (camera_id in self._stopped or not was_weighed(swept.get(camera_id, Swept()), limit))
        )

    def change(self, policy: Policy) -> None:
        """Other rules from now on; the next pass is a whole one."""
        if policy != self._policy:
            self._policy = policy
            self._whole_at_s = self._last_pass = None

    async def confirm(self, camera_id: UUID | None, until: datetime | None, by: str) -> list[UUID]:
        """Lets passes delete what the brake stopped, of one camera or of all that are; the cameras meant.

        Raises NotFound where the camera is not stopped.
        """
        now = self._parts.clock.now()
        meant = [each for each in self._stopped.values() if camera_id in (None, each.camera_id)]
        if camera_id is not None and not meant:
            raise NotFound(f"nothing of camera {camera_id} waits for a confirmation")
        if not meant:
            log.info("retention: nothing waits for a confirmation")
            return []
        swept = await self._parts.rows.swept()
        said = {
            each.camera_id: replace(
                swept.get(each.camera_id, Swept()),
                confirmed=each.at_most,
                until=until or now + CONFIRMED_FOR,
            )
            for each in meant
        }
        await self._parts.rows.confirm(said, by, now)
        for each in meant:
            self._passed.pop(each.camera_id, None)  # the next pass over it is a whole one
            self._go_on(each.camera_id)
        self._wake.set()
        log.warning("retention: %d cameras confirmed by %s", len(said), by)
        return list(said)

    async def preview(self, policy: Policy | None = None) -> list[CameraPreview]:
        """What passes under the policy (None: the one in force) would delete now; deletes nothing."""
        pinned = self._parts.pins.all()
        return await preview(self._parts.rows, policy or self._policy, pinned, self._parts.clock.now())

    # Passes

    async def run(self) -> None:
        """A pass whenever somebody has said yes: what the schedule does in minutes."""
        while True:
            await self._wake.wait()
            try:
                async with self._at_work:
                    self._wake.clear()
                    await self._go_over_all()
            except (BackendError, JournalFull, OSError) as exc:
                log.info("retention put off: %s", exc)

    async def run_once(self) -> None:
        """One pass over every camera, by the schedule."""
        self._due_s = self._parts.clock.monotonic() + EVERY_S
        async with self._at_work:
            await self._go_over_all()

    async def _go_over_all(self) -> None:
        self._tell_what_waits()
        if self._why_not() is not None:
            return
        policy = self._policy
        whole = self._is_time_for_all()
        cameras = await self._parts.rows.cameras()
        self._tell_of_strangers(cameras)
        swept = await self._parts.rows.swept()
        noted: dict[UUID, Swept] = {}
        try:
            for camera in cameras:
                done = await self._pass(camera, swept.get(camera.camera.id, Swept()), whole=whole)
                if done is not None:
                    noted[camera.camera.id] = done
            await self._end_exports(cameras)
        except _Interrupted:
            return
        finally:
            if noted:
                await self._parts.rows.note(noted)
        if self._policy == policy:
            self._last_pass = self._parts.clock.now()
        await self._tell_what_is_kept()
        await self._tell_what_is_put_off()

    def _tell_of_strangers(self, cameras: list[RetainedCamera]) -> None:
        strangers = self._policy.without_camera(each.camera for each in cameras)
        if strangers and strangers != self._strangers:
            text = "retention.per_camera names %s: no camera has that id or folder, and nothing is kept by it"
            log.warning(text, ", ".join(map(repr, strangers)))
        self._strangers = strangers

    def _why_not(self) -> str | None:
        why = self.waiting
        if why is not None and why != self._told:
            log.warning("nothing is deleted by its age: %s", why)
        self._told = why
        return why

    def _is_time_for_all(self) -> bool:
        now_s = self._parts.clock.monotonic()
        if self._whole_at_s is not None and now_s - self._whole_at_s < WHOLE_S:
            return False
        self._whole_at_s = now_s
        return True

    async def _pass(self, camera: RetainedCamera, swept: Swept, *, whole: bool) -> Swept | None:
        """What to remember of it, after a whole pass that came to its end."""
        rule, camera_id, now = self._policy.rule_for(camera.camera), camera.camera.id, self._parts.clock.now()
        if rule.at_most is None:
            self._passed.pop(camera_id, None)
            self._go_on(camera_id)
            return None
        if not whole and self._waits(camera_id, rule.at_most, swept, now):
            return None
        before, now_s = self._passed.get(camera_id), self._parts.clock.monotonic()
        cutoff = now - max(rule.at_most, rule.at_least or rule.at_most)
        whole = whole or before is None or before.at_most != rule.at_most
        whole = whole or (before is not None and _takes_more_than_time(before, cutoff, now_s))
        if whole and await self._stops(camera, rule, swept, now):
            return None
        await self._sweep(camera, rule, cutoff, None if whole or before is None else before.ended_by)
        whole_s = self._parts.clock.monotonic() if whole or before is None else before.whole_s
        self._passed[camera_id] = Passed(at_most=rule.at_most, ended_by=cutoff, at_s=now_s, whole_s=whole_s)
        return Swept(ended_by=cutoff, at=now) if whole else None

    def _waits(self, camera_id: UUID, at_most: timedelta, swept: Swept, now: datetime) -> bool:
        """Whether a yes to this very rule is waited for: weighing a camera again can take a second."""
        stopped = self._stopped.get(camera_id)
        return stopped is not None and stopped.at_most == at_most and not confirmed(swept, at_most, now)

    async def _stops(self, camera: RetainedCamera, rule: Rule, swept: Swept, now: datetime) -> bool:
        """Weighs a whole pass; whether it has to wait for a yes."""
        assert rule.at_most is not None
        expected = explained(swept, self._elapsed(camera.camera.id, swept, now), now)
        weights = await weigh(self._parts.rows, camera, only_at_most(limits_of(rule, expected, now)))
        what = Pass(unexplained=weights.unexplained, of_segments=camera.segments)
        if not stops(what, rule.at_most, swept, now):
            self._go_on(camera.camera.id)
            return False
        self._passed.pop(camera.camera.id, None)
        self._stop(camera, rule.at_most, what)
        return True

    def _elapsed(self, camera_id: UUID, swept: Swept, now: datetime) -> timedelta | None:
        """How long it is since the last pass, by more than the wall clock; None: nothing doubts that one."""
        before = self._passed.get(camera_id)
        if before is not None:
            return timedelta(seconds=self._parts.clock.monotonic() - before.whole_s)
        trusted_from = self._parts.trusted_from()
        if trusted_from is None or swept.at is None or trusted_from <= swept.at:
            return None
        return now - trusted_from  # the clock was doubted in between, and may be a year ahead for good

    def _stop(self, camera: RetainedCamera, at_most: timedelta, what: Pass) -> None:
        camera_id = camera.camera.id
        self._stopped[camera_id] = Stopped(camera_id=camera_id, at_most=at_most, unexplained=what.unexplained)
        text = (
            f"camera {camera.camera.name}: at_most {format_duration(at_most)} would delete {what.unexplained}"
            f" at once ({what.unexplained.segments * 100 // max(1, what.of_segments)} % of its segments)"
            " though no more than usual has expired; nothing of it is deleted by age until somebody says yes:"
            f" cctv-storaged retention confirm {camera_id}, or the rule is changed back"
        )
        self._parts.alarms.sound(AlarmName.BRAKE, str(camera_id), text)

    def _go_on(self, camera_id: UUID) -> None:
        self._stopped.pop(camera_id, None)
        self._parts.alarms.end(AlarmName.BRAKE, str(camera_id))

    async def _sweep(
        self, camera: RetainedCamera, rule: Rule, cutoff: datetime, since: datetime | None
    ) -> None:
        """Deletes what ended by the moment (and after `since`), while the rule is in force."""
        assert rule.at_most is not None
        after: Position | None = FIRST if since is None else (to_us(since - camera.longest), LAST_NO)
        under_way: deque[asyncio.Task[int]] = deque()
        told, gone = 0, 0
        try:
            while after is not None:
                limit = self._parts.deletions.slice
                page = await self._parts.rows.ended_by(camera.no, cutoff, after, limit, since=since)
                after = page.next
                ids = [each.id for each in page.segments if not self._is_spared(each, rule.at_most)]
                if not ids:
                    continue
                if len(under_way) == AT_ONCE:
                    gone += await under_way.popleft()
                if self._why_not() is not None or self._policy.rule_for(camera.camera) != rule:
                    raise _Interrupted
                told += len(ids)
                under_way.append(asyncio.create_task(self._delete(ids)))
            while under_way:
                gone += await under_way.popleft()
        except asyncio.CancelledError:
            for each in under_way:  # a stop does not wait for a store that hangs: tombstones are gone on with
                each.cancel()
            raise
        finally:
            await asyncio.gather(*under_way, return_exceptions=True)
            if told:
                self._tell(camera, rule.at_most, told, gone)

    def _is_spared(self, segment: OldSegment, at_most: timedelta) -> bool:
        return self._parts.spares(from_us(segment.end_us), at_most)

    async def _delete(self, segment_ids: list[UUID]) -> int:
        return len(await self._parts.remover.delete_many(segment_ids, Cause.AT_MOST))

    def _tell(self, camera: RetainedCamera, at_most: timedelta, told: int, gone: int) -> None:
        fields = {"camera_id": str(camera.camera.id), "count": gone, "cause": str(Cause.AT_MOST)}
        text = "camera %s: %d segments older than %s deleted, %d to follow"
        log.info(text, camera.camera.name, gone, format_duration(at_most), told - gone, extra=fields)

    # Beside segments

    async def _end_exports(self, cameras: list[RetainedCamera]) -> None:
        """Exports that show what should be gone; those of a stopped camera wait like its footage.

        So do those of a camera whose rule was changed in the meantime, for the pass that weighs it.
        """
        now = self._parts.clock.now()
        cutoffs = {
            camera.camera.id: now - rule.at_most
            for camera in cameras
            if (rule := self._policy.rule_for(camera.camera)).at_most is not None
            and (passed := self._passed.get(camera.camera.id)) is not None
            and passed.at_most == rule.at_most
            and camera.camera.id not in self._stopped
        }
        after: int | None = 0 if cutoffs else None
        while after is not None:
            if self._why_not() is not None:
                raise _Interrupted
            after = await self._parts.rows.end_exports(cutoffs, after, now, self._parts.spares)

    def _tell_what_waits(self) -> None:
        why, now_s = self._parts.holds_unknown(), self._parts.clock.monotonic()
        if why is None:
            self._waiting_since_s = None
            self._parts.alarms.end(AlarmName.AT_MOST, WAITING)
        elif self._waiting_since_s is None:
            self._waiting_since_s = now_s
        elif now_s - self._waiting_since_s >= PUT_OFF_S:
            text = f"nothing was deleted by its age for more than an hour, until the store answers: {why}"
            self._parts.alarms.sound(AlarmName.AT_MOST, WAITING, text)

    async def _tell_what_is_kept(self) -> None:
        count = await self._parts.deletions.count_kept(MOST_COUNTED)
        if not count:
            self._parts.alarms.end(AlarmName.AT_MOST, KEPT)
            return
        text = (
            f"{count} segments that should be gone are kept by a lock of their store, or lie at a former"
            " store that is away or not configured; each is tried again once a day, and listed with its"
            " reason by GET /retention/locked"
        )
        self._parts.alarms.sound(AlarmName.AT_MOST, KEPT, text)

    async def _tell_what_is_put_off(self) -> None:
        """A folder that nobody may write to, a key without the right to delete, a store that is gone."""
        count = await self._parts.deletions.count_put_off(MOST_COUNTED)
        now_s = self._parts.clock.monotonic()
        if not count:
            self._put_off_since_s = None
            self._parts.alarms.end(AlarmName.AT_MOST, PUT_OFF)
        elif self._put_off_since_s is None:
            self._put_off_since_s = now_s
        elif now_s - self._put_off_since_s >= PUT_OFF_S:
            text = (
                f"{count} segments that should be gone could not be deleted for more than an hour: the log"
                " tells why; they are tried again and again"
            )
            self._parts.alarms.sound(AlarmName.AT_MOST, PUT_OFF, text)


def _limit(rule: Rule) -> timedelta | None:
    """The age at which a pass takes footage; None: it never does."""
    return None if rule.at_most is None else max(rule.at_most, rule.at_least or rule.at_most)


def _takes_more_than_time(before: Passed, cutoff: datetime, now_s: float) -> bool:
    """A clock that was wrong, and that is trusted again, may have jumped by a year since."""
    return cutoff - before.ended_by > timedelta(seconds=now_s - before.at_s) + SLACK
