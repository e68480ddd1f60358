"""Segments of one camera as one transport stream with one clock.

A moment of the result is a moment of the span: time 0 is the first picture, and what was recorded t later is
shown t later, whatever the recorder's clock did. Where one stream goes on in the next segment its clock is
believed; where it does not, the segment's start is, within what recorders' names can say. A gap stays a gap.

A stream that a decoder would have to be told anew about (another codec, size or layout) begins another part.
What is no transport stream is left out and told; what breaks in the middle breaks the whole, as half of it
has been handed over.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from cctv_storaged.clock import MICROSECOND
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    MediaBroken,
    NotASegment,
    NotFound,
    ObjectMissing,
    ObjectRejected,
    SegmentError,
    StoreNotNamed,
)
from cctv_storaged.media.pieces import Blocks, FailedPiece, Piece, ahead
from cctv_storaged.model import TimeSpan
from cctv_storaged.mpegts.probe import blank_fingerprint
from cctv_storaged.mpegts.psi import Program
from cctv_storaged.mpegts.retime import TICKS_PER_S, Cut, Retimed
from cctv_storaged.mpegts.seek import (
    HEAD_BYTES,
    KeyFrame,
    StreamMap,
    key_frame_after,
    key_frame_before,
    map_of,
    read_map,
)
from cctv_storaged.mpegts.track import WRAP, ticks_between

BASE_S = 10
"""Where the clock of what comes out begins: pictures may be decoded before the first is shown."""
BASE_TICKS = BASE_S * TICKS_PER_S
TOLERANCE = timedelta(seconds=1)
"""Recorders name files by whole seconds: less than this is neither a gap nor an overlap."""
_ASTRAY_TICKS = 2 * TICKS_PER_S
"""How far a recorder's clock may fall behind its names before these are believed."""
_GOES_ON_TICKS = TICKS_PER_S // 2
_USUAL_FRAME_TICKS = TICKS_PER_S // 25  # of a picture alone
_LATE_TICKS = 5 * TICKS_PER_S
"""How far a stream may reach beyond the end that its segment is known to have."""
_UNUSABLE = (NotFound, NotASegment, ObjectMissing, ObjectRejected, StoreNotNamed)
"""Says of a piece that there is nothing to be had of it; anything else may be otherwise the next time."""


