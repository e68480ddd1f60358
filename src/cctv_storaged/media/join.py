"""Segments of one camera into files that play: copied, not transcoded, and measured before they count.

One part is one file; where a decoder would have to be told anew (splice.py) another begins. What ffmpeg wrote
is compared with what it was given, as it ends well with a shortened film.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import MediaBroken, MediaUnusable
from cctv_storaged.media.edges import Edged
from cctv_storaged.media.ffmpeg import GIB, PROBE_PROGRAM, TRANSPORT_STREAM, Limits, run
from cctv_storaged.media.pieces import Blocks, FailedPiece, Piece
from cctv_storaged.media.sounds import heard, to_mp4
from cctv_storaged.media.splice import BASE_TICKS, Splice, Splicer
from cctv_storaged.model import TimeSpan
from cctv_storaged.mpegts.psi import Stream
from cctv_storaged.mpegts.retime import TICKS_PER_S

RESERVED_BYTES = 64 * 1024
RESERVED_BYTES_PER_S = 2240
"""Room for an MP4's index in front of its pictures: sixty pictures a second and two sounds fit. One that does
not fit costs a second pass over the file."""
FEW, MOST_LOST = 10, 0.05
"""Pictures, or a share of them: a flipped bit may cost one, and more is no damage but a film cut short."""
SLACK = timedelta(milliseconds=200)
_LOOKS_FAR = ("-probesize", "128M", "-analyzeduration", "120M")
"""An edge's sounds come behind its pictures."""
_NO_ROOM_FOR_INDEX = "moov_size is too small"
_PROBE_LIMITS = Limits(wall_s=60.0, cpu_s=60)


