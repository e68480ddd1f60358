"""Takes: one camera's footage of an export, joined into files; a whole one outlives the process."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from cctv_storaged.causes import TOLERANCE
from cctv_storaged.clock import Clock, from_us, to_us
from cctv_storaged.coverage import coverage_of, covered, merge_into
from cctv_storaged.errors import MediaBroken, MediaUnusable, ObjectMismatch, SourceChanged
from cctv_storaged.exporting.work import (
    NO_ROOM_WORDS,
    in_thread,
    read_sidecar,
    remove_tree,
    synced_sha256,
    write_sidecar,
)
from cctv_storaged.gathering import Gathering
from cctv_storaged.journal.exportrows import (
    ExportFile,
    ExportGap,
    ExportRequest,
    file_document,
    file_from,
    gap_document,
    gap_from,
)
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.material import MaterialRow
from cctv_storaged.media.join import Container, Joined, JoinPlan, Part, join
from cctv_storaged.media.pieces import FailedPiece, Piece
from cctv_storaged.model import Camera, TimeSpan

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""Cause of a gap: a segment is there, and nothing can be made of it."""
DAMAGED = "damaged"
"""Cause of a gap: footage is shown but for single pictures."""
MISSING = "missing"
"""Cause of a gap: a segment was there, and its bytes cannot be had any more."""
MOST_BROKEN = 20
"""So many segments that break in the middle are left out one after the other; then it is given up."""
TRIES = 3
"""So often nobody's fault in particular is met with another try: an ffmpeg that the kernel killed for its
memory may have more then."""
OTHERWISE_NEXT_TIME = (SourceChanged, ObjectMismatch)
"""A source that is pruned while it is read, or a copy with other bytes: the next try reads another copy."""

Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A segment that an export was made of, or was to be."""

    segment_id: UUID
    camera_id: UUID
    span: TimeSpan
    size_bytes: int
    sha256: str | None  # hex; None where nothing of it was delivered yet
    used: bool
    remuxed: bool = False  # what was used of it are not these bytes: a VMS gave its pictures back


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """What one camera gave."""

    camera: Camera
    files: tuple[ExportFile, ...]  # in the take's folder, by name
    gaps: tuple[ExportGap, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePlan:
    """What is to be joined, and where the result goes."""

    camera: Camera
    request: ExportRequest
    folder: Path  # of this take alone
    stem: str  # of its files' names

    @property
    def sidecar(self) -> Path:
        return self.folder.with_suffix(".json")


class Takes:
    """Makes them."""

    def __init__(self, journal: Journal, gathering: Gathering, clock: Clock) -> None:
        self._journal = journal
        self._gathering = gathering
        self._clock = clock

    async def take(self, plan: TakePlan, rows: Sequence[MaterialRow], advance: Advance) -> Take:
        """The take, as it was kept or made now.

        Raises BackendUnavailable while a store is away, MediaError where a file came out wrong, OSError.
        """
        kept = await asyncio.to_thread(_kept, plan)
        if kept is not None:
            advance(1.0)
            return kept
        await in_thread(_begin_anew, plan)
        take = await self._made(plan, rows, advance)
        await in_thread(_write_down, plan, take)
        return take

    async def _made(self, plan: TakePlan, rows: Sequence[MaterialRow], advance: Advance) -> Take:
        camera, span = plan.camera, plan.request.span
        coverage = await coverage_of(self._journal, camera.id, span, self._clock.now())
        gaps = [ExportGap(camera_id=camera.id, span=gap.span, cause=gap.cause) for gap in coverage.gaps]
        joined, failed = await self._joined(plan, rows, advance) if rows else (None, ())
        gaps += [_gap(camera.id, each, span) for each in failed if each.span.overlaps(span)]
        parts = () if joined is None else joined.parts
        gaps += _untold(camera.id, parts, gaps, span)
        gaps += [_damaged(camera.id, part) for part in parts if part.lost_pictures]
        used = frozenset(name for part in parts for name in part.pieces)
        remuxed = frozenset(name for part in parts for name in part.remuxed)
        return Take(
            camera=camera,
            files=tuple([await asyncio.to_thread(_file, camera.id, part) for part in parts]),
            gaps=tuple(sorted(gaps, key=lambda gap: gap.span)),
            sources=tuple(_source(camera.id, row, used, remuxed) for row in rows),
        )

    async def _joined(
        self, plan: TakePlan, rows: Sequence[MaterialRow], advance: Advance
    ) -> tuple[Joined | None, tuple[FailedPiece, ...]]:
        """What could be joined (None: nothing), and every segment of which nothing could be used."""
        pieces = {piece.name: piece for piece in map(self._gathering.piece, rows)}
        broken: list[FailedPiece] = []
        met: set[str] = set()  # that broke once, and may be read from another copy
        tries = 0
        while True:
            try:
                joined = await join(list(pieces.values()), plan.request.span, _join_plan(plan), advance)
                return joined, (*broken, *joined.failed)
            except MediaUnusable as exc:  # nor with another try
                log.warning("nothing of camera %s can be exported: %s", plan.camera.id, exc)
                return None, (*broken, *(_failed(each, str(exc)) for each in pieces.values()))
            except MediaBroken as exc:
                blamed = pieces.get(exc.piece or "")
                tries += blamed is None
                if tries >= TRIES or len(broken) >= MOST_BROKEN or NO_ROOM_WORDS in str(exc):
                    raise
                if blamed is not None:
                    if blamed.name in met or not isinstance(exc.__cause__, OTHERWISE_NEXT_TIME):
                        broken.append(_failed(pieces.pop(blamed.name), str(exc)))
                    met.add(blamed.name)
                log.warning("camera %s is joined once more: %s", plan.camera.id, exc)
                await in_thread(_begin_anew, plan)
                if not pieces:
                    return None, tuple(broken)


def take_folder(folder: Path, number: int) -> Path:
    """Where the take of an export's camera of that number is made."""
    return folder / f"{number:03d}"