@dataclass(slots=True, kw_only=True)
class Splice:
    """One part: its facts are whole once its blocks are read to the end."""

    origin: datetime  # when what is shown first was recorded
    program: Program
    fingerprint: bytes
    pieces: list[str] = field(default_factory=list)
    remuxed: set[str] = field(default_factory=set)  # of them those that were read back from a VMS
    spans: list[TimeSpan] = field(default_factory=list)  # that are shown, in order, joined where they touch
    units: int = 0  # pictures (or sounds, where there is no picture)
    joins: int = 0
    lost_bytes: int = 0
    end_ticks: int = BASE_TICKS
    sounds: frozenset[int] | None = None
    """PIDs that whoever takes the blocks can take; with another sound a new part begins. None: any."""

    @property
    def duration(self) -> timedelta:
        """From the first picture to the end of the last."""
        return _as_time(self.end_ticks - BASE_TICKS)

    def moment(self, ticks: int) -> datetime:
        """When what is shown then was recorded."""
        return self.origin + _as_time(ticks - BASE_TICKS)

    @property
    def span(self) -> TimeSpan:
        return TimeSpan(self.origin, self.origin + max(self.duration, timedelta(milliseconds=1)))


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A piece about to be read: from where, and what its stream says."""

    piece: Piece
    stream: StreamMap
    first_ticks: int  # the first picture's time, on its own clock
    offset: int = 0
    head: bytes = b""  # read already, when it is read from its start
    blocks: AsyncIterator[bytes] | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def moment(self) -> datetime:
        """When its first picture was recorded."""
        start = self.stream.start
        late = 0 if start is None else ticks_between(start.ticks, self.first_ticks)
        return self.piece.span.start + _as_time(late)


class Splicer:
    """Goes through the pieces once: `async with Splicer(…) as splicer: async for part in splicer.parts()`.

    The blocks of a part are to be read to their end before the next part is asked for. `told` hears of every
    byte that was read. Raises MediaBroken for a piece that breaks in the middle, BackendUnavailable where a
    store is away.
    """

    def __init__(
        self, pieces: Sequence[Piece], span: TimeSpan, told: Callable[[int], None] = lambda size: None
    ) -> None:
        self._coming = deque(sorted(pieces, key=lambda piece: (piece.span.start, piece.span.end)))
        self._span = span
        self._told = told
        self._entry: _Entry | None = None  # opened, not yet read
        self._begun = False
        self._shift: int | None = None  # of the run under way
        self._recorded_until: datetime | None = None  # the end of the piece before, by its name
        self._frame = 0  # from one picture to the next, as it was last
        self._length = 0  # of what the last piece showed
        self._was_remuxed = False  # the piece before
        self._heard: dict[int, int] = {}  # up to when each sound of the part was let through
        self.failed: list[FailedPiece] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entry is not None:
            await self._entry.stack.aclose()

    async def parts(self) -> AsyncGenerator[tuple[Splice, Blocks]]:
        """Each part with its bytes; nothing where no piece can be used."""
        while (entry := await self._next_entry(None)) is not None:
            if (entry := await self._with_key(entry)) is None:
                continue
            assert entry.stream.start is not None
            part = Splice(
                origin=entry.moment,
                program=entry.stream.program,
                fingerprint=entry.stream.start.fingerprint,
            )
            self._shift, self._recorded_until, self._heard = None, None, {}
            yield part, self._blocks(part)

    async def _blocks(self, part: Splice) -> AsyncGenerator[bytes | bytearray]:
        while (entry := await self._next_entry(part)) is not None:
            if not _fits(part, entry.stream):
                return  # it waits for the next part
            if part.units and not self._goes_on(part, entry.moment, entry.first_ticks):
                entry = await self._with_key(entry)
            self._entry = None
            if entry is None:
                continue
            async with entry.stack, aclosing(self._retimed(part, entry)) as blocks:
                async for block in blocks:
                    yield block

    async def _with_key(self, entry: _Entry) -> _Entry | None:
        """The piece from its first key frame on, where nothing before it shows what its first pictures need.

        None: it has no key frame, which is told.
        """
        if entry.offset or not entry.stream.begins_within:
            return entry
        self._entry = None
        await entry.stack.aclose()
        try:
            frame = await key_frame_after(entry.piece.read, entry.stream)
        except _UNUSABLE as exc:
            self._fail(entry.piece, str(exc))
            return None
        except BackendUnavailable:
            raise
        except (SegmentError, BackendError) as exc:
            raise _broken(entry.piece, exc) from exc
        if frame is None:
            self._fail(entry.piece, "no key frame is in it, and what it begins with is not there")
            return None
        self._entry = _at(entry.piece, entry.stream, frame)
        return self._entry

    async def _retimed(self, part: Splice, entry: _Entry) -> AsyncGenerator[bytes | bytearray]:
        retimed = Retimed(entry.stream, self._cut(part, entry), self._heard)
        try:
            if entry.offset:
                yield entry.stream.tables
            async with aclosing(self._bytes_of(entry)) as read, aclosing(ahead(read)) as blocks:
                async for block in blocks:
                    yield await asyncio.to_thread(retimed.feed, block)
                    if retimed.done:
                        break
        except BackendUnavailable:
            raise
        except (NotFound, SegmentError, BackendError) as exc:
            raise _broken(entry.piece, exc) from exc
        self._note(part, entry, retimed)

    def _goes_on(self, part: Splice, moment: datetime, ticks: int) -> bool:
        """Whether the recorder's clock goes on: what was recorded at a moment, with these ticks, is due now.

        A recorder that pauses may let its clock stand still meanwhile: the names have to agree, with the one
        before as with all since the clock was believed.
        """
        if self._shift is None or self._recorded_until is None:
            return False
        if abs(moment - self._recorded_until) > TOLERANCE:
            return False
        if BASE_TICKS + as_ticks(moment - part.origin) - part.end_ticks > _ASTRAY_TICKS:
            return False
        late = ticks_between(part.end_ticks, (ticks + self._shift) % WRAP)
        # A single picture whose clock begins anew stands where the one before it stood.
        return -min(_GOES_ON_TICKS, self._length // 2) <= late <= _GOES_ON_TICKS

    def _cut(self, part: Splice, entry: _Entry) -> Cut:
        """Where the piece goes on the clock that comes out."""
        since = BASE_TICKS
        if self._overlaps(part, entry.piece):
            # Both are parts of one stream, and tell true times: what was shown already is left out.
            at = BASE_TICKS + as_ticks(entry.moment - part.origin)
            self._shift, since = (at - entry.first_ticks) % WRAP, part.end_ticks - self._frame // 2
        elif self._shift is None or not self._goes_on(part, entry.moment, entry.first_ticks):
            at = BASE_TICKS + as_ticks(entry.moment - part.origin)
            if part.units and abs(at - part.end_ticks) <= as_ticks(TOLERANCE):
                at = part.end_ticks
            self._shift = (max(at, part.end_ticks) - entry.first_ticks) % WRAP
        begin = (entry.first_ticks + self._shift) % WRAP
        return Cut(
            shift=self._shift,
            since=since,
            until=BASE_TICKS + as_ticks(self._span.end - part.origin),
            latest=begin + as_ticks(entry.piece.span.end - entry.moment) + _LATE_TICKS,
        )

    def _overlaps(self, part: Splice, piece: Piece) -> bool:
        """Whether it may show again what the piece before showed: each begins with a whole group."""
        return bool(part.units) and piece.remuxed and self._was_remuxed

    def _note(self, part: Splice, entry: _Entry, retimed: Retimed) -> None:
        part.lost_bytes += retimed.lost_bytes
        if retimed.first is None or retimed.end is None:
            if not retimed.is_cut:
                self._fail(entry.piece, "there is no picture or sound in it")
            return
        self._recorded_until, self._was_remuxed = entry.piece.span.end, entry.piece.remuxed
        if entry.piece.remuxed:
            part.remuxed.add(entry.piece.name)
        part.joins += bool(part.units)
        part.units += retimed.units
        part.pieces.append(entry.piece.name)
        self._frame = retimed.frame or self._frame or _USUAL_FRAME_TICKS
        end = retimed.end if retimed.frame else retimed.end + self._frame
        part.end_ticks = max(part.end_ticks, end)
        self._shift, self._length = retimed.shift, end - retimed.first
        starts = [retimed.first, *(until for _, until in retimed.holes)]
        ends = [*(since for since, _ in retimed.holes), end]
        for first, last in zip(starts, ends, strict=True):
            _add(
                part.spans,
                part.origin + _as_time(first - BASE_TICKS),
                part.origin + _as_time(last - BASE_TICKS),
            )

    async def _bytes_of(self, entry: _Entry) -> AsyncGenerator[bytes]:
        """The rest of the piece; one that is entered in its middle is opened only now."""
        if entry.blocks is None:
            entry.blocks = await entry.stack.enter_async_context(entry.piece.open(entry.offset, None))
        if entry.head:
            yield entry.head
        async for block in entry.blocks:
            self._told(len(block))
            yield block

    # Opening

    async def _next_entry(self, part: Splice | None) -> _Entry | None:
        """The next piece that can be used, from where it is wanted."""
        while self._entry is None and self._coming:
            piece = self._coming.popleft()
            if piece.span.start >= self._span.end:
                break
            try:
                piece = await piece.settled()
                self._entry = await self._entered(piece, part)
            except _UNUSABLE as exc:
                self._fail(piece, str(exc))
            except BackendUnavailable:
                raise
            except (SegmentError, BackendError) as exc:
                raise _broken(piece, exc) from exc
            else:
                self._begun = self._begun or self._entry is not None
        return self._entry

    async def _entered(self, piece: Piece, part: Splice | None) -> _Entry | None:
        """None: nothing of it is wanted."""
        if not self._begun:
            return await self._first_entry(piece)
        shown_until = None if part is None or not part.units else part.origin + part.duration
        if shown_until is not None and piece.remuxed:
            assert part is not None
            return await self._remuxed_entry(piece, part, shown_until)
        if shown_until is not None and piece.span.start < shown_until - TOLERANCE:
            assert part is not None
            return await self._entry_after(piece, part, shown_until)
        return await self._whole_entry(piece)

    async def _first_entry(self, piece: Piece) -> _Entry | None:
        """From the key frame at or before the span's start; the piece before it may have that."""
        stream = _with_time(await read_map(piece.read, piece.size_bytes))
        assert stream.start is not None
        ticks = (stream.start.ticks + as_ticks(self._span.start - piece.span.start)) % WRAP
        frame = await key_frame_before(piece.read, stream, ticks)
        if frame is None and piece.span.end > self._span.start:
            frame = await key_frame_after(piece.read, stream)
        elif frame is not None and piece.span.end <= self._span.start and await self._is_enough(self._coming):
            return None
        if frame is None and (stream.program.video is not None or piece.span.end <= self._span.start):
            return None
        entry = await self._from(piece, stream, frame)
        if entry.moment < self._span.end:
            return entry
        await entry.stack.aclose()  # nothing can be shown before
        return None

    async def _is_enough(self, following: Sequence[Piece]) -> bool:
        """Whether the next piece has a key frame early enough of its own: this one only leads in."""
        for coming in following:
            try:
                piece = await coming.settled()
                stream = _with_time(await read_map(piece.read, piece.size_bytes))
                assert stream.start is not None
                ticks = (stream.start.ticks + as_ticks(self._span.start - piece.span.start)) % WRAP
                return await key_frame_before(piece.read, stream, ticks) is not None
            except _UNUSABLE:
                continue
        return False

    async def _entry_after(self, piece: Piece, part: Splice, moment: datetime) -> _Entry | None:
        """From the first key frame that shows what was not shown yet.

        A clock that goes on says that nothing of it was: the recorder's wall clock is slower than its stream.
        """
        stream = _with_time(await read_map(piece.read, piece.size_bytes))
        assert stream.start is not None
        goes_on = not piece.remuxed and self._goes_on(part, piece.span.start, stream.start.ticks)
        if goes_on and _fits(part, stream):
            return await self._whole_entry(piece)
        if piece.span.end <= moment:
            return None
        ticks = (stream.start.ticks + as_ticks(moment - piece.span.start)) % WRAP
        frame = await key_frame_after(piece.read, stream, ticks)
        if frame is None and stream.program.video is not None:
            return None
        return await self._from(piece, stream, frame)

    async def _remuxed_entry(self, piece: Piece, part: Splice, moment: datetime) -> _Entry | None:
        """What was read back goes on in the middle of a group behind its like, else with a key picture."""
        entry = await self._whole_entry(piece)
        goes_on = self._was_remuxed and _fits(part, entry.stream)
        if goes_on or entry.moment >= moment - _as_time(self._frame) or not _fits(part, entry.stream):
            return entry
        await entry.stack.aclose()
        return await self._entry_after(piece, part, moment)

    async def _from(self, piece: Piece, stream: StreamMap, frame: KeyFrame | None) -> _Entry:
        """Read whole where that is all the same: only then its hash is proven on the way."""
        assert stream.start is not None
        if frame is None or frame.ticks == stream.start.ticks:
            return await self._whole_entry(piece)
        return _at(piece, stream, frame)

    async def _whole_entry(self, piece: Piece) -> _Entry:
        """From its start, read once: the first bytes say what it is."""
        stack = AsyncExitStack()
        try:
            blocks = await stack.enter_async_context(piece.open(0, None))
            head, stream = b"", None
            async for block in blocks:
                self._told(len(block))
                head += block
                if len(head) >= HEAD_BYTES and (stream := map_of(head, piece.size_bytes)) is not None:
                    break
            stream = _with_time(stream or map_of(head, piece.size_bytes, all_there_is=True))
        except BaseException:
            await stack.aclose()
            raise
        assert stream.start is not None
        return _Entry(
            piece=piece, stream=stream, first_ticks=stream.start.ticks, head=head, blocks=blocks, stack=stack
        )

    def _fail(self, piece: Piece, reason: str) -> None:
        self.failed.append(FailedPiece(name=piece.name, span=piece.span, reason=reason))