class Container(StrEnum):
    """What the pictures are put into; the name is the file's extension."""

    MP4 = "mp4"
    MKV = "mkv"
    TS = "ts"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPlan:
    """What is wanted, and where it goes: `stem.mp4`, `stem-2.mp4`, … in a folder of ours."""

    container: Container
    folder: Path
    stem: str
    precise: bool = False  # to the picture, by encoding the first and the last group of pictures anew
    wall_s: float | None = None  # None: by the size of what is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One finished file."""

    path: Path
    size_bytes: int
    span: TimeSpan  # of what is shown; position 0 is its start
    spans: tuple[TimeSpan, ...]  # of it, where there are pictures
    codec: str | None
    encoded: bool  # at its edges; else it is copied throughout
    pieces: tuple[str, ...]
    joins: int
    lost_bytes: int  # between packets: garbage inside a segment
    remuxed: tuple[str, ...] = ()  # of the pieces those that a VMS gave back
    lost_pictures: int = 0  # that were damaged, and did not come out


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What came of it; every piece is in a part, failed, or not wanted for the span."""

    parts: tuple[Part, ...]
    failed: tuple[FailedPiece, ...]


async def join(
    pieces: Sequence[Piece],
    span: TimeSpan,
    plan: JoinPlan,
    progress: Callable[[float], None] = lambda share: None,
) -> Joined:
    """Pieces that overlap the span (and one before it, to lead in) as files. Leaves nothing where it raises.

    Begins at the key frame at or before the span's start unless `plan.precise`. Raises MediaUnusable where no
    piece can be used, MediaBroken (try again) where the making failed or the result is not whole,
    BackendUnavailable where a store is away, MediaToolMissing.
    """
    try:
        return await _join(pieces, span, plan, progress, reserve=True)
    except MediaBroken as exc:
        if _NO_ROOM_FOR_INDEX not in str(exc):
            raise
    return await _join(pieces, span, plan, progress, reserve=False)


async def _join(
    pieces: Sequence[Piece],
    span: TimeSpan,
    plan: JoinPlan,
    progress: Callable[[float], None],
    *,
    reserve: bool,
) -> Joined:
    job = _Job(pieces=pieces, span=span, plan=plan, reserve=reserve, progress=progress)
    parts: list[Part] = []
    try:
        async with Splicer(pieces, span, job.told) as splicer:
            async for splice, blocks in splicer.parts():
                path = plan.folder / _name(plan, len(parts) + 1)
                async with contextlib.aclosing(blocks):
                    parts.append(await job.make(splice, blocks, path))
    except BaseException:
        for number in range(1, len(parts) + 2):
            (plan.folder / _name(plan, number)).unlink(missing_ok=True)
        raise
    if not parts:
        raise MediaUnusable(_why_nothing(splicer.failed, span))
    progress(1.0)
    return Joined(parts=tuple(parts), failed=tuple(splicer.failed))


class _Job:
    """One pass over the pieces."""

    def __init__(
        self,
        *,
        pieces: Sequence[Piece],
        span: TimeSpan,
        plan: JoinPlan,
        reserve: bool,
        progress: Callable[[float], None],
    ) -> None:
        self._span = span
        self._plan = plan
        self._reserve = reserve
        self._progress = progress
        self._total_bytes = max(1, sum(piece.size_bytes for piece in pieces))
        self._most_bytes = max(self._total_bytes, sum(piece.most_bytes for piece in pieces))
        self._length_s = sum(piece.span.duration.total_seconds() for piece in pieces)
        self._read_bytes = 0

    def told(self, size_bytes: int) -> None:
        self._read_bytes += size_bytes
        self._progress(min(0.99, self._read_bytes / self._total_bytes))

    async def make(self, splice: Splice, blocks: Blocks, path: Path) -> Part:
        edged = Edged(splice, self._span) if self._plan.precise else None
        sounds, blocks = await heard(splice, blocks)
        splice.sounds = frozenset(sound.pid for sound in sounds)
        self._require_fitting(sounds)
        first_ticks = BASE_TICKS if edged is None else edged.first_ticks
        if edged is not None:
            blocks = edged.blocks(blocks)
        arguments = (
            *(() if edged is None else _LOOKS_FAR),
            *copied(splice, sounds, first_ticks),
            *self._output(splice, sounds, splice.moment(first_ticks)),
            "-progress",
            "pipe:1",
            "-y",
            f"./{path.name}",
        )
        said = await run(arguments, blocks, self._limits(), folder=str(path.parent))
        if not splice.units:
            raise MediaBroken("nothing was shown of a part that had begun")
        end_ticks = splice.end_ticks if edged is None else edged.end_ticks
        shown = TimeSpan(splice.moment(first_ticks), splice.moment(max(end_ticks, first_ticks + 90)))
        due = _Due(
            pictures=splice.units - splice.joins - (0 if edged is None else edged.units_less),
            duration=shown.duration - SLACK * (1 + splice.joins / 5),
        )
        lost = await _check(path, splice, due, _frames_written(said))
        return Part(
            path=path,
            size_bytes=(await asyncio.to_thread(path.stat)).st_size,
            span=shown,
            spans=tuple(clip for each in splice.spans if (clip := each.clipped_to(shown)) is not None),
            codec=splice.program.video.codec if splice.program.video else None,
            encoded=edged is not None and edged.encoded,
            pieces=tuple(splice.pieces),
            remuxed=tuple(splice.remuxed),
            joins=splice.joins,
            lost_bytes=splice.lost_bytes,
            lost_pictures=lost,
        )

    def _require_fitting(self, sounds: Sequence[Stream]) -> None:
        if self._plan.container is Container.MP4 and (odd := [each for each in sounds if not fits_mp4(each)]):
            raise MediaUnusable(f"no MP4 can hold {odd[0].codec} sound: ask for mkv or ts")

    def _output(self, splice: Splice, sounds: Sequence[Stream], begun: datetime) -> tuple[str, ...]:
        whitelist = ("-protocol_whitelist", "file,pipe")
        stamp = ("-metadata", f"creation_time={rfc3339(begun)}")
        match self._plan.container:
            case Container.MP4:
                index = int(RESERVED_BYTES + RESERVED_BYTES_PER_S * self._length_s)
                front = ("-moov_size", str(index)) if self._reserve else ("-movflags", "+faststart")
                tagged = tags(splice, precise=self._plan.precise)
                return (*to_mp4(sounds), *tagged, *stamp, *front, "-f", "mp4", *whitelist)
            case Container.MKV:
                return (*to_mp4(sounds), *stamp, "-f", "matroska", *whitelist)
            case Container.TS:
                return ("-f", "mpegts", *whitelist)

    def _limits(self) -> Limits:
        wall_s = self._plan.wall_s
        return Limits(
            wall_s=600 + self._most_bytes / 500_000 if wall_s is None else wall_s,
            cpu_s=int(600 + self._most_bytes / 5_000_000),
            memory_bytes=4 * GIB,
            output_bytes=64 * 2**20 + 2 * self._most_bytes,
        )


def fits_mp4(sound: Stream) -> bool:
    """Whether ffmpeg can put it into an MP4."""
    return sound.codec not in ("aac_latm", "s302m")


def copied(splice: Splice, sounds: Sequence[Stream], first_ticks: int = BASE_TICKS) -> tuple[str, ...]:
    """Arguments up to the container: what goes in, and that it is copied; `first_ticks` becomes time 0."""
    picture = ("-map", "0:v:0") if splice.program.video else ()
    clock = ("-output_ts_offset", f"-{first_ticks / TICKS_PER_S:.6f}")
    mapped = [word for sound in sounds for word in ("-map", f"0:i:{sound.pid}")]
    return ("-copyts", *TRANSPORT_STREAM, "-i", "pipe:0", *picture, *mapped, "-c", "copy", *clock)


def tags(splice: Splice, *, precise: bool) -> tuple[str, ...]:
    """How the picture is called in an MP4: with parameter sets in front, or (avc3, hev1) between pictures."""
    match splice.program.video.codec if splice.program.video else None:
        case "hevc":
            return ("-tag:v", "hev1" if precise else "hvc1")
        case "h264" if precise:
            return ("-tag:v", "avc3")
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class _Due:
    """What must be in a file at least.

    A picture in which segments were cut is lost to both; a unit may hold several pictures, never less.
    """

    pictures: int
    duration: timedelta


async def _check(path: Path, splice: Splice, due: _Due, written: int | None) -> int:
    """How many pictures are missing. Raises MediaBroken where it is more than damage can be."""
    found = await measured(path)
    frames = found.frames if found.frames is not None else written
    lost = 0 if splice.program.video is None or frames is None else pictures_lost(due.pictures, frames)
    if lost > max(FEW, due.pictures * MOST_LOST):
        raise MediaBroken(f"{frames} pictures came out, {due.pictures} at least were put in")
    if found.duration < due.duration:
        came, wanted = found.duration.total_seconds(), due.duration.total_seconds()
        raise MediaBroken(f"{came:.3f} s came out, {wanted:.3f} s at least were put in")
    return lost


def pictures_lost(units: int, frames: int) -> int:
    """Of so many units put in, when so many frames came out.

    Interlaced pictures may come as two fields, each a unit of its own.
    """
    fields = units > 10 * FEW and abs(units - 2 * frames) <= FEW
    return 0 if fields else max(0, units - frames)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a finished file says of itself."""

    duration: timedelta
    frames: int | None  # of the picture, where the container counts them


