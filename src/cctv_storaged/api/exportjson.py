"""Exports as the JSON of answers. Pure; export_models.py says the same, and a test compares the two."""

from datetime import datetime

from cctv_storaged.api.rendering import Json
from cctv_storaged.clock import rfc3339
from cctv_storaged.journal.exportrows import Export, ExportFile, ExportGap


def export_json(export: Export, now: datetime, download_url: str | None) -> dict[str, Json]:
    """An export, with where its file is to be had (None: nowhere)."""
    request, result = export.request, export.result
    return {
        "id": str(export.id),
        "status": export.status,
        "progress": export.progress,
        "error": export.error,
        "camera_ids": [str(each) for each in request.camera_ids],
        "start_time": rfc3339(request.span.start),
        "end_time": rfc3339(request.span.end),
        "format": request.format,
        "precise": request.precise,
        "package": request.package,
        "reason": request.reason,
        "case_id": request.case_id,
        "created_by": request.created_by,
        "created_at": rfc3339(export.created_at),
        "completed_at": _moment(export.completed_at),
        "expires_at": _moment(export.expires_at),
        "expired": export.expired(now),
        "download_url": download_url,
        "file_name": None if result is None else result.file_name,
        "file_size": None if result is None else result.size_bytes,
        "checksum": None if result is None else result.sha256,
        "segments": None if result is None else result.segments,
        "files": [] if result is None else [_file_json(file) for file in result.files],
        "files_total": 0 if result is None else result.files_total,
        "gaps": [] if result is None else [_gap_json(gap) for gap in result.gaps],
        "gaps_total": 0 if result is None else result.gaps_total,
    }


def _file_json(file: ExportFile) -> dict[str, Json]:
    return {
        "name": file.name,
        "camera_id": str(file.camera_id),
        "start_time": rfc3339(file.span.start),
        "end_time": rfc3339(file.span.end),
        "size_bytes": file.size_bytes,
        "checksum": file.sha256,
        "codec": file.codec,
    }


def _gap_json(gap: ExportGap) -> dict[str, Json]:
    return {
        "camera_id": str(gap.camera_id),
        "start": rfc3339(gap.span.start),
        "end": rfc3339(gap.span.end),
        "cause": gap.cause,
        "detail": gap.detail,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
