"""One backend's delivery: its turns, what is put in each, and every way that can end.

A segment's way: claimed in memory → its file opened and hashed → put under a name that says its content
→ verified → one commit to `verified`. A kill at any point leaves the journal at `pending` (or `stored`),
and doing it again is harmless. While the commit is on its way to the disk the next segment is put.
"""

import asyncio
import contextlib
import logging
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.config import TimeWindow
from cctv_storaged.delivery.context import DeliveryContext, DeliverySettings
from cctv_storaged.delivery.failing import Failing
from cctv_storaged.delivery.putting import Putting
from cctv_storaged.delivery.telling import Telling
from cctv_storaged.delivery.turns import Turn, Turns
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    JournalError,
    NotASegment,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SegmentError,
    SourceChanged,
)
from cctv_storaged.lanes import Lanes
from cctv_storaged.marking import Marking
from cctv_storaged.model import Copy, CopyState, Segment
from cctv_storaged.payloads import Payloads
from cctv_storaged.probing import probe

log = logging.getLogger(__name__)


class Delivery:
    """Delivers this host's segments to one backend until cancelled."""

    def __init__(self, backend: Backend, settings: DeliverySettings, context: DeliveryContext) -> None:
        name, copies = backend.name, context.journal.copies
        self._backend = backend
        self._context = context
        self._telling = telling = Telling(name, settings.mode, context)
        self._lanes = Lanes(name, copies, context.clock, settings.newest_share)
        self._marking = marking = Marking(name, copies, context.clock)
        self._payloads = payloads = Payloads(settings.workers, context.journal.host_id)
        self._turns = Turns(self._lanes, settings, context, telling)
        self._putting = Putting(backend, settings.prefix, payloads, marking, context, telling)
        self._failing = Failing(name, self._turns, payloads, marking, context, telling)
        telling.up()

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def trouble(self) -> str | None:
        """Why the backend is left alone right now; None while it works."""
        return self._turns.trouble

    def change(self, *, window: TimeWindow | None, newest_share: float) -> None:
        """Other limits from now on (SIGHUP)."""
        self._lanes.newest_share = newest_share
        self._turns.change(window)

    def offer(self, segment: Segment) -> None:
        """A segment that was registered this moment and has a copy here."""
        if segment.copy_at(self.name) is not None:
            self._lanes.offer(segment)
            self._turns.wake()

    def reopen(self) -> None:
        """Copies in the journal may have come due."""
        self._turns.reopen()

    def withheld(self, segment_id: UUID) -> AbstractContextManager[bool]:
        """Keeps a segment from being put while the block lasts. False: that is happening right now."""
        return self._lanes.withheld(segment_id)

    def exclusive(self, *keys: str) -> AbstractAsyncContextManager[None]:
        """Keeps all objects of the keys' families from being put and marked while the block lasts."""
        return self._putting.exclusive(*keys)

    def possible_keys(self, segment: Segment) -> tuple[str, ...]:
        """Where the segment's bytes may be at the backend, also after a kill before that was written down.

        Nowhere that anybody could tell, if neither a path nor the SHA-256 is known.
        """
        return self._putting.possible_keys(segment)

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, and waits for what is in hand at most so long."""
        self._turns.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._lanes.idle.wait()

    async def run(self) -> None:
        """Works until cancelled; what is in hand then is simply pending again."""
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as tasks:
                while True:
                    segment, turn = await self._turns.next()
                    tasks.create_task(self._one(segment, turn))
        finally:
            self._payloads.close()

    async def _prepare(self) -> None:
        """Finds out what the backend can do, as soon as it can be asked."""
        while True:
            await self._turns.to_probe()
            try:
                found = await probe(self._backend, self._context.journal.copies)
            except JournalError:
                raise
            except BackendUnavailable as exc:
                self._turns.failed(exc, trial=True)
            except BackendError as exc:
                self._turns.failed(BackendUnavailable(str(exc), reason="server"), trial=True)
            except Exception as exc:  # an answer nobody thought of must not end the host's recording
                log.exception("probing %s", self.name)
                error = BackendUnavailable(f"{type(exc).__name__}: {exc}", reason="server")
                self._turns.failed(error, trial=True)
            else:
                self._turns.works()
                log.info(
                    "backend %s at %s answers; it can: %s", self.name, self._backend.location, found.told()
                )
                return

    async def _one(self, segment: Segment, turn: Turn) -> None:
        copy = segment.copy_at(self.name)
        try:
            if copy is not None:
                await self._without_surprises(segment, copy, turn)
        finally:
            turn.over()
            self._lanes.release(segment)
            self._turns.wake()

    async def _without_surprises(self, segment: Segment, copy: Copy, turn: Turn) -> None:
        try:
            await self._deliver(segment, copy, turn)
        except JournalError:
            raise  # the process must end; what the journal has no room for waits in `Marking`
        except Exception as exc:  # the item boundary: one odd segment must not end delivery
            log.exception("delivery of %s to %s", segment.id, self.name, extra=self._telling.fields(segment))
            turn.over()
            await self._failing.own(segment, copy, f"{type(exc).__name__}: {exc}")

    async def _deliver(self, segment: Segment, copy: Copy, turn: Turn) -> None:
        """One segment; every way it can end is named here."""
        try:
            await self._bring(segment, copy, turn)
        except BackendThrottled as exc:
            self._turns.throttled(segment, exc, turn)
        except BackendUnavailable as exc:
            await self._failing.unavailable(segment, exc, turn)
        except ObjectRejected as exc:
            self._turns.refused()
            turn.over()
            await self._failing.own(segment, copy, str(exc))
        except (ObjectMissing, ObjectMismatch) as exc:
            if copy.state is CopyState.STORED:
                self._turns.works()  # asked for what it once had, it said what it has: nothing was refused
            else:
                self._turns.refused()
            turn.over()
            await self._failing.not_held(segment, copy, str(exc))
        except (SourceChanged, NotASegment) as exc:
            turn.over()
            await self._failing.source_changed(segment, copy, str(exc))
        except SegmentError as exc:
            turn.over()
            await self._failing.own(segment, copy, str(exc))
        except OSError as exc:  # the recorder's disk, not the backend
            turn.over()
            await self._failing.source_unreadable(segment, copy, exc)

    async def _bring(self, segment: Segment, copy: Copy, turn: Turn) -> None:
        async with self._putting.verified(segment, copy) as proof:
            self._turns.took()
            self._failing.brought(segment)
            turn.over()
            if await self._marking.verified(segment.id, proof):
                self._putting.marked(segment)
                self._telling.verified(segment)
