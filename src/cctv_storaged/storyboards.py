"""Storyboards: a span in at most a hundred small pictures on one sheet, for scrubbing.

What flows through: a span in, a plan out (which footage stands for which tile), and from it a WebVTT text or
the sheet. A tile's place follows from span and number alone, so that text and sheet agree although footage
may come or go between the two requests; where there is none its place stays black and has no cue.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from urllib.parse import urlencode
from uuid import UUID

from cctv_storaged.clock import MICROSECOND, rfc3339
from cctv_storaged.errors import BackendError, MediaToolMissing, NotFound, SegmentError, StoragedError
from cctv_storaged.journal.journal import Journal
from cctv_storaged.media.picture import COLUMNS, TILE_HEIGHT, TILE_WIDTH, sheet_of
from cctv_storaged.memory import Memory
from cctv_storaged.model import Segment, TimeSpan
from cctv_storaged.nearest import told
from cctv_storaged.thumbnails import Thumbnails

log = logging.getLogger(__name__)

LEAST_TILE = timedelta(seconds=1)
LONGEST_SPAN = timedelta(days=31)
SHEETS_KEPT = 24
"""In memory, of some 200 kB each: pictures of what is deleted meanwhile must not outlive it on a disk."""
PICTURES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of the span and the footage that stands for it: a segment's own picture, or one at a moment."""

    span: TimeSpan
    segment: Segment | None
    moment: datetime | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """The sprite sheet, and a tag that is another one for other bytes."""

    jpeg: bytes
    tag: str


def parts_of(span: TimeSpan, tiles: int) -> tuple[TimeSpan, ...]:
    """The span in `tiles` equal parts, fewer where they would be shorter than `LEAST_TILE`."""
    count = max(1, min(tiles, span.duration // LEAST_TILE))
    bounds = [span.start + span.duration * number // count for number in range(count + 1)]
    return tuple(TimeSpan(start, end) for start, end in pairwise(bounds))


def vtt_of(span: TimeSpan, tiles: Sequence[Tile]) -> str:
    """The cues (W3C WebVTT): where on the sheet each part of the span is (W3C Media Fragments, 4.2.2).

    Times count from the span's start.
    """
    query = urlencode({"start": rfc3339(span.start), "end": rfc3339(span.end), "tiles": len(tiles)})
    return "WEBVTT\n" + "".join(_cues(span, tiles, f"storyboard.jpg?{query}"))


def place_of(number: int) -> tuple[int, int]:
    """Where a tile's left upper corner is on the sheet."""
    row, column = divmod(number, COLUMNS)
    return column * TILE_WIDTH, row * TILE_HEIGHT


class Storyboards:
    """Plans and draws them."""

    def __init__(self, journal: Journal, thumbnails: Thumbnails) -> None:
        self._journal = journal
        self._thumbnails = thumbnails
        self._places = asyncio.Semaphore(PICTURES_AT_ONCE)
        self._sheets = Memory[bytes, Sheet](SHEETS_KEPT)

    async def plan(self, camera_id: UUID, span: TimeSpan, tiles: int) -> tuple[Tile, ...]:
        """Raises NotFound where the span has no footage at all, and says where the nearest is."""
        planned = tuple([await self._tile(camera_id, part) for part in parts_of(span, tiles)])
        if all(tile.segment is None for tile in planned):
            nearby = await self._journal.playback.nearby(camera_id, span)
            raise NotFound(f"camera {camera_id} has no footage in {told(span, nearby)}")
        return planned

    async def sheet(self, tiles: Sequence[Tile]) -> Sheet:
        """Raises what `Thumbnails` raises where no tile at all can be drawn."""
        key = _key(tiles)
        if (kept := self._sheets.get(key)) is not None:
            return kept
        pictures = await asyncio.gather(*map(self._picture, tiles))
        found = [picture if isinstance(picture, bytes) else None for picture in pictures]
        errors = [picture for picture in pictures if isinstance(picture, StoragedError)]
        if errors and not any(found):
            raise errors[0]
        jpeg = await sheet_of(found)
        sheet = Sheet(jpeg, hashlib.sha256(jpeg).hexdigest()[:16])
        if all(isinstance(error, NotFound) for error in errors):  # else it may be had another time
            self._sheets.put(key, sheet)
        return sheet

    async def _tile(self, camera_id: UUID, part: TimeSpan) -> Tile:
        page = await self._journal.segments.page(camera_id, part, 2)
        begun = next((segment for segment in page.segments if segment.span.start >= part.start), None)
        if begun is not None:
            return Tile(part, begun, None)
        if not page.segments:
            return Tile(part, None, None)
        shown = page.segments[0].span.clipped_to(part)
        assert shown is not None
        return Tile(part, page.segments[0], shown.start + shown.duration / 2)

    async def _picture(self, tile: Tile) -> bytes | StoragedError | None:
        if tile.segment is None:
            return None
        try:
            async with self._places:
                if tile.moment is None:
                    return (await self._thumbnails.of(tile.segment)).jpeg
                return (await self._thumbnails.at(tile.segment, tile.moment)).jpeg
        except (NotFound, BackendError, SegmentError, MediaToolMissing) as exc:
            log.debug("black tile at %s: %s", tile.span, exc)
            return exc


def _key(tiles: Sequence[Tile]) -> bytes:
    """Names what is drawn: other footage, or less of it, is another sheet."""
    told_of = [f"{tile.segment and tile.segment.id} {tile.moment}" for tile in tiles]
    return hashlib.sha256("\n".join(told_of).encode()).digest()


def _cues(span: TimeSpan, tiles: Sequence[Tile], sheet: str) -> Iterator[str]:
    for number, tile in enumerate(tiles):
        if tile.segment is not None:
            x, y = place_of(number)
            times = f"{_time(tile.span.start - span.start)} --> {_time(tile.span.end - span.start)}"
            yield f"\n{times}\n{sheet}#xywh={x},{y},{TILE_WIDTH},{TILE_HEIGHT}\n"


def _time(offset: timedelta) -> str:
    """`HH:MM:SS.mmm`; hours may have more digits."""
    milliseconds = (offset + 500 * MICROSECOND) // timedelta(milliseconds=1)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}"
