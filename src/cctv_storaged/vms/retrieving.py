"""Having XProtect fetch footage from its device: written down, asked for, followed to its end.

    row in the journal → asked → task known → polled → its span looked at → task cleaned up → row gone

A kill between any two of these is taken up from the row: with a task it is polled; without one nobody knows
whether XProtect was asked, so the span is looked at first, and then asked for under the same identifier.
Whether XProtect then refuses the second, or makes one of both, is the same to us.
"""

import asyncio
import contextlib
import logging
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from cctv_storaged.backends.milestone.base import TaskState
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import BackendError, BackendUnavailable, JournalError, ObjectMissing
from cctv_storaged.journal.retrievals import Retrieval
from cctv_storaged.model import NAMESPACE, TimeSpan
from cctv_storaged.vms.attendance import NAME, Attendance
from cctv_storaged.vms.ground import Ground, ProvingSettings
from cctv_storaged.vms.keeping import kept
from cctv_storaged.vms.telling import Telling

log = logging.getLogger(__name__)

SOONEST_S, POLL_S, IDLE_S = 0.5, 5.0, 60.0
"""A task is asked for soon at first, and then every few seconds."""
EVENT = "event"
"""Stands for the task of a retrieval that a rule of XProtect's does: nobody tells how far it is."""
LOOKS = 5
"""At what may have been fetched, where no task tells: after the settle time, twice that, …; then it came to
nothing."""
CLEANING_TRIES = 5
WANTED = 64
"""Spans that wait in memory for their turn; the others are found again by looking."""

VAIN_TRIES = 3
"""Steps that fail for a camera alone before another has its place: looking finds it again."""
LONGEST = timedelta(minutes=15)
"""No retrieval is given up before, however short the deadline is."""


class Concluding(Protocol):
    """Who looks at what was to be fetched."""

    async def look_at(self, retrieval: Retrieval) -> bool:
        """Asks whether it is there by now. False: nobody could ask."""

    async def conclude(self, retrieval: Retrieval, error: str | None) -> bool:
        """The same, and nothing more comes of this retrieval: what is missing still waits for another try."""


def identifier_of(camera_id: UUID, span: TimeSpan, tried: int = 0) -> UUID:
    """Follows from camera, span and how often it was tried in vain: the same try asked for twice is the same.

    The next try is another one: XProtect may refuse an identifier for good whose retrieval it has ended.
    """
    again = f" {tried}" if tried else ""
    return uuid.uuid5(NAMESPACE, f"retrieval {camera_id} {rfc3339(span.start)} {rfc3339(span.end)}{again}")


@dataclass(slots=True)
class _Running:
    """One under way, as this process knows it."""

    retrieval: Retrieval
    asked_here: bool  # it is sure whether XProtect was asked: no need to look first
    blind: bool = False  # it was asked for twice and refused once: the first asking may be at work
    looks: int = 0
    polls: int = 0
    vain: int = 0
    cleaning: int = 0
    not_before_s: float = 0.0


