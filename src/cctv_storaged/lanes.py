"""In which order one backend's segments go: urgent first, then fresh, then the backlog from both ends.

Fresh segments come straight from ingest and need no query. The backlog is taken oldest first, because
the oldest source is the first that a full disk endangers, but for a share that is taken newest first, so
that the centre is current while an outage of hours drains. Claims live here, in memory: after a restart
every undelivered copy is free.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.journal.copies import Copies, Order
from cctv_storaged.model import Segment

FRESH = 256
"""Fresh segments kept in memory; in an outage the oldest of them go back to being backlog."""
BATCH = 64


class Lanes:
    """The next segment for a backend's workers; used on the event loop only."""

    def __init__(self, backend: str, copies: Copies, clock: Clock, newest_share: float) -> None:
        self._backend = backend
        self._copies = copies
        self._clock = clock
        self.newest_share = newest_share
        self._credit = 0.0
        self._fresh: deque[Segment] = deque()
        self._queues: dict[Order, deque[Segment]] = {Order.OLDEST: deque(), Order.NEWEST: deque()}
        self._urgent: deque[Segment] = deque()
        self._urgent_may_wait = True
        self._claimed: set[UUID] = set()
        self._in_hand: set[UUID] = set()
        self.idle = asyncio.Event()
        """Set while no worker has a segment."""
        self.idle.set()
        self.exhausted = False
        """Whether the journal had nothing due at the last query and nothing has been added since."""

    @property
    def in_hand(self) -> int:
        """Segments given to workers and not released."""
        return len(self._in_hand)

    def offer(self, segment: Segment) -> None:
        """A segment that was registered this moment."""
        if segment.id in self._claimed:
            return
        self._claimed.add(segment.id)
        self._fresh.append(segment)
        if len(self._fresh) > FRESH:
            self._claimed.discard(self._fresh.popleft().id)
            self.exhausted = False

    def reopen(self) -> None:
        """Something in the journal came due or became urgent, or may have."""
        self.exhausted = False
        self._urgent_may_wait = True

    def release(self, segment: Segment) -> None:
        """The worker is done with it, however that ended."""
        self._in_hand.discard(segment.id)
        self._claimed.discard(segment.id)
        if not self._in_hand:
            self.idle.set()

    async def take(self) -> Segment | None:
        """The next segment, claimed for the caller; None with nothing due."""
        segment = await self._choose()
        if segment is not None:
            self._in_hand.add(segment.id)
            self.idle.clear()
        return segment

    async def _choose(self) -> Segment | None:
        if self._urgent_may_wait:
            self._urgent_may_wait = False
            self._claim(self._urgent, await self._due(Order.OLDEST, urgent_only=True))
        if self._urgent:
            return self._urgent.popleft()
        if self._fresh:
            return self._fresh.pop()
        return None if self.exhausted else await self._from_backlog()

    async def _from_backlog(self) -> Segment | None:
        order = self._order()
        if not self._queues[order]:
            self._claim(self._queues[order], await self._due(order))
        for queue in (self._queues[order], *self._queues.values()):
            if queue:
                return queue.popleft()
        self.exhausted = True
        return None

    def _order(self) -> Order:
        """Newest for its share of the turns, evenly spread."""
        self._credit += self.newest_share
        if self._credit >= 1.0:
            self._credit -= 1.0
            return Order.NEWEST
        return Order.OLDEST

    async def _due(self, order: Order, *, urgent_only: bool = False) -> Sequence[Segment]:
        limit = BATCH + len(self._claimed)  # those we have already are among the first rows
        now = self._clock.now()
        return await self._copies.due(self._backend, order, limit, now, urgent_only=urgent_only)

    def _claim(self, queue: deque[Segment], segments: Sequence[Segment]) -> None:
        for segment in segments:
            if len(queue) >= BATCH:
                return
            if segment.id not in self._claimed:
                self._claimed.add(segment.id)
                queue.append(segment)
