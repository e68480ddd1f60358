"""A byte rate shared by all puts of a host: a token bucket that puts draw from as they read.

Drawn from in worker threads, hence the lock and the plain sleep.
"""

import threading
import time
from collections.abc import Callable


class ByteBudget:
    """At most `bytes_per_s` on average, with a burst of one second; None means no limit."""

    def __init__(
        self,
        bytes_per_s: float | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._sleep = sleep
        self._rate = bytes_per_s
        self._tokens = bytes_per_s or 0.0
        self._at = monotonic()

    @property
    def limited(self) -> bool:
        """Whether drawing may ever wait; where not, a put need not bother to read in small blocks."""
        return self._rate is not None

    def change(self, bytes_per_s: float | None) -> None:
        """Another limit from now on (SIGHUP)."""
        with self._lock:
            self._rate = bytes_per_s
            self._tokens = min(self._tokens, bytes_per_s or 0.0)

    def draw(self, size_bytes: int) -> None:
        """Account for bytes about to be sent; sleeps so long that the average keeps to the rate."""
        wait_s = self.debit(size_bytes)
        if wait_s > 0:
            self._sleep(wait_s)

    def debit(self, size_bytes: int) -> float:
        """The same for whoever waits by other means: how many seconds to wait."""
        with self._lock:
            if self._rate is None:
                return 0.0
            now = self._monotonic()
            self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
            self._at = now
            self._tokens -= size_bytes
            return max(0.0, -self._tokens / self._rate)
