"""A stand-in for an XProtect site that records and retrieves by order: spans, tasks, events, alarms.

For tests of what is proven by it; the wire has its own tests with the simulator.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

from cctv_storaged.backends.milestone.base import Site, TaskProgress, TaskState, VmsCamera, VmsStorage
from cctv_storaged.errors import BackendUnavailable, ObjectMissing, ObjectRejected
from cctv_storaged.model import TimeSpan
from cctv_storaged.vms.covering import Recorded, merged

SITE = UUID("5f2c0a52-0d5c-4b37-9a53-7d3f6f6e2b01")
RECORDER = UUID(int=77)
STORAGE = UUID(int=88)


class Twice(Enum):
    """What it does with an identifier that it knows already (not established for a real one)."""

    ACCEPTED = "accepted"  # another task
    MERGED = "merged"  # the same task
    REJECTED = "rejected"


@dataclass(slots=True)
class Task:
    """A retrieval."""

    id: str
    device: UUID
    span: TimeSpan
    identifier: UUID
    state: TaskState = TaskState.RUNNING
    error: str | None = None


@dataclass(slots=True)
class CoveringVms:
    """What it holds, by camera of XProtect's, and how it answers. `before` is asked at each call."""

    held: dict[UUID, list[TimeSpan]] = field(default_factory=dict)
    retention: timedelta = timedelta(days=30)
    edge: dict[UUID, list[TimeSpan]] = field(default_factory=dict)  # what the device still has
    away: Exception | None = None  # the whole site
    recorders_away: set[UUID] = field(default_factory=set)  # cameras of which nothing can be asked
    unreadable: set[UUID] = field(default_factory=set)  # cameras whose ImageServer does not answer
    storage_available: bool = True
    deleted: set[UUID] = field(default_factory=set)  # cameras that somebody removed from it
    site_id: UUID = SITE
    skew: timedelta | None = None
    twice: Twice = Twice.ACCEPTED
    finishes: bool = True  # a task is done when it is asked for the first time
    fails_with: str | None = None  # tasks end in error
    refuses: Exception | None = None  # retrievals
    before: Callable[[str], None] = lambda call: None
    after: Callable[[str], None] = lambda call: None
    tasks: dict[str, Task] = field(default_factory=dict)
    calls: list[tuple[str, object]] = field(default_factory=list)
    alarms: list[tuple[UUID, str]] = field(default_factory=list)
    events: list[tuple[UUID, UUID]] = field(default_factory=list)
    on_event: Callable[[UUID], None] = lambda device: None
    hold: asyncio.Event | None = None  # waited for before each answer
    at_once: int = 0
    most_at_once: int = 0
    location: str = "vms.example"

    # Orders

    def record(self, device: UUID, *spans: TimeSpan) -> None:
        self.held[device] = list(merged([*self.held.get(device, []), *spans]))

    def lose(self, device: UUID, gone: TimeSpan) -> None:
        """Its retention takes what lies in the span."""
        kept: list[TimeSpan] = []
        for span in self.held.get(device, []):
            for start, end in (
                (span.start, min(span.end, gone.start)),
                (max(span.start, gone.end), span.end),
            ):
                if start < end:
                    kept.append(TimeSpan(start, end))
        self.held[device] = list(merged(kept))

    def count(self, call: str) -> int:
        return sum(name == call for name, _ in self.calls)

    def asked(self) -> list[tuple[UUID, TimeSpan]]:
        """Spans asked for, with their camera."""
        return [what for name, what in self.calls if name == "recorded"]  # type: ignore[misc]

    def retrievals(self) -> list[tuple[UUID, TimeSpan, UUID]]:
        """What it was asked to fetch: camera, span, identifier."""
        return [what for name, what in self.calls if name == "retrieve"]  # type: ignore[misc]

    # Vms

    async def site(self) -> Site:
        await self._befall("site", None)
        return Site(id=self.site_id, name="site", version="25.2", clock_skew=self.skew)

    async def cameras(self) -> Sequence[VmsCamera]:
        await self._befall("cameras", None)
        return [
            VmsCamera(
                id=device,
                name=str(device),
                enabled=True,
                recording_enabled=True,
                edge_storage_enabled=True,
                recorder_id=RECORDER,
                storage_id=STORAGE,
            )
            for device in self.held
            if device not in self.deleted
        ]

    async def storage(self, storage_id: UUID) -> VmsStorage:
        await self._befall("storage", storage_id)
        return VmsStorage(
            id=storage_id,
            name="storage",
            retention=self.retention,
            size_bytes=None,
            used_bytes=None,
            available=self.storage_available,
            signed=None,
        )

    async def reach(self, camera: UUID) -> None:
        await self._befall("reach", camera)
        self._find(camera)
        if camera in self.unreadable:
            raise BackendUnavailable("the recorder does not answer")

    async def recorded(self, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._befall("recorded", (camera, span))
        finally:
            self.at_once -= 1
        self._find(camera)
        if camera in self.recorders_away:
            raise BackendUnavailable("the recorder does not answer")
        parts = (each.clipped_to(span) for each in self.held.get(camera, []))
        return Recorded(part for part in parts if part is not None).spans

    def _find(self, camera: UUID) -> None:
        if camera in self.deleted:
            raise ObjectMissing(f"no camera {camera}")

    async def retrieve(self, camera: UUID, span: TimeSpan, identifier: UUID) -> str:
        await self._befall("retrieve", (camera, span, identifier))
        if self.refuses is not None:
            raise self.refuses
        known = next((each for each in self.tasks.values() if each.identifier == identifier), None)
        if known is not None and self.twice is not Twice.ACCEPTED:
            if self.twice is Twice.REJECTED:
                raise ObjectRejected("a job of this identifier is known")
            return known.id
        task = Task(id=str(uuid4()), device=camera, span=span, identifier=identifier)
        self.tasks[task.id] = task
        self.after("retrieve")
        return task.id

    async def task(self, task_id: str) -> TaskProgress:
        await self._befall("task", task_id)
        if task_id not in self.tasks:
            raise ObjectMissing(f"no task {task_id}")
        if self.finishes:
            self.finish(task_id)
        task = self.tasks[task_id]
        done = task.state is not TaskState.RUNNING
        return TaskProgress(state=task.state, percent=100 if done else 40, error=task.error)

    def finish(self, task_id: str) -> None:
        """It is done, as `fails_with` says."""
        task = self.tasks[task_id]
        if task.state is not TaskState.RUNNING:
            return
        if self.fails_with is not None:
            task.state, task.error = TaskState.ERROR, self.fails_with
            return
        task.state = TaskState.SUCCESS
        parts = (each.clipped_to(task.span) for each in self.edge.get(task.device, []))
        self.record(task.device, *(part for part in parts if part is not None))

    async def clean_up(self, task_id: str) -> None:
        await self._befall("clean_up", task_id)
        self.tasks.pop(task_id, None)
        self.after("clean_up")

    async def send_event(self, event_id: UUID, camera: UUID) -> None:
        await self._befall("send_event", (event_id, camera))
        self.events.append((event_id, camera))
        self.on_event(camera)

    async def raise_alarm(self, camera: UUID, name: str, message: str) -> None:
        await self._befall("raise_alarm", camera)
        self.alarms.append((camera, message))

    async def close(self) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks the stand-in for {name}")

    async def _befall(self, call: str, what: object) -> None:
        self.calls.append((call, what))
        self.before(call)
        await asyncio.sleep(0)  # others come in between
        if self.hold is not None:
            await self.hold.wait()
        if self.away is not None:
            raise self.away


@dataclass(slots=True)
class OneToOne:
    """A mapping: XProtect's camera has our id with another first byte; of `unknown` there is none."""

    unknown: set[UUID] = field(default_factory=set)
    others: dict[UUID, UUID] = field(default_factory=dict)  # that are mapped otherwise

    async def device_of(self, camera_id: UUID) -> UUID | None:
        return None if camera_id in self.unknown else self.others.get(camera_id, device_of(camera_id))

    def why_not(self, camera_id: UUID) -> str | None:
        return "it has no counterpart" if camera_id in self.unknown else None


def device_of(camera_id: UUID) -> UUID:
    """XProtect's GUID of our camera."""
    return UUID(int=camera_id.int ^ (0xFF << 120))


def hours(start: datetime, count: float) -> TimeSpan:
    return TimeSpan(start, start + timedelta(hours=count))
