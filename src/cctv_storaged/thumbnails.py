"""Thumbnails: a segment's own one, and the one nearest to a moment; made, kept and expired with the segment.

What flows through: segments in, JPEGs out. A picture asked for comes from the host's cache, from the shelf
(a segment's own one only) or from the footage, in this order; several who ask for one at the same time get
the same. Each carries the moment it shows in a comment of its own, so it needs no row anywhere.

A segment has at most one object on the shelf, whatever width the settings ask for: one of another width is
made anew and takes its place. So whoever deletes the segment knows its name.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from cctv_storaged.clock import Clock, rfc3339, to_us
from cctv_storaged.errors import (
    BackendError,
    MediaBroken,
    MediaToolMissing,
    MediaUnusable,
    NotASegment,
    NotFound,
    SegmentError,
)
from cctv_storaged.journal.journal import Journal
from cctv_storaged.keyframes import Footage, Shown
from cctv_storaged.media.picture import comment_of, commented, is_whole, jpeg_of, size_of
from cctv_storaged.memory import Memory
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment, SourceState
from cctv_storaged.objectlocks import ObjectLocks
from cctv_storaged.picturecache import Kept, Name, PictureCache
from cctv_storaged.reading import READABLE, Reader
from cctv_storaged.thumbnailshelf import ThumbnailShelf

log = logging.getLogger(__name__)

T = TypeVar("T")

CACHE_BYTES = 64 * 2**20
AT_ONCE = 2
"""Pictures made at the same time for those who ask: each is a child that takes a core for a moment."""
MOST_SHELVING = 8
REFUSED_FOR = timedelta(minutes=10)
"""What could not be decoded is not tried again for so long."""
MOST_REMEMBERED = 4096
_COMMENT = "cctv-storaged "


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG, the moment it shows, and a tag that is another one for other bytes."""

    jpeg: bytes
    moment: datetime
    tag: str


