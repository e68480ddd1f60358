"""Stages `EXPIRED` and `SHORTENED`: delivered segments go, with all their copies, oldest first."""

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.capacity.stages import NOTHING_LEFT, Taken, enough_of
from cctv_storaged.clock import Clock
from cctv_storaged.journal.capacity import Candidate, CapacityRows
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.model import Camera
from cctv_storaged.pins import Pins
from cctv_storaged.removal import Remover
from cctv_storaged.retention.rules import Policy, Rule

PAGE = 256
"""Rows of a camera looked at in one call."""
PAGES = 4
"""Calls for one camera in one batch: a year under a hold is passed over bit by bit."""

Cutoff = Callable[[Rule, datetime], datetime | None]


async def all_weighed(policy: Policy, cameras: Iterable[Camera]) -> frozenset[UUID]:
    """Where nobody puts a brake on rules."""
    return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeingParts:
    """What it works with."""

    rows: CapacityRows
    remover: Remover
    pins: Pins
    clock: Clock
    distrust: Callable[[], str | None]  # why ages mean nothing now
    spares: Callable[[datetime, timedelta], bool]
    """Whether what ends then, by its name, may be younger than the limit: a wrong clock named it."""
    unweighed: Callable[[Policy, Iterable[Camera]], Awaitable[frozenset[UUID]]] = all_weighed
    """Cameras of which nothing goes by age: they wait for a yes, or for the pass that weighs their rule."""


@dataclass(slots=True)
class _Queue:
    """A camera's candidates, read ahead."""

    no: int
    camera: Camera
    waiting: deque[Candidate] = field(default_factory=deque)
    after: tuple[int, int] | None = None
    over: bool = False


class Ageing:
    """One round over one volume; the next round begins anew."""

    def __init__(
        self,
        parts: AgeingParts,
        backend: str,
        policy: Callable[[], Policy],
        *,
        cutoff: Cutoff,
        cause: Cause,
        by_priority: bool,
    ) -> None:
        """`backend`: the one whose store lies on the volume; `policy`: the rules in force, which may change
        while a round lasts; `by_priority`: low cameras first.
        """
        self._unweighed = parts.unweighed
        self._rows = parts.rows
        self._remover = parts.remover
        self._pins = parts.pins
        self._clock = parts.clock
        self._distrust = parts.distrust
        self._spares = parts.spares
        self._backend = backend
        self._policy = policy
        self._cutoff = cutoff
        self._cause = cause
        self._by_priority = by_priority
        self._queues: list[_Queue] | None = None

    async def take(self, most: int, need_bytes: int) -> Taken:
        """The oldest that may go, at most so many and no more than needed."""
        distrusted = self._distrust()
        if distrusted is not None:
            return Taken(0, 0, f"nothing goes by its age: {distrusted}")
        if self._queues is None:
            self._queues = [_Queue(no, camera) for no, camera in await self._rows.cameras()]
        policy = self._policy()
        braked = await self._unweighed(policy, [queue.camera for queue in self._queues])
        free = [queue for queue in self._queues if queue.camera.id not in braked]
        for queue in free:
            await self._fill(queue)
        if self._policy() != policy:
            return Taken(0, 0)  # nobody has weighed the rules that are in force by now
        for queue in free:
            self._look_again(queue)
        distrusted = self._distrust()  # of the clock that all were looked at by
        if distrusted is not None:
            return Taken(0, 0, f"nothing goes by its age: {distrusted}")
        chosen = enough_of(self._in_order(free), most, need_bytes)
        if not chosen:
            more = any(not queue.over for queue in free)
            return Taken(0, 0, None if more else _nothing_left(len(braked)))
        ids = {each.id for each in chosen}
        for queue in free:
            queue.waiting = deque(each for each in queue.waiting if each.id not in ids)
        gone = await self._remover.delete_many(ids, self._cause)
        return Taken(len(chosen), sum(each.size_bytes for each in gone), gone=gone)

    async def _fill(self, queue: _Queue) -> None:
        now = self._clock.now()
        before = self._cutoff(self._policy().rule_for(queue.camera), now)
        if before is None:
            queue.over = True
        for _ in range(PAGES):
            if queue.waiting or queue.over or before is None:
                return
            page = await self._rows.delivered(queue.no, self._backend, before, queue.after, PAGE)
            queue.waiting.extend(
                each
                for each in page.candidates
                if not self._pins.pinned(each.id) and not self._spares(each.end, now - before)
            )
            queue.after, queue.over = page.last or queue.after, not page.more

    def _look_again(self, queue: _Queue) -> None:
        """What was read ahead, by the rule as it is now."""
        now = self._clock.now()
        before = self._cutoff(self._policy().rule_for(queue.camera), now)
        queue.waiting = deque(
            each for each in queue.waiting if before is not None and each.aged_from <= before
        )

    def _in_order(self, queues: Iterable[_Queue]) -> Iterator[Candidate]:
        ranked = ([(self._rank(queue), each) for each in queue.waiting] for queue in queues)
        for _, each in heapq.merge(*ranked, key=lambda pair: (pair[0], pair[1].start, pair[1].id.int)):
            yield each

    def _rank(self, queue: _Queue) -> int:
        return int(self._policy().rule_for(queue.camera).priority) if self._by_priority else 0


def _nothing_left(braked: int) -> str:
    if not braked:
        return NOTHING_LEFT
    return (
        f"nothing else of it is left; {braked} cameras wait for a yes, or for the pass of retention that"
        " weighs their rule (cctv-storaged retention show)"
    )
