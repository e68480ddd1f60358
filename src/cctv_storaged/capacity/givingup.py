"""Stage `GIVEN_UP`: undelivered sources are lost on purpose, the oldest first, each told as a loss.

Only with `on_full: delete_oldest_undelivered`, only on a volume at its last level with nothing else left.
Two phases as everywhere: tombstone (which a hold forbids), unlink of the very file, then the loss in the
ledger. The row stays, so that a file that turns up again is known and told as found. No backend is asked:
that they cannot be reached is why it came to this, and what may have been put there is left alone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.capacity.stages import NOTHING_LEFT, Taken
from cctv_storaged.clock import Clock
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.journal.capacity import DISK_FULL, Candidate, CapacityRows
from cctv_storaged.losses import tell_loss
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera, Segment
from cctv_storaged.pins import Pins
from cctv_storaged.prune import is_the_very_file
from cctv_storaged.retention.rules import Policy, is_past
from cctv_storaged.unlinking import unlink_sources
from cctv_storaged.whereabouts import Whereabouts, whereabouts

log = logging.getLogger(__name__)

MOST = 8
"""At a time: a loss is no matter of large batches."""


class GivingUp:
    """Gives up sources; `round` goes through those below some roots."""

    def __init__(
        self,
        rows: CapacityRows,
        deliveries: Sequence[Bringing],
        pins: Pins,
        clock: Clock,
        metrics: Metrics,
        hub: EventHub,
        alarms: Alarms,
        policy: Callable[[], Policy],
        roots: Roots = UNGUARDED,
        holds_unknown: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`holds_unknown` says why there may be holds that the journal does not know."""
        self.holds_unknown = holds_unknown
        self._rows = rows
        self._deliveries = tuple(deliveries)
        self._pins = pins
        self._clock = clock
        self._metrics = metrics
        self._hub = hub
        self._alarms = alarms
        self._policy = policy
        self._roots = roots

    async def recover(self) -> None:
        """Decides about every tombstone that the last process left: what is there stays."""
        for segment in await self._rows.unfinished():
            where = await asyncio.to_thread(whereabouts, segment, self._roots)
            if where is Whereabouts.GONE:
                await self._lost(segment)
            elif where in (Whereabouts.HERE, Whereabouts.ANOTHER):
                await self._rows.keep(segment.id)

    def round(self, roots: frozenset[str]) -> "GivingUpRound":
        """From the oldest on."""
        return GivingUpRound(self, self._rows, [each.name for each in self._deliveries], roots)

    async def give_up(self, candidates: Sequence[Candidate]) -> Taken:
        """Those of them that nobody reads, puts or holds."""
        with self._withheld(candidates) as free:
            begun = await self._rows.begin_giving_up([each.id for each in free])
            failures = await asyncio.to_thread(unlink_sources, begun, is_the_very_file, self._roots.opened)
            for segment in begun:
                if segment.id in failures:
                    await self._stays(segment, failures[segment.id])
                else:
                    await self._lost(segment)
        gone = [each for each in begun if each.id not in failures]
        return Taken(len(begun), sum(each.size_bytes for each in gone), gone=gone)

    @contextmanager
    def _withheld(self, candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
        """Nobody begins to put them meanwhile; without those that are being put or read."""
        with ExitStack() as stack:
            yield [
                each
                for each in candidates
                if not self._pins.pinned(each.id)
                and all(stack.enter_context(delivery.withheld(each.id)) for delivery in self._deliveries)
            ]

    async def _stays(self, segment: Segment, error: Exception) -> None:
        log.warning("source of %s stays: %s", segment.id, error, extra={"segment_id": str(segment.id)})
        await self._rows.keep(segment.id)

    async def _lost(self, segment: Segment) -> None:
        now = self._clock.now()
        lost = await self._rows.given_up(segment.id, now)
        if lost is None:
            return
        tell_loss(self._metrics, self._hub, lost, lost.span, DISK_FULL, now)
        for _, camera in await self._rows.cameras():
            if camera.id == lost.camera_id:
                self._sound_if_promised(camera, lost)

    def _sound_if_promised(self, camera: Camera, lost: Segment) -> None:
        at_least = self._policy().rule_for(camera).at_least
        if at_least is not None and not is_past(lost.aged_from, at_least, self._clock.now()):
            text = f"undelivered footage of {lost.span} was given up on a full disk before its time"
            self._alarms.sound(AlarmName.AT_LEAST, str(camera.id), text)


class GivingUpRound:
    """What one volume may lose."""

    def __init__(
        self, giving_up: GivingUp, rows: CapacityRows, backends: Sequence[str], roots: frozenset[str]
    ) -> None:
        self._giving_up = giving_up
        self._rows = rows
        self._backends = deque(backends)
        self._roots = roots
        self._waiting: deque[Candidate] = deque()
        self._after: tuple[int, int] | None = None

    async def take(self, most: int, need_bytes: int) -> Taken:
        """The oldest, one small batch at a time and no more than needed."""
        unknown = self._giving_up.holds_unknown()
        if unknown is not None:
            return Taken(0, 0, unknown)
        while not self._waiting and self._backends:
            page = await self._rows.undelivered(self._backends[0], self._roots, self._after)
            self._waiting.extend(page.candidates)
            self._after = page.last if page.more else None
            if not page.more:
                self._backends.popleft()
            elif not self._waiting:
                return Taken(0, 0)
        if not self._waiting:
            return Taken(0, 0, NOTHING_LEFT)
        chosen: list[Candidate] = []
        while self._waiting and need_bytes > 0 and len(chosen) < min(most, MOST):
            chosen.append(self._waiting.popleft())
            need_bytes -= chosen[-1].size_bytes
        return await self._giving_up.give_up(chosen)
