"""Telling a loss: metric, log and event, always all three (the ledger has it already)."""

import logging
from datetime import datetime

from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.journal.capacity import DISK_FULL
from cctv_storaged.journal.copies import COPY_FAILED, OVERWRITTEN, failure_cause
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment, TimeSpan

log = logging.getLogger(__name__)

VMS_NO_LONGER_HOLDS = "vms_no_longer_holds"
"""XProtect's retention, or somebody there, took the last copy."""
CAUSES = ("source_vanished", OVERWRITTEN, COPY_FAILED, DISK_FULL, VMS_NO_LONGER_HOLDS)
"""Each is a series from the start: where the first loss makes one, no alarm on an increase sees it."""


async def count_past_losses(metrics: Metrics, journal: Journal) -> None:
    """The counter goes on where the ledger stands: a process killed after the commit had no time to count."""
    for cause, count in (dict.fromkeys(CAUSES, 0) | await journal.ledger.losses()).items():
        metrics.segments_lost.labels(cause).inc(count)


def tell_loss(
    metrics: Metrics, hub: EventHub, segment: Segment, span: TimeSpan, cause: str, now: datetime
) -> None:
    """Footage that was registered no longer exists anywhere. Call after the ledger's line is committed."""
    if cause == COPY_FAILED:  # whoever saw the copy fail need not know what became of its source
        cause = failure_cause(segment.source_state)
    metrics.segments_lost.labels(cause).inc()
    log.error(
        "FOOTAGE LOST (%s): %s %s",
        cause,
        segment.source.path,
        span,
        extra={"camera_id": str(segment.camera_id), "segment_id": str(segment.id)},
    )
    hub.publish(
        Event(
            kind=EventKind.LOST,
            at=now,
            camera_id=segment.camera_id,
            segment_id=segment.id,
            detail=f"{span}: {cause}",
        )
    )
