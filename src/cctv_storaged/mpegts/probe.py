"""Facts about a closed `.ts` file from its first and last bytes (ISO/IEC 13818-1). Pure: bytes in, facts out.

The duration comes from the stream's own clock: from the first to the last presentation time, plus one frame.
Where that clock cannot tell it is None and the caller asks elsewhere (`recorder.ffprobe`). What lies between
the two windows is not read: a clock that jumps there, and runs on, is not seen.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from cctv_storaged.errors import NotASegment, SourceChanged
from cctv_storaged.model import StreamStart
from cctv_storaged.mpegts import nal, psi
from cctv_storaged.mpegts.packets import Window, closing_window, opening_window
from cctv_storaged.mpegts.track import (
    LONGEST_TICKS,
    Reference,
    Track,
    elementary_bytes,
    pes_header,
    read_reference,
    read_track,
)

HEAD_BYTES = 128 * 1024
TAIL_BYTES = 256 * 1024
MAX_WINDOW_BYTES = 4 * 1024 * 1024
"""No more than this is asked for of either end: a key frame of a 4K camera fits several times."""

PARAMETERS_WITHIN_BYTES = 4096
"""Parameter sets stand before the first picture, and are short."""

_TICKS_PER_S = 90_000
_TICKS_OF_DISTRUST = 2 * _TICKS_PER_S  # how far a stream's two clocks may lie apart, besides a tenth


class TimeBase(StrEnum):
    """Which of a stream's clocks told the duration."""

    VIDEO = "video"
    AUDIO = "audio"
    PCR = "pcr"  # the stream has no presentation times; its last frame's length is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """What the two ends of a file tell about it. Codecs are named as ffmpeg names them."""

    duration: timedelta | None  # None: the clock cannot tell
    time_base: TimeBase | None  # which clock told it
    video_codec: str | None
    audio_codecs: tuple[str, ...]
    starts_with_keyframe: bool | None  # None: no picture in sight, or a codec whose pictures all look alike
    cut_off: bool  # the last packet is not whole, or bytes are missing on the way to it
    leading_junk_bytes: int  # before the first packet
    discontinuity: bool  # another time base was announced, or decoding times ran backwards, where we looked
    packet_bytes: int  # 188, 192 (M2TS) or 204 (with error correction)
    start: StreamStart | None = None  # None: no presentation time in sight


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreBytes:
    """The windows were too small to tell: ask again with windows of this size."""

    head_bytes: int
    tail_bytes: int


def probe(head: bytes, tail: bytes, size_bytes: int) -> StreamFacts | MoreBytes:
    """Facts about a file of `size_bytes`, of which `head` are the first and `tail` the last bytes.

    Asks for more at most until both windows have MAX_WINDOW_BYTES or together cover the file. Raises
    NotASegment: `not_mpegts` where no packets begin within the head, `no_program` where no valid program
    association table is found.
    """
    room = _Room(len(head), len(tail), size_bytes)
    if len(head) + len(tail) >= size_bytes:
        head = tail = head + tail[len(head) + len(tail) - size_bytes :]
    opening = opening_window(head)
    if opening is None:
        raise NotASegment(
            "not_mpegts", f"no transport packets in the first {len(head)} of {size_bytes} bytes"
        )
    grid = opening.runs[0][0] - (size_bytes - len(tail))
    return _facts(opening, closing_window(tail, opening.framing, grid), room)


def probe_by(read: Callable[[int, int], bytes], size_bytes: int) -> StreamFacts:
    """`probe` with windows fetched by `read(offset, length)`, only as large as they must be.

    Raises SourceChanged besides, where the file turns out to be shorter than `size_bytes`.
    """
    head_bytes, tail_bytes = HEAD_BYTES, TAIL_BYTES
    while True:
        head = read(0, min(head_bytes, size_bytes))
        tail_at = max(len(head), size_bytes - tail_bytes)
        tail = read(tail_at, size_bytes - tail_at)
        if len(head) < min(head_bytes, size_bytes) or len(tail) < size_bytes - tail_at:
            raise SourceChanged(f"the file has no {size_bytes} bytes any more")
        answer = probe(head, tail, size_bytes)
        if isinstance(answer, StreamFacts):
            return answer
        head_bytes, tail_bytes = answer.head_bytes, answer.tail_bytes


@dataclass(frozen=True, slots=True)
class _Room:
    """How large the windows are, and whether they may grow."""

    head_bytes: int
    tail_bytes: int
    size_bytes: int

    def more(self, *, head: bool, tail: bool) -> MoreBytes | None:
        """A request for larger windows; None where those asked for cannot grow."""
        if self.head_bytes + self.tail_bytes >= self.size_bytes:
            return None
        head_bytes = self._grown(self.head_bytes) if head else self.head_bytes
        tail_bytes = self._grown(self.tail_bytes) if tail else self.tail_bytes
        if (head_bytes, tail_bytes) == (self.head_bytes, self.tail_bytes):
            return None
        return MoreBytes(head_bytes=head_bytes, tail_bytes=tail_bytes)

    def _grown(self, window_bytes: int) -> int:
        return max(window_bytes, min(max(4 * window_bytes, TAIL_BYTES), MAX_WINDOW_BYTES, self.size_bytes))


