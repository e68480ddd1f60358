"""What the daemon asks of an XProtect site. The protocol and its values, nothing else.

Times are UTC; XProtect itself counts whole milliseconds on the ImageServer and tenths of microseconds in
REST. Ids are XProtect's GUIDs. Every method raises only `errors.BackendError` and below: BackendUnavailable
where the site or the recorder in question cannot be asked now (network, auth, server, clock), ObjectMissing
where it does not know what is named, Unsupported where edition or version do not offer it, ObjectRejected
where it refuses. Nothing is retried here but one request that met an expired token.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable
from uuid import UUID

from cctv_storaged.model import TimeSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The management server's own facts."""

    id: UUID
    name: str
    version: str  # YY.R.build: 25.2 is 2025 R2
    clock_skew: timedelta | None  # its clock minus ours, from the answer's own time

    @property
    def release(self) -> tuple[int, int]:
        """(25, 2) for 2025 R2; (0, 0) where its version is none that we can read."""
        year, _, rest = self.version.partition(".")
        number = rest.partition(".")[0]
        return (int(year), int(number)) if year.isdecimal() and number.isdecimal() else (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsRecorder:
    """A recording server."""

    id: UUID
    name: str
    host: str  # by which it is reached, after the settings' override
    port: int
    tls: bool
    enabled: bool
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsCamera:
    """One channel, with what its parents say."""

    id: UUID
    name: str
    enabled: bool
    recording_enabled: bool
    edge_storage_enabled: bool  # "remote recording enabled"
    recorder_id: UUID
    storage_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsStorage:
    """Where a camera's recordings are kept. What the site does not tell is None."""

    id: UUID
    name: str
    retention: timedelta | None  # with its archives: how long footage is kept in all
    size_bytes: int | None
    used_bytes: int | None
    available: bool | None
    signed: bool | None  # whether the VMS signs its database


class TaskState(StrEnum):
    """Of a job that XProtect does for us."""

    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProgress:
    """How far it is."""

    state: TaskState
    percent: int  # 0 to 100
    error: str | None  # number and text, of ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a bookmark or an evidence lock says."""

    camera_id: UUID  # XProtect's
    span: TimeSpan
    header: str
    description: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One coded picture, in Annex B (ITU-T H.264 or H.265), as it was recorded."""

    time_ms: int  # since 1970-01-01T00:00Z: when it was recorded
    key: bool
    codec: str  # "h264" or "h265"
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Gop:
    """A key picture and those that depend on it, in decoding order: one answer of the ImageServer."""

    previous_ms: int
    current_ms: int
    next_ms: int  # the same as `current_ms`, or what was asked for, at the end of the database
    pictures: tuple[Picture, ...]


class Vms(Protocol):
    """One XProtect site."""

    @property
    def location(self) -> str:
        """The management server's address, for people and labels; without credentials."""

    async def site(self) -> Site:
        """Asks anew each time: proves address, certificate and log-in."""

    async def cameras(self) -> Sequence[VmsCamera]:
        """Every camera that the user may see, disabled ones too."""

    async def recorders(self) -> Sequence[VmsRecorder]:
        """Every recording server."""

    async def storage(self, storage_id: UUID) -> VmsStorage:
        """What is known of a storage and its archives."""

    async def reach(self, camera: UUID) -> None:
        """Proves that the camera's recorder lets us read: connects to its ImageServer and leaves."""

    async def recorded(self, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        """What it holds of the span: clipped to it, sorted, disjoint."""

    async def retrieve(self, camera: UUID, span: TimeSpan, identifier: UUID) -> str:
        """Asks it to fetch the span from its device; the id of the task that does it."""

    async def task(self, task_id: str) -> TaskProgress:
        """How far a task is. ObjectMissing: it knows of none such (any more)."""

    async def clean_up(self, task_id: str) -> None:
        """The task was seen to its end, and may be forgotten; one that is unknown is success."""

    async def send_event(self, event_id: UUID, camera: UUID) -> None:
        """Triggers a user-defined event, on which a rule may act."""

    async def raise_alarm(self, camera: UUID, name: str, message: str) -> None:
        """An alarm for those who watch XProtect."""

    async def bookmark(self, mark: Mark) -> UUID:
        """The id of the bookmark that was made."""

    async def remove_bookmark(self, bookmark_id: UUID) -> None:
        """One that is not there is success."""

    async def lock(self, mark: Mark) -> UUID:
        """The id of the evidence lock that was made, shown to cover the camera."""

    async def unlock(self, lock_id: UUID) -> None:
        """One that is not there is success."""

    def footage(
        self, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Gop]]:
        """The groups of pictures that overlap the span, in order, none twice.

        Ends early where the database does; ObjectMissing where it holds nothing of the span at all.
        """

    async def close(self) -> None:
        """Logs out and gives back connections."""


@runtime_checkable
class MarkFinding(Protocol):
    """A site that can be asked for marks: how one is found again whose making was not answered."""

    async def bookmarks_of(self, mark: Mark) -> Sequence[UUID]:
        """Bookmarks on the camera, within the span, whose reference is the mark's.

        Raises Unsupported where edition or version cannot be asked.
        """

    async def locks_of(self, mark: Mark) -> Sequence[UUID]:
        """Evidence locks, likewise."""
