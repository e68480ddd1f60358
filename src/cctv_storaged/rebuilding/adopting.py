"""Adopting objects: what lies at a backend becomes a segment's row and copy in the journal.

What an object says of itself is believed only as far as it agrees with its own name and with the id that
follows from it. Whose it is must be known: several hosts may share a bucket, and another's object is left
alone. Bytes stay `stored` until a backend has proven them; nothing here deletes or overwrites.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cctv_storaged.backends.base import Backend, ObjectFacts
from cctv_storaged.clock import Clock
from cctv_storaged.errors import ObjectMismatch
from cctv_storaged.journal.adoption import Adopted, FoundCopy, FoundSegment, Verdict
from cctv_storaged.journal.journal import Journal
from cctv_storaged.labels import Label, SourceLabel, understood
from cctv_storaged.model import (
    Camera,
    FileIdentity,
    Segment,
    SegmentFlag,
    SourceFile,
    TimeSpan,
    adopted_id_for,
    camera_id_for,
    is_object_key,
    key_family,
    object_key_of,
    segment_id_for,
)
from cctv_storaged.recorder.admission import CameraBook, Root

log = logging.getLogger(__name__)

SHORTEST = timedelta(milliseconds=1)
_NAME = re.compile(
    r"(?P<start>\d{8}T\d{6}\.\d{6})Z_(?P<duration_ms>\d+)_(?P<sha256>[0-9a-f]{12})(\.\d+)?\.ts"
)


class Left(StrEnum):
    """Why an object was left where it is."""

    NO_SEGMENT = "no_segment"  # its name is not one that this program gives to segments
    OTHER_HOST = "other_host"
    NOBODYS = "nobodys"  # it does not say whose it is, and nothing else tells
    CONTRADICTORY = "contradictory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What came of one object."""

    adopted: Adopted | None = None
    left: Left | None = None
    why: str = ""

    @property
    def word(self) -> str:
        """For counting."""
        if self.left is not None:
            return str(self.left)
        return "" if self.adopted is None else str(self.adopted.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSegment:
    """What the key of an object says."""

    camera_id: UUID
    start: datetime
    duration: timedelta  # to the millisecond
    sha256_begin: str  # twelve hex digits


def named(prefix: str, path: str) -> NamedSegment | None:
    """None for what is no segment's key."""
    if not is_object_key(prefix, path):
        return None
    folder, _, name = path.removeprefix(prefix).rpartition("/")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        start = datetime.strptime(match["start"], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
        duration = timedelta(milliseconds=int(match["duration_ms"]))
        TimeSpan(start, start + max(duration, SHORTEST))
    except (ValueError, OverflowError):
        return None
    camera_id = UUID(folder.partition("/")[0])
    return NamedSegment(camera_id=camera_id, start=start, duration=duration, sha256_begin=match["sha256"])


class Adopting:
    """Takes objects into the journal of this host."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        cameras: CameraBook,
        roots: Sequence[Root],
        prefix: str,
        *,
        unlabelled: bool = False,
    ) -> None:
        """`prefix` is that of the objects' keys. `unlabelled`: what does not say whose it is, is ours."""
        self._journal = journal
        self._clock = clock
        self._cameras = cameras
        self._roots = {root.path: root for root in roots}
        self._prefix = prefix
        self._unlabelled = unlabelled

    async def adopt_object(self, backend: Backend, facts: ObjectFacts) -> Segment | None:
        """The segment of an object, with a copy at the backend; None where it was left alone.

        Raises BackendError where its bytes have to be read to know it, and JournalError.
        """
        adopted = (await self.consider(backend, facts)).adopted
        return None if adopted is None else adopted.segment

    async def consider(self, backend: Backend, facts: ObjectFacts) -> Considered:
        """As `adopt_object`, with the reason where it was left alone."""
        name = named(self._prefix, facts.path)
        if name is None:
            return Considered(left=Left.NO_SEGMENT)
        label = understood(facts.metadata)
        if label.host not in (None, self._journal.host_id):
            return Considered(left=Left.OTHER_HOST, why=f"it is host {label.host}'s")
        if label.host is None and not await self._is_ours(name, label):
            return Considered(left=Left.NOBODYS, why="it does not say which host it is from")
        why = contradiction(self._prefix, facts, name, label, self._journal.host_id)
        if why is not None:
            return Considered(left=Left.CONTRADICTORY, why=why)
        found = await self._found(backend, facts, name, label)
        adopted = await self._journal.adoption.adopt(found, self._clock.now())
        if adopted.verdict is Verdict.CONTRADICTORY:
            return Considered(left=Left.CONTRADICTORY, adopted=None, why=adopted.why)
        return Considered(adopted=adopted)

    async def _is_ours(self, name: NamedSegment, label: Label) -> bool:
        """An object of an earlier version, or in a folder whose file system keeps no words with a file."""
        if self._unlabelled or name.camera_id in self._cameras.configured:
            return True
        if label.segment_id is not None:
            known = await self._journal.segments.by_id(label.segment_id)
            if known is not None:
                return True
        camera = await self._journal.cameras.camera(name.camera_id)
        return camera is not None and camera.id == camera_id_for(self._journal.host_id, camera.folder)

    async def _found(
        self, backend: Backend, facts: ObjectFacts, name: NamedSegment, label: Label
    ) -> FoundSegment:
        sha256 = label.sha256 or facts.sha256 or await _hashed(backend, facts.path, name.sha256_begin)
        size_bytes = label.size_bytes or facts.size_bytes
        source = None if label.source is None else _source_file(label.source, size_bytes)
        copy = FoundCopy(
            backend=backend.name,
            path=facts.path,
            etag=facts.etag,
            proven=facts.sha256 == sha256 and facts.size_bytes == size_bytes,
        )
        return FoundSegment(
            id=label.segment_id or await self._id_of(facts, name, sha256),
            camera=self._camera(name.camera_id, source),
            span=label.span or TimeSpan(name.start, name.start + max(name.duration, SHORTEST)),
            source=source,
            size_bytes=size_bytes,
            sha256=sha256,
            flags=label.flags if label.span is not None else frozenset({SegmentFlag.DURATION_ESTIMATED}),
            codec=label.codec,
            stream=label.stream,
            created_at=label.created_at,
            copies=(copy,),
        )

    async def _id_of(self, facts: ObjectFacts, name: NamedSegment, sha256: bytes) -> UUID:
        """The id of the segment with these very bytes, or one that follows from the object alone."""
        known = await self._journal.adoption.by_content(name.camera_id, name.start, sha256)
        first = key_family(facts.path)[0]
        return adopted_id_for(self._journal.host_id, first) if known is None else known.id

    def _camera(self, camera_id: UUID, source: SourceFile | None) -> Camera:
        """By the layout of its root as a scan would name it, where that gives the same camera."""
        root = None if source is None else self._roots.get(source.root)
        match = None if root is None or source is None else root.layout.match(source.path)
        if match is not None:
            camera = self._cameras.of(match)
            if camera.id == camera_id:
                return camera
        return self._cameras.with_id(camera_id)


def contradiction(
    prefix: str, facts: ObjectFacts, name: NamedSegment, label: Label, host_id: str
) -> str | None:
    """Where an object's words, name and id do not fit each other; None where all do. Pure."""
    return next(_contradictions(prefix, facts, name, label, host_id), None)


def _contradictions(
    prefix: str, facts: ObjectFacts, name: NamedSegment, label: Label, host_id: str
) -> Iterator[str]:
    if label.camera_id not in (None, name.camera_id):
        yield "its metadata names another camera than its key"
    if label.sha256 is not None and not label.sha256.hex().startswith(name.sha256_begin):
        yield "its metadata has another SHA-256 than its key"
    if label.span is not None and label.sha256 is not None:
        key = object_key_of(prefix, name.camera_id, label.span, label.sha256)
        if key != key_family(facts.path)[0]:
            yield "its metadata has another time than its key"
    size_bytes = facts.size_bytes if label.size_bytes is None else label.size_bytes
    if size_bytes <= 0:
        yield "it is empty, and does not say that it ever was more"
    if label.source is None or label.segment_id is None or label.host != host_id:
        return
    if segment_id_for(host_id, _source_file(label.source, size_bytes)) != label.segment_id:
        yield "its segment id does not follow from its host and source"


def _source_file(source: SourceLabel, size_bytes: int) -> SourceFile:
    """Device and inode are the scan's to find out."""
    identity = FileIdentity(device=0, inode=0, size_bytes=size_bytes, mtime_ns=source.mtime_ns)
    return SourceFile(root=source.root, path=source.path, identity=identity)


async def _hashed(backend: Backend, path: str, begins: str) -> bytes:
    """By reading an object without words; its name tells whether its bytes still are the same."""
    digest = hashlib.sha256()
    async with backend.open(path) as blocks:
        async for block in blocks:
            digest.update(block)
    if not digest.hexdigest().startswith(begins):
        raise ObjectMismatch(f"{backend.name} has {path} with other bytes than its name tells")
    return digest.digest()
