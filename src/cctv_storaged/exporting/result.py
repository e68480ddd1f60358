"""An export's result: where it lies, what it is called, and what is told of it. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from cctv_storaged.clock import rfc3339
from cctv_storaged.evidence.facts import ExportFacts, Missing
from cctv_storaged.evidence.manifest import FileRole, Manifest, ManifestFile, ManifestHost, ManifestSpan
from cctv_storaged.evidence.names import folders_of
from cctv_storaged.exporting.takes import Source, Take
from cctv_storaged.journal.exportrows import Export, ExportFile, ExportGap, ExportResult
from cctv_storaged.model import Camera

MEDIA_TYPES = {"mp4": "video/mp4", "mkv": "video/matroska", "ts": "video/mp2t", "zip": "application/zip"}
"""RFC 4337, RFC 9559, RFC 3555, and the registry's own word."""
MOST_TOLD = 200
"""So many files and gaps are told with the export; the manifest has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An export's one file, and what is known of it."""

    path: Path
    name: str  # what it is saved as
    manifest: Manifest
    takes: tuple[Take, ...]
    gaps: tuple[ExportGap, ...]

    @property
    def extension(self) -> str:
        return self.path.suffix.removeprefix(".")

    @property
    def sources(self) -> Iterator[Source]:
        return (source for take in self.takes for source in take.sources)


def file_key(export_id: UUID, extension: str) -> str:
    """Where an export's file lies on its shelf."""
    return f"{export_id}.{extension}"


def manifest_key(export_id: UUID) -> str:
    """Where its manifest lies."""
    return f"{export_id}.manifest.json"


def possible_keys(export: Export) -> tuple[str, ...]:
    """Everything that the making of an export may have put on the shelf, however far it came."""
    extensions = (export.request.format, "zip")
    return (*(file_key(export.id, each) for each in extensions), manifest_key(export.id))


def stems_of(cameras: Sequence[Camera], start: datetime) -> dict[UUID, str]:
    """Names for the cameras' files: unique, safe everywhere, and saying what is in them."""
    return {id_: f"{folder}_{start:%Y%m%dT%H%M%SZ}" for id_, folder in folders_of(cameras).items()}


def package_name(export: Export) -> str:
    """What a ZIP is saved as."""
    word = "evidence" if export.request.package == "evidence" else "export"
    return f"{word}_{export.request.span.start:%Y%m%dT%H%M%SZ}_{export.id.hex[:8]}.zip"


def facts_of(export: Export, cameras: Sequence[Camera], host: ManifestHost, made: datetime) -> ExportFacts:
    """The export as its manifest tells of it."""
    request = export.request
    return ExportFacts(
        id=export.id,
        created_at=made,
        requested_at=export.created_at,
        created_by=request.created_by,
        reason=request.reason,
        case_id=request.case_id,
        span=request.span,
        format=request.format,
        precise=request.precise,
        cameras=tuple(cameras),
        host=host,
    )


def listed(facts: ExportFacts, files: Sequence[ExportFile]) -> list[ManifestFile]:
    """The files as a manifest tells of them."""
    return [
        ManifestFile(
            path=file.name,
            role=FileRole.WORKING_COPY,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            camera_id=file.camera_id,
            span=ManifestSpan.of(file.span, facts.zone),
            codec=file.codec,
            made_by="edges_reencoded" if file.encoded else "stream_copy",
        )
        for file in files
    ]


def missing(gaps: Sequence[ExportGap]) -> Mapping[UUID, Sequence[Missing]]:
    """The gaps by camera."""
    found: dict[UUID, list[Missing]] = {}
    for gap in gaps:
        found.setdefault(gap.camera_id, []).append(Missing(span=gap.span, cause=gap.cause, detail=gap.detail))
    return found


def manifest_document(packed: Packed, size_bytes: int, sha256: str) -> Iterator[str]:
    """What `GET …/manifest` tells: the manifest, the segments it was made of, and the whole's checksum.

    JSON bit by bit: with 100,000 segments it is large.
    """
    file = {"name": packed.name, "size_bytes": size_bytes, "sha256": sha256}
    yield f'{{"manifest": {packed.manifest.model_dump_json()},\n"file": {json.dumps(file)},\n"sources": ['
    for number, source in enumerate(packed.sources):
        yield ",\n" if number else "\n"
        yield json.dumps(_source_document(source))
    yield "]}\n"


def _source_document(source: Source) -> dict[str, object]:
    return {
        "segment_id": str(source.segment_id),
        "camera_id": str(source.camera_id),
        "start_time": rfc3339(source.span.start),
        "end_time": rfc3339(source.span.end),
        "size_bytes": source.size_bytes,
        "sha256": source.sha256,
        "used": source.used,
        "remuxed": source.remuxed,
    }


def result_of(export: Export, packed: Packed, size_bytes: int, sha256: str, place: str) -> ExportResult:
    """The result as the journal keeps it."""
    named = packed.manifest.of_role(FileRole.WORKING_COPY)  # as they are called where they are packed
    made = (file for take in packed.takes for file in take.files)
    files = [replace(file, name=each.path) for file, each in zip(made, named, strict=True)]
    return ExportResult(
        path=file_key(export.id, packed.extension),
        manifest_path=manifest_key(export.id),
        file_name=packed.name,
        media_type=MEDIA_TYPES[packed.extension],
        size_bytes=size_bytes,
        sha256=sha256,
        segments=sum(source.used for source in packed.sources),
        files=tuple(files[:MOST_TOLD]),
        files_total=len(files),
        gaps=packed.gaps[:MOST_TOLD],
        gaps_total=len(packed.gaps),
        place=place,
    )
