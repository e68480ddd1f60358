"""What came of proving, for people and programs: metrics, events, logs, alarms here and in XProtect."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.alarms import AlarmName
from cctv_storaged.errors import BackendError
from cctv_storaged.events import Event, EventKind
from cctv_storaged.journal.vouched import AT_MOST
from cctv_storaged.losses import VMS_NO_LONGER_HOLDS, tell_loss
from cctv_storaged.model import CopyState, Segment, TimeSpan
from cctv_storaged.recorder.admission import closed_at
from cctv_storaged.vms.attendance import NAME
from cctv_storaged.vms.ground import Ground
from cctv_storaged.vms.windows import NEIGHBOURS, spanning

log = logging.getLogger(__name__)

SAME_GAP = timedelta(hours=1)
"""A gap that goes on is no new alarm in XProtect for so long."""
ALARM_IN_VMS = "cctv-storaged: coverage gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A gap that XProtect has an alarm of."""

    span: TimeSpan
    at: datetime

    def touches(self, span: TimeSpan) -> bool:
        return span.start <= self.span.end + NEIGHBOURS and span.end >= self.span.start - NEIGHBOURS


class Telling:
    """Tells each thing once."""

    def __init__(self, ground: Ground, mode: str) -> None:
        self._ground = ground
        self._clock = ground.clock
        self._mode = mode
        self._raised: dict[UUID, _Told] = {}  # by camera

    def lost(self, segments: Sequence[Segment]) -> None:
        """Neither XProtect nor anybody else has them."""
        ground, now = self._ground, self._clock.now()
        for each in segments:
            tell_loss(ground.metrics, ground.hub, each, each.span, VMS_NO_LONGER_HOLDS, now)

    async def verified(self, ids: Sequence[UUID]) -> None:
        """Their copies were verified."""
        for first in range(0, len(ids), AT_MOST):
            for segment in await self._ground.journal.vouched.segments(ids[first : first + AT_MOST]):
                self._verified(segment)

    def _verified(self, segment: Segment) -> None:
        metrics, now = self._ground.metrics, self._clock.now()
        metrics.segments_stored.labels(NAME, self._mode).inc()
        waited_s = (now - closed_at(segment.source.identity)).total_seconds()
        metrics.delivery_seconds.labels(NAME).observe(max(0.0, waited_s))
        log.info(
            "segment verified at %s",
            NAME,
            extra={"camera_id": str(segment.camera_id), "segment_id": str(segment.id), "backend": NAME},
        )
        self._event(segment.camera_id, segment.id, CopyState.VERIFIED)
        self._ground.delivered(segment)

    async def gaps(
        self, camera_id: UUID, device: UUID, spans: Sequence[tuple[UUID, TimeSpan]], why: str
    ) -> None:
        """These segments are gaps since this moment."""
        for segment_id, _ in spans:
            self._event(camera_id, segment_id, CopyState.GAP)
        whole = spanning(span for _, span in spans)
        name = await self.name_of(camera_id)
        log.error(
            "GAP at %s: camera %s, %d segment(s) within %s: %s; their sources stay",
            NAME,
            name,
            len(spans),
            whole,
            why,
            extra={"camera_id": str(camera_id), "backend": NAME},
        )
        await self.refresh_alarms()
        if self._is_new(camera_id, whole):
            await self._raise(camera_id, device, f"{name}: no recording of {whole} ({why})")

    async def refresh_alarms(self) -> None:
        """VMS_GAP by camera, as the journal has it."""
        found, all_of_them = await self._ground.journal.vouch_days.gaps(NAME)
        for each in found:
            many = f"{each.segments} segment(s)" if all_of_them else f"{each.segments} segments or more"
            text = (
                f"camera {each.name}: XProtect is not shown to hold {many} within {each.span}; their sources"
                " stay, and XProtect is asked again now and then (see that it records the camera; POST"
                " /queue/retry has it asked, and where so configured fetched, at once)"
            )
            self._ground.alarms.sound(AlarmName.VMS_GAP, str(each.camera_id), text)
        if all_of_them:
            subjects = frozenset(str(each.camera_id) for each in found)
            self._ground.alarms.keep_only(AlarmName.VMS_GAP, subjects)
        tallies = await self._ground.journal.copies.tallies()
        gaps = (each.segments for each in tallies if (each.backend, each.state) == (NAME, CopyState.GAP))
        self._ground.metrics.vms_gaps.set(sum(gaps))

    async def name_of(self, camera_id: UUID) -> str:
        """The camera's, for people."""
        camera = await self._ground.journal.cameras.camera(camera_id)
        return str(camera_id) if camera is None else camera.name

    def alert(self, text: str) -> None:
        """Something an operator should know."""
        log.warning("%s", text, extra={"backend": NAME})
        self._ground.hub.publish(Event(kind=EventKind.ALERT, at=self._clock.now(), backend=NAME, detail=text))

    def _is_new(self, camera_id: UUID, span: TimeSpan) -> bool:
        """Neither told of a short while ago, nor the next window of what was."""
        now, before = self._clock.now(), self._raised.get(camera_id)
        if before is None or now - before.at >= SAME_GAP or not before.touches(span):
            self._raised[camera_id] = _Told(span=span, at=now)
            return True
        whole = TimeSpan(min(before.span.start, span.start), max(before.span.end, span.end))
        self._raised[camera_id] = _Told(span=whole, at=before.at)
        return False

    async def _raise(self, camera_id: UUID, device: UUID, message: str) -> None:
        """Once, after the journal has the gap: a restart in between leaves it to our own alarm."""
        try:
            await self._ground.vms.raise_alarm(device, ALARM_IN_VMS, message)
        except BackendError as exc:
            fields = {"camera_id": str(camera_id), "backend": NAME}
            log.warning("no alarm in XProtect on %s: %s", message, exc, extra=fields)

    def _event(self, camera_id: UUID, segment_id: UUID, state: CopyState) -> None:
        self._ground.hub.publish(
            Event(
                kind=EventKind.COPY,
                at=self._clock.now(),
                camera_id=camera_id,
                segment_id=segment_id,
                backend=NAME,
                state=state,
            )
        )
