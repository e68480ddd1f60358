"""A span as an MP4 to watch at once and to seek in: made once, read by whoever asks while it is made.

What is made lies in a cache folder of bounded size; nothing in it is needed. A clip's tag names its bytes
before there are any: they follow from the segments, their order and ffmpeg's version.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Coroutine, Sequence, Sized
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from cctv_storaged.clipcache import FOLDER_MODE, ClipCache
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import Conflict, MediaBroken, NoRoom, NotFound, QueueFull, StoragedError
from cctv_storaged.gathering import Gathering
from cctv_storaged.journal.material import MaterialRow
from cctv_storaged.media.ffmpeg import GIB, Limits, version
from cctv_storaged.media.fragments import fragments
from cctv_storaged.media.join import measured
from cctv_storaged.media.splice import Splice
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import SegmentFlag, TimeSpan
from cctv_storaged.nearest import told

log = logging.getLogger(__name__)

MOST_BUILDS = 4
"""Clips made at the same time; ffmpeg and the disk are the recorder's first."""
ABANDONED_S = 10.0
"""Players let go and come back at another place: so long a clip nobody reads is still made."""
BLOCK_BYTES = 256 * 1024
SHORTER = timedelta(seconds=1)
"""A clip shorter by so much than what went into it is not whole."""
_FORMAT = "1"
"""Part of every tag: another one where this program makes other bytes of the same segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What is known of a clip when its first byte is."""

    start: datetime  # of what is shown first
    lead: timedelta  # by how much that is before what was asked for; negative where it is after it


