"""How fast a run may look: the recorder and the API come first."""

import asyncio
import time
from collections.abc import Awaitable, Callable

REQUEST = 20
"""What a question to a backend about one object counts as, beside an object of a listing."""
_SHORTEST_S = 0.01


class Pace:
    """At most so many objects a second on average, after a burst of a second; None: no limit."""

    def __init__(
        self,
        per_s: float | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._per_s = per_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._at = monotonic()
        self._left = per_s or 0.0

    def change(self, per_s: float | None) -> None:
        """Another limit from now on (SIGHUP)."""
        self._per_s, self._left = per_s, min(self._left, per_s or 0.0)

    async def objects(self, count: int) -> None:
        """So many were looked at: waits until the average is right again, and lets others have their turn."""
        if self._per_s is None:
            await self._sleep(0)
            return
        now = self._monotonic()
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s) - count
        self._at = now
        wait_s = -self._left / self._per_s
        await self._sleep(wait_s if wait_s > _SHORTEST_S else 0)

    async def requests(self, count: int) -> None:
        """So many questions are about to be asked."""
        await self.objects(count * REQUEST)
