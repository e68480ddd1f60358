"""Values become the JSON of answers. Pure, and written out by hand: a list of 100 segments is the hot path.

The models of models.py say the same; a test compares the two.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from aiohttp import web
from pydantic_core import PydanticSerializationError, to_json

from cctv_storaged.api.problems import plain
from cctv_storaged.catalog.base import CatalogCopy, CatalogRow
from cctv_storaged.clock import MICROSECOND, rfc3339, rfc3339_us
from cctv_storaged.events import Event
from cctv_storaged.journal.listing import ListedCopy, ListedSegment, listed
from cctv_storaged.model import BackendKind, CopyState, Segment

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

KEPT = frozenset({CopyState.STORED, CopyState.VERIFIED})

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode


def answer(document: Json, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that no cache keeps."""
    return web.Response(
        status=status,
        body=_body(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def segment_json(segment: Segment) -> dict[str, Json]:
    """A segment of this host."""
    return listed_json(listed(segment))


def listed_json(segment: ListedSegment) -> dict[str, Json]:
    """A segment of this host, as a page of the journal has it."""
    main = main_copy(segment.copies)
    return {
        "id": segment.id,
        "camera_id": segment.camera_id,
        "start_time": rfc3339_us(segment.start_us),
        "end_time": rfc3339_us(segment.end_us),
        "duration_seconds": seconds(segment.end_us - segment.start_us),
        "size_bytes": segment.size_bytes,
        "checksum": None if segment.sha256 is None else segment.sha256.hex(),
        "storage_backend": None if main is None else main.backend,
        "storage_path": None if main is None else main.path,
        "created_at": rfc3339_us(segment.created_us),
        "flags": segment.flags,
        "held": segment.held,
        "copies": [_copy_json(copy) for copy in segment.copies],
    }


def fleet_segment_json(row: CatalogRow) -> dict[str, Json]:
    """A segment of any host, as the catalog knows it."""
    return {
        "id": str(row.id),
        "camera_id": str(row.camera_id),
        "start_time": rfc3339(row.start_time),
        "end_time": rfc3339(row.end_time),
        "duration_seconds": seconds((row.end_time - row.start_time) // MICROSECOND),
        "size_bytes": row.size_bytes,
        "checksum": row.checksum,
        "storage_backend": row.storage_backend,
        "storage_path": plain(row.storage_path),
        "created_at": _moment(row.created_at),
        "flags": list(row.flags),
        "held": None,
        "copies": [_fleet_copy_json(copy) for copy in row.copies],
        "host_id": row.host_id,
    }


def deletion_json(segment: Segment, kept: str, *, complete: bool) -> dict[str, Json]:
    """What a deletion did with each copy of a segment that XProtect may hold; `kept` says what it left."""
    return {
        "id": str(segment.id),
        "complete": complete,
        "detail": kept,
        "copies": [
            {
                "backend": copy.backend,
                "path": copy.path,
                "outcome": _outcome(copy.backend, complete=complete),
            }
            for copy in segment.copies
            if copy.state is not CopyState.GONE
        ],
    }


def event_json(event: Event) -> dict[str, Json]:
    """The data of a server-sent event."""
    return {
        "kind": event.kind,
        "at": rfc3339(event.at),
        "camera_id": None if event.camera_id is None else str(event.camera_id),
        "segment_id": None if event.segment_id is None else str(event.segment_id),
        "export_id": None if event.export_id is None else str(event.export_id),
        "backend": event.backend,
        "state": event.state,
        "detail": None if event.detail is None else plain(event.detail),
    }


def encoded(document: Json) -> str:
    """JSON on one line, in ASCII."""
    return _encode(document)


def _body(document: Json) -> bytes:
    try:
        return to_json(document)  # three times as fast
    except PydanticSerializationError:  # a lone surrogate that nobody escaped: ASCII can tell it
        return _encode(document).encode()


def main_copy(copies: Sequence[ListedCopy]) -> ListedCopy | None:
    """The copy that answers for the bytes: verified before stored, an object store before Milestone."""
    kept = [copy for copy in copies if copy.state in KEPT and copy.path is not None]
    if len(kept) < 2:
        return kept[0] if kept else None
    return min(
        kept,
        key=lambda copy: (copy.backend == BackendKind.MILESTONE, copy.state != CopyState.VERIFIED),
    )


def seconds(microseconds: int) -> int | float:
    """A duration in seconds, whole where it is whole."""
    whole, rest = divmod(microseconds, 1_000_000)
    return microseconds / 1_000_000 if rest else whole


def _outcome(backend: str, *, complete: bool) -> str:
    if backend == BackendKind.MILESTONE:
        return "retention_managed_by_vms"
    return "deleted" if complete else "deleting"


def _copy_json(copy: ListedCopy) -> dict[str, Json]:
    return {
        "backend": copy.backend,
        "path": copy.path,
        "state": copy.state,
        "attempts": copy.attempts,
        "error": copy.error,
        "stored_at": None if copy.stored_us is None else rfc3339_us(copy.stored_us),
        "verified_at": None if copy.verified_us is None else rfc3339_us(copy.verified_us),
    }


def _fleet_copy_json(copy: CatalogCopy) -> dict[str, Json]:
    return {
        "backend": copy.backend,
        "path": None if copy.path is None else plain(copy.path),
        "state": copy.state,
        "attempts": None,
        "error": None,
        "stored_at": _moment(copy.stored_at),
        "verified_at": _moment(copy.verified_at),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
