"""What the exporter knows of an export, as values, and the manifest made of it. Pure."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Literal
from uuid import UUID

from cctv_storaged.config.window import zone_named
from cctv_storaged.evidence.manifest import (
    FileRole,
    Manifest,
    ManifestCamera,
    ManifestFile,
    ManifestGap,
    ManifestHost,
    ManifestRequest,
    ManifestSpan,
    local_time,
    plain_text,
)
from cctv_storaged.model import Camera, SegmentFlag, TimeSpan

MadeBy = Literal["stream_copy", "edges_reencoded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A part of a camera's span without footage, and why: coverage's causes, or what befell the export."""

    span: TimeSpan
    cause: str
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts:
    """Who wanted what and why, and what made it."""

    id: UUID
    created_at: datetime  # when it was made, not when it was asked for
    requested_at: datetime
    created_by: str | None
    reason: str | None
    case_id: str | None
    span: TimeSpan
    format: str
    precise: bool
    cameras: tuple[Camera, ...]
    host: ManifestHost  # host.py: host_facts

    @property
    def zone(self) -> tzinfo:
        return zone_named(self.host.time_zone)


@dataclass(frozen=True, slots=True)
class OpenOriginal:
    """An original that is being read. `read_from`: SOURCE, or the name of a backend."""

    read_from: str
    blocks: AsyncIterator[bytes]
    remuxed: "ReadBackInstead | None" = None


@dataclass(frozen=True, slots=True)
class ReadBackInstead:
    """It is not the original: a VMS gave the coded pictures of it, in a stream of another size."""

    size_bytes: int
    span: TimeSpan  # of what it shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A segment that goes into a package untouched."""

    camera_id: UUID
    segment_id: UUID
    span: TimeSpan
    size_bytes: int
    sha256: bytes | None  # the journal's
    path: str  # below the recorder root, os.fsdecode'd
    codec: str | None
    flags: frozenset[SegmentFlag]
    registered_at: datetime
    open: Callable[[], AbstractAsyncContextManager[OpenOriginal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingCopy:
    """A playable file made from the originals; `part` where a camera has several."""

    camera_id: UUID
    file: Path
    span: TimeSpan
    codec: str | None
    made_by: MadeBy
    part: int | None = None


def manifest_of(
    export: ExportFacts,
    files: Sequence[ManifestFile],
    missing: Mapping[UUID, Sequence[Missing]],
    *,
    kind: Literal["evidence", "export"],
    key: str | None,
) -> Manifest:
    """The manifest of these files. `missing`: by camera id; `key`: fingerprint of the key that will sign."""
    zone = export.zone
    return Manifest(
        version=2 if any(file.role is FileRole.REMUXED for file in files) else 1,
        kind=kind,
        export_id=export.id,
        created_at=export.created_at,
        created_at_local=local_time(export.created_at, zone),
        key=key,
        request=ManifestRequest(
            created_by=_plain(export.created_by),
            reason=_plain(export.reason),
            case_id=_plain(export.case_id),
            requested_at=export.requested_at,
            span=ManifestSpan.of(export.span, zone),
            format=export.format,
            precise=export.precise,
        ),
        host=export.host,
        cameras=tuple(
            ManifestCamera(
                id=camera.id,
                name=plain_text(camera.name),
                gaps=tuple(
                    ManifestGap(
                        span=ManifestSpan.of(gap.span, zone), cause=gap.cause, detail=_plain(gap.detail)
                    )
                    for gap in missing.get(camera.id, ())
                ),
            )
            for camera in export.cameras
        ),
        files=tuple(files),
    )


def _plain(text: str | None) -> str | None:
    return None if text is None else plain_text(text)
