"""Is this file a closed segment, and of which camera and time? Looking, then deciding.

`inspect` reads the file and touches nothing; `whole` decides from what was read, without I/O.
"""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import from_us
from cctv_storaged.errors import NotASegment, SourceChanged
from cctv_storaged.model import (
    Camera,
    FileIdentity,
    Meant,
    NewSegment,
    SegmentFlag,
    SourceFile,
    TimeSpan,
    camera_id_for,
    identity_of,
)
from cctv_storaged.mpegts.probe import StreamFacts, TimeBase, probe_by
from cctv_storaged.recorder.layout import Layout, PathMatch, resolve_start
from cctv_storaged.recorder.source import OpenSource, Writer, open_source

LONGEST_GUESS = timedelta(hours=6)
"""A duration guessed from name and file time is believed up to this."""
SHORTEST = timedelta(milliseconds=1)
"""A span is never empty, so a segment whose duration nobody can tell still has a place in time."""


class CameraBook:
    """Which camera a folder belongs to: the configured ones, and an id of its own for every other."""

    def __init__(self, host_id: str, configured: tuple[Camera, ...]) -> None:
        self._host_id = host_id
        self.change(configured)

    def change(self, configured: tuple[Camera, ...]) -> None:
        """Other cameras from now on (SIGHUP)."""
        self._by_folder = {camera.folder: camera for camera in configured}
        self._by_id = {camera.id: camera for camera in configured}

    @property
    def configured(self) -> Mapping[UUID, Camera]:
        """The cameras that the settings name, by id."""
        return self._by_id

    def of(self, match: PathMatch) -> Camera:
        """The camera a path belongs to."""
        if match.camera_id is not None:
            return self.with_id(match.camera_id, match.camera_folder)
        return self.named(match.camera_folder)

    def named(self, folder: str) -> Camera:
        """The camera of a folder."""
        known = self._by_folder.get(folder)
        if known is not None:
            return known
        name = folder.encode(errors="surrogateescape").decode(errors="replace")
        return Camera(id=camera_id_for(self._host_id, folder), name=name, folder=folder)

    def with_id(self, camera_id: UUID, folder: str = "") -> Camera:
        """The camera of an id that somebody names directly."""
        known = self._by_id.get(camera_id)
        return known or Camera(id=camera_id, name=str(camera_id), folder=folder or str(camera_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A recorder root with all that is needed to understand a path below it."""

    path: str
    layout: Layout
    cameras: CameraBook
    remote: bool  # other hosts may write here, so this kernel cannot know about writers


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file as it was when it was looked at."""

    source: SourceFile
    writer: Writer
    match: PathMatch | None = None
    facts: StreamFacts | None = None
    refusal: NotASegment | None = None  # why it is no segment, if it is none

    @property
    def read(self) -> bool:
        """Whether it was taken for closed, and read."""
        return self.facts is not None or self.refusal is not None


def inspect(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
    """Opens the file, and probes it if it is closed; blocking.

    `closed` decides where the kernel does not tell whether somebody still writes to the file: it is asked
    before anything is read, as an open file on a network mount is looked at many times.

    Raises SourceChanged if it is not there or changed meanwhile, NotASegment if it is nothing that may be
    opened, OSError for what the disk or the rights have against it.
    """
    with open_source(root.path, path) as opened:
        source = SourceFile(root=root.path, path=path, identity=opened.identity)
        writer = _writer(root, opened)
        if writer is Writer.PRESENT or (writer is Writer.UNKNOWN and not closed(source)):
            return Found(source=source, writer=writer)
        try:
            match = _matched(root, path)
            facts = _probed(opened)
        except NotASegment as exc:
            return Found(source=source, writer=writer, refusal=exc)
        if not opened.unchanged():
            raise SourceChanged(f"{path!r} changed while it was probed")
        return Found(source=source, writer=writer, match=match, facts=facts)


def whole(root: Root, found: Found) -> NewSegment:
    """The segment that an inspected file is. Raises NotASegment where its name gives no possible time."""
    assert found.match is not None and found.facts is not None
    facts = found.facts
    closed = closed_at(found.source.identity)
    flags = stream_flags(facts)
    if facts.duration is not None and facts.duration > timedelta(0):
        start = resolve_start(found.match, closed_at=closed, duration=facts.duration)
        duration = facts.duration
    else:
        start = resolve_start(found.match, closed_at=closed, duration=timedelta(0))
        guess = closed - start.start
        duration = guess if SHORTEST <= guess <= LONGEST_GUESS else SHORTEST
    return NewSegment(
        camera=root.cameras.of(found.match),
        span=_span(start.start, duration, found.source),
        source=found.source,
        flags=flags | start.flags,
        codec=facts.video_codec or next(iter(facts.audio_codecs), None),
        stream=facts.start,
        named_by_id=found.match.camera_id is not None,
    )


def meant(root: Root, source: SourceFile) -> Meant | None:
    """Whose footage a file would have been and from when, by its name; None where that does not say it."""
    try:
        match = root.layout.match(source.path)
    except NotASegment:
        return None
    if match is None:
        return None
    start = resolve_start(match, closed_at=closed_at(source.identity), duration=timedelta(0)).start
    return Meant(camera_id=root.cameras.of(match).id, start=start)


def closed_at(identity: FileIdentity) -> datetime:
    """When the file was last written to, to the microsecond."""
    return from_us(identity.mtime_ns // 1000)


def unread(root: Root, path: str) -> SourceFile | None:
    """Identity of something that cannot be opened (a link, a FIFO); None if there is nothing."""
    try:
        status = os.lstat(os.path.join(root.path, path))
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return None
    return SourceFile(root=root.path, path=path, identity=identity_of(status))


def _writer(root: Root, opened: OpenSource) -> Writer:
    writer = opened.writer()
    return Writer.UNKNOWN if root.remote and writer is Writer.NONE else writer


def _matched(root: Root, path: str) -> PathMatch:
    match = root.layout.match(path)
    if match is None:
        raise NotASegment(
            "unmatched_name", f"{path!r} does not fit the root's layout {root.layout.pattern!r}"
        )
    return match


def _probed(opened: OpenSource) -> StreamFacts:
    if opened.identity.size_bytes == 0:
        raise NotASegment("empty", "the file has no bytes: its recorder was stopped before it wrote any")
    # Both ends are wanted and nothing beside them: reading ahead would double what a scan costs the disk.
    os.posix_fadvise(opened.descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return probe_by(opened.read, opened.identity.size_bytes)


def stream_flags(facts: StreamFacts) -> frozenset[SegmentFlag]:
    """What the bytes themselves show that a reader of the footage should know."""
    flags = set()
    if facts.cut_off:
        flags.add(SegmentFlag.PARTIAL)
    if facts.starts_with_keyframe is False:
        flags.add(SegmentFlag.NO_KEYFRAME)
    if facts.time_base in (None, TimeBase.PCR):  # ffprobe's sum, or a clock that lacks the last frame
        flags.add(SegmentFlag.DURATION_ESTIMATED)
    return frozenset(flags)


def _span(start: datetime, duration: timedelta, source: SourceFile) -> TimeSpan:
    try:
        return TimeSpan(start.astimezone(UTC), (start + duration).astimezone(UTC))
    except OverflowError as exc:
        raise NotASegment("impossible_time", f"{source.path!r} names a time out of range") from exc
