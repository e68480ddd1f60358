"""What an object says of itself, so that a journal can be made anew from the store: written with each put.

User metadata of S3 is ASCII and at most 2 KB, names included. What may be any bytes (paths) is percent-
encoded (RFC 3986, 2.1); a path too long for the room is left out, and the segment comes back without source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes
from uuid import UUID

from cctv_storaged.clock import rfc3339
from cctv_storaged.model import Segment, SegmentFlag, StreamStart, TimeSpan

MOST_BYTES = 2000
"""Of names and values together; S3 takes 2048."""
_SOURCE = ("root", "path", "mtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLabel:
    """The file that the bytes came from."""

    root: str  # os.fsdecode'd, as SourceFile's
    path: str
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What was understood of an object's metadata; None where it does not say, or nothing that makes sense.

    Objects of earlier versions say neither host nor size, source, codec or stream.
    """

    segment_id: UUID | None = None
    host: str | None = None
    camera_id: UUID | None = None
    span: TimeSpan | None = None
    sha256: bytes | None = None
    size_bytes: int | None = None
    flags: frozenset[SegmentFlag] = frozenset()
    created_at: datetime | None = None
    codec: str | None = None
    stream: StreamStart | None = None
    source: SourceLabel | None = None


def written(segment: Segment, host_id: str) -> dict[str, str]:
    """The metadata that a segment's object is put with."""
    assert segment.sha256 is not None
    said = {
        "segment-id": str(segment.id),
        "host": host_id,
        "camera": str(segment.camera_id),
        "start": rfc3339(segment.span.start),
        "end": rfc3339(segment.span.end),
        "sha256": segment.sha256.hex(),
        "size": str(segment.size_bytes),
        "flags": " ".join(sorted(segment.flags)),
        "created": rfc3339(segment.created_at),
    }
    if segment.codec is not None:
        said["codec"] = _encoded(segment.codec)
    if segment.stream is not None:
        said["stream"] = f"{segment.stream.ticks}-{segment.stream.fingerprint.hex()}"
    source = {
        "root": _encoded(segment.source.root),
        "path": _encoded(segment.source.path),
        "mtime": str(segment.source.identity.mtime_ns),
    }
    return said | source if _size(said | source) <= MOST_BYTES else said


def understood(metadata: Mapping[str, str]) -> Label:
    """Never raises: anybody may have put the object, with anything in its metadata."""
    return Label(
        segment_id=_uuid(metadata.get("segment-id")),
        host=metadata.get("host") or None,
        camera_id=_uuid(metadata.get("camera")),
        span=_span(metadata.get("start"), metadata.get("end")),
        sha256=_sha256(metadata.get("sha256")),
        size_bytes=_whole(metadata.get("size")),
        flags=_flags(metadata.get("flags", "")),
        created_at=_moment(metadata.get("created")),
        codec=_decoded(metadata["codec"]) if metadata.get("codec") else None,
        stream=_stream(metadata.get("stream", "")),
        source=_source(metadata),
    )


def _size(said: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in said.items())


def _encoded(text: str) -> str:
    return quote_from_bytes(text.encode(errors="surrogateescape"))


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode(errors="surrogateescape")


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _span(start: str | None, end: str | None) -> TimeSpan | None:
    first, last = _moment(start), _moment(end)
    return TimeSpan(first, last) if first is not None and last is not None and first < last else None


def _sha256(text: str | None) -> bytes | None:
    try:
        digest = bytes.fromhex(text or "")
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


def _whole(text: str | None) -> int | None:
    """A number that the journal can hold."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None


def _flags(text: str) -> frozenset[SegmentFlag]:
    known = {str(flag): flag for flag in SegmentFlag}
    return frozenset(known[word] for word in text.split() if word in known)


def _stream(text: str) -> StreamStart | None:
    ticks, _, fingerprint = text.partition("-")
    number = _whole(ticks)
    try:
        printed = bytes.fromhex(fingerprint)
    except ValueError:
        return None
    return StreamStart(number, printed) if number is not None and number >= 0 and printed else None


def _source(metadata: Mapping[str, str]) -> SourceLabel | None:
    if not all(metadata.get(name) for name in _SOURCE):
        return None
    mtime_ns = _whole(metadata["mtime"])
    if mtime_ns is None:
        return None
    return SourceLabel(root=_decoded(metadata["root"]), path=_decoded(metadata["path"]), mtime_ns=mtime_ns)
