"""Whether XProtect can be asked now: the site as a whole, and single cameras whose recorder is away."""

import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cctv_storaged.breaker import Breaker, Suspects
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, BackendThrottled, BackendUnavailable
from cctv_storaged.events import Event, EventHub, EventKind
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind

log = logging.getLogger(__name__)

NAME = BackendKind.MILESTONE
LONGEST_PAUSE_S = 60.0
"""No wish for a slower pace is followed for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Full-jitter exponential back-off (Marc Brooker, AWS Architecture Blog, 2015)."""

    initial: timedelta
    longest: timedelta
    uniform: Callable[[float, float], float] = random.uniform

    def after(self, failures: int) -> timedelta:
        """The wait after so many failures in a row (1 and more)."""
        ceiling = min(self.longest, self.initial * 2.0 ** min(failures, 16))
        return timedelta(seconds=self.uniform(self.initial.total_seconds() / 2, ceiling.total_seconds()))


class Attendance:
    """Of one site. On the event loop only."""

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        hub: EventHub,
        star: Callable[[str], str],
        backoff: Backoff,
        name_of: Callable[[UUID], str] = str,
    ) -> None:
        """`star` keeps secrets out of what is told; `name_of` says a camera's name for people."""
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self._star = star
        self._backoff = backoff
        self._name_of = name_of
        self._breaker = Breaker()
        self._suspects = Suspects()
        self._not_before: dict[UUID, float] = {}  # cameras that alone cannot be asked, monotonic
        self._pause_until = 0.0
        metrics.backend_up.labels(NAME).set(1)

    @property
    def trouble(self) -> str | None:
        """Why the site is left alone; None while it works."""
        return self._breaker.trouble

    @property
    def wait_s(self) -> float:
        """How long nothing is to be asked; 0 at once."""
        now = self._clock.monotonic()
        return max(self._breaker.wait_s(now), self._pause_until - now, 0.0)

    @property
    def open(self) -> bool:
        """Whether questions may be asked this moment."""
        return self._breaker.reason is None and self._clock.monotonic() >= self._pause_until

    @property
    def failing(self) -> frozenset[UUID]:
        """Cameras whose last question failed while others had answers."""
        return frozenset(self._not_before)

    def may_ask(self, camera_id: UUID) -> bool:
        """Whether the camera's own failures, if any, were long enough ago."""
        return self._not_before.get(camera_id, -math.inf) <= self._clock.monotonic()

    async def find_out(self, ask: Callable[[], Awaitable[object]]) -> bool:
        """With its pause over: whether the site is back. `ask` raises BackendError where it is not."""
        if not self._breaker.admit(self._clock.monotonic()):
            return False
        try:
            await ask()
        except BackendUnavailable as exc:
            self.failed(exc)
        except BackendError as exc:
            self.failed(BackendUnavailable(str(exc), reason="server"))
        except Exception as exc:  # an answer nobody thought of must not end the host's recording
            log.exception("asking %s whether it is there", NAME)
            self.failed(BackendUnavailable(f"{type(exc).__name__}: {exc}", reason="server"))
        else:
            self.works()
        finally:
            self._breaker.untried()
        return self._breaker.reason is None

    def works(self, camera_id: UUID | None = None) -> None:
        """It answered, of this camera if one is named."""
        if camera_id is not None:
            self._suspects.succeeded(camera_id)
            self._not_before.pop(camera_id, None)
        if self._breaker.succeeded():
            self._metrics.backend_up.labels(NAME).set(1)
            self._tell(f"backend {NAME} works again")

    def failed(self, error: BackendError, camera_id: UUID | None = None) -> None:
        """A question came to nothing: the fault is the site's, or this camera's alone."""
        self._metrics.errors.labels("verify", NAME).inc()
        detail, now = self._star(str(error)), self._clock.monotonic()
        if isinstance(error, BackendThrottled):
            self._pause_until = now + min(error.retry_after_s or 1.0, LONGEST_PAUSE_S)
        own = 0 if camera_id is None else self._suspects.failed(camera_id)
        if not isinstance(error, BackendUnavailable):
            self._alone(camera_id, detail, max(1, own))
        elif own:
            self._alone(camera_id, detail, own)
        elif self._breaker.failed(error.reason, now, detail):
            self._metrics.backend_up.labels(NAME).set(0)
            self._tell(f"backend {NAME} is away ({error.reason}): {detail}")

    def _alone(self, camera_id: UUID | None, detail: str, failures: int) -> None:
        if camera_id is None:
            log.warning("%s refuses: %s", NAME, detail)
            return
        known = camera_id in self._not_before
        wait = self._backoff.after(failures).total_seconds()
        self._not_before[camera_id] = self._clock.monotonic() + wait
        if not known:
            told = "camera %s alone cannot be asked for at %s, its segments wait: %s"
            log.warning(told, self._name_of(camera_id), NAME, detail, extra={"camera_id": str(camera_id)})

    def _tell(self, text: str) -> None:
        log.warning("%s", text, extra={"backend": NAME})
        self._hub.publish(Event(kind=EventKind.ALERT, at=self._clock.now(), backend=NAME, detail=text))
