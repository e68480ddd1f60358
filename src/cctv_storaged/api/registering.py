"""POST /segments: a file that somebody describes, looked at, compared with the description, written down.

It ends in the very row that the scan would make: the same root, the same relative path, the same identity.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cctv_storaged.api.segment_models import LONGEST_SEGMENT, NewSegmentBody
from cctv_storaged.errors import Conflict, Fault, NotASegment, SourceChanged, Unprocessable
from cctv_storaged.model import (
    Camera,
    CopyState,
    FileIdentity,
    NewSegment,
    Segment,
    SegmentFlag,
    SourceFile,
    TimeSpan,
)
from cctv_storaged.mpegts.probe import StreamFacts, probe_by
from cctv_storaged.recorder.admission import stream_flags
from cctv_storaged.recorder.ffprobe import ffprobe_duration
from cctv_storaged.recorder.source import OpenSource, Writer, open_source

LEAST_TOLERANCE = timedelta(seconds=1)
TOLERANCE = 0.02
"""Recorders name whole seconds and cut at key frames; real disagreement is larger than this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a file lies: beneath which permitted folder, and under which name there."""

    root: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A file that is whole and closed."""

    source: SourceFile
    facts: StreamFacts


def requested_span(body: NewSegmentBody) -> TimeSpan:
    """The span described. Raises Unprocessable where it is none, too long, or not of the duration given."""
    if body.end_time <= body.start_time:
        raise Unprocessable([Fault("end_time", "must be later than start_time")])
    span = TimeSpan(body.start_time, body.end_time)
    if span.duration > LONGEST_SEGMENT:
        raise Unprocessable([Fault("end_time", "is more than 24 h after start_time")])
    if not agree(timedelta(seconds=body.duration_seconds), span.duration):
        said = f"start_time to end_time is {span.duration.total_seconds():g} s"
        raise Unprocessable([Fault("duration_seconds", said)])
    return span


def place_of(file_path: str, roots: Sequence[str], allowed: Sequence[Path]) -> Place:
    """Beneath which permitted folder the path lies. Only words are compared: opening follows no link.

    Raises Unprocessable.
    """
    names = file_path.split("/")[1:]
    if any(name in ("", ".", "..") for name in names):
        raise Unprocessable([Fault("file_path", "must be a plain absolute path without '.', '..' or '//'")])
    for folder in (*roots, *map(str, allowed)):  # a recorder root first: the scan must find the same
        inside = folder.rstrip("/") + "/"
        if file_path.startswith(inside):
            return Place(root=folder, path=file_path.removeprefix(inside))
    raise Unprocessable([Fault("file_path", "lies below no recorder root and none of api.allowed_paths")])


def examine(place: Place, size_bytes: int) -> Examined:
    """Opens, checks and probes the file; blocking.

    Raises Unprocessable for what cannot be a segment of that size, Conflict while it is not closed.
    """
    try:
        with open_source(place.root, place.path) as opened:
            _require_closed(opened)
            _require_size(opened.identity, size_bytes)
            facts = probe_by(opened.read, size_bytes)
            if not opened.unchanged():
                raise Conflict("the file changed while it was looked at; register it once it is closed")
            source = SourceFile(root=place.root, path=place.path, identity=opened.identity)
            return Examined(source=source, facts=facts)
    except SourceChanged as exc:
        raise Unprocessable([Fault("file_path", "there is no such file")]) from exc
    except NotASegment as exc:
        raise Unprocessable([Fault("file_path", f"is no segment ({exc.reason})")]) from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else "error"
        raise Unprocessable([Fault("file_path", f"cannot be read: {reason}")]) from exc


async def stream_duration(examined: Examined) -> timedelta | None:
    """How long the stream is by its own clock; None where nobody can tell. Raises Conflict if it changed."""
    if examined.facts.duration is not None:
        return examined.facts.duration
    source = examined.source
    try:
        with open_source(source.root, source.path) as opened:
            duration = await ffprobe_duration(opened.descriptor)
            if opened.identity != source.identity:
                raise Conflict("the file changed while it was looked at; register it once it is closed")
            return duration
    except (SourceChanged, NotASegment, OSError) as exc:
        raise Conflict("the file changed while it was looked at; register it once it is closed") from exc


def described(examined: Examined, camera: Camera, span: TimeSpan, duration: timedelta | None) -> NewSegment:
    """The segment to be written down. Raises Unprocessable where the stream contradicts the description."""
    flags = stream_flags(examined.facts)
    if duration is None or duration <= timedelta(0):
        flags |= {SegmentFlag.DURATION_ESTIMATED}
    elif not agree(duration, span.duration):
        said = f"the stream's own clock says {duration.total_seconds():.3f} s"
        raise Unprocessable([Fault("duration_seconds", said)])
    return NewSegment(
        camera=camera,
        span=span,
        source=examined.source,
        flags=flags,
        codec=examined.facts.video_codec or next(iter(examined.facts.audio_codecs), None),
        stream=examined.facts.start,
    )


def require_same(known: Segment, new: NewSegment) -> None:
    """The file was registered before, by the scan perhaps: as what is asked for now, or Conflict."""
    for difference in _differences(known, new):
        raise Conflict(f"the file is registered already as segment {known.id}, {difference}")


def is_deleted(segment: Segment) -> bool:
    """Whether it was deleted on request: for everybody outside it is gone, wherever bytes may linger."""
    return any(copy.state is CopyState.DELETING for copy in segment.copies)


def agree(one: timedelta, other: timedelta) -> bool:
    """Whether two durations may be of the same segment."""
    return abs(one - other) <= max(LEAST_TOLERANCE, TOLERANCE * other)


def _differences(known: Segment, new: NewSegment) -> Iterator[str]:
    if is_deleted(known):
        yield "which is being deleted"
    if known.camera_id != new.camera.id:
        yield f"of camera {known.camera_id}"
    if abs(known.span.start - new.span.start) > LEAST_TOLERANCE or not agree(
        known.span.duration, new.span.duration
    ):
        yield f"at {known.span}"


def _require_closed(opened: OpenSource) -> None:
    if opened.writer() is Writer.PRESENT:
        raise Conflict("the file is still being written to; register it once it is closed")


def _require_size(identity: FileIdentity, size_bytes: int) -> None:
    if identity.size_bytes != size_bytes:
        raise Unprocessable([Fault("size_bytes", f"the file has {identity.size_bytes} bytes")])
