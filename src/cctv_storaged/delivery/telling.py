"""What one backend's delivery tells people and programs: metrics, events, log."""

import logging

from cctv_storaged.delivery.context import DeliveryContext
from cctv_storaged.events import Event, EventKind
from cctv_storaged.losses import tell_loss
from cctv_storaged.model import CopyState, Segment
from cctv_storaged.recorder.admission import closed_at

log = logging.getLogger(__name__)


class Telling:
    """Each method tells one thing that happened."""

    def __init__(self, backend: str, mode: str, context: DeliveryContext) -> None:
        self._backend = backend
        self._mode = mode
        self._context = context

    def up(self) -> None:
        """The backend takes segments, as far as is known."""
        self._context.metrics.backend_up.labels(self._backend).set(1)

    def up_again(self) -> None:
        """It was away."""
        self.up()
        self.alert(f"backend {self._backend} works again")

    def away(self, reason: str, detail: str) -> None:
        """The backend is left alone from now on."""
        self._context.metrics.backend_up.labels(self._backend).set(0)
        self.alert(f"backend {self._backend} is away ({reason}): {detail}")

    def failed(self, operation: str) -> None:
        """Something did, whosever fault it was."""
        self._context.metrics.errors.labels(operation, self._backend).inc()

    def verified(self, segment: Segment) -> None:
        """The segment's copy was verified."""
        metrics, now = self._context.metrics, self._context.clock.now()
        metrics.segments_stored.labels(self._backend, self._mode).inc()
        waited_s = (now - closed_at(segment.source.identity)).total_seconds()
        metrics.delivery_seconds.labels(self._backend).observe(max(0.0, waited_s))
        log.info("segment verified at %s", self._backend, extra=self.fields(segment))
        self._context.hub.publish(
            Event(
                kind=EventKind.COPY,
                at=now,
                camera_id=segment.camera_id,
                segment_id=segment.id,
                backend=self._backend,
                state=CopyState.VERIFIED,
            )
        )
        self._context.delivered(segment)

    def if_lost(self, lost: Segment | None, cause: str = "copy_failed_without_source") -> None:
        """The footage of this one, if of any, is nowhere any more."""
        if lost is not None:
            now = self._context.clock.now()
            tell_loss(self._context.metrics, self._context.hub, lost, lost.span, cause, now)

    def alert(self, text: str) -> None:
        """Something that whoever watches has to know."""
        log.warning("%s", text, extra={"backend": self._backend})
        now = self._context.clock.now()
        self._context.hub.publish(Event(kind=EventKind.ALERT, at=now, backend=self._backend, detail=text))

    def fields(self, segment: Segment) -> dict[str, str]:
        """For the log."""
        return {
            "camera_id": str(segment.camera_id),
            "segment_id": str(segment.id),
            "backend": self._backend,
        }
