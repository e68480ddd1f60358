"""Word of exports: metrics, events and the log, each status once."""

import logging

from cctv_storaged.clock import Clock
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.journal.exportrows import Export, ExportStatus
from cctv_storaged.metrics import Metrics

log = logging.getLogger(__name__)

PROGRESS = "PROGRESS"
"""The state of an event that tells how far an export is."""
EXPIRED = "EXPIRED"
"""The state of an event that tells of a file that is no longer to be had."""


class Telling:
    """Tells what becomes of exports."""

    def __init__(self, clock: Clock, metrics: Metrics, hub: EventHub) -> None:
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        for status in ExportStatus:
            metrics.exports_created.labels(status)
            if status.ended:
                metrics.export_duration.labels(status)

    def reached(self, export: Export, status: ExportStatus, detail: str | None = None) -> None:
        """The export has this status from now on."""
        self._metrics.exports_created.labels(status).inc()
        level = logging.WARNING if status is ExportStatus.FAILED else logging.INFO
        fields = {"export_id": str(export.id), "status": str(status)}
        log.log(level, "export %s is %s%s", export.id, status, f": {detail}" if detail else "", extra=fields)
        self._publish(export, str(status), detail)

    def took(self, status: ExportStatus, seconds: float) -> None:
        """An export ended so after so long."""
        self._metrics.export_duration.labels(status).observe(seconds)

    def waits(self, export: Export, why: str, delay_s: float) -> None:
        """The export is pending again."""
        fields = {"export_id": str(export.id), "delay_s": round(delay_s, 1)}
        log.warning("export %s waits: %s", export.id, why, extra=fields)
        self._publish(export, str(ExportStatus.PENDING), why)

    def progress(self, export: Export, share: float) -> None:
        """The export is that far."""
        self._publish(export, PROGRESS, f"{share:.3f}")

    def expired(self, export: Export) -> None:
        """The export's file is gone."""
        log.info("export %s has expired", export.id, extra={"export_id": str(export.id)})
        self._publish(export, EXPIRED, None)

    def _publish(self, export: Export, state: str, detail: str | None) -> None:
        now = self._clock.now()
        self._hub.publish(
            Event(kind=EventKind.EXPORT, at=now, export_id=export.id, state=state, detail=detail)
        )
