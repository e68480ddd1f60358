"""Footage that XProtect holds, read back: its groups of pictures as a transport stream with true times.

No picture is decoded or changed. Each is shown when it was recorded, on the clock of the segment's own stream
where that is known; so what is read back of neighbouring segments plays on. It begins with the key picture at
or before the segment's start, and ends before its end. There is no sound: XProtect's is a device of its own.

One making for all who ask for a segment at the same time; it ends when nobody waits for it any more.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from cctv_storaged.backends.milestone.base import Gop, Picture, Vms
from cctv_storaged.clock import Clock, from_us, to_us
from cctv_storaged.errors import (
    BackendUnavailable,
    FootageAway,
    JournalFull,
    NoPlace,
    NotFound,
    NotHeld,
    ObjectMissing,
    ObjectRejected,
    Unsupported,
)
from cctv_storaged.journal.readbacks import ReadBack, ReadBacks
from cctv_storaged.model import BackendKind, Segment, StreamStart, TimeSpan
from cctv_storaged.mpegts.mux import Muxer
from cctv_storaged.mpegts.probe import StreamFacts, probe
from cctv_storaged.mpegts.track import WRAP
from cctv_storaged.mpegts.units import AccessUnit
from cctv_storaged.vms.paths import parse_milestone_path
from cctv_storaged.vms.presentation import Timed, Timeline
from cctv_storaged.vms.readbackcache import OpenRemuxed, ReadbackCache, Remuxed, RemuxedFile

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Segments read from XProtect at the same time."""
IN_PART_S = 10.0
"""How long what was read back in part is given out, before XProtect is asked for it anew."""
STANDS = timedelta(minutes=1)
"""How long before a segment without pictures the one is looked for that was taken last."""
_CODECS: Mapping[str, str] = {"h264": "h264", "h265": "hevc"}
_LONG_AGO_US = 2_000_000
"""A group that ends so long before the segment's start lies before a hole: nothing of it is shown."""
_USUAL_FRAME_US = 40_000
_SLACK_US, _SLACK_FRAMES = 200_000, 4
"""What is shown may begin so much later, end so much earlier and have such holes, and is whole."""
_HEAD_BYTES = 4 * 2**20
_BLOCK_BYTES = 2**20  # muxed at a time
_TRIES = 3  # a file that was made may have to go before it is read, where the cache is small


