"""Cameras that are silent, and cameras whose time is in doubt.

Nothing is said of a camera whose root cannot be looked at, nor while the journal takes nothing: it is not the
camera that is silent then.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.watchrows import Cadence
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera
from cctv_storaged.quantities import lasting_text
from cctv_storaged.watchkeeping.hearing import IN_A_ROW, Heard, Hearing
from cctv_storaged.watchkeeping.silence import LEAST, SilenceRules, expected_interval, longest_silence


class CameraWatch:
    """One look after the other at what was heard of each camera."""

    def __init__(
        self,
        journal: Journal,
        hearing: Hearing,
        alarms: Alarms,
        metrics: Metrics,
        clock: Clock,
        away: Callable[[str], bool],
    ) -> None:
        """`away`: whether files below a root cannot be found now."""
        self._journal = journal
        self._hearing = hearing
        self._alarms = alarms
        self._metrics = metrics
        self._clock = clock
        self._away = away
        self._measured: set[str] = set()  # cameras that have a series in the metrics

    async def look(self, watched_s: float, rules: SilenceRules) -> None:
        """After so many seconds in which somebody listened."""
        cameras = await self._journal.cameras.with_footage()
        cameras = [*cameras, *await self._silent_without_footage(cameras)]
        self._forget_others(cameras)
        for camera in cameras:
            await self._look_at(camera, watched_s, rules)

    async def _silent_without_footage(self, cameras: Sequence[Camera]) -> list[Camera]:
        """That the last footage of a dead camera is deleted does not make it well."""
        known = frozenset(str(camera.id) for camera in cameras)
        standing = {each.subject for each in self._alarms.standing if each.name is AlarmName.CAMERA_SILENT}
        found = [await self._journal.cameras.camera(UUID(subject)) for subject in sorted(standing - known)]
        return [camera for camera in found if camera is not None]

    async def _look_at(self, camera: Camera, watched_s: float, rules: SilenceRules) -> None:
        heard, subject = self._hearing.of(camera.id), str(camera.id)
        if self._journal.full or (heard.root is not None and self._away(heard.root)):
            if heard.silent_s and not self._sounds(subject):
                heard.silent_s, heard.anew = 0.0, True  # what is found when it is back takes its time
        else:
            heard.silent_s += 0.0 if heard.anew else watched_s
            heard.anew = False
            await self._judge_silence(camera, heard, rules)
        self._metrics.segment_age.labels(subject).set(heard.silent_s)
        self._measured.add(subject)
        self._judge_time(camera, heard)

    async def _judge_silence(self, camera: Camera, heard: Heard, rules: SilenceRules) -> None:
        limit = rules.own_limit(camera)
        if limit is None:
            limit = await self._measured_limit(camera, heard, rules)
        silence, subject = timedelta(seconds=heard.silent_s), str(camera.id)
        if not limit or silence <= limit:
            self._alarms.end(AlarmName.CAMERA_SILENT, subject)
            return
        if heard.root is None:
            heard.root = (await self._cadence(camera, heard)).root
        if heard.root is not None and self._away(heard.root):
            return
        self._alarms.sound(AlarmName.CAMERA_SILENT, subject, _silent_text(camera, silence, limit))

    async def _measured_limit(self, camera: Camera, heard: Heard, rules: SilenceRules) -> timedelta | None:
        if heard.silent_s <= LEAST.total_seconds():
            return LEAST  # no limit is shorter: the journal need not be asked
        cadence = await self._cadence(camera, heard)
        expected = expected_interval(cadence.starts, cadence.longest)
        return None if expected is None else longest_silence(expected, rules)

    async def _cadence(self, camera: Camera, heard: Heard) -> Cadence:
        """Asked for once in each silence."""
        if heard.cadence is None:
            heard.cadence = await self._journal.watch_rows.cadence(camera.id, self._clock.now())
        return heard.cadence

    def _judge_time(self, camera: Camera, heard: Heard) -> None:
        subject = str(camera.id)
        if heard.doubtful >= IN_A_ROW:
            self._alarms.sound(AlarmName.CAMERA_CLOCK, subject, _time_text(camera, heard))
        elif heard.trusty >= IN_A_ROW:
            self._alarms.end(AlarmName.CAMERA_CLOCK, subject)

    def _sounds(self, subject: str) -> bool:
        return any(
            each.name is AlarmName.CAMERA_SILENT and each.subject == subject for each in self._alarms.standing
        )

    def _forget_others(self, cameras: Sequence[Camera]) -> None:
        known = frozenset(camera.id for camera in cameras)
        self._hearing.keep_only(known)
        subjects = frozenset(map(str, known))
        for gone in self._measured - subjects:
            self._metrics.segment_age.remove(gone)
        self._measured &= subjects
        for name in (AlarmName.CAMERA_SILENT, AlarmName.CAMERA_CLOCK):
            self._alarms.keep_only(name, subjects)


def _silent_text(camera: Camera, silence: timedelta, limit: timedelta) -> str:
    return (
        f"camera {camera.name}: no segment for {lasting_text(silence)}, and it is never silent for more than "
        f"{lasting_text(limit)}: look at the camera, its recorder and the recorder's disk. Does it record no "
        f"longer: alerts.silent_after: {{{camera.folder}: 0}}"
    )


def _time_text(camera: Camera, heard: Heard) -> str:
    return (
        f"camera {camera.name}: its last {heard.doubtful} segments were not recorded when their names say: "
        f"the last {heard.doubt}. Set the recorder's clock (NTP), and the root's `timezone` to the names'"
    )