def _join_plan(plan: TakePlan) -> JoinPlan:
    return JoinPlan(
        container=Container(plan.request.format),
        precise=plan.request.precise,
        folder=plan.folder,
        stem=plan.stem,
    )


def _write_down(plan: TakePlan, take: Take) -> None:
    write_sidecar(plan.sidecar, _document(take))


def _begin_anew(plan: TakePlan) -> None:
    """What an interrupted try left is of no use."""
    plan.sidecar.unlink(missing_ok=True)
    remove_tree(plan.folder)
    plan.folder.mkdir(mode=0o700)


def _kept(plan: TakePlan) -> Take | None:
    """The whole take that an earlier process left; None where there is none, or not every byte of it."""
    document = read_sidecar(plan.sidecar)
    try:
        take = _take(plan.camera, document) if document is not None else None
    except (KeyError, TypeError, ValueError) as exc:
        log.warning("what is known of %s is unreadable and made anew: %s", plan.folder, exc)
        return None
    return take if take is not None and all(_is_whole(plan.folder, file) for file in take.files) else None


def _is_whole(folder: Path, file: ExportFile) -> bool:
    try:
        with (folder / file.name).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _file(camera_id: UUID, part: Part) -> ExportFile:
    """The file of a part, on the disk when this returns."""
    return ExportFile(
        name=part.path.name,
        camera_id=camera_id,
        span=part.span,
        size_bytes=part.size_bytes,
        sha256=synced_sha256(part.path),
        codec=part.codec,
        encoded=part.encoded,
    )


def _gap(camera_id: UUID, failed: FailedPiece, span: TimeSpan) -> ExportGap:
    clipped = failed.span.clipped_to(span)
    assert clipped is not None
    detail = f"segment {failed.name}: {failed.reason}"
    return ExportGap(camera_id=camera_id, span=clipped, cause=UNREADABLE, detail=detail)


def _damaged(camera_id: UUID, part: Part) -> ExportGap:
    """Not a gap in time: pictures here and there that are not shown."""
    detail = f"{part.lost_pictures} pictures within this time are damaged, and missing"
    return ExportGap(camera_id=camera_id, span=part.span, cause=DAMAGED, detail=detail)


def _untold(
    camera_id: UUID, parts: Sequence[Part], gaps: Sequence[ExportGap], span: TimeSpan
) -> list[ExportGap]:
    """What is neither shown nor told as a gap: time that a segment's bytes turned out not to hold."""
    known: list[TimeSpan] = []
    merge_into(known, sorted([each for part in parts for each in part.spans] + [gap.span for gap in gaps]))
    holes = [gap.span for gap in covered(known, (), span).gaps if gap.span.duration > TOLERANCE]
    detail = "segments are there, and their bytes hold no picture of this time"
    return [ExportGap(camera_id=camera_id, span=hole, cause=UNREADABLE, detail=detail) for hole in holes]


def _failed(piece: Piece, reason: str) -> FailedPiece:
    return FailedPiece(name=piece.name, span=piece.span, reason=reason)


def _source(camera_id: UUID, row: MaterialRow, used: frozenset[str], remuxed: frozenset[str]) -> Source:
    return Source(
        segment_id=row.segment_id,
        camera_id=camera_id,
        span=row.span,
        size_bytes=row.size_bytes,
        sha256=None if row.sha256 is None else row.sha256.hex(),
        used=str(row.segment_id) in used,
        remuxed=str(row.segment_id) in remuxed,
    )


# The sidecar


def _document(take: Take) -> dict[str, object]:
    return {
        "files": [file_document(file) for file in take.files],
        "gaps": [gap_document(gap) for gap in take.gaps],
        "sources": [
            (
                *(str(each.segment_id), to_us(each.span.start), to_us(each.span.end)),
                *(each.size_bytes, each.sha256, each.used, each.remuxed),
            )
            for each in take.sources
        ],
    }


def _take(camera: Camera, document: Mapping[str, Any]) -> Take:
    """The inverse of `_document`. Raises KeyError, TypeError and ValueError for anything else."""
    return Take(
        camera=camera,
        files=tuple(map(file_from, document["files"])),
        gaps=tuple(map(gap_from, document["gaps"])),
        sources=tuple(
            Source(
                segment_id=UUID(segment_id),
                camera_id=camera.id,
                span=TimeSpan(from_us(start_us), from_us(end_us)),
                size_bytes=size_bytes,
                sha256=sha256,
                used=used,
                remuxed=remuxed,
            )
            for segment_id, start_us, end_us, size_bytes, sha256, used, remuxed in document["sources"]
        ),
    )