@dataclass(slots=True)
class _Making:
    """A file in the making, and how many wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0


class Readback:
    """Opens segments of which XProtect has a copy; on the event loop."""

    def __init__(
        self,
        vms: Vms,
        cache: ReadbackCache,
        notes: ReadBacks,
        clock: Clock,
        stream_of: Callable[[UUID], UUID | None] = lambda camera_id: None,
        is_left: Callable[[UUID], Awaitable[bool]] | None = None,
    ) -> None:
        """`stream_of(camera)`: of our camera, the stream of XProtect's to read; None: its default.

        `is_left(segment)`: whether it may be read back still, and was not deleted.
        """
        self._vms = vms
        self._cache = cache
        self._notes = notes
        self._clock = clock
        self._stream_of = stream_of
        self._is_left = is_left
        self._places = asyncio.Semaphore(AT_ONCE)
        self._making: dict[UUID, _Making] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._until_s: dict[UUID, float] = {}  # of files in part: when they are not given out any more
        self._untold: set[UUID] = set()  # the journal's disk was full: told when they are read next

    @property
    def name(self) -> str:
        return BackendKind.MILESTONE

    @property
    def location(self) -> str:
        """The management server's address, for people."""
        return self._vms.location

    @asynccontextmanager
    async def opened(self, segment: Segment, path: str) -> AsyncIterator[OpenRemuxed]:
        """The segment as XProtect has it under `path`, which stays while the block lasts.

        Raises NotHeld where it has nothing of it, Unsupported for pictures that no transport stream holds,
        NotFound for a segment that was deleted, ObjectRejected, FootageAway, NoPlace.
        """
        await self._forget_old_part(segment.id)
        for _ in range(_TRIES):
            async with self._cache.reading(segment.id) as found:
                if found is not None:
                    await self._tell(found.facts)
                    yield found
                    return
            await self._made(segment, path)
        raise BackendUnavailable("footage that was read back had to go before it was read", reason="space")

    async def forget(self, segment_id: UUID) -> None:
        """The segment was deleted, or its file is not what it should be."""
        making = self._making.pop(segment_id, None)
        if making is not None:
            making.task.cancel()
            await asyncio.wait([making.task])  # it may be past where it can be ended
        self._until_s.pop(segment_id, None)
        await self._cache.forget(segment_id)

    def renewed(self, segment_id: UUID) -> None:
        """XProtect was shown to hold it anew: what was read back earlier may not be all of it."""
        if self._cache.known(segment_id) is not None:
            task = asyncio.create_task(self.forget(segment_id), name=f"forgetting {segment_id}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def shows(self, segment_id: UUID) -> TimeSpan | None:
        """From when to when a segment that was read back shows; None where nobody knows yet."""
        known = self._cache.known(segment_id)
        return None if known is None else known.span

    async def shrink(self, by_bytes: int) -> int:
        """Room is needed on the disk: files of so many bytes go; how many bytes went."""
        return await self._cache.shrink(by_bytes)

    async def close(self) -> None:
        """Ends what is being made."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forget_old_part(self, segment_id: UUID) -> None:
        known = self._cache.known(segment_id)
        if known is None or known.whole:
            self._until_s.pop(segment_id, None)
        elif self._clock.monotonic() >= self._until_s.get(segment_id, 0):
            await self._cache.forget(segment_id)

    # Making

    async def _made(self, segment: Segment, path: str) -> None:
        making = self._making.get(segment.id)
        if making is None:
            task = asyncio.create_task(self._make(segment, path), name=f"reading back {segment.id}")
            making = self._making[segment.id] = _Making(task)
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        making.waiting += 1
        try:
            await asyncio.shield(making.task)
        except asyncio.CancelledError:
            if making.task.cancelled() and not _is_cancelled():
                raise BackendUnavailable("the reading was ended", reason="closing") from None
            raise
        except NoPlace:
            raise
        except BackendUnavailable as exc:
            told = f"{self.name} at {self.location} gives no footage now: {exc}"
            raise FootageAway(told, reason=exc.reason) from exc
        finally:
            making.waiting -= 1
            if making.task.done() or not making.waiting:
                making.task.cancel()
                if self._making.get(segment.id) is making:
                    del self._making[segment.id]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to those who waited; there may be none left

    async def _make(self, segment: Segment, path: str) -> None:
        camera, stream = parse_milestone_path(path).camera, self._stream_of(segment.camera_id)
        async with self._places, self._cache.making(segment.id) as file:
            remuxing = _Remuxing(segment, file)
            why = "none of its pictures lies in the segment's time"
            try:
                async with self._vms.footage(camera, segment.span, stream) as gops:
                    async for gop in gops:
                        if not await remuxing.add(gop):
                            break
            except ObjectMissing as exc:
                why = str(exc)
            if not remuxing.pictures:
                await self._add_standing(remuxing, camera, stream, why)
            made = await remuxing.finished()
            self._untold.add(segment.id)
            await self._tell(made)  # first: a line of a file that did not become is true of the next
            self._until_s[segment.id] = self._clock.monotonic() + IN_PART_S
            await file.keep(made)
        await self._require_left(segment)
        log.info(
            "read back from the VMS: %s of %s",
            made.span,
            segment.span,
            extra={"segment_id": str(segment.id), "size_bytes": made.size_bytes},
        )

    async def _add_standing(self, remuxing: "_Remuxing", camera: UUID, stream: UUID | None, why: str) -> None:
        """No picture was taken in the segment. Where XProtect recorded then all the same (key frames alone, a
        picture every few seconds), the one before is what was seen. NotHeld where it did not record.
        """
        span = remuxing.segment.span
        held = await self._vms.recorded(camera, TimeSpan(span.start - STANDS, span.end))
        recorded = next((each for each in held if each.end > span.start and each.start < span.end), None)
        if recorded is None:
            raise self._not_held(remuxing.segment, why)
        last: Gop | None = None
        if recorded.start < span.start:
            with contextlib.suppress(ObjectMissing):
                async with self._vms.footage(camera, TimeSpan(recorded.start, span.start), stream) as gops:
                    async for gop in gops:
                        last = gop
        if last is not None:
            await remuxing.add(last, standing=True)
        if not remuxing.pictures:
            raise ObjectRejected(
                f"{self.name} at {self.location} recorded in {span}, and gives no picture of it"
            )

    async def _require_left(self, segment: Segment) -> None:
        """Looks for the tombstone afterwards: one written later finds the file and removes it."""
        if self._is_left is not None and not await self._is_left(segment.id):
            await self._cache.forget(segment.id)
            raise NotFound(f"segment {segment.id} is gone")

    def _not_held(self, segment: Segment, why: str) -> NotHeld:
        return NotHeld(
            f"{self.name} at {self.location} does not hold {segment.span} of camera {segment.camera_id}"
            f" any more: {why}"
        )

    async def _tell(self, made: Remuxed) -> None:
        """The ledger's line; a journal that takes none keeps nobody from reading."""
        if made.segment_id not in self._untold:
            return
        note = ReadBack(
            segment_id=made.segment_id,
            backend=self.name,
            span=made.span,
            size_bytes=made.size_bytes,
            sha256=made.sha256,
        )
        try:
            await self._notes.note(note, self._clock.now())
        except JournalFull as exc:
            log.warning("footage was read back, which the ledger does not tell yet: %s", exc)
        else:
            self._untold.discard(made.segment_id)


@dataclass(slots=True)
class _Remuxing:
    """Groups of pictures of one segment on their way into a file."""

    segment: Segment
    file: RemuxedFile
    pictures: int = 0
    _codec: str = ""
    _timeline: Timeline | None = None
    _muxer: Muxer | None = None
    _head: bytearray = field(default_factory=bytearray)
    _first_us: int | None = None
    _last_us: int = 0
    _before_us: int = 0  # when the picture before the last was shown
    _widest_us: int = 0  # from one picture to the next
    _ended_early: bool = False
    _over: bool = False  # what follows lies behind the segment

    async def add(self, gop: Gop, *, standing: bool = False) -> bool:
        """Whether more is wanted. Raises Unsupported, ObjectRejected, NoPlace.

        `standing`: also where it was taken long before the segment.
        """
        pictures = gop.pictures if self._timeline is not None else _from_key(gop.pictures)
        if not pictures:
            return True
        codec = _codec_of(pictures)
        if self._timeline is None:
            ended_us = 1000 * max(each.time_ms for each in pictures)
            if not standing and ended_us < to_us(self.segment.span.start) - _LONG_AGO_US:
                return True
            self._codec, self._timeline, self._muxer = codec, Timeline(codec), Muxer(codec)
        elif codec != self._codec:
            log.warning("the VMS's codec changes within segment %s: read back up to there", self.segment.id)
            self._ended_early = True
            return False
        blocks = self._muxed(pictures)
        while data := await asyncio.to_thread(next, blocks, None):
            if len(self._head) < _HEAD_BYTES:
                self._head += data[: _HEAD_BYTES - len(self._head)]
            await self.file.write(data)
        return not self._over

    async def finished(self) -> Remuxed:
        """What was made. Raises ObjectRejected where it is nothing."""
        facts = await asyncio.to_thread(probe, bytes(self._head), b"", len(self._head))
        if not isinstance(facts, StreamFacts) or facts.start is None:
            raise ObjectRejected(f"what the VMS gave of segment {self.segment.id} cannot be read as pictures")
        assert self._first_us is not None
        assert self._timeline is not None
        if self._timeline.set_back_us:
            log.warning(
                "the VMS's clock was set back by %.1f s within segment %s: what was taken then is shown"
                " close behind what was before",
                self._timeline.set_back_us / 1e6,
                self.segment.id,
            )
        stream = StreamStart(self._ticks(self._first_us), facts.start.fingerprint)
        span = TimeSpan(from_us(self._first_us), from_us(self._end_us()))
        return self.file.facts(span, stream, whole=self._is_whole(span))

    def _is_whole(self, shown: TimeSpan) -> bool:
        """Whether all of the segment is there, as far as its pictures tell."""
        wanted = self.segment.span
        assert self._first_us is not None
        frame_us = (self._last_us - self._first_us) // max(1, self.pictures - 1)
        slack_us = _SLACK_US + _SLACK_FRAMES * frame_us
        late_us, early_us = (
            to_us(shown.start) - to_us(wanted.start),
            to_us(wanted.end) - to_us(shown.end),
        )
        return not self._ended_early and max(late_us, early_us, self._widest_us) <= slack_us

    def _muxed(self, pictures: Sequence[Picture]) -> Iterator[bytes]:
        """The packets of a group, in blocks, up to the segment's end. In a thread."""
        assert self._timeline is not None
        assert self._muxer is not None
        end_us = to_us(self.segment.span.end)
        block = bytearray()
        for timed in self._timeline.timed(pictures):
            if timed.shown_us >= end_us:
                # What is decoded later and shown earlier refers to this one.
                self._over = True
                break
            block += self._muxer.packets(self._unit(timed))
            self._note(timed.shown_us)
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)

    def _unit(self, timed: Timed) -> AccessUnit:
        return AccessUnit(
            codec=self._codec,
            pts=self._ticks(timed.shown_us),
            dts=self._ticks(timed.decoded_us),
            key=timed.picture.key,
            data=timed.picture.data,
        )

    def _note(self, shown_us: int) -> None:
        self.pictures += 1
        self._first_us = shown_us if self._first_us is None else min(self._first_us, shown_us)
        if shown_us > self._last_us:
            if self._last_us:
                self._widest_us = max(self._widest_us, shown_us - self._last_us)
            self._before_us, self._last_us = self._last_us, shown_us

    def _end_us(self) -> int:
        """When the last picture ends: it stands as long as the one before, and no longer than the segment."""
        frame_us = self._last_us - self._before_us if self._before_us else _USUAL_FRAME_US
        most_us = max(to_us(self.segment.span.end), self._last_us + 1)
        return min(self._last_us + min(frame_us, _LONG_AGO_US), most_us)

    def _ticks(self, at_us: int) -> int:
        """A moment on the segment's own clock; where that is not known, on one that began in 1970."""
        start_us, stream = to_us(self.segment.span.start), self.segment.stream
        if stream is None:
            return at_us * 9 // 100 % WRAP
        return (stream.ticks + (at_us - start_us) * 9 // 100) % WRAP


def _from_key(pictures: Sequence[Picture]) -> Sequence[Picture]:
    first = next((at for at, picture in enumerate(pictures) if picture.key), len(pictures))
    return pictures[first:]


def _codec_of(pictures: Sequence[Picture]) -> str:
    """Raises Unsupported, and ObjectRejected for what is no coded picture at all."""
    codec = pictures[0].codec
    if codec not in _CODECS or any(picture.codec != codec for picture in pictures):
        raise Unsupported(f"the VMS holds this footage as {codec}, and only H.264 and H.265 can be read back")
    if any(picture.data.find(b"\0\0\1", 0, 8) < 0 for picture in pictures):
        raise ObjectRejected("the VMS gave pictures that do not begin with a start code (Annex B)")
    return _CODECS[codec]


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