class Clip:
    """One clip, finished or being made; `Clips.open` keeps it as long as the block lasts."""

    def __init__(self, tag: str, descriptor: int) -> None:
        self.tag = tag
        self._descriptor: int | None = descriptor
        self._change = asyncio.Event()
        self._error: Exception | None = None
        self.begun: Begun | None = None
        self.size_bytes = 0
        self.finished = False
        self.readers = 0
        self.leaving: asyncio.TimerHandle | None = None  # ends the making, as nobody reads

    async def begin(self) -> Begun:
        """Waits for its first byte. Raises what keeps it from having one."""
        while self.begun is None or not (self.size_bytes or self.finished):
            await self._changed()
        return self.begun

    async def end(self) -> int:
        """Waits until it is whole; its size in bytes."""
        while not self.finished:
            await self._changed()
        return self.size_bytes

    async def blocks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, as they come. Raises what ends the making before its time."""
        assert self._descriptor is not None
        at, stop = start, None if length is None else start + length
        while stop is None or at < stop:
            known = self.size_bytes if stop is None else min(stop, self.size_bytes)
            if at < known:
                block = await asyncio.to_thread(os.pread, self._descriptor, min(BLOCK_BYTES, known - at), at)
                if not block:
                    raise MediaBroken("the clip's file became shorter")
                yield block
                at += len(block)
            elif self.finished:
                return
            else:
                await self._changed()

    async def _changed(self) -> None:
        if self._error is not None:
            raise self._error
        self._change.clear()
        await self._change.wait()
        if self._error is not None:
            raise self._error

    # For the maker

    def tell(self) -> None:
        self._change.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._change.set()

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def failed(self) -> bool:
        return self._error is not None


class Clips:
    """Makes clips and keeps them for a while."""

    def __init__(self, gathering: Gathering, cache: ClipCache, metrics: Metrics, reserve_bytes: int) -> None:
        """`reserve_bytes` stay free on the cache's disk."""
        self._gathering = gathering
        self._cache = cache
        self._metrics = metrics
        self._reserve_bytes = reserve_bytes
        self._clips: dict[str, Clip] = {}  # being made or read
        self._making: dict[Clip, asyncio.Task[None]] = {}
        self._ffmpeg: str | None = None

    async def shrink(self, by_bytes: int) -> int:
        """Room is needed on the disk: kept clips of so many bytes go, or all; how many bytes went."""
        return await self._cache.shrink(by_bytes)

    async def close(self) -> None:
        """Ends what is being made."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def rows(self, camera_id: UUID, span: TimeSpan) -> Sequence[MaterialRow]:
        """What the clip is made of.

        Raises NotFound without footage, Conflict where one track cannot hold it.
        """
        rows = await self._gathering.rows(camera_id, span)
        within = [row for row in rows if row.span.overlaps(span)]
        if not within:
            nearby = await self._gathering.nearby(camera_id, span)
            raise NotFound(f"camera {camera_id} has no footage in {told(span, nearby)}")
        _require_one_stream(within)
        return rows

    async def tag_of(self, rows: Sequence[MaterialRow], span: TimeSpan) -> str:
        """Names the clip's bytes."""
        if self._ffmpeg is None:
            self._ffmpeg = await version()
        digest = hashlib.sha256(f"{_FORMAT} {self._ffmpeg} {span}".encode())
        for row in rows:
            digest.update(row.id + b"remuxed" * row.apart)
        return digest.hexdigest()[:32]

    @asynccontextmanager
    async def open(self, tag: str, rows: Sequence[MaterialRow], span: TimeSpan) -> AsyncIterator[Clip]:
        """The clip, whoever asked for it first. Raises QueueFull, NoRoom."""
        clip = self._clips.get(tag) or await self._found(tag, span) or await self._begin(tag, rows, span)
        clip.readers += 1
        if clip.leaving is not None:
            clip.leaving.cancel()
            clip.leaving = None
        try:
            yield clip
        finally:
            clip.readers -= 1
            self._let_go(clip)

    def is_whole(self, tag: str) -> bool:
        """Whether it can be served without making anything."""
        clip = self._clips.get(tag)
        return clip.finished if clip is not None else tag in self._cache

    # Making

    async def _begin(self, tag: str, rows: Sequence[MaterialRow], span: TimeSpan) -> Clip:
        _require_turn(self._making)
        total = sum(row.size_bytes for row in rows)
        await asyncio.to_thread(_require_room, self._cache.folder, total, self._reserve_bytes)
        if (other := self._clips.get(tag)) is not None:
            return other  # somebody was quicker
        _require_turn(self._making)
        part, descriptor = self._cache.begin(tag)
        clip = self._clips[tag] = Clip(tag, descriptor)
        task = asyncio.create_task(self._make(clip, part, descriptor, rows, span), name=f"clip {tag}")
        self._making[clip] = task
        task.add_done_callback(lambda _: self._making.pop(clip, None))
        return clip

    async def _make(
        self, clip: Clip, part: Path, descriptor: int, rows: Sequence[MaterialRow], span: TimeSpan
    ) -> None:
        """The task of one clip: its error is told to whoever reads it."""
        try:
            made, whole = await self._written(clip, descriptor, rows, span)
            await self._require_whole(part, made)
            if whole and made.remuxed <= {str(row.segment_id) for row in rows if row.apart}:
                await self._cache.keep(clip.tag, part, made.origin)
            else:  # what is missing may be back the next time, and the tag names the whole
                self._forget(clip)
                await asyncio.to_thread(part.unlink)
            clip.finished = True
            clip.tell()
        except (StoragedError, OSError) as exc:
            self._failed(clip, part, exc)
            log.warning("a clip of %s was not made: %s", span, exc)
        except BaseException as exc:
            self._failed(clip, part, exc)
            raise

    def _failed(self, clip: Clip, part: Path, error: BaseException) -> None:
        self._metrics.errors.labels("clip", "").inc()
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        self._forget(clip)
        clip.fail(error if isinstance(error, Exception) else MediaBroken("the making of the clip was ended"))
        self._let_go(clip)

    async def _written(
        self, clip: Clip, descriptor: int, rows: Sequence[MaterialRow], span: TimeSpan
    ) -> tuple[Splice, bool]:
        """What was made, and whether every segment was good."""
        made: list[tuple[Splice, bool]] = []

        def begun(splice: Splice) -> None:
            clip.begun = Begun(start=splice.origin, lead=span.start - splice.origin)

        pieces = [self._gathering.piece(row) for row in rows]
        total = sum(piece.most_bytes for piece in pieces)
        limits = Limits(
            wall_s=3600.0,
            cpu_s=int(120 + total / 5_000_000),
            memory_bytes=GIB,
            output_bytes=2 * total + 2**24,
        )
        stream = fragments(pieces, span, limits, begun, lambda splice, whole: made.append((splice, whole)))
        async with contextlib.aclosing(stream):
            async for block in stream:
                await _to_the_end(asyncio.to_thread(_write, descriptor, block, clip.size_bytes))
                clip.size_bytes += len(block)
                clip.tell()
        return made[-1]

    async def _require_whole(self, part: Path, made: Splice) -> None:
        found = await measured(part)
        if found.duration + SHORTER < made.duration:
            raise MediaBroken(f"{found.duration} came out of {made.duration}")

    def _let_go(self, clip: Clip) -> None:
        """Nobody reads it now: one that is being made gets a while, the others are only closed."""
        if clip.readers:
            return
        task = self._making.get(clip)
        if task is not None and not (clip.finished or clip.failed):
            clip.leaving = asyncio.get_running_loop().call_later(ABANDONED_S, self._abandon, clip, task)
            return
        self._forget(clip)
        clip.release()

    def _forget(self, clip: Clip) -> None:
        """Whoever asks from now on gets another one."""
        if self._clips.get(clip.tag) is clip:
            del self._clips[clip.tag]

    def _abandon(self, clip: Clip, task: asyncio.Task[None]) -> None:
        if not clip.readers:
            if clip.finished or clip.failed:
                self._let_go(clip)
            else:
                self._forget(clip)
                task.cancel()

    async def _found(self, tag: str, span: TimeSpan) -> Clip | None:
        """One that was finished earlier."""
        kept = await self._cache.find(tag)
        if kept is None:
            return None
        if (other := self._clips.get(tag)) is not None:
            os.close(kept.descriptor)
            return other
        clip = self._clips[tag] = Clip(tag, kept.descriptor)
        clip.size_bytes, clip.finished = kept.size_bytes, True
        clip.begun = Begun(start=kept.start, lead=span.start - kept.start)
        return clip