async def measured(path: Path) -> Measured:
    """By ffprobe, from the file's index. Raises MediaBroken where there is none."""

    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    arguments = (
        *("-protocol_whitelist", "file", "-of", "json"),
        *("-show_entries", "format=duration:stream=codec_type,nb_frames"),
        f"./{path.name}",
    )
    said = await run(arguments, nothing(), _PROBE_LIMITS, folder=str(path.parent), program=PROBE_PROGRAM)
    try:
        found = json.loads(said)
        duration = timedelta(seconds=float(found["format"]["duration"]))
        pictures = [each for each in found["streams"] if each.get("codec_type") == "video"]
        frames = int(pictures[0]["nb_frames"]) if pictures and "nb_frames" in pictures[0] else None
    except (ValueError, KeyError, TypeError) as exc:
        raise MediaBroken(f"what came out cannot be read: {said[:200]!r}") from exc
    return Measured(duration, frames)


def _frames_written(said: bytes) -> int | None:
    """The last `frame=` of ffmpeg's progress report."""
    counts = [line.partition(b"=")[2] for line in said.splitlines() if line.startswith(b"frame=")]
    with contextlib.suppress(ValueError, IndexError):
        return int(counts[-1])
    return None


def _name(plan: JoinPlan, number: int) -> str:
    return f"{plan.stem}.{plan.container}" if number == 1 else f"{plan.stem}-{number}.{plan.container}"


def _why_nothing(failed: Sequence[FailedPiece], span: TimeSpan) -> str:
    if not failed:
        return f"there is no picture or sound within {span}"
    return f"none of {len(failed)} segments can be used; the first, {failed[0].name}: {failed[0].reason}"
