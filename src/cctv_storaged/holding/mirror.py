"""The mirror of holds: legal holds on the objects of held footage, where a bucket can have them.

The journal alone decides what is held; the bucket's own lock stands against everybody else who has a key to
it. Which copies lack one and which have one too many the journal knows by an index, so a round that has
nothing to do costs two look-ups. What cannot be set now is tried again, object by object and store by store.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.base import Backend, LegalHolding
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, BackendUnavailable, JournalFull
from cctv_storaged.journal.holdmarks import HoldMarks, LockTask
from cctv_storaged.journal.holds import Holds

log = logging.getLogger(__name__)

ROUND_S = 15.0
BATCH = 100
AT_ONCE = 4
"""Objects at the same time: a store's own time is mostly waiting."""
LATER_S = 600.0
"""What failed by itself, or may not be done, is not asked for again before."""


class LockingBackend(Backend, LegalHolding, Protocol):
    """A store that may have object lock."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one backend."""

    local_only: str | None = None  # why it has no legal holds
    alarming: bool = False  # it could have them; a folder never could
    away: str | None = None  # why nobody can say now


@dataclass(slots=True)
class _Later:
    """What is not asked for again before its time, by the monotonic clock."""

    not_before: float = 0.0  # nothing at all
    not_off_before: float = 0.0  # nothing is taken off
    objects: dict[int, float] = field(default_factory=dict)  # those that failed by themselves


class Mirror:
    """Sets and takes off legal holds, a round at a time."""

    def __init__(
        self, marks: HoldMarks, holds: Holds, backends: Sequence[Backend], clock: Clock, alarms: Alarms
    ) -> None:
        self._marks = marks
        self._holds = holds
        self._backends = tuple(backends)
        self._clock = clock
        self._alarms = alarms
        self._standing = {backend.name: _at_first(backend) for backend in backends}
        self._later = {backend.name: _Later() for backend in backends}
        self._wake = asyncio.Event()
        self._one_round = asyncio.Lock()
        self.holds_unknown: Callable[[], str | None] = lambda: None
        """Why there may be holds that the journal does not know; no legal hold is taken off then."""

    @property
    def standing(self) -> Mapping[str, Standing]:
        """How it stands, by backend, as the last round found it."""
        return self._standing

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            self._wake.clear()
            with suppress(JournalFull):  # it has said so itself
                await self.run_once()
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()

    async def run_once(self) -> None:
        """One round over all backends; two at once would set what the other has just taken off."""
        async with self._one_round:
            in_force = await self._holds.count()
            for backend in self._backends:
                if self._clock.monotonic() >= self._later[backend.name].not_before:
                    self._standing[backend.name] = await self._round(backend)
                self._tell(backend, in_force)

    async def waiting(self, backend: str) -> bool:
        """Whether any copy at the backend still lacks its legal hold."""
        return bool(await self._marks.to_lock(backend, 0, 1))

    async def _round(self, backend: Backend) -> Standing:
        if not isinstance(backend, LegalHolding):
            await self._forget(backend.name)
            return _at_first(backend)
        try:
            if not await _can_lock(backend):  # or this key may not ask: what is to come off stays noted
                told = f"the bucket {backend.location} was made without object lock"
                return Standing(local_only=told, alarming=True)
            await self._take_off(backend)
            await self._all(backend, self._marks.to_lock, on=True)
        except BackendUnavailable as exc:
            if exc.reason != "auth":
                return Standing(away=str(exc))
            self._later[backend.name].not_before = self._clock.monotonic() + LATER_S
            return Standing(local_only=str(exc), alarming=True)
        except BackendError as exc:
            return Standing(away=str(exc))
        return Standing()

    async def _forget(self, backend: str) -> None:
        """In a folder no legal hold can be, and so none has to be taken off."""
        while tasks := await self._marks.to_unlock(backend, 0, BATCH):
            await self._marks.unlocked(backend, [task.segment_no for task in tasks])

    async def _take_off(self, backend: LockingBackend) -> None:
        """A key that may not take off what it may set is no reason to set no more."""
        later, now = self._later[backend.name], self._clock.monotonic()
        if now < later.not_off_before or self.holds_unknown() is not None:
            return
        try:
            await self._all(backend, self._marks.to_unlock, on=False)
        except BackendUnavailable as exc:
            if exc.reason != "auth":
                raise
            later.not_off_before = now + LATER_S
            log.warning("legal holds of released footage stay at %s for now: %s", backend.name, exc)

    async def _all(
        self,
        backend: LockingBackend,
        tasks_of: Callable[[str, int, int], Awaitable[list[LockTask]]],
        *,
        on: bool,
    ) -> None:
        """Raises BackendUnavailable where the next would meet the same."""
        after = 0
        while tasks := await tasks_of(backend.name, after, BATCH):
            after = tasks[-1].segment_no
            await self._each(backend, tasks, on=on)

    async def _each(self, backend: LockingBackend, tasks: Sequence[LockTask], *, on: bool) -> None:
        now, later = self._clock.monotonic(), self._later[backend.name].objects
        due = [task for task in tasks if later.get(task.segment_no, 0.0) <= now]
        for first in range(0, len(due), AT_ONCE):
            some = due[first : first + AT_ONCE]
            errors = await asyncio.gather(*(self._try(backend, task, on=on) for task in some))
            for task, error in zip(some, errors, strict=True):
                if isinstance(error, BackendUnavailable):
                    raise error
                later.pop(task.segment_no, None)
                if error is not None:
                    later[task.segment_no] = now + LATER_S

    async def _try(self, backend: LockingBackend, task: LockTask, *, on: bool) -> BackendError | None:
        """What was in the way, None where it is as it should be and the journal knows."""
        try:
            if task.path is not None and (on or not task.needed):
                await backend.set_legal_hold(task.path, on)
        except BackendUnavailable as exc:
            return exc
        except BackendError as exc:
            told = "the legal hold of %s at %s is not %s, tried again: %s"
            log.warning(told, task.segment_id, backend.name, "set" if on else "taken off", exc)
            return exc
        if on:
            await self._marks.locked(backend.name, task)
        else:
            await self._marks.unlocked(backend.name, [task.segment_no])
        return None

    def _tell(self, backend: Backend, in_force: int) -> None:
        subject, standing = f"{backend.name} {backend.location}", self._standing[backend.name]
        if standing.away is not None and in_force:
            return  # nobody can say now: what was said last stands
        if standing.local_only is None or not standing.alarming or not in_force:
            self._alarms.end(AlarmName.HOLD_LOCAL, subject)
            return
        hint = "give the key the right to set legal holds, or deliver into a bucket made with object lock"
        told = f"{in_force} holds stand in the journal only: {standing.local_only} ({hint})"
        self._alarms.sound(AlarmName.HOLD_LOCAL, subject, told)


def _at_first(backend: Backend) -> Standing:
    """Before anybody has asked it."""
    if isinstance(backend, LegalHolding):
        return Standing(away="it was not asked yet")
    return Standing(local_only=f"{backend.name} is a folder, which has no legal holds")


async def _can_lock(backend: LockingBackend) -> bool:
    found = await backend.object_lock()
    if found is None:  # nobody has tried it yet
        return (await backend.probe()).object_lock
    return found
