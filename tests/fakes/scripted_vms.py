"""An XProtect site in memory that does what a test tells it: for services, not for the wire.

The simulator (tests/fakes/xprotect) is what the client is tried against.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
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
from cctv_storaged.errors import BackendError
from cctv_storaged.model import TimeSpan

RECORDER, STORAGE = UUID(int=0xE), UUID(int=0x5)


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


@dataclass
class ScriptedVms:
    """`errors` befall a call by its name, as long as they stand there; `calls` are those made."""

    channels: list[VmsCamera] = field(default_factory=lambda: [channel(1)])
    skew: timedelta | None = timedelta(0)
    held: dict[UUID, list[TimeSpan]] = field(default_factory=dict)
    kept: VmsStorage = field(
        default_factory=lambda: VmsStorage(
            id=STORAGE,
            name="Local",
            retention=timedelta(days=30),
            size_bytes=1000,
            used_bytes=10,
            available=True,
            signed=False,
        )
    )
    enabled: bool = True
    errors: dict[str, BackendError] = field(default_factory=dict)
    after: dict[str, BackendError] = field(default_factory=dict)  # the call is done, and its answer lost
    calls: list[str] = field(default_factory=list)
    bookmarks: dict[UUID, Mark] = field(default_factory=dict)
    locks: dict[UUID, Mark] = field(default_factory=dict)

    @property
    def location(self) -> str:
        return "https://mgmt.example"

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def _answers(self, name: str) -> None:
        if name in self.after:
            raise self.after[name]

    async def site(self) -> Site:
        self._called("site")
        return Site(id=UUID(int=0x51), name="Site", version="25.2.1", clock_skew=self.skew)

    async def cameras(self) -> Sequence[VmsCamera]:
        self._called("cameras")
        return self.channels

    async def recorders(self) -> Sequence[VmsRecorder]:
        self._called("recorders")
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
        self._called("storage")
        return self.kept

    async def reach(self, camera: UUID) -> None:
        self._called("reach")

    async def recorded(self, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        self._called("recorded")
        parts = (each.clipped_to(span) for each in self.held.get(camera, ()))
        return sorted(part for part in parts if part is not None)

    async def retrieve(self, camera: UUID, span: TimeSpan, identifier: UUID) -> str:
        self._called("retrieve")
        return str(identifier)

    async def task(self, task_id: str) -> TaskProgress:
        self._called("task")
        return TaskProgress(state=TaskState.SUCCESS, percent=100, error=None)

    async def clean_up(self, task_id: str) -> None:
        self._called("clean_up")

    async def send_event(self, event_id: UUID, camera: UUID) -> None:
        self._called("send_event")

    async def raise_alarm(self, camera: UUID, name: str, message: str) -> None:
        self._called("raise_alarm")

    async def bookmark(self, mark: Mark) -> UUID:
        self._called("bookmark")
        made = uuid4()
        self.bookmarks[made] = mark
        self._answers("bookmark")
        return made

    async def remove_bookmark(self, bookmark_id: UUID) -> None:
        self._called("remove_bookmark")
        self.bookmarks.pop(bookmark_id, None)
        self._answers("remove_bookmark")

    async def lock(self, mark: Mark) -> UUID:
        self._called("lock")
        made = uuid4()
        self.locks[made] = mark
        self._answers("lock")
        return made

    async def unlock(self, lock_id: UUID) -> None:
        self._called("unlock")
        self.locks.pop(lock_id, None)
        self._answers("unlock")

    def footage(
        self, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Gop]]:
        @asynccontextmanager
        async def nothing() -> AsyncIterator[AsyncIterator[Gop]]:
            self._called("footage")

            async def none() -> AsyncIterator[Gop]:
                return
                yield

            yield none()

        return nothing()

    async def close(self) -> None:
        self._called("close")


class FindingVms(ScriptedVms):
    """A site that can be asked for marks."""

    async def bookmarks_of(self, mark: Mark) -> Sequence[UUID]:
        self._called("bookmarks_of")
        return [each for each, made in self.bookmarks.items() if made.reference == mark.reference]

    async def locks_of(self, mark: Mark) -> Sequence[UUID]:
        self._called("locks_of")
        return [each for each, made in self.locks.items() if made.reference == mark.reference]
