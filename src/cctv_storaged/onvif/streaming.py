"""A camera's coded pictures over a span, each with the time it was recorded, straight from stored segments.

One segment is open at a time, and of it one block and the pictures in it are in memory: whoever takes the
pictures sets the pace. Footage comes from sources and stores, never from the VMS (`Replayable`, and a Reader
without its backend).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.errors import (
    BackendUnavailable,
    NotASegment,
    NotFound,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.gathering import LEAD_IN, Gathering
from cctv_storaged.journal.material import MaterialRow
from cctv_storaged.journal.replayable import Position, Replayable
from cctv_storaged.media.pieces import Piece
from cctv_storaged.media.playlist import shown
from cctv_storaged.model import TimeSpan
from cctv_storaged.mpegts.packets import PLAIN
from cctv_storaged.mpegts.seek import KeyFrame, StreamMap, key_frame_before, read_map
from cctv_storaged.mpegts.track import WRAP
from cctv_storaged.mpegts.units import AccessUnit, Units
from cctv_storaged.onvif.rtp import ParameterSets, parameter_sets
from cctv_storaged.onvif.timeline import Placed, Timeline

log = logging.getLogger(__name__)

ROWS = 200
"""Segments read from the journal in one go."""
FAR_FUTURE = datetime(9000, 1, 1, tzinfo=UTC)
_HEAD_BYTES = 2 * 1024 * 1024
_LEAD_IN_US = LEAD_IN.seconds * 1_000_000
_UNUSABLE = (NotFound, NotASegment, SourceChanged, ObjectMissing, ObjectMismatch, ObjectRejected)
"""Says of a segment that there is nothing (more) to be had of it; the next may be better."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a replay begins: the segment, its map, and the key frame (None: from its first)."""

    piece: Piece
    stream: StreamMap
    frame: KeyFrame | None


class Footage:
    """The pictures of this host's cameras."""

    def __init__(self, replayable: Replayable, gathering: Gathering) -> None:
        self._replayable = replayable
        self._gathering = gathering

    def replay(self, camera_id: UUID, start: datetime, end: datetime | None = None) -> "Replay":
        """From a moment on, to another or to the end of all footage."""
        return Replay(self._replayable, self._gathering, camera_id, TimeSpan(start, end or FAR_FUTURE))

    async def facts(self, camera_id: UUID, moment: datetime) -> ParameterSets | None:
        """Codec and parameter sets of the newest segment that holds the moment; None where there is none."""
        span = TimeSpan(moment - LEAD_IN, moment + LEAD_IN)
        rows = (await self._replayable.rows(camera_id, span, ROWS)).rows
        for row in reversed(rows):
            try:
                return await self._facts_of(self._gathering.piece(row))
            except _UNUSABLE as exc:
                log.info("segment %s tells no codec: %s", row.segment_id, exc)
        return None

    async def _facts_of(self, piece: Piece) -> ParameterSets | None:
        head = await piece.read(0, min(_HEAD_BYTES, piece.size_bytes))
        units = Units()
        found = await asyncio.to_thread(lambda: [*units.feed(head), *units.finish()])
        if units.codec is None:
            return None
        sets = (parameter_sets(unit.codec, unit.data) for unit in found if unit.key)
        return next((each for each in sets if each.complete), ParameterSets(units.codec))


