"""What the service manager is told (sd_notify(3)) and asks for (the watchdog).

Goes through systemd-python. Where that is not installed, or no manager listens, every call is harmless and
silent. This module does not know what makes the daemon ready or healthy.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping

from cctv_storaged.logs import one_line

try:
    from systemd.daemon import notify as _library_notify
except ImportError:  # an extra: it compiles against the system's library
    _library_notify = None

PINGS_PER_PERIOD = 3
LONGEST_STATUS = 400

log = logging.getLogger(__name__)


def watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """How often to ping: a third of what the manager allows (WATCHDOG_USEC), None where it does not watch us.

    WATCHDOG_PID names the process that is watched; a child that inherited the variables is not.
    """
    watched = environ.get("WATCHDOG_PID", "")
    if watched and watched != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    allowed_us = int(text) if text.isdecimal() else 0
    return allowed_us / 1e6 / PINGS_PER_PERIOD if allowed_us else None


class ServiceManager:
    """The line to the service manager; the library takes the socket from NOTIFY_SOCKET at each call."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        notify: Callable[[str], object] | None = _library_notify,
    ) -> None:
        self._notify = notify if environ.get("NOTIFY_SOCKET") else None
        self.watchdog_interval_s = watchdog_interval_s(environ)
        self._told_trouble = False
        if notify is None and environ.get("NOTIFY_SOCKET"):
            log.warning("the service manager waits for word, but systemd-python is not installed")

    @property
    def listening(self) -> bool:
        """Whether anybody hears us."""
        return self._notify is not None

    def ready(self, status: str = "") -> None:
        """Start-up, or a reload, is over."""
        self._tell("READY=1", _status(status))

    def stopping(self, status: str = "") -> None:
        self._tell("STOPPING=1", _status(status))

    def reloading(self) -> None:
        """Settings are being read again; `ready` must follow. The time tells one reload from another."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(_status(text))

    def watchdog(self) -> None:
        """We are well. To be called only when that was found out."""
        self._tell("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Start-up or stop goes on, and will say so again within `seconds`."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _tell(self, *assignments: str) -> None:
        if self._notify is None:
            return
        try:
            self._notify("\n".join(filter(None, assignments)))
        except OSError as exc:
            if not self._told_trouble:  # once: the watchdog would repeat it for ever
                log.warning("the service manager cannot be told", extra={"error": exc})
            self._told_trouble = True


def _status(text: str) -> str:
    """A status may hold a file name, and a line break in it would be another assignment."""
    return f"STATUS={one_line(text)[:LONGEST_STATUS]}" if text else ""
