"""The site's condition by the clock: for /ready, the alarm `vms` and metrics. It makes no daemon unready."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError
from cctv_storaged.journal.cameras import Cameras
from cctv_storaged.metrics import Metrics
from cctv_storaged.vms.condition import (
    Condition,
    ConditionPart,
    ConditionRules,
    Grade,
    Subjects,
    look_at_site,
    look_behind,
    remedy_of,
)
from cctv_storaged.vms.mapping import CameraMapping

EVERY_S = 60.0
"""How often the site is asked for a sign of life."""
WHOLE = timedelta(minutes=5)
"""How often everything is looked at, as long as the site answers."""
BELIEVED = 2
"""Looks in a row that find a trouble before it is an alarm: the API gateway restarts itself once a day."""


class ConditionWatch:
    """Keeps the last condition. On the event loop only."""

    def __init__(
        self,
        vms: Vms,
        mapping: CameraMapping,
        cameras: Cameras,
        rules: ConditionRules,
        clock: Clock,
        alarms: Alarms,
        metrics: Metrics,
    ) -> None:
        self._vms = vms
        self._mapping = mapping
        self._cameras = cameras
        self._rules = rules
        self._clock = clock
        self._alarms = alarms
        self._metrics = metrics
        self._condition: Condition | None = None
        self._whole_at_s: float | None = None
        self._seen: dict[str, int] = {}  # troubles, by how many looks found them
        self._labelled: set[UUID] = set()

    @property
    def location(self) -> str:
        """The site's address."""
        return self._vms.location

    @property
    def condition(self) -> Condition | None:
        """As of the last look; None before the first."""
        return self._condition

    async def run_once(self) -> None:
        """A look: at the site alone, or at everything when its time has come. Raises JournalError only."""
        now_s, last = self._clock.monotonic(), self._condition
        due = self._whole_at_s is None or now_s >= self._whole_at_s
        if due or last is None or last.site is None:
            self._condition = await self._whole(now_s)
        else:
            self._condition = await self._sign_of_life(last)
        self._tell(self._condition)

    async def _sign_of_life(self, last: Condition) -> Condition:
        """The site's own parts anew; what stands behind it as the last whole look found it."""
        fresh = await look_at_site(self._vms, self._rules, self._clock.now())
        if fresh.site is None:
            return fresh
        names = {part.name for part in fresh.parts}
        kept = tuple(part for part in last.parts if part.name not in names)
        return replace(fresh, parts=(*fresh.parts, *kept), lags=last.lags)

    async def _whole(self, now_s: float) -> Condition:
        now = self._clock.now()
        first = await look_at_site(self._vms, self._rules, now)
        if first.site is None:
            return first
        self._whole_at_s = now_s + WHOLE.total_seconds()
        mapping = await self._mapped_anew()
        found = await look_behind(self._vms, first, await self._subjects(now), self._rules)
        return found if mapping is None else replace(found, parts=(*found.parts, mapping))

    async def _mapped_anew(self) -> ConditionPart | None:
        """What is wrong with XProtect's list of cameras; the last one counts then."""
        try:
            await self._mapping.refresh()
        except BackendError as exc:
            grade = Grade.DEGRADED if self._mapping.asked else Grade.DOWN
            told = f"the site does not tell of its cameras: {exc}"
            return ConditionPart(name="cameras", grade=grade, trouble=told, remedy=remedy_of(exc))
        return None

    async def _subjects(self, now: datetime) -> Subjects:
        newest: dict[UUID, datetime] = {}
        counterparts = self._mapping.counterparts
        for each in counterparts:
            footage = await self._cameras.by_id(each.camera.id, now) if each.device is not None else None
            if footage is not None and footage.newest is not None:
                newest[each.camera.id] = footage.newest.end
        required = counterparts if self._mapping.required else [each for each in counterparts if each.device]
        return Subjects(cameras=tuple(required), newest=newest)

    def _tell(self, condition: Condition) -> None:
        # A camera without a counterpart is the alarm `vms_camera`.
        troubles = {part.name: part for part in condition.troubles if not part.of_camera}
        self._seen = {name: self._seen.get(name, 0) + 1 for name in troubles}
        believed = [name for name, looks in self._seen.items() if looks >= BELIEVED]
        for name in believed:
            self._alarms.sound(AlarmName.VMS, f"{self.location} {name}", troubles[name].told() or "")
        self._alarms.keep_only(AlarmName.VMS, frozenset(f"{self.location} {name}" for name in believed))
        self._set_metrics(condition)

    def _set_metrics(self, condition: Condition) -> None:
        metrics = self._metrics
        metrics.vms_grade.set(condition.grade)
        if condition.site is not None and condition.site.clock_skew is not None:
            metrics.vms_clock_skew.set(condition.site.clock_skew.total_seconds())
        for camera_id, lag in condition.lags.items():
            metrics.vms_coverage_lag.labels(str(camera_id)).set(lag.total_seconds())
        if condition.site is not None:
            for camera_id in self._labelled - condition.lags.keys():
                metrics.vms_coverage_lag.remove(str(camera_id))
            self._labelled = set(condition.lags)
        unmapped = [each for each in self._mapping.counterparts if each.device is None]
        metrics.vms_cameras_unmapped.set(len(unmapped) if self._mapping.required else 0)


def parts_of(watch: ConditionWatch | None) -> Sequence[ConditionPart]:
    """What /ready tells: each trouble, and that the site is well where there is none."""
    if watch is None:
        return ()
    if watch.condition is None:
        told = "it was not looked at yet"
        return (ConditionPart(name="site", trouble=told, remedy=f"every {EVERY_S:.0f} s it is"),)
    return watch.condition.troubles or (ConditionPart(name="site"),)
