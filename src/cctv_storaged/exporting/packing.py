"""Takes become an export's one file: itself where there is one, else a ZIP, or an evidence package."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from cctv_storaged.errors import BackendError, BackendUnavailable, NotFound, PackageError, SegmentError
from cctv_storaged.evidence.facts import (
    ExportFacts,
    OpenOriginal,
    Original,
    ReadBackInstead,
    WorkingCopy,
    manifest_of,
)
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.evidence.manifest import MANIFEST, FileRole, Manifest, written
from cctv_storaged.evidence.package import PackageWriter, package_at
from cctv_storaged.evidence.stored import StoredZip
from cctv_storaged.exporting.result import Packed, listed, missing, package_name
from cctv_storaged.exporting.takes import MISSING, OTHERWISE_NEXT_TIME, Advance, Source, Take, take_folder
from cctv_storaged.exporting.work import BLOCK_BYTES, sync_folder
from cctv_storaged.gathering import Gathering
from cctv_storaged.journal.exportrows import Export, ExportFile, ExportGap
from cctv_storaged.model import TimeSpan
from cctv_storaged.reading import Reader

log = logging.getLogger(__name__)

ZIP = "package.zip"
DIFFERING = "differing"
"""Cause told of an original that is there, and not as recorded."""
REMUXED = "remuxed"
"""Cause told of one that only a VMS has, and gave back in other bytes."""
_TOLD: Mapping[FileRole, tuple[str, str]] = {
    FileRole.DIFFERING: (DIFFERING, "its bytes are not the recorded ones: verify says so"),
    FileRole.REMUXED: (REMUXED, "only the VMS held it: its pictures as the VMS gave them, without sound"),
}


class Packing:
    """Packs exports."""

    def __init__(self, gathering: Gathering, reader: Reader, key: HostKey) -> None:
        self._gathering = gathering
        self._reader = reader
        self._key = key

    async def pack(
        self, export: Export, facts: ExportFacts, takes: Sequence[Take], folder: Path, advance: Advance
    ) -> Packed:
        """The file, whole and on the disk. Raises BackendUnavailable, PackageError, OSError."""
        if export.request.package == "evidence":
            return await self._evidence(export, facts, takes, folder, advance)
        files = [file for take in takes for file in take.files]
        gaps = tuple(gap for take in takes for gap in take.gaps)
        manifest = manifest_of(facts, listed(facts, files), missing(gaps), kind="export", key=None)
        if len(takes) == 1 and len(files) == 1:
            path, name = take_folder(folder, 0) / files[0].name, files[0].name
        else:
            path, name = folder / ZIP, package_name(export)
            contents = [(path, file) for _, path, file in _with_paths(folder, takes)]
            await _stoppable(lambda stop: _zip(path, manifest, contents, facts.created_at, stop))
        return Packed(path=path, name=name, manifest=manifest, takes=tuple(takes), gaps=gaps)

    async def _evidence(
        self, export: Export, facts: ExportFacts, takes: Sequence[Take], folder: Path, advance: Advance
    ) -> Packed:
        """The originals, the takes, and what proves them; an original that cannot be had is told as a gap."""
        key = await asyncio.to_thread(self._key.current)
        gaps = [gap for take in takes for gap in take.gaps]
        wrote = _counting(takes, advance)
        async with package_at(folder / ZIP, facts, key, wrote) as package:
            for source in (source for take in takes for source in take.sources):
                try:
                    await self._add(package, source)
                except BackendUnavailable:
                    raise
                except (NotFound, SegmentError, BackendError, PackageError) as exc:
                    gaps += _lost(source, export, str(exc))
            for part, path, file in _with_paths(folder, takes):
                await package.add_working_copy(_working_copy(part, path, file))
            made = await package.finish(missing(gaps))
        gaps += _told(made.manifest, export)
        return Packed(
            path=folder / ZIP,
            name=package_name(export),
            manifest=made.manifest,
            takes=tuple(takes),
            gaps=tuple(gaps),
        )

    async def _add(self, package: PackageWriter, source: Source) -> None:
        try:
            await package.add_original(await self._original(source))
        except OTHERWISE_NEXT_TIME as exc:
            log.warning("segment %s is read once more for a package: %s", source.segment_id, exc)
            await package.add_original(await self._original(source))

    async def _original(self, source: Source) -> Original:
        segment = await self._gathering.present(source.segment_id)

        @asynccontextmanager
        async def opened() -> AsyncIterator[OpenOriginal]:
            async with self._reader.content(segment) as content, content.opened(0, None, True) as found:
                instead = ReadBackInstead(content.size_bytes, content.span) if content.remuxed else None
                yield OpenOriginal(found.read_from, found.blocks, instead)

        return Original(
            camera_id=segment.camera_id,
            segment_id=segment.id,
            span=segment.span,
            size_bytes=segment.size_bytes,
            sha256=segment.sha256,
            path=segment.source.path,
            codec=segment.codec,
            flags=segment.flags,
            registered_at=segment.created_at,
            open=opened,
        )


def _with_paths(folder: Path, takes: Sequence[Take]) -> Iterator[tuple[int | None, Path, ExportFile]]:
    """Every file, where it is, and which of its camera's it is (None: the only one)."""
    for number, take in enumerate(takes):
        for part, file in enumerate(take.files, 1):
            path = take_folder(folder, number) / file.name
            yield (None if len(take.files) == 1 else part), path, file