class Replay:
    """A camera's footage of a span, read once."""

    def __init__(self, replayable: Replayable, gathering: Gathering, camera_id: UUID, span: TimeSpan) -> None:
        self._replayable = replayable
        self._gathering = gathering
        self._camera_id = camera_id
        self._span = span
        self._timeline = Timeline()
        self.cut = False
        """Whether it ended as the span does, and not with the footage."""

    async def pictures(self) -> AsyncGenerator[Placed]:
        """In decoding order, from the last key frame at or before the start (in a gap: the first after it),
        up to what is decoded at the end.

        What cannot be read is left out. Raises BackendUnavailable where a store is away: what follows may be
        there the next time.
        """
        end_us, begun = to_us(self._span.end), False
        async for rows in self._slices():
            left = list(rows)
            if not begun:
                left = await self._from_entry(left)
                begun = bool(left)
            for row in left:
                async with aclosing(self._of_row(row)) as placed:
                    async for picture in placed:
                        if picture.decode_us >= end_us:
                            self.cut = True
                            return
                        yield picture

    # Segments

    async def _slices(self) -> AsyncIterator[Sequence[MaterialRow]]:
        span = TimeSpan(self._span.start - LEAD_IN, self._span.end)
        after: Position | None = None
        while True:
            part = await self._replayable.rows(self._camera_id, span, ROWS, after)
            if part.rows:
                yield tuple(shown(part.rows))
            if part.next is None:
                return
            after = part.next

    async def _from_entry(self, rows: list[MaterialRow]) -> list[MaterialRow]:
        """The rows from the one on that has the key frame which the start needs; empty: none of them does."""
        start_us = to_us(self._span.start)
        while rows and rows[0].end_us <= start_us:
            following = rows[1] if len(rows) > 1 else None
            leads = following is not None and following.start_us - rows[0].end_us <= _LEAD_IN_US
            if leads and following is not None and not await self._has_key_before(following):
                break
            rows = rows[1:]
        return rows

    async def _has_key_before(self, row: MaterialRow) -> bool:
        """Whether the segment can be decoded from the start on by itself."""
        start = self._span.start
        if row.start_us >= to_us(start):
            return True  # the start lies in a gap, if a small one
        piece = self._gathering.piece(row)
        try:
            return (
                await self._key_before(piece, await read_map(piece.read, piece.size_bytes), start) is not None
            )
        except _UNUSABLE:
            return True  # nothing to lead to

    async def _key_before(self, piece: Piece, stream: StreamMap, moment: datetime) -> KeyFrame | None:
        if stream.start is None:
            return None
        offset_us = to_us(moment) - to_us(piece.span.start)
        ticks = (stream.start.ticks + offset_us * 9 // 100) % WRAP
        return await key_frame_before(piece.read, stream, ticks)

    async def _of_row(self, row: MaterialRow) -> AsyncGenerator[Placed]:
        """The segment's pictures; what cannot be read is told and left out."""
        timeline = self._timeline
        try:
            entry = await self._entered(row)
            begin = entry.stream.start
            if begin is None:
                raise NotASegment("no_video", "no picture with a time is in it")
            timeline.enter(row.start_us, row.end_us, begin.ticks, begin.fingerprint)
            if entry.frame is not None:
                timeline.begin_at(entry.frame.ticks)
            async with aclosing(self._units(entry)) as batches:
                async for batch in batches:
                    for unit in batch:
                        if (placed := timeline.place(unit)) is not None:
                            yield placed
        except BackendUnavailable:
            raise
        except _UNUSABLE as exc:
            log.warning("segment %s is left out of a replay: %s", row.segment_id, exc)
            timeline.lost()

    async def _entered(self, row: MaterialRow) -> _Entry:
        piece = self._gathering.piece(row)
        stream = await read_map(piece.read, piece.size_bytes)
        wanted = min(self._span.start, piece.span.end)
        frame = await self._key_before(piece, stream, wanted) if piece.span.start < wanted else None
        return _Entry(piece, stream, frame)

    async def _units(self, entry: _Entry) -> AsyncGenerator[list[AccessUnit]]:
        """The pictures, as many at a time as a block has."""
        units = Units()
        # Tables are packets alone: a stream with something between its packets is read from its start.
        jumps = entry.frame is not None and entry.stream.framing == PLAIN
        offset = entry.frame.offset if entry.frame is not None and jumps else 0
        ahead = entry.stream.tables if offset else b""
        async with entry.piece.open(offset, None) as blocks:
            async for block in blocks:
                yield await asyncio.to_thread(units.feed, ahead + block if ahead else block)
                ahead = b""
        yield await asyncio.to_thread(units.finish)
