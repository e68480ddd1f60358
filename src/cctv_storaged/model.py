"""The words everyone shares, as frozen values. No I/O here.

See docs/design/architecture.md for the glossary these names come from.
"""

import os
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import rfc3339

NAMESPACE = UUID("6f1c0f5e-4f0a-5f0e-9a53-1d3c7f6f2b10")
"""Root of every UUIDv5 (RFC 9562) this program derives."""


_KEY = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d{4}/\d\d/\d\d/\d\d/\d{8}T\d{6}\.\d{6}Z_\d+_[0-9a-f]{12}"
    r"(\.\d+)?\.ts"  # a spare one has a number
)

_HALF = 2**63


class Mode(StrEnum):
    """Which kinds of copies a segment must have."""

    LOCAL = "LOCAL"
    MILESTONE = "MILESTONE"
    BOTH = "BOTH"


class BackendKind(StrEnum):
    """A place that holds bytes."""

    MINIO = "MINIO"
    S3 = "S3"
    FILESYSTEM = "FILESYSTEM"
    MILESTONE = "MILESTONE"


class CopyState(StrEnum):
    """One segment at one backend."""

    PENDING = "pending"  # to be put
    STORED = "stored"  # put, not yet proven
    VERIFIED = "verified"  # size and SHA-256 proven equal to the journal's
    FAILED = "failed"  # cannot be delivered without a human; the source stays
    DELETING = "deleting"  # tombstone: bytes may or may not be there still
    GONE = "gone"  # bytes deleted on purpose
    GAP = "gap"  # Milestone only: the VMS does not hold this span


class SourceState(StrEnum):
    """The segment's file under the recorder root."""

    PRESENT = "present"
    PRUNING = "pruning"  # tombstone: the unlink may or may not have happened
    PRUNED = "pruned"  # unlinked by us, under invariant 2
    REPLACED = "replaced"  # the recorder wrote other bytes under the same name
    MISSING = "missing"  # gone, and not by us


class SegmentFlag(StrEnum):
    """What a careful reader of the footage should know about a segment."""

    PARTIAL = "partial"  # cut off: odd tail, or no readable end
    TIME_SUSPECT = "time_suspect"  # name and file time disagree by more than a segment
    TIME_AMBIGUOUS = "time_ambiguous"  # local name in a repeated hour, resolved by the file time
    DURATION_ESTIMATED = "duration_estimated"  # not from the stream's own clock
    NO_KEYFRAME = "no_keyframe"  # does not start with a key frame
    REWRITTEN = "rewritten"  # a later version of a file that was already a segment
    DUPLICATE = "duplicate"  # same camera, start and bytes as another segment


class GapCause(StrEnum):
    """Why there is no footage of a time. Where several would do, the first of them is told."""

    LOST = "lost"  # it existed, and is gone without being allowed to
    DELETED = "deleted"  # on request
    RETENTION = "retention"  # it was older than its rule allows
    CAPACITY = "capacity"  # it had to give way to newer footage
    INVALID = "invalid"  # a file of that time is there, and is no segment
    NOT_YET = "not_yet"  # still to come, or recorded and not closed yet
    BEFORE_FIRST = "before_first"  # before the camera's first footage
    CLOCK_STEP = "clock_step"  # the host's clock jumped over it
    RECORDER_SILENT = "recorder_silent"  # its folder was watched, and nothing was written
    UNKNOWN = "unknown"  # nobody looked


