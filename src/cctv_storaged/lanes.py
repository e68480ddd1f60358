"""In which order one backend's segments go: urgent first, then fresh, then the backlog from both ends.

Fresh segments come straight from ingest and need no query. The backlog is taken oldest first, because
the oldest source is the first that a full disk endangers, but for a share that is taken newest first, so
that the centre is current while an outage of hours drains. Claims live here, in memory: after a restart
every undelivered copy is free. Whatever waits, a bounded number of segments is kept.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.journal.copies import Copies, Order
from cctv_storaged.model import Segment

FRESH = 256
"""Fresh segments kept in memory; in an outage the oldest of them go back to being backlog."""
BATCH = 256
"""Segments asked of the journal at once: a question waits for the commit under way."""

REST_S = 60.0
"""How often all of the backlog is looked through for what nobody announced, while all of it is put off."""

Lane = OrderedDict[UUID, Segment]
_OTHER_END = {Order.OLDEST: Order.NEWEST, Order.NEWEST: Order.OLDEST}


class Lanes:
    """The next segment for a backend's workers. On the event loop only, and taken from by one task only."""

    def __init__(self, backend: str, copies: Copies, clock: Clock, newest_share: float) -> None:
        self._backend = backend
        self._copies = copies
        self._clock = clock
        self.newest_share = newest_share
        self._credit = 0.0
        self._urgent: Lane = OrderedDict()
        self._fresh: Lane = OrderedDict()
        self._backlog: dict[Order, Lane] = {Order.OLDEST: OrderedDict(), Order.NEWEST: OrderedDict()}
        self._lanes = (self._urgent, self._fresh, *self._backlog.values())
        self._in_hand: dict[UUID, bool] = {}  # and whether it was fresh
        self._withheld: set[UUID] = set()
        self._in_vain: set[UUID] = set()
        self._urgent_may_wait = True
        self._reopened = 0
        self._rests_until_s = -math.inf  # before, only what comes due by its time is looked for; monotonic
        self.idle = asyncio.Event()
        """Set while no worker has a segment."""
        self.idle.set()
        self.exhausted = False
        """Whether the journal had nothing due at the last query and nothing has been added since."""

    @property
    def in_hand(self) -> int:
        """Segments given to workers and not released."""
        return len(self._in_hand)

    @property
    def waiting(self) -> int:
        """Segments kept in memory for workers to come."""
        return sum(len(lane) for lane in self._lanes)

    def offer(self, segment: Segment) -> None:
        """A segment that was registered this moment."""
        if self._is_claimed(segment.id):
            return
        self._fresh[segment.id] = segment
        if len(self._fresh) > FRESH:
            self._fresh.popitem(last=False)
            self._more_may_be_due()

    def start_over(self) -> None:
        """All that waits here is only in the journal from now on, and comes in its order."""
        for lane in self._lanes:
            lane.clear()
        self._in_vain.clear()
        self.reopen()

    def reopen(self) -> None:
        """Something in the journal came due or became urgent, or may have."""
        self._urgent_may_wait = True
        self._more_may_be_due()

    def look_again(self) -> None:
        """Something may have come due by its time, or somebody made it due who told nobody."""
        self._urgent_may_wait = True
        self._reopened += 1
        self.exhausted = False

    def release(self, segment: Segment) -> None:
        """The worker is done with it, however that ended."""
        self._in_hand.pop(segment.id, None)
        if not self._in_hand:
            self.idle.set()

    def give_back(self, segment: Segment) -> None:
        """The worker could not even try: it is as if it had not been taken."""
        was_fresh = self._in_hand.get(segment.id, False)
        self.release(segment)
        self.reopen()
        if was_fresh:
            self.offer(segment)

    def others_first(self, segment: Segment) -> None:
        """It was the one to try whether the backend is back, in vain: perhaps for a reason of its own."""
        if len(self._in_vain) >= FRESH:
            self._in_vain.clear()
        self._in_vain.add(segment.id)

    @contextmanager
    def withheld(self, segment_id: UUID) -> Iterator[bool]:
        """Nobody is given the segment while the block lasts. False: a worker has it already."""
        if segment_id in self._in_hand:
            yield False
            return
        for lane in self._lanes:
            lane.pop(segment_id, None)
        self._withheld.add(segment_id)
        try:
            yield True
        finally:
            self._withheld.discard(segment_id)
            self._more_may_be_due()

    async def take(self) -> Segment | None:
        """The next segment, claimed for the caller; None with nothing due."""
        segment = await self._next()
        if segment is None and self._in_vain:  # there are no others
            self._in_vain.clear()
            self.reopen()
            segment = await self._next()
        return segment

    async def _next(self) -> Segment | None:
        if self._urgent_may_wait and not self._urgent:
            await self._fetch_urgent()
        if self._urgent:
            return self._handed_out(self._urgent.popitem(last=False)[1])
        if self._fresh:
            return self._handed_out(self._fresh.popitem()[1], fresh=True)
        if self._backlog_is_empty and self.exhausted:
            return None
        return await self._from_backlog()

    async def _from_backlog(self) -> Segment | None:
        order = self._order()
        lane, other = self._backlog[order], self._backlog[_OTHER_END[order]]
        if not lane:
            await self._fetch(order)
        if lane:
            return self._handed_out(lane.popitem(last=False)[1])
        if other:  # all that is due was fetched from the other end: there our end comes last
            return self._handed_out(other.popitem()[1])
        return None

    def _handed_out(self, segment: Segment, *, fresh: bool = False) -> Segment:
        self._in_hand[segment.id] = fresh
        self.idle.clear()
        return segment

    @property
    def _backlog_is_empty(self) -> bool:
        return not any(self._backlog.values())

    def _order(self) -> Order:
        """Newest for its share of the turns, evenly spread."""
        self._credit += self.newest_share
        if self._credit >= 1.0 - 1e-9:  # ten times 0.3 is a little less than three
            self._credit -= 1.0
            return Order.NEWEST
        return Order.OLDEST

    async def _fetch_urgent(self) -> None:
        """What became urgent may wait in another lane already: then it changes over."""
        self._urgent_may_wait = False
        limit = BATCH + self._kept_back
        found = await self._copies.due(
            self._backend, Order.OLDEST, limit, self._clock.now(), urgent_only=True
        )
        for segment in found:
            if not self._is_kept_back(segment.id):
                for lane in self._lanes:
                    lane.pop(segment.id, None)
                self._urgent[segment.id] = segment
        if len(found) == limit:
            self._urgent_may_wait = True

    async def _fetch(self, order: Order) -> None:
        """Refills one end of the backlog; finds out when there is nothing more."""
        if self.exhausted:
            return
        reopened = self._reopened
        if await self._all_is_put_off():
            self.exhausted = reopened == self._reopened
            return
        limit = BATCH + self._kept_back
        while True:
            found = await self._copies.due(self._backend, order, limit, self._clock.now())
            free = [segment for segment in found if not self._is_claimed(segment.id)]
            if free or len(found) < limit:
                break
            limit = BATCH + len(found)  # all of these were in other lanes
        for segment in free[:BATCH]:
            self._backlog[order][segment.id] = segment
        if not free and reopened == self._reopened:
            self.exhausted = True
            if not found:
                self._rests_until_s = self._clock.monotonic() + REST_S

    async def _all_is_put_off(self) -> bool:
        """As it was a moment ago: to pass over a hundred thousand costs more than to ask for the next."""
        if self._clock.monotonic() >= self._rests_until_s:
            return False
        return not await self._copies.came_due(self._backend, self._clock.now())

    @property
    def _kept_back(self) -> int:
        return len(self._in_hand) + len(self._withheld) + len(self._in_vain)

    def _is_kept_back(self, segment_id: UUID) -> bool:
        return segment_id in self._in_hand or segment_id in self._withheld or segment_id in self._in_vain

    def _is_claimed(self, segment_id: UUID) -> bool:
        return self._is_kept_back(segment_id) or any(segment_id in lane for lane in self._lanes)

    def _more_may_be_due(self) -> None:
        self._reopened += 1
        self.exhausted = False
        self._rests_until_s = -math.inf