def _facts(opening: Window, closing: Window, room: _Room) -> StreamFacts | MoreBytes:
    pids = psi.map_pids(opening)
    program = psi.read_program(opening, pids)
    if program is None and (more := room.more(head=True, tail=False)):
        return more
    if not pids:
        raise NotASegment("no_program", f"no program association table in {room.head_bytes} bytes")
    program = program or psi.Program(pcr_pid=None)  # cut off between the two tables
    tracks = _tracks(opening, closing, program, room)
    if isinstance(tracks, MoreBytes):
        return tracks
    reference = _reference(opening, closing, program.pcr_pid)
    discontinuity = reference.discontinuity or any(track.runs_backwards for _, track in tracks)
    time_base, ticks = (None, None) if discontinuity else _duration(tracks, reference.ticks)
    return StreamFacts(
        duration=None if ticks is None else timedelta(microseconds=ticks * 1_000_000 // _TICKS_PER_S),
        time_base=time_base,
        video_codec=program.video.codec if program.video else None,
        audio_codecs=tuple(stream.codec for stream in program.audio),
        starts_with_keyframe=_starts_with_keyframe(opening, program.video) if program.video else None,
        cut_off=_is_cut_off(opening, closing, room.size_bytes),
        leading_junk_bytes=_junk_bytes(opening),
        discontinuity=discontinuity,
        packet_bytes=opening.framing.stride,
        start=_start(opening, program, tracks),
    )


def _tracks(
    opening: Window, closing: Window, program: psi.Program, room: _Room
) -> list[tuple[TimeBase, Track]] | MoreBytes:
    """What may tell the time: the picture, or else the first sound."""
    wanted = [(TimeBase.VIDEO, program.video)] if program.video else []
    wanted += [(TimeBase.AUDIO, stream) for stream in program.audio[:1]]
    tracks: list[tuple[TimeBase, Track]] = []
    for time_base, stream in wanted:
        track = read_track(opening, closing, stream.pid, steady=time_base is TimeBase.AUDIO)
        if more := room.more(head=track.wants_head, tail=track.wants_tail):
            return more
        tracks.append((time_base, track))
        if track.ticks is not None:
            break
    return tracks


def _duration(
    tracks: list[tuple[TimeBase, Track]], reference_ticks: int | None
) -> tuple[TimeBase | None, int | None]:
    """The first track's time, unless the clock reference contradicts it; without tracks, the reference's."""
    for time_base, track in tracks:
        if track.ticks is not None:
            believed = reference_ticks is None or _agree(track.ticks, reference_ticks)
            return (time_base, track.ticks) if believed else (None, None)
    if reference_ticks is None or any(track.has_times for _, track in tracks):
        return None, None
    return (TimeBase.PCR, reference_ticks) if reference_ticks <= LONGEST_TICKS else (None, None)


def _start(opening: Window, program: psi.Program, tracks: list[tuple[TimeBase, Track]]) -> StreamStart | None:
    ticks = next((track.start for _, track in tracks if track.first), None)
    return None if ticks is None else StreamStart(ticks, fingerprint(opening, program))


def fingerprint(opening: Window, program: psi.Program) -> bytes:
    """Eight bytes that differ where a decoder, or a file's one track, cannot go on as it was.

    Picture parameter sets are left out: encoders change them as they like, in the middle of a stream.
    """
    parameters = b"" if program.video is None else _sequence_parameters(opening, program.video)
    return _fingerprint(program, parameters)


def blank_fingerprint(program: psi.Program) -> bytes:
    """That of a stretch without parameter sets, as where a recorder does not cut at key frames."""
    return _fingerprint(program, b"")


def _fingerprint(program: psi.Program, parameters: bytes) -> bytes:
    streams = (program.video, *program.audio) if program.video else program.audio
    layout = [f"{stream.pid}:{stream.codec}" for stream in streams]
    digest = hashlib.sha256(f"{program.pcr_pid} {' '.join(layout)}".encode())
    digest.update(parameters)
    return digest.digest()[:8]


def _sequence_parameters(opening: Window, video: psi.Stream) -> bytes:
    begin = next((at for at in opening.unit_starts(video.pid) if pes_header(opening, video.pid, at)), None)
    if begin is None:
        return b""
    pieces, size_bytes = [], 0
    for piece in elementary_bytes(opening, video.pid, since=begin):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes >= PARAMETERS_WITHIN_BYTES:
            break
    return nal.sequence_parameters(video.codec, b"".join(pieces))


def _agree(ticks: int, reference_ticks: int) -> bool:
    return abs(ticks - reference_ticks) <= _TICKS_OF_DISTRUST + ticks // 10


def _reference(opening: Window, closing: Window, pid: int | None) -> Reference:
    return Reference(None, discontinuity=False) if pid is None else read_reference(opening, closing, pid)


def _starts_with_keyframe(opening: Window, video: psi.Stream) -> bool | None:
    """From the pictures themselves; the muxer's hint counts only where those cannot be told apart."""
    begin = next((at for at in opening.unit_starts(video.pid) if pes_header(opening, video.pid, at)), None)
    if begin is None:
        return None
    pieces, size_bytes, enough_bytes = [], 0, 4096
    for piece in elementary_bytes(opening, video.pid, since=begin):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes >= enough_bytes:
            if (verdict := nal.begins_with_key_picture(video.codec, b"".join(pieces))) is not None:
                return verdict
            enough_bytes *= 4
    verdict = nal.begins_with_key_picture(video.codec, b"".join(pieces))
    return verdict if verdict is not None else opening.is_random_access(begin) or None


def _junk_bytes(opening: Window) -> int:
    return max(0, opening.runs[0][0] - opening.framing.lead)


def _is_cut_off(opening: Window, closing: Window, size_bytes: int) -> bool:
    return closing.ragged_bytes != 0 or (size_bytes - _junk_bytes(opening)) % opening.framing.stride != 0