@dataclass(frozen=True, slots=True, order=True)
class TimeSpan:
    """Half-open `[start, end)`, aware UTC, never empty."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is not UTC or self.end.tzinfo is not UTC:
            raise ValueError(f"a span needs aware UTC times, got {self.start!r} and {self.end!r}")
        if self.end <= self.start:
            raise ValueError(f"a span ends after it starts, got {self}")

    @property
    def duration(self) -> timedelta:
        return self.end - self.start

    def overlaps(self, other: "TimeSpan") -> bool:
        return self.start < other.end and other.start < self.end

    def clipped_to(self, other: "TimeSpan") -> "TimeSpan | None":
        """The part inside `other`, None where they do not meet."""
        if not self.overlaps(other):
            return None
        return TimeSpan(max(self.start, other.start), min(self.end, other.end))

    def __str__(self) -> str:
        return f"{rfc3339(self.start)}/{rfc3339(self.end)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A UUID with a name; owns one folder under a recorder root."""

    id: UUID
    name: str
    folder: str  # the part of the path that the layout calls {camera}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """What must be unchanged for a file to be still the same file (stat(2))."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file under a recorder root. Names are os.fsdecode'd: any bytes survive the round trip."""

    root: str  # the configured recorder root, absolute
    path: str  # relative to root, '/'-separated
    identity: FileIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One segment at one backend."""

    backend: str
    state: CopyState
    path: str | None = None  # object key or path inside the backend; known once stored
    attempts: int = 0  # failures that were this object's own
    error: str | None = None
    etag: str | None = None  # what the backend called this content, for later comparison
    stored_at: datetime | None = None
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StreamStart:
    """How a segment's stream begins: whether another one plays on from it is seen by comparing the two.

    `ticks`: the earliest presentation time, 90 kHz modulo 2**33 (ISO/IEC 13818-1, 2.4.3.7). `fingerprint`:
    eight bytes of what a decoder must be told when it changes (PIDs, codecs, sequence parameter sets).
    """

    ticks: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """What a file that is no segment would have been, by its name."""

    camera_id: UUID
    start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSegment:
    """A closed, admitted `.ts` file, ready for the journal."""

    camera: Camera
    span: TimeSpan
    source: SourceFile
    flags: frozenset[SegmentFlag] = frozenset()
    codec: str | None = None  # video codec, e.g. "h264"
    stream: StreamStart | None = None
    named_by_id: bool = False  # its path has the camera's id: several may share the folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One closed `.ts` file of one camera as the journal knows it: immutable bytes, half-open span."""

    id: UUID
    camera_id: UUID
    span: TimeSpan
    source: SourceFile
    source_state: SourceState
    flags: frozenset[SegmentFlag]
    codec: str | None
    sha256: bytes | None  # 32 bytes, known after the first delivery began
    created_at: datetime
    held: bool = False
    stream: StreamStart | None = None  # None: it has no times, or was registered by an earlier version
    copies: tuple[Copy, ...] = field(default=())

    @property
    def size_bytes(self) -> int:
        return self.source.identity.size_bytes

    @property
    def aged_from(self) -> datetime:
        """When its age begins: at its end, or, where its name is in doubt, not before it was registered.

        A recorder whose clock was never set names what it records this hour after 2001.
        """
        suspect = SegmentFlag.TIME_SUSPECT in self.flags
        return max(self.span.end, self.created_at) if suspect else self.span.end

    def copy_at(self, backend: str) -> Copy | None:
        return next((copy for copy in self.copies if copy.backend == backend), None)


def identity_of(status: os.stat_result) -> FileIdentity:
    """The facts of stat(2) that make a file this file.

    A file's time may lie thousands of years away, set so or by a broken clock; the journal holds 64 bits. It
    is taken modulo that, so that two times which differ still do.
    """
    return FileIdentity(
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        mtime_ns=(status.st_mtime_ns + _HALF) % (2 * _HALF) - _HALF,
    )


def camera_id_for(host_id: str, folder: str) -> UUID:
    """Id of a camera nobody configured: the same host and folder always give the same id."""
    return _derived("camera", host_id, folder)


def segment_id_for(host_id: str, source: SourceFile) -> UUID:
    """Id of a segment, from what makes its file *this* file and survives a reboot or a restored disk.

    Device and inode are left out on purpose: both change when a disk is replaced and its files copied back.
    """
    identity = source.identity
    return _derived(
        "segment", host_id, source.root, source.path, str(identity.size_bytes), str(identity.mtime_ns)
    )


def adopted_id_for(host_id: str, key: str) -> UUID:
    """Id of a segment of which there is nothing but an object that does not say whose it is."""
    return _derived("adopted", host_id, key)


def _derived(*facts: str) -> UUID:
    """UUIDv5 over facts that may hold any bytes, as file names do."""
    return uuid.uuid5(NAMESPACE, "\0".join(facts).encode(errors="surrogateescape").hex())


def is_object_key(prefix: str, key: str) -> bool:
    """Whether `object_key` (and `spare_key`) with this prefix could have made it; of any camera and host."""
    return key.startswith(prefix) and _KEY.fullmatch(key, len(prefix)) is not None


def object_key(prefix: str, segment: Segment) -> str:
    """Where the segment's bytes live in any backend: named by content, so that a second put is harmless.

    `{prefix}{camera}/{YYYY}/{MM}/{DD}/{HH}/{start}_{duration_ms}_{sha256[:12]}.ts`; see `spare_key` as well.
    """
    if segment.sha256 is None:
        raise ValueError(f"segment {segment.id} has no SHA-256 yet")
    return object_key_of(prefix, segment.camera_id, segment.span, segment.sha256)


def object_key_of(prefix: str, camera_id: UUID, span: TimeSpan, sha256: bytes) -> str:
    """`object_key` of a segment by its facts."""
    start = span.start
    duration_ms = span.duration // timedelta(milliseconds=1)
    name = f"{start:%Y%m%dT%H%M%S.%fZ}_{duration_ms}_{sha256.hex()[:12]}.ts"
    return f"{prefix}{camera_id}/{start:%Y/%m/%d/%H}/{name}"


def spare_key(key: str, number: int) -> str:
    """The name to use instead of `key` where something spoiled stands in its way that nobody may overwrite.

    0 is `key` itself, and the others follow from it: `….ts`, `….1.ts`, `….2.ts`.
    """
    return f"{key.removesuffix('.ts')}.{number}.ts" if number else key


def key_family(key: str) -> tuple[str, ...]:
    """The key that a segment's object has at first, and its spare ones up to `key`."""
    stem, _, number = key.removesuffix(".ts").rpartition(".")
    if not (stem and number.isascii() and number.isdigit()):
        return (key,)
    return tuple(spare_key(f"{stem}.ts", spare) for spare in range(int(number) + 1))