def _at(piece: Piece, stream: StreamMap, frame: KeyFrame) -> _Entry:
    return _Entry(piece=piece, stream=stream, first_ticks=frame.ticks, offset=frame.offset)


def _fits(part: Splice, stream: StreamMap) -> bool:
    """Whether the part's tracks can hold it as well."""
    assert stream.start is not None
    if part.sounds is not None and stream.sounding - part.sounds:
        return False
    own = stream.start.fingerprint
    if own == part.fingerprint:
        return True
    blank = blank_fingerprint(stream.program)
    if blank != blank_fingerprint(part.program) or blank not in (own, part.fingerprint):
        return False
    if part.fingerprint == blank:
        part.fingerprint = own  # known only now
    return True


def _broken(piece: Piece, error: Exception) -> MediaBroken:
    return MediaBroken(f"segment {piece.name}: {error}", piece=piece.name)


def _add(spans: list[TimeSpan], start: datetime, end: datetime) -> None:
    if spans and start - spans[-1].end <= TOLERANCE:
        start = min(start, spans.pop().start)
    if end > start:
        spans.append(TimeSpan(start, end))


def _with_time(stream: StreamMap | None) -> StreamMap:
    if stream is None or stream.main is None or stream.start is None:
        raise NotASegment("no_program", "no picture or sound with a time is in it")
    return stream


def as_ticks(time: timedelta) -> int:
    """In units of 90 kHz."""
    return time // MICROSECOND * TICKS_PER_S // 1_000_000


def _as_time(ticks: int) -> timedelta:
    return timedelta(microseconds=ticks * 1_000_000 // TICKS_PER_S)