def _working_copy(part: int | None, path: Path, file: ExportFile) -> WorkingCopy:
    return WorkingCopy(
        camera_id=file.camera_id,
        file=path,
        span=file.span,
        codec=file.codec,
        made_by="edges_reencoded" if file.encoded else "stream_copy",
        part=part,
    )


def _told(manifest: Manifest, export: Export) -> Iterator[ExportGap]:
    """Originals that are in the package and marked there, as their bytes are not those that were recorded.

    The manifest tells of them by itself; whoever asked for the export must hear of it before the court does.
    """
    for file in manifest.of_role(*_TOLD):
        log.warning("an original is not as recorded: %s of export %s", file.path, export.id)
        if file.camera_id is None or file.span is None:
            continue
        cause, why = _TOLD[file.role]
        span = TimeSpan(file.span.start, file.span.end).clipped_to(export.request.span)
        if span is not None:
            detail = f"{file.path} is in the package, and {why}"
            yield ExportGap(camera_id=file.camera_id, span=span, cause=cause, detail=detail)


def _lost(source: Source, export: Export, why: str) -> Iterator[ExportGap]:
    clipped = source.span.clipped_to(export.request.span)
    if clipped is not None:
        detail = f"segment {source.segment_id}: {why}"
        yield ExportGap(camera_id=source.camera_id, span=clipped, cause=MISSING, detail=detail)


def _counting(takes: Sequence[Take], advance: Advance) -> Callable[[int], None]:
    """What a package tells of its bytes, as a share."""
    originals = sum(source.size_bytes for take in takes for source in take.sources)
    total = max(1, originals + sum(file.size_bytes for take in takes for file in take.files))
    so_far = 0

    def wrote(size_bytes: int) -> None:
        nonlocal so_far
        so_far += size_bytes
        advance(min(1.0, so_far / total))

    return wrote


async def _stoppable(work: Callable[[threading.Event], None]) -> None:
    """Blocking work in a thread, over when this returns, however it returns."""
    stop = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([working])
        raise


def _zip(
    out: Path,
    manifest: Manifest,
    files: Sequence[tuple[Path, ExportFile]],
    moment: datetime,
    stop: threading.Event,
) -> None:
    """A ZIP of the files and their manifest, not compressed: pictures do not get smaller."""
    packed = StoredZip(out)
    try:
        for path, file in files:
            packed.begin(file.name, file.span.start, file.size_bytes)
            with path.open("rb") as opened:
                while not stop.is_set() and (block := opened.read(BLOCK_BYTES)):
                    packed.write(block)
            if stop.is_set():
                return
            packed.end(file.name)
        raw = written(manifest)
        packed.begin(MANIFEST, moment, len(raw))
        packed.write(raw)
        packed.end(MANIFEST)
        packed.finish()
    finally:
        packed.close()
    sync_folder(out.parent)
