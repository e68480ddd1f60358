"""What cataloguing asks of the fleet's shared index. The protocol and its values, nothing else.

Rows go in from the journal of each host, and come out for `scope=fleet`. The catalog does not know files,
backends or HTTP; it never retries for long: whoever calls waits after `CatalogUnavailable` and tries again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from cctv_storaged.catalog.exports import CatalogExport
from cctv_storaged.catalog.hosts import Heard, HostWord, KnownHost
from cctv_storaged.clock import MICROSECOND
from cctv_storaged.model import TimeSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogCopy:
    """One segment at one backend, as the fleet sees it."""

    backend: str
    path: str | None  # object key or path inside the backend; known once stored
    state: str  # a model.CopyState; text, since a newer host may know more states
    stored_at: datetime | None = None
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRow:
    """Everything of one segment that the catalog keeps. Times are aware UTC.

    Paths may hold any bytes as os.fsdecode gives them; they come out as they went in.
    """

    id: UUID
    host_id: str  # "" for a row that another program wrote
    camera_id: UUID
    start_time: datetime
    end_time: datetime
    duration_seconds: int  # whole seconds, see `whole_seconds`; the exact span is start_time to end_time
    size_bytes: int
    storage_backend: str  # the backend that answers for the bytes: MINIO, S3, FILESYSTEM, MILESTONE
    storage_path: str
    checksum: str | None  # SHA-256, 64 hex digits
    created_at: datetime | None  # None only in rows of another program
    flags: tuple[str, ...] = ()
    copies: tuple[CatalogCopy, ...] = ()  # at most one per backend; in the order of backend names when read

    def __post_init__(self) -> None:
        # PostgreSQL's driver would read a naive time as local time, and store another moment.
        for moment in (self.start_time, self.end_time, self.created_at, *_times_of(self.copies)):
            if moment is not None and moment.tzinfo is not UTC:
                raise ValueError(f"a catalog row needs aware UTC times, got {moment!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogQuery:
    """The segments of one camera, of any host, that overlap `span`; oldest first, at most `limit` of them.

    `after` is the `next` of the page before.
    """

    camera_id: UUID
    span: TimeSpan
    limit: int
    after: tuple[datetime, UUID] | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"a page holds at least one row, got a limit of {self.limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogPage:
    """Rows in the order of (start_time, id), and where the next page begins; None when this was the last."""

    rows: tuple[CatalogRow, ...]
    next: tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that the catalog will not take however often it is offered, and why."""

    id: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertResult:
    """What became of the rows offered: each id is in one of the two."""

    stored: tuple[UUID, ...] = ()
    refused: tuple[RefusedRow, ...] = ()

    def __add__(self, other: "UpsertResult") -> "UpsertResult":
        return UpsertResult(stored=self.stored + other.stored, refused=self.refused + other.refused)


class Catalog(Protocol):
    """The fleet's shared index. Raises only `errors.CatalogUnavailable`; every method may be called twice."""

    async def open(self) -> None:
        """Get ready to connect; connects to nothing, so an absent server is no error here."""

    async def upsert(self, rows: Sequence[CatalogRow]) -> UpsertResult:
        """Make the catalog say what `rows` say, of this host's segments; copies not named any more go.

        A row that cannot be stored is named in the result and keeps no other row out. After
        CatalogUnavailable any part of `rows` may be stored; offering all of them again is harmless.
        """

    async def remove(self, ids: Iterable[UUID]) -> int:
        """Remove this host's rows of these ids, with their copies; how many there were."""

    async def upsert_exports(self, rows: Sequence[CatalogExport]) -> tuple[RefusedRow, ...]:
        """Make the catalog say what `rows` say, of this host's exports; those that it will not take."""

    async def remove_exports(self, ids: Iterable[UUID]) -> None:
        """Remove the rows of these exports of this host."""

    async def tell_host(self, word: HostWord) -> Heard:
        """Make the catalog say how this host is; what stood there before."""

    async def hosts(self) -> tuple[KnownHost, ...]:
        """What every host said last, by name; of several journals of one name the latest first."""

    async def find(self, query: CatalogQuery) -> CatalogPage:
        """One page of what all hosts have."""

    async def of_host(self, after: UUID, limit: int) -> tuple[CatalogRow, ...]:
        """This host's rows in the order of their ids, from behind one of them; an empty answer is the end."""

    async def check(self) -> None:
        """Nothing, or CatalogUnavailable with what is wrong and what to do."""

    async def healthy(self) -> bool:
        """Whether `check` finds nothing; never raises."""

    async def identity(self) -> str:
        """Names this very database: another answer means one that may not know what was told before."""

    async def close(self) -> None:
        """Give back all connections; bounded in time even when the server hangs."""


def whole_seconds(span: TimeSpan) -> int:
    """A span's length for `duration_seconds`: the nearest whole second, halves up, never negative."""
    half = timedelta(milliseconds=500)
    return (span.duration + half) // MICROSECOND // 1_000_000


def _times_of(copies: Iterable[CatalogCopy]) -> Iterable[datetime | None]:
    for copy in copies:
        yield copy.stored_at
        yield copy.verified_at
