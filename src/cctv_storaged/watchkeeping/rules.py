"""What the settings say of alarms, and how long footage may wait. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cctv_storaged.config import Settings, TimeWindow
from cctv_storaged.model import BackendKind
from cctv_storaged.retention.rules import key_of
from cctv_storaged.watchkeeping.silence import SilenceRules

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRules:
    """Limits; 0 is none."""

    silence: SilenceRules = field(default_factory=SilenceRules)
    undelivered: timedelta = timedelta(hours=1)
    undelivered_at: Mapping[str, timedelta] = field(default_factory=dict)  # by backend, in its place
    window: TimeWindow | None = None  # of delivery
    down: timedelta = timedelta(minutes=2)
    disk_left: timedelta = timedelta(days=3)
    loss: timedelta = timedelta(hours=24)

    def longest_wait(self, backend: str) -> timedelta | None:
        """How long a segment may wait for its copy there; None: for ever.

        Where delivery has hours of its day, those in which it rests are added.
        """
        limit = self.undelivered_at.get(backend, self.undelivered)
        if not limit:
            return None
        return limit if self.window is None else limit + DAY - open_for(self.window)


def alert_rules(settings: Settings) -> AlertRules:
    """From the settings."""
    alerts, own = settings.alerts, settings.alerts.undelivered_at
    after = {key_of(key): limit for key, limit in alerts.silent_after.items()}
    return AlertRules(
        silence=SilenceRules(intervals=alerts.silent_intervals, after=after),
        undelivered=alerts.undelivered,
        undelivered_at=_of_milestone(settings) | {str(kind): each for kind, each in own.items()},
        window=settings.delivery.window,
        down=alerts.down,
        disk_left=alerts.disk_left,
        loss=alerts.loss,
    )


def _of_milestone(settings: Settings) -> dict[str, timedelta]:
    """XProtect is given its time to hold the footage, before that is called a gap."""
    limit, milestone = settings.alerts.undelivered, settings.milestone
    if milestone is None or not limit:
        return {}
    return {BackendKind.MILESTONE: limit + timedelta(seconds=milestone.deadline_s)}


def open_for(window: TimeWindow) -> timedelta:
    """How long a window is open each day, by its own clocks."""
    opens, closes = (
        timedelta(hours=each.hour, minutes=each.minute) for each in (window.opens, window.closes)
    )
    return (closes - opens) % DAY


def waited(start: datetime, registered: datetime, now: datetime) -> timedelta:
    """For how long a segment has waited: since it came, whatever year it is of.

    But never for longer than since it began: a host that starts with its clock at 1970 has it come then.
    """
    since = start if registered < start <= now else registered
    return max(timedelta(0), now - since)
