"""How much in a minute: requests of one client, and wrong tokens from one address.

A bucket a client: full at first, so that a page with a hundred pictures loads at once, and filled again
evenly. Nothing is kept of a client whose bucket is full.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cctv_storaged.api.problems import TOO_MANY, Refusal

MOST_CLIENTS = 10_000
"""More than these at once are others' doing: who was quiet longest is forgotten."""
MINUTE_S = 60.0


@dataclass(slots=True)
class Rate:
    """So many a minute for each client. On the event loop only."""

    per_minute: int
    monotonic: Callable[[], float]
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)  # what is left, and as of when

    def wait_s(self, client: str) -> int:
        """Whole seconds until another one is due; 0: now."""
        left = self._left(client)
        return 0 if left >= 1 else max(1, math.ceil((1 - left) * MINUTE_S / self.per_minute))

    def count(self, client: str) -> None:
        """One more of this client."""
        left = max(0.0, self._left(client) - 1)
        self._buckets.pop(client, None)
        self._buckets[client] = left, self.monotonic()
        while len(self._buckets) > MOST_CLIENTS:
            del self._buckets[next(iter(self._buckets))]

    def take(self, client: str, of_what: str) -> None:
        """One more, if it is due. Raises Refusal."""
        wait_s = self.wait_s(client)
        if wait_s:
            raise too_many(of_what, self.per_minute, wait_s)
        self.count(client)

    def _left(self, client: str) -> float:
        known = self._buckets.get(client)
        if known is None:
            return float(self.per_minute)
        left, at = known
        return min(float(self.per_minute), left + (self.monotonic() - at) * self.per_minute / MINUTE_S)


def too_many(of_what: str, per_minute: int, wait_s: int) -> Refusal:
    detail = f"more than {per_minute} {of_what} a minute: wait {wait_s} s"
    return Refusal(TOO_MANY, detail, {"Retry-After": str(wait_s)})
