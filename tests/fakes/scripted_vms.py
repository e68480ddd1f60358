"""An XProtect site in memory that does what a test tells it: for services, not for the wire.

The simulator (tests/fakes/xprotect) is what the client is tried against.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from uuid import UUID, uuid4

from cctv_storaged.backends.milestone.base import (
    Gop,
    Mark,
    Site,
    TaskProgress,
    TaskState,
    VmsCamera,
    VmsRecorder,
    VmsStorage,
)
from cctv_storaged.errors import BackendUnavailable, ObjectMissing, ObjectRejected
from cctv_storaged.model import TimeSpan
from cctv_storaged.vms.covering import Recorded, merged
from tests.fakes.scripted_footage import gop_of, overlapping, sequences
from tests.fakes.xprotect.pictures import Group, grouped, ms, pictures_of_ts

SITE = UUID("5f2c0a52-0d5c-4b37-9a53-7d3f6f6e2b01")
RECORDER, STORAGE = UUID(int=0xE), UUID(int=0x5)
CALLS = frozenset(
    {
        *("site", "cameras", "recorders", "storage", "reach", "recorded", "footage"),
        *("retrieve", "task", "clean_up", "send_event", "raise_alarm"),
        *("bookmark", "remove_bookmark", "lock", "unlock"),
    }
)


def channel(
    number: int, name: str = "Gate", *, enabled: bool = True, recording: bool = True, edge: bool = True
) -> VmsCamera:
    """A camera of the site."""
    return VmsCamera(
        id=UUID(int=0xC0 + number),
        name=name,
        enabled=enabled,
        recording_enabled=recording,
        edge_storage_enabled=edge,
        recorder_id=RECORDER,
        storage_id=STORAGE,
    )


def local_storage() -> VmsStorage:
    """One that has room and keeps footage for 30 days."""
    return VmsStorage(
        id=STORAGE,
        name="Local",
        retention=timedelta(days=30),
        size_bytes=1000,
        used_bytes=10,
        available=True,
        signed=False,
    )


def all_but(answered: Iterable[str], error: Exception) -> dict[str, Exception]:
    """`errors` of a site that can be asked these and nothing else."""
    return dict.fromkeys(CALLS.difference(answered), error)


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


@dataclass
class ScriptedVms:
    """What it is, what it holds by camera of XProtect's, and how it answers; `calls` are those made."""

    channels: list[VmsCamera] | None = field(default_factory=lambda: [channel(1)])  # None: those it recorded
    location: str = "vms.example"
    site_id: UUID = SITE
    skew: timedelta | None = timedelta(0)
    kept: VmsStorage = field(default_factory=local_storage)
    enabled: bool = True  # its recorder

    held: dict[UUID, list[TimeSpan]] = field(default_factory=dict)
    groups: dict[UUID, list[Group]] = field(default_factory=dict)  # footage, recorded besides
    edge: dict[UUID, list[TimeSpan]] = field(default_factory=dict)  # what the device still has
    bookmarks: dict[UUID, Mark] = field(default_factory=dict)
    locks: dict[UUID, Mark] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    alarms: list[tuple[UUID, str]] = field(default_factory=list)
    events: list[tuple[UUID, UUID]] = field(default_factory=list)

    away: Exception | None = None  # the whole site
    errors: dict[str, Exception] = field(default_factory=dict)  # by call, for as long as they stand here
    lost_answers: dict[str, Exception] = field(default_factory=dict)  # the call is done, and this is told
    deleted: set[UUID] = field(default_factory=set)  # cameras that somebody removed from it
    recorders_away: set[UUID] = field(default_factory=set)  # cameras of which nothing can be asked
    unreadable: set[UUID] = field(default_factory=set)  # cameras whose ImageServer does not answer
    hold: asyncio.Event | None = None  # waited for before each answer, and before the first group of footage
    before: Callable[[str], None] = lambda call: None  # asked at each call
    after: Callable[[str], None] = lambda call: None  # asked when what was ordered is done
    on_event: Callable[[UUID], None] = lambda device: None

    twice: Twice = Twice.ACCEPTED
    finishes: bool = True  # a task is done when it is asked for the first time
    fails_with: str | None = None  # tasks end in error
    bunched: bool = False  # pictures have the times of their arrival
    pause_ms: int = 3000  # a longer one ends a recording
    breaks_after: int | None = None  # groups of footage, and only then the error of "footage"

    calls: list[tuple[str, object]] = field(default_factory=list)
    at_once: int = 0  # questions for recordings
    most_at_once: int = 0

    # What it is told

    def record(self, device: UUID, *spans: TimeSpan) -> None:
        self.held[device] = list(merged([*self.held.get(device, []), *spans]))

    def film(self, device: UUID, path: Path, start: datetime) -> None:
        """It recorded a transport stream, whose first picture was taken then."""
        self.groups.setdefault(device, []).extend(grouped(*pictures_of_ts(path, start)))

    def lose(self, device: UUID, gone: TimeSpan) -> None:
        """Its retention takes what lies in the span; of footage the groups that end in it."""
        kept: list[TimeSpan] = []
        for span in self.held.get(device, []):
            for start, end in (
                (span.start, min(span.end, gone.start)),
                (max(span.start, gone.end), span.end),
            ):
                if start < end:
                    kept.append(TimeSpan(start, end))
        self.held[device] = list(merged(kept))
        if device in self.groups:
            ended = range(ms(gone.start), ms(gone.end))
            self.groups[device] = [group for group in self.groups[device] if group.last_ms not in ended]

    def finish(self, task_id: str) -> None:
        """A task is done, as `fails_with` says."""
        task = self.tasks[task_id]
        if task.state is not TaskState.RUNNING:
            return
        if self.fails_with is not None:
            task.state, task.error = TaskState.ERROR, self.fails_with
            return
        task.state = TaskState.SUCCESS
        parts = (each.clipped_to(task.span) for each in self.edge.get(task.device, []))
        self.record(task.device, *(part for part in parts if part is not None))

    @property
    def retention(self) -> timedelta | None:
        return self.kept.retention

    @retention.setter
    def retention(self, kept_for: timedelta | None) -> None:
        self.kept = replace(self.kept, retention=kept_for)

    @property
    def storage_available(self) -> bool | None:
        return self.kept.available

    @storage_available.setter
    def storage_available(self, available: bool | None) -> None:
        self.kept = replace(self.kept, available=available)

    # What it was asked

    @property
    def called(self) -> list[str]:
        """Its calls, by their names alone."""
        return [name for name, _ in self.calls]

    def count(self, call: str) -> int:
        return self.called.count(call)

    def asked(self) -> list[tuple[UUID, TimeSpan]]:
        """Spans asked for, with their camera."""
        return [what for name, what in self.calls if name == "recorded"]  # type: ignore[misc]

    def retrievals(self) -> list[tuple[UUID, TimeSpan, UUID]]:
        """What it was asked to fetch: camera, span, identifier."""
        return [what for name, what in self.calls if name == "retrieve"]  # type: ignore[misc]

    # Vms: the site

    async def site(self) -> Site:
        await self._befall("site")
        return Site(id=self.site_id, name="Site", version="25.2.1", clock_skew=self.skew)

    async def cameras(self) -> Sequence[VmsCamera]:
        await self._befall("cameras")
        listed = self.channels
        if listed is None:
            devices = dict.fromkeys((*self.held, *self.groups))
            listed = [replace(channel(0, str(device)), id=device) for device in devices]
        return [each for each in listed if each.id not in self.deleted]

    async def recorders(self) -> Sequence[VmsRecorder]:
        await self._befall("recorders")
        return [
            VmsRecorder(
                id=RECORDER,
                name="REC1",
                host="rec1",
                port=7563,
                tls=True,
                enabled=self.enabled,
                version="25.2",
            )
        ]

    async def storage(self, storage_id: UUID) -> VmsStorage:
        await self._befall("storage", storage_id)
        return self.kept

    # Vms: recordings

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
        filmed = sequences(self.groups.get(camera, []), timedelta(milliseconds=self.pause_ms))
        parts = (each.clipped_to(span) for each in (*self.held.get(camera, []), *filmed))
        return Recorded(part for part in parts if part is not None).spans

    @asynccontextmanager
    async def footage(
        self, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AsyncIterator[AsyncIterator[Gop]]:
        self._called("footage", (camera, span, stream))
        if self.breaks_after is None:
            self._fail("footage")
        wanted = overlapping(self.groups.get(camera, []), span)
        if not wanted:
            raise ObjectMissing(f"no footage of {camera} in {span}")
        yield self._given(wanted)

    async def _given(self, groups: Sequence[Group]) -> AsyncIterator[Gop]:
        await self._held_up()
        for number, group in enumerate(groups):
            if number == self.breaks_after:
                self._fail("footage")
            yield gop_of(group, bunched=self.bunched)

    def _find(self, camera: UUID) -> None:
        if camera in self.deleted:
            raise ObjectMissing(f"no camera {camera}")

    # Vms: orders

    async def retrieve(self, camera: UUID, span: TimeSpan, identifier: UUID) -> str:
        await self._befall("retrieve", (camera, span, identifier))
        known = next((each for each in self.tasks.values() if each.identifier == identifier), None)
        if known is not None and self.twice is not Twice.ACCEPTED:
            if self.twice is Twice.REJECTED:
                raise ObjectRejected("a job of this identifier is known")
            return known.id
        task = Task(id=str(uuid4()), device=camera, span=span, identifier=identifier)
        self.tasks[task.id] = task
        self._done("retrieve")
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

    async def clean_up(self, task_id: str) -> None:
        await self._befall("clean_up", task_id)
        self.tasks.pop(task_id, None)
        self._done("clean_up")

    async def send_event(self, event_id: UUID, camera: UUID) -> None:
        await self._befall("send_event", (event_id, camera))
        self.events.append((event_id, camera))
        self.on_event(camera)

    async def raise_alarm(self, camera: UUID, name: str, message: str) -> None:
        await self._befall("raise_alarm", camera)
        self.alarms.append((camera, message))

    # Vms: marks

    async def bookmark(self, mark: Mark) -> UUID:
        await self._befall("bookmark", mark)
        made = uuid4()
        self.bookmarks[made] = mark
        self._done("bookmark")
        return made

    async def remove_bookmark(self, bookmark_id: UUID) -> None:
        await self._befall("remove_bookmark", bookmark_id)
        self.bookmarks.pop(bookmark_id, None)
        self._done("remove_bookmark")

    async def lock(self, mark: Mark) -> UUID:
        await self._befall("lock", mark)
        made = uuid4()
        self.locks[made] = mark
        self._done("lock")
        return made

    async def unlock(self, lock_id: UUID) -> None:
        await self._befall("unlock", lock_id)
        self.locks.pop(lock_id, None)
        self._done("unlock")

    async def close(self) -> None:
        return

    # What befalls a call

    async def _befall(self, call: str, what: object = None) -> None:
        self._called(call, what)
        await asyncio.sleep(0)  # others come in between
        await self._held_up()
        self._fail(call)

    def _called(self, call: str, what: object) -> None:
        self.calls.append((call, what))
        self.before(call)

    async def _held_up(self) -> None:
        if self.hold is not None:
            await self.hold.wait()

    def _fail(self, call: str) -> None:
        if self.away is not None:
            raise self.away
        if call in self.errors:
            raise self.errors[call]

    def _done(self, call: str) -> None:
        self.after(call)
        if call in self.lost_answers:
            raise self.lost_answers[call]


class FindingVms(ScriptedVms):
    """A site that can be asked for marks."""

    async def bookmarks_of(self, mark: Mark) -> Sequence[UUID]:
        await self._befall("bookmarks_of", mark)
        return [each for each, made in self.bookmarks.items() if made.reference == mark.reference]

    async def locks_of(self, mark: Mark) -> Sequence[UUID]:
        await self._befall("locks_of", mark)
        return [each for each, made in self.locks.items() if made.reference == mark.reference]