class Retrieving:
    """All retrievals of a site: one per camera, some in all. On the event loop only."""

    def __init__(
        self,
        ground: Ground,
        settings: ProvingSettings,
        attendance: Attendance,
        telling: Telling,
        concluding: Concluding,
    ) -> None:
        self.settings = settings
        self._ground = ground
        self._rows = ground.journal.retrievals
        self._clock = ground.clock
        self._attendance = attendance
        self._telling = telling
        self._concluding = concluding
        self._running: dict[UUID, _Running] = {}  # by camera
        self._others: list[Retrieval] = []  # of a camera that has one already; left by an earlier process
        self._wanted: OrderedDict[UUID, tuple[TimeSpan, int]] = OrderedDict()
        self._wake = asyncio.Event()

    async def load(self) -> None:
        """Takes up what an earlier process left."""
        for row in await self._rows.all():
            self._take_up(row)

    def is_under_way(self, camera_id: UUID, span: TimeSpan) -> bool:
        """Whether what is being fetched has any of the span in it."""
        running = self._running.get(camera_id)
        return running is not None and running.retrieval.span.overlaps(span)

    @property
    def under_way(self) -> int:
        return len(self._running)

    def want(self, camera_id: UUID, span: TimeSpan, tried: int) -> None:
        """It is to be fetched: now, or when its turn comes; for one camera the latest wish counts.

        `tried`: how often that was done in vain.
        """
        if self.is_under_way(camera_id, span):
            return
        self._wanted[camera_id] = (span, tried)
        while len(self._wanted) > WANTED:
            self._wanted.popitem(last=False)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            if self._attendance.open:
                await self._begin_some()
                await self._follow_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._wake.wait()

    def _wait_s(self) -> float:
        if not self._attendance.open:
            return POLL_S
        now_s = self._clock.monotonic()
        waits = [running.not_before_s - now_s for running in self._running.values()]
        return max(SOONEST_S, min(POLL_S, *waits)) if waits else IDLE_S

    def _look_s(self, number: int) -> float:
        """How long until the next look, `number` of them being behind."""
        return float(2**number * max(1.0, self.settings.rules.settle.total_seconds()))

    def _later(self, running: _Running, seconds: float) -> None:
        running.not_before_s = self._clock.monotonic() + seconds

    # Beginning

    def _take_up(self, row: Retrieval) -> None:
        if row.camera_id in self._running:
            self._others.append(row)
        else:
            self._running[row.camera_id] = _Running(row, asked_here=row.task is not None)

    def _may_begin(self) -> bool:
        window = self.settings.window
        is_open = window is None or window.contains(self._clock.now())
        return is_open and len(self._running) < self.settings.max_retrievals

    async def _begin_some(self) -> None:
        for camera_id in list(self._wanted):
            if not self._may_begin():
                return
            if camera_id not in self._running and self._attendance.may_ask(camera_id):
                await self._begin(camera_id, *self._wanted.pop(camera_id))

    async def _begin(self, camera_id: UUID, span: TimeSpan, tried: int) -> None:
        row = Retrieval(
            identifier=identifier_of(camera_id, span, tried),
            camera_id=camera_id,
            span=span,
            task=None,
            asked_at=self._clock.now(),
        )
        self._running[camera_id] = running = _Running(row, asked_here=True)
        await kept(lambda: self._rows.begin(row))
        await self._guarded(running, self._ask)

    # Following

    async def _follow_all(self) -> None:
        now_s = self._clock.monotonic()
        for running in list(self._running.values()):
            if running.not_before_s <= now_s and self._attendance.may_ask(running.retrieval.camera_id):
                await self._guarded(running, self._follow)
            if not self._attendance.open:
                return

    async def _guarded(self, running: _Running, step: Callable[[_Running], Awaitable[None]]) -> None:
        camera_id = running.retrieval.camera_id
        try:
            await step(running)
        except BackendError as exc:
            await self._in_vain(running, exc)
        except JournalError:
            raise
        except Exception as exc:  # the item boundary
            log.exception("retrieving %s", running.retrieval.span, extra={"camera_id": str(camera_id)})
            await self._in_vain(running, BackendError(f"{type(exc).__name__}: {exc}"))
        else:
            running.vain = 0

    async def _in_vain(self, running: _Running, error: BackendError) -> None:
        """A camera whose recorder is away must not have the place of others for long."""
        self._attendance.failed(error, running.retrieval.camera_id)
        self._later(running, self.settings.backoff.after(running.vain + 1).total_seconds())
        await self._make_way(running)

    async def _make_way(self, running: _Running) -> None:
        running.vain += 1
        if running.vain >= VAIN_TRIES and self._attendance.open:
            await self._end(running)

    async def _ask(self, running: _Running) -> None:
        """Raises BackendUnavailable where nobody knows whether XProtect was asked."""
        row = running.retrieval
        device = await self._ground.mapping.device_of(row.camera_id)
        if device is None:
            await self._end(running)
            return
        running.asked_here = False  # until there is an answer
        try:
            if self.settings.rules.ingest == "event_retrieval":
                task = await self._send_event(device)
            else:
                task = await self._ground.vms.retrieve(device, row.span, row.identifier)
        except BackendUnavailable:
            raise
        except BackendError as exc:
            await self._refused(running, exc)
            return
        self._attendance.works(row.camera_id)
        running.asked_here = True
        running.retrieval = replace(row, task=task)
        self._later(running, self._look_s(0) if task == EVENT else SOONEST_S)
        await kept(lambda: self._rows.answered(row.identifier, task))
        name = await self._telling.name_of(row.camera_id)
        log.info("XProtect is to fetch %s of camera %s", row.span, name, extra=_fields(row))

    async def _send_event(self, device: UUID) -> str:
        event_id = self.settings.event_id
        if event_id is None:
            raise BackendError("milestone.retrieval_event_id names no event")
        await self._ground.vms.send_event(event_id, device)
        return EVENT

    async def _refused(self, running: _Running, error: BackendError) -> None:
        """Of a second asking it says nothing of the first, which may be at work: looking will show."""
        if running.looks == 0:
            await self._over(running, f"the retrieval was refused: {error}")
        else:
            running.blind, running.looks = True, 0
            self._later(running, self._look_s(0))

    async def _follow(self, running: _Running) -> None:
        row = running.retrieval
        if running.blind or row.task == EVENT:
            await self._look_for(running)
        elif row.task is None:
            await self._look_first(running)
        else:
            await self._poll(running, row.task)

    async def _look_first(self, running: _Running) -> None:
        """Perhaps it was fetched already, by the asking whose answer nobody saw."""
        if not running.asked_here:
            running.looks += 1
            if await self._is_there(running):
                await self._end(running)
                return
        await self._ask(running)

    async def _look_for(self, running: _Running) -> None:
        """Nobody tells how far it is: it is there, or in the end it came to nothing."""
        running.looks += 1
        if await self._is_there(running):
            await self._end(running)
        elif running.looks >= LOOKS:
            told = "it was asked for twice and refused once" if running.blind else "the event was sent"
            await self._over(running, f"{told}, and the footage did not come")
        else:
            self._later(running, self._look_s(running.looks))

    async def _poll(self, running: _Running, task: str) -> None:
        row = running.retrieval
        try:
            progress = await self._ground.vms.task(task)
        except ObjectMissing:
            await self._over(running, "XProtect knows the task no longer")
            return
        self._attendance.works(row.camera_id)
        if progress.state is TaskState.RUNNING:
            age = self._clock.now() - row.asked_at
            if age < max(self.settings.rules.deadline, LONGEST):
                self._later(running, min(POLL_S, SOONEST_S * 2.0 ** min(running.polls, 9)))
                running.polls += 1
                return
            await self._over(running, f"it is not done after {age}, at {progress.percent} %", task)
        elif progress.state is TaskState.ERROR:
            await self._over(
                running, f"XProtect could not fetch it: {progress.error or 'no reason given'}", task
            )
        else:
            await self._over(running, None, task)

    # Its end

    async def _is_there(self, running: _Running) -> bool:
        """Whether nothing of the span is waited for any more."""
        row = running.retrieval
        if not await self._concluding.look_at(row):
            return False
        now = self._clock.now()
        return not await self._ground.journal.vouched.within(NAME, row.camera_id, row.span, now)

    async def _over(self, running: _Running, error: str | None, task: str | None = None) -> None:
        """The span is looked at before the row goes: a kill in between only looks once more."""
        row = running.retrieval
        if error is not None:
            log.warning("retrieval of %s: %s", row.span, error, extra=_fields(row))
            self._ground.metrics.errors.labels("retrieve", NAME).inc()
        if not await self._concluding.conclude(row, error):
            await self._make_way(running)  # it could not be looked at: later, or by others
            return
        if task is not None and not await self._cleaned(running, task):
            return
        await self._end(running)

    async def _cleaned(self, running: _Running, task: str) -> bool:
        """A task that cannot be cleaned up is left in the end: it is XProtect's own list that grows."""
        try:
            await self._ground.vms.clean_up(task)
        except BackendError as exc:
            running.cleaning += 1
            log.warning("task %s of XProtect is not cleaned up: %s", task, exc)
            return running.cleaning >= CLEANING_TRIES
        return True

    async def _end(self, running: _Running) -> None:
        row = running.retrieval
        await kept(lambda: self._rows.end(row.identifier))
        self._running.pop(row.camera_id, None)
        for other in [each for each in self._others if each.camera_id == row.camera_id][:1]:
            self._others.remove(other)
            self._take_up(other)
        self._wake.set()


def _fields(row: Retrieval) -> dict[str, str]:
    return {"camera_id": str(row.camera_id), "backend": NAME}
