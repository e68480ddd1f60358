"""What comes of a delivery that failed: whose fault that was decides how the segment goes on.

The backend's (network, credentials, space): the breaker opens, nothing counts against the segment. The
segment's own: it alone waits, with back-off. The source's: the recorder side looks again. No path here
deletes bytes.
"""

import asyncio
import errno
import logging
from datetime import timedelta

from cctv_storaged.breaker import Suspects, retry_delay
from cctv_storaged.delivery.context import DeliveryContext
from cctv_storaged.delivery.telling import Telling
from cctv_storaged.delivery.turns import Turn, Turns
from cctv_storaged.errors import BackendUnavailable, JournalFull
from cctv_storaged.marking import FULL_PAUSE_S, Marking
from cctv_storaged.model import Copy, Segment, SourceState
from cctv_storaged.payloads import Payloads
from cctv_storaged.whereabouts import Whereabouts, whereabouts

log = logging.getLogger(__name__)

ATTEMPTS = 20
"""Failures of its own after which a copy waits for a human: some hours with back-off to 5 min."""
AWAY_PAUSE = timedelta(seconds=60)
"""When sources on a disk that is not there are tried again."""
NOT_FOUND = "the source is not there; it is looked for once more"
SECOND_LOOK = timedelta(seconds=30)
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
"""Errors of reading a source that say nothing about the file."""


class Failing:
    """For one backend. Every method returns when the journal has what came of it."""

    def __init__(
        self,
        backend: str,
        turns: Turns,
        payloads: Payloads,
        marking: Marking,
        context: DeliveryContext,
        telling: Telling,
    ) -> None:
        self._backend = backend
        self._turns = turns
        self._payloads = payloads
        self._marking = marking
        self._context = context
        self._clock = context.clock
        self._telling = telling
        self._suspects = Suspects()
        self._away_until: dict[tuple[str, int], float] = {}  # disks that are not there, by root and device

    def brought(self, segment: Segment) -> None:
        """The backend took this one: another that fails meanwhile may itself be at fault."""
        self._suspects.succeeded(segment.id)

    # The backend's fault

    async def unavailable(self, segment: Segment, error: BackendUnavailable, turn: Turn) -> None:
        """Where others are taken meanwhile the fault is this segment's: it waits, but is never given up.

        A right can be missing for one camera's folder, and room for a large object only.
        """
        own = self._suspects.failed(segment.id)
        if not own:
            self._turns.in_vain(segment, error, turn)
            return
        if self._turns.trouble is not None:
            self._turns.failed(error, trial=turn.trial)
        log.warning("%s alone fails: %s", segment.id, error, extra=self._telling.fields(segment))
        turn.over()
        await self._postpone(segment, str(error), retry_delay(own), counts=False)

    # The segment's own

    async def own(self, segment: Segment, copy: Copy, error: str) -> None:
        """It alone waits; after so many attempts for a human, where others were taken meanwhile."""
        self._telling.failed("put")
        counts = not self._turns.refuses_all
        if counts and copy.attempts + 1 >= ATTEMPTS:
            await self._give_up(segment, error)
            return
        fields = self._telling.fields(segment)
        log.warning("%s not delivered to %s: %s", segment.id, self._backend, error, extra=fields)
        await self._postpone(segment, error, retry_delay(copy.attempts + 1), counts=counts)

    async def not_held(self, segment: Segment, copy: Copy, error: str) -> None:
        """The backend lost the bytes or holds others: they are put anew, while there is a source."""
        self._telling.failed("verify")
        counts = not self._turns.refuses_all
        if counts and copy.attempts + 1 >= ATTEMPTS:
            await self._give_up(segment, error)
            return
        log.error("%s at %s: %s", segment.id, self._backend, error, extra=self._telling.fields(segment))
        delay = self._turns.looking_again_in(retry_delay(copy.attempts + 1))
        self._telling.if_lost(await self._marking.put_again(segment.id, error, delay, counts=counts))

    async def _give_up(self, segment: Segment, error: str) -> None:
        lost = await self._marking.failed(segment.id, error)
        self._telling.alert(f"segment {segment.id} cannot be delivered to {self._backend}: {error}")
        self._telling.if_lost(lost)

    # The source's

    async def source_unreadable(self, segment: Segment, copy: Copy, error: OSError) -> None:
        """The recorder's disk does not give the bytes."""
        if error.errno in PASSING:
            await self._postpone(segment, str(error), retry_delay(5), counts=False)
        else:
            await self.own(segment, copy, f"source cannot be read: {error}")

    async def source_changed(self, segment: Segment, copy: Copy, error: str) -> None:
        """Gone, rewritten, or on a disk that is not there. What is there now is registered first."""
        where = await self._payloads.run(lambda: whereabouts(segment, self._context.roots))
        if where is Whereabouts.AWAY:
            await self._disk_away(segment)
            return
        log.warning("%s: %s", segment.id, error, extra=self._telling.fields(segment))
        if where is Whereabouts.GONE:
            await self._not_found(segment, copy)
            return
        if not await self._looked_again(segment):
            return
        if where is Whereabouts.ANOTHER and copy.attempts + 1 >= ATTEMPTS:
            # Nobody registers what stands there: it lies outside all roots, or is never closed.
            await self._source_gone(segment, SourceState.REPLACED, "overwritten_by_recorder")
        else:
            await self._postpone(segment, error, retry_delay(copy.attempts + 1))

    async def _looked_again(self, segment: Segment) -> bool:
        """Whether what stands there was looked at. While the journal has no room it waits as it is."""
        try:
            await self._context.look_again(segment)
        except JournalFull:  # it has said so itself
            await asyncio.sleep(FULL_PAUSE_S)
            return False
        return True

    async def _not_found(self, segment: Segment, copy: Copy) -> None:
        """Not there twice is gone: once may be the moment in which somebody moves a folder back."""
        if copy.error == NOT_FOUND:
            await self._source_gone(segment, SourceState.MISSING, "source_vanished")
        else:
            await self._postpone(segment, NOT_FOUND, SECOND_LOOK, counts=False)

    async def _source_gone(self, segment: Segment, state: SourceState, cause: str) -> None:
        self._telling.if_lost(await self._marking.source_gone(segment.id, state, cause), cause)

    async def _disk_away(self, segment: Segment) -> None:
        """All that wait for this disk wait a while: asked once, not by each of a hundred thousand."""
        root, device = segment.source.root, segment.source.identity.device
        now = self._clock.monotonic()
        if self._away_until.get((root, device), 0.0) > now:
            return
        self._away_until = {disk: until for disk, until in self._away_until.items() if until > now}
        self._away_until[root, device] = now + AWAY_PAUSE.total_seconds() / 2
        error = f"{root} or its disk is not there; its segments wait for it"
        log.warning("%s", error)
        await self._marking.postpone_disk(root, device, error, AWAY_PAUSE)

    async def _postpone(self, segment: Segment, error: str, delay: timedelta, *, counts: bool = True) -> None:
        delay = self._turns.looking_again_in(delay)
        await self._marking.postpone(segment.id, error, delay, counts=counts)
