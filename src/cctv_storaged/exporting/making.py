"""One export from request to shelf, step by step; each step can be done twice, and whole takes only once.

1. Its segments are pinned: none of them is pruned or deleted while it is made.
2. Take: each camera's footage becomes files in the work folder (takes.py). Whole ones are kept.
3. Pack: one file of them, with a manifest (packing.py).
4. Shelve: the file and its manifest, under keys that follow from the export's id; proven by the backend.

Marking it COMPLETED is the journal's; the work folder goes after that. A kill between any two of these is
made good by doing the step again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.shelf import Shelf
from cctv_storaged.clock import Clock
from cctv_storaged.errors import MediaUnusable, ObjectMismatch
from cctv_storaged.evidence.host import host_facts
from cctv_storaged.exporting.packing import Packing
from cctv_storaged.exporting.putting import Puts
from cctv_storaged.exporting.result import (
    Packed,
    facts_of,
    file_key,
    manifest_document,
    manifest_key,
    possible_keys,
    result_of,
    stems_of,
)
from cctv_storaged.exporting.takes import Advance, Take, TakePlan, Takes, take_folder
from cctv_storaged.exporting.work import WorkFolders, in_thread, write_whole
from cctv_storaged.gathering import Gathering
from cctv_storaged.journal.exportrows import Export, ExportResult
from cctv_storaged.model import Camera
from cctv_storaged.pins import Pins
from cctv_storaged.shelving import shelve

log = logging.getLogger(__name__)

TAKEN, PACKED = 0.85, 0.95
"""How far an export is with its takes whole, and with its file packed."""
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MakingParts:
    """What making needs."""

    gathering: Gathering
    takes: Takes
    packing: Packing
    work: WorkFolders
    shelf: Shelf
    puts: Puts
    pins: Pins
    clock: Clock
    host_id: str
    camera: Callable[[UUID], Awaitable[Camera]]
    ffmpeg: Callable[[], Awaitable[str | None]]


class Making:
    """Makes exports."""

    def __init__(self, parts: MakingParts) -> None:
        self._parts = parts

    async def make(
        self, export: Export, advance: Advance, step_done: Callable[[], Awaitable[None]]
    ) -> ExportResult:
        """The export on its shelf; `step_done` after each camera.

        Raises BackendUnavailable while a store is away, MediaError, PackageError, BackendError, OSError.
        """
        parts = self._parts
        cameras = [await parts.camera(camera_id) for camera_id in export.request.camera_ids]
        sizes, pinned = await self._weighed(export)
        with parts.pins.exporting(pinned):
            folder = await in_thread(parts.work.make, export.id)
            takes: list[Take] = []
            for number, plan in enumerate(_plans(export, cameras, folder)):
                share = _share_of(advance, sum(sizes[:number]), sizes[number], max(1, sum(sizes)))
                takes.append(await self._take(plan, pinned, share))
                await step_done()
            if not any(take.files for take in takes):
                raise MediaUnusable(_why_nothing(takes))
            packed = await self._packed(
                export, takes, folder, lambda share: advance(TAKEN + (PACKED - TAKEN) * share)
            )
            await step_done()
            return await self._shelved(export, packed, folder)

    async def _weighed(self, export: Export) -> tuple[list[int], frozenset[UUID]]:
        """Bytes by camera, and every segment. The rows are not kept: there may be MOST_SEGMENTS."""
        sizes: list[int] = []
        ids: set[UUID] = set()
        for camera_id in export.request.camera_ids:
            rows = await self._parts.gathering.rows(camera_id, export.request.span)
            sizes.append(sum(row.size_bytes for row in rows))
            ids.update(row.segment_id for row in rows)
        return sizes, frozenset(ids)

    async def _take(self, plan: TakePlan, pinned: frozenset[UUID], advance: Advance) -> Take:
        rows = await self._parts.gathering.rows(plan.camera.id, plan.request.span)
        return await self._parts.takes.take(plan, [row for row in rows if row.segment_id in pinned], advance)

    async def _packed(self, export: Export, takes: Sequence[Take], folder: Path, advance: Advance) -> Packed:
        parts = self._parts
        host = await asyncio.to_thread(host_facts, parts.host_id, ffmpeg=await parts.ffmpeg())
        facts = facts_of(export, [take.camera for take in takes], host, parts.clock.now())
        return await parts.packing.pack(export, facts, takes, folder, advance)

    async def _shelved(self, export: Export, packed: Packed, folder: Path) -> ExportResult:
        key = file_key(export.id, packed.extension)
        for other in possible_keys(export):
            if export.starts > 1 and other != key:  # an earlier try may have come to another kind of file
                await self._parts.shelf.delete(other)
        stored = await self._put(export, packed.path, key)
        digest = stored.sha256.hex()
        told = folder / MANIFEST_FILE
        await in_thread(write_whole, told, manifest_document(packed, stored.size_bytes, digest))
        await self._put(export, told, manifest_key(export.id))
        return result_of(export, packed, stored.size_bytes, digest, self._parts.shelf.place)

    async def _put(self, export: Export, path: Path, key: str) -> StoredObject:
        return await self._parts.puts.through(export.id, self._put_anew(export, path, key))

    async def _put_anew(self, export: Export, path: Path, key: str) -> StoredObject:
        metadata = {
            "export-id": str(export.id),
            "host": self._parts.host_id.encode("ascii", "replace").decode(),
        }
        try:
            return await shelve(self._parts.shelf, path, key, metadata)
        except ObjectMismatch:  # of an earlier try: the name is ours alone
            await self._parts.shelf.delete(key)
            return await shelve(self._parts.shelf, path, key, metadata)


def _plans(export: Export, cameras: Sequence[Camera], folder: Path) -> Iterator[TakePlan]:
    stems = stems_of(cameras, export.request.span.start)
    for number, camera in enumerate(cameras):
        yield TakePlan(
            camera=camera,
            request=export.request,
            folder=take_folder(folder, number),
            stem=stems[camera.id],
        )


def _share_of(advance: Advance, done: int, size: int, total: int) -> Advance:
    """One camera's progress as the export's: by bytes."""
    return lambda share: advance(TAKEN * (done + share * size) / total)


def _why_nothing(takes: Sequence[Take]) -> str:
    """Everything asked for is a gap: the first says most."""
    gaps = [gap for take in takes for gap in take.gaps]
    told = next((gap for gap in gaps if gap.detail is not None), gaps[0] if gaps else None)
    if told is None:
        return "there is no footage of any camera in the span"
    why = f"{told.cause}: {told.detail}" if told.detail else told.cause
    return f"no footage of any camera can be exported; {told.span} of camera {told.camera_id}: {why}"
