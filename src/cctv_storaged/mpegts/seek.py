"""Key frames of a transport stream by time, with few reads: an hour-long segment may lie in a bucket.

Bytes come through `Read`, which is asked for stretches of the file; times are the stream's own ticks of
90 kHz modulo 2**33 (ISO/IEC 13818-1, 2.4.3.7). The place of a time is found by bisection on the stream's
clock. Where that jumps within the file the answer may be another key frame than asked for, never a wrong
time.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from cctv_storaged.errors import NotASegment
from cctv_storaged.model import StreamStart
from cctv_storaged.mpegts import nal, psi
from cctv_storaged.mpegts.packets import PACKET_BYTES, Framing, Window, closing_window, opening_window
from cctv_storaged.mpegts.probe import fingerprint
from cctv_storaged.mpegts.track import Unit, elementary_bytes, read_track, ticks_between, units_at

Read = Callable[[int, int], Awaitable[bytes]]
"""Offset and length → bytes; fewer only at the file's end."""

HEAD_BYTES = 128 * 1024
MAX_HEAD_BYTES = 4 * 1024 * 1024
PROBE_BYTES = 64 * 1024
SCAN_BYTES = 512 * 1024
"""Read in one go where every key frame is looked for: about a second of footage."""
MAX_PICTURE_BYTES = 8 * 1024 * 1024
_KEY_LOOK_BYTES = 8 * 1024  # of a picture, to tell what it is
_NEAR_BYTES = 2 * SCAN_BYTES
_MOST_ROUNDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMap:
    """How to read one file: where its packets lie and what they carry."""

    size_bytes: int
    framing: Framing
    grid: int  # offset of some packet's sync byte
    program: psi.Program
    tables: bytes  # the packets of its association and map tables, 188 bytes each
    start: StreamStart | None
    begins_within: bool = False  # a group of pictures: what it shows first needs what another file holds
    sounding: frozenset[int] = frozenset()  # PIDs of sounds that there are, of those the map announces

    @property
    def main(self) -> psi.Stream | None:
        """The stream that is cut by: the picture, or else the first sound."""
        return self.program.video or next(iter(self.program.audio), None)

    @property
    def streams(self) -> tuple[psi.Stream, ...]:
        video = (self.program.video,) if self.program.video else ()
        return (*video, *self.program.audio)

    def window(self, data: bytes, offset: int) -> Window:
        """Bytes from `offset` on as packets."""
        return closing_window(data, self.framing, self.grid - offset)

    def aligned(self, offset: int) -> int:
        """The first byte of the packet at or before an offset."""
        first = self.grid - self.framing.lead
        return max(0, offset - (offset - first) % self.framing.stride)


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A picture that can be decoded by itself: where its first packet begins, and when it is shown."""

    offset: int
    ticks: int


def map_of(head: bytes, size_bytes: int, *, all_there_is: bool = False) -> StreamMap | None:
    """What the first bytes of a file tell; None where more of them are needed.

    Raises NotASegment (`not_mpegts`, `no_program`).
    """
    opening = opening_window(head)
    whole = all_there_is or len(head) >= min(size_bytes, MAX_HEAD_BYTES)
    if opening is None:
        raise NotASegment("not_mpegts", f"no transport packets in the first {len(head)} bytes")
    pids = psi.map_pids(opening)
    program = psi.read_program(opening, pids)
    if program is None:
        if not whole:
            return None
        raise NotASegment("no_program", f"no program map in the first {len(head)} bytes")
    stream = _stream_start(opening, program)
    if stream is None and not whole:
        return None
    sounding = (
        sound.pid for sound in program.audio if next(opening.unit_starts(sound.pid), None) is not None
    )
    return StreamMap(
        size_bytes=size_bytes,
        framing=opening.framing,
        grid=opening.runs[0][0],
        program=program,
        tables=b"".join(_table_packets(opening, pids)),
        start=stream,
        begins_within=program.video is not None and _begins_within(opening, program.video),
        sounding=frozenset(sounding),
    )


async def read_map(read: Read, size_bytes: int) -> StreamMap:
    """`map_of` with no more bytes than it needs. Raises NotASegment."""
    head_bytes = HEAD_BYTES
    while True:
        head = await read(0, min(head_bytes, size_bytes))
        found = map_of(head, size_bytes, all_there_is=len(head) < head_bytes)
        if found is not None:
            return found
        head_bytes = min(4 * head_bytes, MAX_HEAD_BYTES)


async def key_frame_before(read: Read, stream: StreamMap, ticks: int) -> KeyFrame | None:
    """The last key frame shown at or before `ticks`; None where there is none, or no picture at all."""
    video = stream.program.video
    if video is None or stream.start is None or ticks_between(stream.start.ticks, ticks) < 0:
        return None
    end = await _behind(read, stream, video, ticks)
    while end > 0:
        begin = max(0, stream.aligned(max(0, end - SCAN_BYTES)))
        frames = await _key_frames(read, stream, video, begin, end)
        # One that is shown before the stream's start lies behind a jump of the clock.
        shown = [
            frame
            for frame in frames
            if ticks_between(frame.ticks, ticks) >= 0 and ticks_between(stream.start.ticks, frame.ticks) >= 0
        ]
        if shown:
            return shown[-1]
        if begin == 0:
            return None
        end = begin
    return None


async def key_frame_after(read: Read, stream: StreamMap, ticks: int | None = None) -> KeyFrame | None:
    """The first key frame shown at or after `ticks` (None: the file's first); None where there is none."""
    video = stream.program.video
    if video is None:
        return None
    begin = 0
    if ticks is not None and stream.start is not None and ticks_between(stream.start.ticks, ticks) > 0:
        begin = max(0, stream.aligned(max(0, await _behind(read, stream, video, ticks) - _NEAR_BYTES)))
    while begin < stream.size_bytes:
        end = min(stream.size_bytes, begin + SCAN_BYTES)
        for frame in await _key_frames(read, stream, video, begin, end):
            if ticks is None or ticks_between(ticks, frame.ticks) >= 0:
                return frame
        begin = stream.aligned(end) if end < stream.size_bytes else end
    return None


async def key_picture(read: Read, stream: StreamMap, frame: KeyFrame) -> bytes:
    """A transport stream of the tables and this one picture, enough for a decoder."""
    assert stream.program.video is not None
    pid, length = stream.program.video.pid, SCAN_BYTES
    while True:
        data = await read(frame.offset, min(length, stream.size_bytes - frame.offset))
        window = stream.window(data, frame.offset)
        starts = list(window.unit_starts(pid))
        following = next((at for at in starts[1:]), None)
        at_end = frame.offset + len(data) >= stream.size_bytes or length >= MAX_PICTURE_BYTES
        if following is not None or at_end:
            packets = window.packets(pid, since=starts[0] if starts else 0, until=following)
            return stream.tables + b"".join(data[at : at + PACKET_BYTES] for at in packets)
        length *= 4


async def _behind(read: Read, stream: StreamMap, video: psi.Stream, ticks: int) -> int:
    """An offset near behind which only pictures after `ticks` are shown; the file's end at most."""
    assert stream.start is not None
    low, high = 0, stream.size_bytes
    for _ in range(_MOST_ROUNDS):
        if high - low <= _NEAR_BYTES:
            break
        middle = stream.aligned((low + high) // 2)
        found = await _first_unit(read, stream, video, middle, high)
        if found is None or ticks_between(ticks, found[1].presented) > 0:
            high = middle
        else:
            low = max(found[0], middle + 1)
    return min(
        stream.size_bytes, high + SCAN_BYTES // 2
    )  # pictures are not decoded in the order they are shown


async def _first_unit(
    read: Read, stream: StreamMap, video: psi.Stream, begin: int, end: int
) -> tuple[int, Unit] | None:
    """The first picture with a time from `begin` on and before `end`, and its offset."""
    while begin < end:
        data = await read(begin, min(PROBE_BYTES, stream.size_bytes - begin))
        window = stream.window(data, begin)
        for at, unit in units_at(window, video.pid):
            return begin + at, unit
        if len(data) < PROBE_BYTES:
            return None
        begin = stream.aligned(begin + len(data))
    return None


async def _key_frames(
    read: Read, stream: StreamMap, video: psi.Stream, begin: int, end: int
) -> list[KeyFrame]:
    """Key frames whose first packet lies in [begin, end), in order."""
    # Some more, to see what the last picture is.
    data = await read(begin, min(end + _KEY_LOOK_BYTES * 4, stream.size_bytes) - begin)
    window = stream.window(data, begin)
    return [
        KeyFrame(begin + at - stream.framing.lead, unit.presented)
        for at, unit in units_at(window, video.pid)
        if begin + at < end and is_key(window, video, at)
    ]


def is_key(window: Window, video: psi.Stream, at: int) -> bool:
    """Whether the picture that begins in the packet at this offset can be decoded by itself."""
    verdict = nal.begins_with_key_picture(video.codec, _first_bytes(window, video.pid, at))
    return window.is_random_access(at) if verdict is None else verdict


def _begins_within(opening: Window, video: psi.Stream) -> bool:
    first = next((at for at, _ in units_at(opening, video.pid)), None)
    if first is None:
        return False
    return nal.begins_with_key_picture(video.codec, _first_bytes(opening, video.pid, first)) is False


def _first_bytes(window: Window, pid: int, at: int) -> bytes:
    pieces, size_bytes = [], 0
    for piece in elementary_bytes(window, pid, since=at):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _KEY_LOOK_BYTES:
            break
    return b"".join(pieces)


def _stream_start(opening: Window, program: psi.Program) -> StreamStart | None:
    main = program.video or next(iter(program.audio), None)
    if main is None:
        return None
    track = read_track(opening, opening, main.pid, steady=False)
    return StreamStart(track.start, fingerprint(opening, program)) if track.first else None


def _table_packets(opening: Window, pids: tuple[int, ...]) -> Iterator[bytes]:
    """The first of each table, whole."""
    for pid in (0, *pids):
        starts = list(opening.unit_starts(pid))
        if starts:
            until = starts[1] if len(starts) > 1 else None
            for at in opening.packets(pid, since=starts[0], until=until):
                yield opening.data[at : at + PACKET_BYTES]