class Thumbnails:
    """Finds and makes them; on the event loop."""

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        shelf: ThumbnailShelf,
        cache: PictureCache,
        clock: Clock,
        metrics: Metrics,
        width: int,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._shelf = shelf
        self._cache = cache
        self._clock = clock
        self._metrics = metrics
        self._width = width
        self._places = asyncio.Semaphore(AT_ONCE)
        self._locks = ObjectLocks()  # by segment: a put and a deletion must not cross
        self._making: dict[object, asyncio.Task[Any]] = {}
        self._working: set[asyncio.Task[object]] = set()  # on the shelf, while nobody waits for it
        self._refused = Memory[UUID | Name, tuple[str, float]](MOST_REMEMBERED)  # why, and until when
        self._frames = Memory[tuple[UUID, int], int](
            MOST_REMEMBERED
        )  # by moment asked for: that of the nearest frame

    async def shrink(self, by_bytes: int) -> int:
        """Room is needed on the disk: kept pictures of so many bytes go, or all; how many bytes went."""
        return await self._cache.shrink(by_bytes)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = (*self._making.values(), *self._working)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, segment: Segment) -> Thumbnail:
        """The segment's own: its first key frame.

        Raises NotFound where no picture can be made of it, MediaToolMissing, and what `Reader` raises.
        """
        name = Name(segment.id, self._width, None)
        with self._counted():
            if (found := await self._cached(name)) is not None:
                return found
            return await self._once(name, partial(self._own, segment, name))

    async def at(self, segment: Segment, moment: datetime) -> Thumbnail:
        """The segment's key frame nearest to a moment. Raises as `of`."""
        asked = (segment.id, to_us(moment))
        frame_us = self._frames.get(asked)
        with self._counted():
            if frame_us is not None and (
                found := await self._cached(Name(segment.id, self._width, frame_us))
            ):
                return found
            return await self._once(asked, partial(self._nearest, segment, moment))

    async def on_ingest(self, segment: Segment) -> None:
        """Makes the segment's own and puts it on the shelf. Raises as `of`."""
        name = Name(segment.id, self._width, None)
        with self._counted():
            jpeg = await self._made_own(segment, name)
        self._metrics.thumbnails_made.labels("ingest").inc()
        if not await self._shelve(segment, jpeg):
            await self._keep(name, jpeg)

    async def forget(self, segment: Segment) -> None:
        """Removes all pictures of a segment that has its tombstone. Raises BackendError."""
        await self._cache.drop(segment.id)
        async with self._locks.hold(str(segment.id)):
            await self._shelf.delete(segment)

    async def forget_many(self, segments: Sequence[Segment]) -> Mapping[UUID, BackendError]:
        """The same of many; of which they are not gone, and why."""
        for segment in segments:
            await self._cache.drop(segment.id)
        async with self._locks.hold(*(str(segment.id) for segment in segments)):
            return await self._shelf.delete_many(segments)

    def overwritten(self, segment: Segment) -> None:
        """Other bytes took its place: if that was the end of the segment, its pictures go, if they can."""
        self._soon(self._forget_if_gone(segment))

    # -- finding ------------------------------------------------------------------------------------

    async def _cached(self, name: Name) -> Thumbnail | None:
        kept = await self._cache.find(name)
        found = None if kept is None else _thumbnail(kept)
        if found is not None:
            self._metrics.thumbnails_served.labels("cache").inc()
        return found

    async def _own(self, segment: Segment, name: Name) -> Thumbnail:
        stored = await self._shelf.fetch(segment)
        if stored is not None and is_whole(stored) and size_of(stored)[0] == self._width:
            found = _thumbnail(await self._keep(name, stored))
            if found is not None:
                self._metrics.thumbnails_served.labels("shelf").inc()
                return found
        async with self._places:
            jpeg = await self._made_own(segment, name)
        self._metrics.thumbnails_made.labels("request").inc()
        self._shelve_soon(segment, jpeg)
        return await self._fresh(name, jpeg)

    async def _nearest(self, segment: Segment, moment: datetime) -> Thumbnail:
        self._require_hope(segment.id)
        footage = Footage(self._reader, segment)
        async with self._places:
            shown = self._required(segment, await self._found(segment, footage.nearest(moment)))
        frame_us = to_us(shown.moment)
        self._frames.put((segment.id, to_us(moment)), frame_us)
        name = Name(segment.id, self._width, frame_us)
        if (found := await self._cached(name)) is not None:
            return found
        return await self._once(name, partial(self._made_at, segment, footage, shown, name))

    async def _made_at(self, segment: Segment, footage: Footage, shown: Shown, name: Name) -> Thumbnail:
        async with self._places:
            jpeg = await self._drawn(segment, footage, shown, name)
        self._metrics.thumbnails_made.labels("request").inc()
        return await self._fresh(name, jpeg)

    async def _fresh(self, name: Name, jpeg: bytes) -> Thumbnail:
        made = _thumbnail(await self._keep(name, jpeg))
        assert made is not None
        self._metrics.thumbnails_served.labels("footage").inc()
        return made

    # -- making -------------------------------------------------------------------------------------

    async def _made_own(self, segment: Segment, name: Name) -> bytes:
        self._require_hope(segment.id)
        self._require_hope(name)
        footage = Footage(self._reader, segment)
        shown = self._required(segment, await self._found(segment, footage.first()))
        return await self._drawn(segment, footage, shown, name)

    async def _found(self, segment: Segment, looking: Coroutine[Any, Any, Shown | None]) -> Shown | None:
        try:
            return await looking
        except (NotASegment, MediaUnusable) as exc:
            raise self._refusal(segment.id, segment.id, str(exc)) from exc

    def _required(self, segment: Segment, shown: Shown | None) -> Shown:
        if shown is None:
            raise self._refusal(segment.id, segment.id, "it has no key frame")
        return shown

    async def _drawn(self, segment: Segment, footage: Footage, shown: Shown, name: Name) -> bytes:
        self._require_hope(name)
        try:
            jpeg = await jpeg_of(await footage.picture(shown), self._width)
        except (MediaBroken, MediaUnusable) as exc:
            raise self._refusal(segment.id, name, str(exc)) from exc
        return commented(jpeg, _COMMENT + rfc3339(shown.moment))

    # -- keeping ------------------------------------------------------------------------------------

    async def _keep(self, name: Name, jpeg: bytes) -> Kept:
        """Looks for the tombstone afterwards: one written later finds the picture and removes it."""
        kept = await self._cache.keep(name, jpeg)
        try:
            await self._require_bytes(name.segment_id)
        except NotFound:
            await self._cache.drop(name.segment_id)
            raise
        return kept

    def _shelve_soon(self, segment: Segment, jpeg: bytes) -> None:
        """Nobody who asked waits for it; where many do, some are made again another time."""
        if len(self._working) < MOST_SHELVING:
            self._soon(self._shelve(segment, jpeg))

    async def _forget_if_gone(self, segment: Segment) -> None:
        if await self._journal.segments.by_id(segment.id) is None:
            await self.forget(segment)

    def _soon(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("shelving a thumbnail: %s: %s", type(error).__name__, error)

    async def _shelve(self, segment: Segment, jpeg: bytes) -> bool:
        async with self._locks.hold(str(segment.id)):
            await self._require_bytes(segment.id)
            return await self._shelf.put(segment, jpeg)

    async def _require_bytes(self, segment_id: UUID) -> None:
        """Raises NotFound for a segment that was deleted meanwhile."""
        segment = await self._journal.segments.by_id(segment_id)
        readable = segment is not None and (
            segment.source_state is SourceState.PRESENT
            or any(copy.state in READABLE for copy in segment.copies)
        )
        if not readable:
            raise NotFound(f"segment {segment_id} is gone")

    # -- once, and not again ------------------------------------------------------------------------

    async def _once(self, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """One making for all who ask; who leaves does not end it for the others."""
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(make())
            self._making[key] = task
            task.add_done_callback(partial(self._made, key))
        found: T = await asyncio.shield(task)
        return found

    def _made(self, key: object, task: asyncio.Task[Any]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # told to those who waited; there may be none left

    def _require_hope(self, what: UUID | Name) -> None:
        refused = self._refused.get(what)
        if refused is not None and self._clock.monotonic() < refused[1]:
            raise NotFound(refused[0])

    def _refusal(self, segment_id: UUID, what: UUID | Name, why: str) -> NotFound:
        reason = f"no picture can be made of segment {segment_id}: {why}"
        self._refused.put(what, (reason, self._clock.monotonic() + REFUSED_FOR.total_seconds()))
        self._metrics.thumbnail_failures.labels("no_picture").inc()
        return NotFound(reason)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except MediaToolMissing:
            self._metrics.thumbnail_failures.labels("no_ffmpeg").inc()
            raise
        except (BackendError, SegmentError):
            self._metrics.thumbnail_failures.labels("unreadable").inc()
            raise


def _thumbnail(kept: Kept) -> Thumbnail | None:
    """What the picture says of itself; None for one of somebody else's."""
    comment = comment_of(kept.jpeg)
    if comment is None or not comment.startswith(_COMMENT):
        return None
    try:
        moment = datetime.fromisoformat(comment.removeprefix(_COMMENT)).astimezone(UTC)
    except ValueError:
        return None
    return Thumbnail(kept.jpeg, moment, kept.tag)
