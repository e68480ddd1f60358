"""Whether ages mean anything now: nothing is deleted by age while the wall clock cannot be trusted."""

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock

TOLERANCE_S = 60.0
"""What NTP may correct in one go, and what a suspended loop may take, without a word."""


class ClockGuard:
    """Watches the wall clock against the one that only grows."""

    def __init__(self, clock: Clock, alarms: Alarms) -> None:
        self._clock = clock
        self._alarms = alarms
        self._offset_s = self._now_offset_s()

    def distrust(self) -> str | None:
        """Why nothing may be deleted, expired or released by its age now; None: all is well."""
        step_s = self._now_offset_s() - self._offset_s
        if abs(step_s) <= TOLERANCE_S:
            self._alarms.end(AlarmName.CLOCK, "clock")
            return None
        reason = f"the wall clock jumped by {step_s:+.0f} s since the start"
        self._alarms.sound(AlarmName.CLOCK, "clock", reason)
        return reason

    def _now_offset_s(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()
