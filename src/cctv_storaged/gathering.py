"""A camera's segments of a span as pieces that media can read, whichever copy is near."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from cctv_storaged.errors import NotFound, SourceChanged
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.material import MaterialRow
from cctv_storaged.journal.playback import Nearby
from cctv_storaged.media.pieces import MOST_BYTES_PER_S, Piece
from cctv_storaged.media.playlist import shown
from cctv_storaged.model import CopyState, Segment, TimeSpan
from cctv_storaged.reading import Reader

LEAD_IN = timedelta(seconds=1)
"""What ends so little before a span may hold the key frame that its first picture needs."""


class Gathering:
    """Finds them and opens them."""

    def __init__(self, journal: Journal, reader: Reader) -> None:
        self._journal = journal
        self._reader = reader

    async def rows(self, camera_id: UUID, span: TimeSpan) -> list[MaterialRow]:
        """The segments that together hold all there is of a span, and the one that leads to it."""
        led_to = TimeSpan(span.start - LEAD_IN, span.end)
        return list(shown(await self._journal.material.rows(camera_id, led_to, self._reader.apart)))

    async def nearby(self, camera_id: UUID, span: TimeSpan) -> Nearby:
        """Where the camera's footage nearest to a span is."""
        return await self._journal.playback.nearby(camera_id, span)

    def piece(self, row: MaterialRow) -> Piece:
        """Opens the segment as it is when it is read: it may have moved, or been deleted, meanwhile."""
        most_bytes = row.size_bytes
        if row.apart:
            most_bytes = max(most_bytes, int(row.span.duration.total_seconds() * MOST_BYTES_PER_S))
        piece = Piece(
            name=str(row.segment_id),
            span=row.span,
            size_bytes=row.size_bytes,
            open=partial(self._opened, row.segment_id, None),
            most_bytes=most_bytes,
        )
        return piece if self._reader.apart is None else replace(piece, settle=partial(self._settled, piece))

    async def _settled(self, piece: Piece) -> Piece:
        """With what it turns out to be: the recorder's bytes, or those that a VMS gave back."""
        segment_id = UUID(piece.name)
        async with self._reader.content(await self.present(segment_id)) as content:
            if not content.remuxed:
                return replace(piece, settle=None)
            return Piece(
                name=piece.name,
                span=content.span,
                size_bytes=content.size_bytes,
                open=partial(self._opened, segment_id, content.sha256),
                remuxed=True,
            )

    @asynccontextmanager
    async def _opened(
        self, segment_id: UUID, remuxed: bytes | None, start: int, length: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """`remuxed`: the checksum of what was read back; None: the recorder's bytes."""
        segment = await self.present(segment_id)
        whole = length is None  # else a look for a key frame
        if remuxed is None:
            async with self._reader.open(segment, start, length, counted=whole) as blocks:
                yield blocks
            return
        async with self._reader.content(segment, read_back=True) as content:
            if content.sha256 != remuxed:
                raise SourceChanged(f"the VMS gives segment {segment_id} otherwise than a moment ago")
            async with content.opened(start, length, whole) as opened:
                yield opened.blocks

    async def present(self, segment_id: UUID) -> Segment:
        """The segment as it is now. Raises NotFound where it was deleted meanwhile."""
        segment = await self._journal.segments.by_id(segment_id)
        if segment is None or any(copy.state is CopyState.DELETING for copy in segment.copies):
            raise NotFound(f"segment {segment_id} was deleted")
        return segment
