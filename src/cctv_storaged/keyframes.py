"""A segment's key frames by wall-clock time, read from its nearest good copy with few requests."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cctv_storaged.clock import MICROSECOND
from cctv_storaged.errors import MediaUnusable, SourceChanged
from cctv_storaged.model import Segment
from cctv_storaged.mpegts.seek import (
    KeyFrame,
    StreamMap,
    key_frame_after,
    key_frame_before,
    key_picture,
    read_map,
)
from cctv_storaged.mpegts.track import WRAP, ticks_between
from cctv_storaged.reading import Reader

STRETCH_BYTES = 512 * 1024
"""Least that is fetched: what is asked for next mostly lies beside it, and each request has its price."""
MOST_KEPT = 16 * 2**20
MOST_READ = 96 * 2**20
"""Of one segment for one picture. An hour without a key frame would be read through twice."""
_TICKS_IN, _US_IN = 9, 100  # 100 µs are 9 ticks of 90 kHz


@dataclass(frozen=True, slots=True)
class Shown:
    """A key frame and when it is shown."""

    moment: datetime
    frame: KeyFrame


@dataclass(frozen=True, slots=True)
class _Known:
    """What is being looked into."""

    size_bytes: int
    start: datetime
    sha256: bytes | None
    remuxed: bool


class Footage:
    """One segment being looked into. What was read stays in memory while this does."""

    def __init__(self, reader: Reader, segment: Segment) -> None:
        self._reader = reader
        self._segment = segment
        self._stretches: list[tuple[int, bytes]] = []
        self._fetched_bytes = 0
        self._map: StreamMap | None = None
        self._known: _Known | None = None

    async def first(self) -> Shown | None:
        """Its first key frame; None where it has none.

        Raises NotASegment, MediaUnusable, and what `Reader` raises.
        """
        stream = await self._stream()
        return await self._shown(stream, await key_frame_after(self._read, stream))

    async def nearest(self, moment: datetime) -> Shown | None:
        """The key frame nearest to a moment; else as `first`."""
        stream = await self._stream()
        if stream.start is None:
            return await self.first()
        ticks = (stream.start.ticks + _ticks(moment - await self._start())) % WRAP
        before = await key_frame_before(self._read, stream, ticks)
        if before is not None and before.ticks == ticks:
            return await self._shown(stream, before)
        around = (before, await key_frame_after(self._read, stream, ticks))
        shown = [each for frame in around if (each := await self._shown(stream, frame)) is not None]
        return min(shown, key=lambda each: abs(each.moment - moment), default=None)

    async def picture(self, shown: Shown) -> bytes:
        """A transport stream of that one picture."""
        return await key_picture(self._read, await self._stream(), shown.frame)

    async def _stream(self) -> StreamMap:
        if self._map is None:
            self._map = await read_map(self._read, (await self._content()).size_bytes)
        return self._map

    async def _content(self) -> _Known:
        """What is looked into: the recorder's bytes, or those that a VMS gives back; always the same."""
        if self._known is None:
            async with self._reader.content(self._segment) as content:
                self._known = _Known(
                    content.size_bytes, content.span.start, content.sha256, remuxed=content.remuxed
                )
        return self._known

    async def _start(self) -> datetime:
        """When its first picture was taken."""
        return (await self._content()).start

    async def _shown(self, stream: StreamMap, frame: KeyFrame | None) -> Shown | None:
        if frame is None:
            return None
        if stream.start is None:
            return Shown(await self._start(), frame)
        offset_us = round(ticks_between(stream.start.ticks, frame.ticks) * _US_IN / _TICKS_IN)
        return Shown(await self._start() + offset_us * MICROSECOND, frame)

    async def _read(self, offset: int, length: int) -> bytes:
        """`mpegts.seek.Read`, which asks for the same bytes now and then."""
        known = await self._content()
        end = min(offset + length, known.size_bytes)
        for start, data in self._stretches:
            if start <= offset and end <= start + len(data):
                return data[offset - start : end - start]
        wanted = min(max(length, STRETCH_BYTES), known.size_bytes - offset)
        if wanted <= 0:
            return b""
        self._fetched_bytes += wanted
        if self._fetched_bytes > MOST_READ:
            raise MediaUnusable(f"no key frame within {MOST_READ // 2**20} MiB")
        data = await self._fetched(known, offset, wanted)
        if sum(len(held) for _, held in self._stretches) + len(data) > MOST_KEPT:
            self._stretches.clear()
        self._stretches.append((offset, data))
        return data[: end - offset]

    async def _fetched(self, known: _Known, offset: int, length: int) -> bytes:
        if not known.remuxed:
            async with self._reader.open(self._segment, offset, length, counted=False) as blocks:
                return b"".join([block async for block in blocks])
        async with self._reader.content(self._segment, read_back=True) as content:
            if content.sha256 != known.sha256:
                raise SourceChanged(f"the VMS gives segment {self._segment.id} otherwise than a moment ago")
            async with content.opened(offset, length, False) as opened:
                return b"".join([block async for block in opened.blocks])


def _ticks(offset: timedelta) -> int:
    return round(offset / MICROSECOND * _TICKS_IN / _US_IN)
