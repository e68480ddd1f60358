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
    StoreNotNamed,
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
from cctv_storaged.mpegts.units import NO_VIDEO, AccessUnit, Units
from cctv_storaged.onvif.rtp import ParameterSets, parameter_sets
from cctv_storaged.onvif.timeline import Placed, Timeline

log = logging.getLogger(__name__)

ROWS = 200
"""Segments read from the journal in one go."""
MOST_LEADING = 12
"""Segments that are looked through, backwards, for the key frame that a replay begins with."""
FAR_FUTURE = datetime(9000, 1, 1, tzinfo=UTC)
_HEAD_BYTES = 2 * 1024 * 1024
_UNUSABLE = (
    *(NotFound, NotASegment, SourceChanged),
    *(ObjectMissing, ObjectMismatch, ObjectRejected, StoreNotNamed),
)
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
            leading = [] if begun else await self._led_to(rows[0])
            begun = True
            for row in (*leading, *rows):
                async with aclosing(self._of_row(row)) as placed:
                    async for picture in placed:
                        if picture.decode_us >= end_us:
                            self.cut = True
                            return
                        yield picture

    # Segments

    async def _slices(self) -> AsyncIterator[Sequence[MaterialRow]]:
        after: Position | None = None
        while True:
            part = await self._replayable.rows(self._camera_id, self._span, ROWS, after)
            if part.rows:
                yield tuple(shown(part.rows))
            if part.next is None:
                return
            after = part.next

    async def _led_to(self, first: MaterialRow) -> list[MaterialRow]:
        """The segments before it from the one on that has the key frame which the start needs.

        None where the first has it itself or begins only later, and where none of them has it.
        """
        leading: list[MaterialRow] = []
        row: MaterialRow | None = first
        while row is not None and row.start_us <= to_us(self._span.start):
            if await self._has_key_before(row):
                return leading
            row = await self._before(row) if len(leading) < MOST_LEADING else None
            leading = leading if row is None else [row, *leading]
        return []

    async def _before(self, row: MaterialRow) -> MaterialRow | None:
        """The segment that this one follows without a gap."""
        span = TimeSpan(row.span.start - LEAD_IN, row.span.start)
        found = (await self._replayable.rows(self._camera_id, span, ROWS)).rows
        return max(
            (each for each in found if each.start_us < row.start_us),
            key=lambda each: each.end_us,
            default=None,
        )

    async def _has_key_before(self, row: MaterialRow) -> bool:
        """Whether it has a key frame before the start. What cannot be read has none."""
        piece = self._gathering.piece(row)
        wanted = min(self._span.start, piece.span.end)
        try:
            stream = await read_map(piece.read, piece.size_bytes)
            return await self._key_before(piece, stream, wanted) is not None
        except _UNUSABLE:
            return False

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
                raise NotASegment(NO_VIDEO, "no picture with a time is in it")
            timeline.enter(row.start_us, row.end_us, begin.ticks)
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
