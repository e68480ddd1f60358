"""An export as a value, and as a row: what was asked for and what came of it are JSON in there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.rows import text
from cctv_storaged.model import TimeSpan

Format = Literal["mp4", "mkv", "ts"]
Package = Literal["plain", "evidence"]
Removal = Literal["asked", "done", "forget", "forgotten"]


class ExportStatus(StrEnum):
    """How far an export is."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        return self not in (ExportStatus.PENDING, ExportStatus.PROCESSING)


UNENDED = "status IN ('PENDING', 'PROCESSING')"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What somebody asked for, checked."""

    camera_ids: tuple[UUID, ...]
    span: TimeSpan
    format: Format
    reason: str
    case_id: str | None = None
    created_by: str | None = None
    precise: bool = False
    package: Package = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFile:
    """One file of a result: one camera's footage in one piece."""

    name: str
    camera_id: UUID
    span: TimeSpan
    size_bytes: int
    sha256: str  # hex
    codec: str | None
    encoded: bool = False  # at its edges; else it is copied throughout


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportGap:
    """A span asked for that the result does not hold, and why."""

    camera_id: UUID
    span: TimeSpan
    cause: str  # as of a gap in the coverage, or: unreadable, missing
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What came of an export. Of files and gaps the first ones; the manifest has all."""

    path: str  # in the exports store
    manifest_path: str
    file_name: str  # what a browser saves it as
    media_type: str
    size_bytes: int
    sha256: str  # hex
    segments: int
    files: tuple[ExportFile, ...]
    files_total: int
    gaps: tuple[ExportGap, ...]
    gaps_total: int
    place: str | None = None  # where the exports store was then


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export as the journal knows it."""

    no: int
    id: UUID
    request: ExportRequest
    status: ExportStatus
    starts: int  # how often work on it began and came to no orderly end
    progress: float  # 0 to 1
    error: str | None
    due: datetime | None
    waiting_since: datetime | None
    result: ExportResult | None
    created_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None
    removal: Removal | None  # of its bytes

    def expired(self, now: datetime) -> bool:
        """Whether its file may no longer be had, though it was made."""
        past = self.expires_at is not None and self.expires_at <= now
        return self.status is ExportStatus.COMPLETED and (past or self.removal is not None)


def request_text(request: ExportRequest) -> str:
    return json.dumps(
        {
            "camera_ids": [str(each) for each in request.camera_ids],
            "start_us": to_us(request.span.start),
            "end_us": to_us(request.span.end),
            "format": request.format,
            "reason": text(request.reason),
            "case_id": _text(request.case_id),
            "created_by": _text(request.created_by),
            "precise": request.precise,
            "package": request.package,
        }
    )


def request_from(said: str) -> ExportRequest:
    """The inverse of `request_text`. Raises KeyError, TypeError and ValueError for anything else."""
    return _request(json.loads(said))


def result_text(result: ExportResult) -> str:
    return json.dumps(
        {
            "path": result.path,
            "manifest_path": result.manifest_path,
            "file_name": text(result.file_name),
            "media_type": result.media_type,
            "size_bytes": result.size_bytes,
            "sha256": result.sha256,
            "segments": result.segments,
            "files": [file_document(each) for each in result.files],
            "files_total": result.files_total,
            "gaps": [gap_document(each) for each in result.gaps],
            "gaps_total": result.gaps_total,
            "place": _text(result.place),
        }
    )


def file_document(file: ExportFile) -> dict[str, object]:
    return {
        "name": text(file.name),
        "camera_id": str(file.camera_id),
        **_span_document(file.span),
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "codec": _text(file.codec),
        "encoded": file.encoded,
    }


def gap_document(gap: ExportGap) -> dict[str, object]:
    return {
        "camera_id": str(gap.camera_id),
        **_span_document(gap.span),
        "cause": gap.cause,
        "detail": _text(gap.detail),
    }


def file_from(document: Mapping[str, Any]) -> ExportFile:
    """The inverse of `file_document`. Raises KeyError, TypeError and ValueError for anything else."""
    return ExportFile(
        name=str(document["name"]),
        camera_id=UUID(document["camera_id"]),
        span=_span(document),
        size_bytes=int(document["size_bytes"]),
        sha256=str(document["sha256"]),
        codec=document["codec"],
        encoded=bool(document["encoded"]),
    )


def gap_from(document: Mapping[str, Any]) -> ExportGap:
    """The inverse of `gap_document`. Raises KeyError, TypeError and ValueError for anything else."""
    return ExportGap(
        camera_id=UUID(document["camera_id"]),
        span=_span(document),
        cause=str(document["cause"]),
        detail=document["detail"],
    )


def export_from(row: Sequence[Any]) -> Export:
    """An Export from the columns of exports.py."""
    no, id_, request, status, starts, progress, error, due, waiting, result, created, *ending = row
    completed, expires, removal = ending
    return Export(
        no=no,
        id=UUID(bytes=id_),
        request=request_from(request),
        status=ExportStatus(status),
        starts=starts,
        progress=progress,
        error=error,
        due=_moment(due or None),
        waiting_since=_moment(waiting),
        result=None if result is None else _result(json.loads(result)),
        created_at=from_us(created),
        completed_at=_moment(completed),
        expires_at=_moment(expires),
        removal=removal,
    )


def _request(document: Mapping[str, Any]) -> ExportRequest:
    return ExportRequest(
        camera_ids=tuple(map(UUID, document["camera_ids"])),
        span=_span(document),
        format=document["format"],
        reason=document["reason"],
        case_id=document["case_id"],
        created_by=document["created_by"],
        precise=document["precise"],
        package=document["package"],
    )


def _result(document: Mapping[str, Any]) -> ExportResult:
    return ExportResult(
        path=document["path"],
        manifest_path=document["manifest_path"],
        file_name=document["file_name"],
        media_type=document["media_type"],
        size_bytes=document["size_bytes"],
        sha256=document["sha256"],
        segments=document["segments"],
        files=tuple(map(file_from, document["files"])),
        files_total=document["files_total"],
        gaps=tuple(map(gap_from, document["gaps"])),
        gaps_total=document["gaps_total"],
        place=document.get("place"),
    )


def _span_document(span: TimeSpan) -> dict[str, object]:
    return {"start_us": to_us(span.start), "end_us": to_us(span.end)}


def _span(document: Mapping[str, Any]) -> TimeSpan:
    return TimeSpan(from_us(document["start_us"]), from_us(document["end_us"]))


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def _text(value: str | None) -> str | None:
    return None if value is None else text(value)