def _require_turn(making: Sized) -> None:
    if len(making) >= MOST_BUILDS:
        raise QueueFull(f"{MOST_BUILDS} clips are being made; another one has to wait")


def _require_one_stream(rows: Sequence[MaterialRow]) -> None:
    """One track cannot hold two codecs, nor two sizes; raises Conflict where it is known that it had to."""
    for before, row in pairwise(rows):
        if before.apart != row.apart:
            moment = rfc3339(row.span.start)
            raise Conflict(
                f"on one side of {moment} the footage is the recorder's, on the other only a VMS holds it,"
                f" which one clip cannot hold: ask for a clip until {moment} and one from there on, or for an"
                " export"
            )
    # One that begins within a group of pictures does not tell its size at its beginning.
    known = [
        row
        for row in rows
        if row.fingerprint is not None and SegmentFlag.NO_KEYFRAME not in row.flags and not row.apart
    ]
    for before, row in pairwise(known):
        if before.fingerprint != row.fingerprint:
            moment = rfc3339(row.span.start)
            raise Conflict(
                f"the camera's stream changes at {moment} (codec, size or layout), which one clip cannot"
                f" hold: ask for a clip until {moment} and one from there on, or for an export"
            )


def _require_room(folder: Path, size_bytes: int, reserve_bytes: int) -> None:
    folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size_bytes + reserve_bytes:
        raise NoRoom(
            f"the clip takes some {size_bytes} bytes at {folder}, where {free} are free and"
            f" {reserve_bytes} stay so (capacity.reserve); ask for a shorter one"
        )


async def _to_the_end(work: Coroutine[object, object, None]) -> None:
    """Whoever is cancelled waits for the thread: the descriptor it writes to will be closed."""
    writing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


def _write(descriptor: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
