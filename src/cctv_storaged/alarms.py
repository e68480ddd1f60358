"""Alarms: what an operator should know, and its end. Each is told once, by log, event, metric and /ready.

An alarm is a state, not an event: whoever finds the trouble sounds it as often as it looks, and ends it when
the trouble is gone. Nothing is kept over a restart, for whoever looks finds it again.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.metrics import Metrics

log = logging.getLogger(__name__)


class AlarmName(StrEnum):
    """What is wrong, in a stable word: a label of `storage_alarms`."""

    WRONG_DISK = "wrong_disk"  # a root or store without its identity, or with another's
    CLOCK = "clock"  # ages mean nothing now: nothing is deleted by age
    DISK_LOW = "disk_low"  # below the level at which somebody should know
    DISK_FULL = "disk_full"  # nothing is left that may go
    READ_ONLY = "read_only"  # a disk that was mounted read-only: recorders cannot write, nothing can go
    AT_LEAST = "at_least"  # a camera keeps less than its rule promises
    AT_MOST = "at_most"  # something that should be gone cannot be deleted
    BRAKE = "brake"  # so much was to go at once that somebody has to say yes
    HOLD_REVIEW = "hold_review"  # a hold whose review is due
    HOLD_LOCAL = "hold_local"  # a hold that the bucket does not know
    HELD_LOST = "held_lost"  # footage that is lost although a hold in force needs it
    DAMAGED_COPY = "damaged_copy"  # a copy whose bytes are wrong and could not be repaired
    LEDGER = "ledger"  # it contradicts a head that was made of it
    FRESH_JOURNAL = "fresh_journal"  # the store has this host's footage, and the journal does not know it
    VMS = "vms"  # coverage by XProtect cannot be proven, or footage there not be read
    VMS_CAMERA = (
        "vms_camera"  # a camera without a counterpart in XProtect, or with several, or disabled there
    )
    VMS_GAP = "vms_gap"  # XProtect does not hold footage that it should: the source stays
    VMS_MARK = "vms_mark"  # a hold that XProtect does not know
    TWIN_HOST = "twin_host"  # another daemon says that it is this host
    HOST_ID = "host_id"  # the settings name another host than the one whose journal this is
    FORMER_STORE = "former_store"  # the settings of a store with copies are there and cannot be used
    CAMERA_SILENT = "camera_silent"  # no segment for much longer than usual
    CAMERA_CLOCK = "camera_clock"  # its segments were not recorded when their names say
    UNDELIVERED = "undelivered"  # footage waits for its copy for longer than it may
    BACKEND_DOWN = "backend_down"  # for longer than a moment
    CATALOG_DOWN = "catalog_down"  # for longer than a moment
    DISK_DAYS = "disk_days"  # a volume that will be full in a few days
    LOSS = "loss"  # footage was lost not long ago
    CERTIFICATE = "certificate"  # of the API: its renewal cannot be used, or it ends soon
    RECONCILE = "reconcile"  # folders, journal, backends and catalog tell different things


OF_CAMERAS = frozenset(
    {
        *(AlarmName.AT_LEAST, AlarmName.BRAKE, AlarmName.VMS_CAMERA, AlarmName.VMS_GAP),
        *(AlarmName.CAMERA_SILENT, AlarmName.CAMERA_CLOCK, AlarmName.LOSS),
    }
)
"""Those whose subject is a camera's id: log and event of it are found by the camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One that is sounding."""

    name: AlarmName
    subject: str  # a path, camera, hold or backend
    text: str
    since: datetime


class Alarms:
    """All that sound now. On the event loop only."""

    def __init__(self, metrics: Metrics, hub: EventHub, clock: Clock) -> None:
        self._metrics = metrics
        self._hub = hub
        self._clock = clock
        self._standing: dict[tuple[AlarmName, str], Alarm] = {}
        for name in AlarmName:
            metrics.alarms.labels(name).set(0)

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """In the order in which they began."""
        return tuple(self._standing.values())

    def sound(self, name: AlarmName, subject: str, text: str) -> None:
        """Something is wrong, with what and what to do in the text; told once until it ends."""
        now, key = self._clock.now(), (name, subject)
        before = self._standing.get(key)
        self._standing[key] = Alarm(
            name=name, subject=subject, text=text, since=now if before is None else before.since
        )
        if before is None:
            log.error("ALARM %s, %s: %s", name, subject, text, extra=_fields(name, subject))
            self._tell(name, "on", subject, f"{subject}: {text}", now)

    def end(self, name: AlarmName, subject: str) -> None:
        """All is well with it; no news where it was."""
        if self._standing.pop((name, subject), None) is not None:
            log.warning("alarm over: %s, %s", name, subject, extra=_fields(name, subject))
            self._tell(name, "off", subject, subject, self._clock.now())

    def keep_only(self, name: AlarmName, subjects: frozenset[str]) -> None:
        """Ends every alarm of the name whose subject is not among these: one round has looked at all."""
        for other, subject in list(self._standing):
            if other is name and subject not in subjects:
                self.end(name, subject)

    def _tell(self, name: AlarmName, state: str, subject: str, detail: str, now: datetime) -> None:
        self._metrics.alarms.labels(name).set(sum(each is name for each, _ in self._standing))
        self._hub.publish(
            Event(
                kind=EventKind.ALERT,
                at=now,
                camera_id=camera_of(name, subject),
                state=state,
                detail=f"{name}: {detail}",
            )
        )


def camera_of(name: AlarmName, subject: str) -> UUID | None:
    """The camera that an alarm is about; None where it is about something else."""
    if name not in OF_CAMERAS:
        return None
    try:
        return UUID(subject)
    except ValueError:
        return None


def _fields(name: AlarmName, subject: str) -> dict[str, str]:
    return {} if camera_of(name, subject) is None else {"camera_id": subject}
