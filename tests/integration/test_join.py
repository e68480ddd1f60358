"""Segments into files: what a position of the result shows is what was recorded then."""

import asyncio
import os
import random
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from cctv_storaged.errors import BackendUnavailable, MediaBroken, MediaUnusable, ObjectMismatch
from cctv_storaged.media.join import Container, Joined, JoinPlan, Part, join, pictures_lost
from cctv_storaged.media.pieces import Piece
from cctv_storaged.model import TimeSpan
from cctv_storaged.mpegts.seek import map_of
from cctv_storaged.mpegts.track import units_at
from tests.numbered import RATE, cut_up, numbered_ts, pictures_in

T0 = datetime(2026, 11, 26, 12, tzinfo=UTC)
LENGTH_S = 4


def moment(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def piece_of(
    path: Path, start_s: float, length_s: float = LENGTH_S, *, fails: Exception | None = None
) -> Piece:
    """A file as a segment that begins so many seconds after T0; `fails` after the first half of its bytes."""

    @asynccontextmanager
    async def opened(start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        data = path.read_bytes()
        wanted = data[start:] if length is None else data[start : start + length]

        async def blocks() -> AsyncIterator[bytes]:
            half = len(wanted) // 2
            yield wanted[:half]
            if fails is not None and length is None:
                raise fails
            yield wanted[half:]

        yield blocks()

    span = TimeSpan(moment(start_s), moment(start_s + length_s))
    return Piece(name=path.name, span=span, size_bytes=path.stat().st_size, open=opened)


def recorded(paths: Sequence[Path], *, without: Sequence[int] = ()) -> list[Piece]:
    return [piece_of(path, number * LENGTH_S) for number, path in enumerate(paths) if number not in without]


async def joined(
    pieces: Sequence[Piece],
    folder: Path,
    start_s: float,
    end_s: float,
    *,
    to: Container = Container.MP4,
    precise: bool = False,
) -> Joined:
    folder.mkdir(exist_ok=True)
    span = TimeSpan(moment(start_s), moment(end_s))
    return await join(pieces, span, JoinPlan(container=to, folder=folder, stem="gate", precise=precise))


def seconds_shown(part: Part) -> list[tuple[float, float]]:
    """The spans of a part in seconds after T0."""
    return [((span.start - T0).total_seconds(), (span.end - T0).total_seconds()) for span in part.spans]


def require_true_times(part: Part) -> list[int]:
    """Every picture was recorded when its position says; their numbers."""
    pictures = pictures_in(part.path)
    first_s = 0.0 if part.path.suffix != ".ts" else pictures[0].at_s  # a transport stream has no time 0
    begin_s = (part.span.start - T0).total_seconds()
    for picture in pictures:
        assert picture.number == pytest.approx((begin_s + picture.at_s - first_s) * RATE, abs=0.01)
    return [picture.number for picture in pictures]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.mark.parametrize("to", list(Container))
@pytest.mark.parametrize("reset", [False, True], ids=["one clock", "a clock anew in each segment"])
async def test_a_position_shows_what_was_recorded_then(
    tmp_path: Path, work: Path, to: Container, reset: bool
) -> None:
    paths = cut_up(numbered_ts(seconds=12, audio=True), tmp_path / "cut", seconds=LENGTH_S, reset=reset)
    done = await joined(recorded(paths), work, 2.5, 10.5, to=to)
    (part,) = done.parts
    assert require_true_times(part) == list(range(20, 105))
    assert (part.span.start, done.failed) == (moment(2), ())
    ((first_s, last_s),) = seconds_shown(part)
    assert first_s == 2
    assert last_s == pytest.approx(10.5, abs=0.01)


@pytest.mark.parametrize(("codec", "bframes"), [("h264", 2), ("hevc", 0), ("hevc", 2)])
async def test_pictures_that_are_not_decoded_in_order_are_shown_in_time(
    tmp_path: Path, work: Path, codec: str, bframes: int
) -> None:
    source = numbered_ts(seconds=12, codec=codec, bframes=bframes)
    paths = cut_up(source, tmp_path / "cut", seconds=LENGTH_S, reset=True)
    (part,) = (await joined(recorded(paths), work, 3, 9)).parts
    numbers = require_true_times(part)
    assert numbers[:60] == list(range(30, 90))
    assert len(numbers) <= 60 + bframes + 1  # what is decoded before the end may be shown behind it


async def test_a_gap_stays_a_gap(tmp_path: Path, work: Path) -> None:
    paths = cut_up(numbered_ts(seconds=20), tmp_path / "cut", seconds=LENGTH_S, reset=True)
    (part,) = (await joined(recorded(paths, without=[1, 3]), work, 0, 20)).parts
    assert require_true_times(part) == [*range(40), *range(80, 120), *range(160, 200)]
    assert seconds_shown(part) == [(0, 4), (8, 12), (16, 20)]


async def test_a_recorder_that_pauses_and_lets_its_clock_stand_leaves_a_gap(
    tmp_path: Path, work: Path
) -> None:
    pieces = [
        piece_of(numbered_ts(seconds=4, first=40 * number, ts_offset_s=50 + 4 * number), start)
        for number, start in enumerate((0, 4, 3600))
    ]
    (part,) = (await joined(pieces, work, 0, 3604)).parts
    shown = [(round(picture.at_s * RATE), picture.number) for picture in pictures_in(part.path)]
    assert shown == [(each, each) for each in range(80)] + [(36000 + each, 80 + each) for each in range(40)]
    assert seconds_shown(part) == [(0, 8), (3600, 3604)]


async def test_a_clock_that_falls_behind_a_little_each_time_is_not_believed_for_ever(work: Path) -> None:
    """Nine tenths of a second are lost between any two segments, which the stream's clock leaves out."""
    pieces = [
        piece_of(numbered_ts(seconds=2, first=20 * number, ts_offset_s=50 + 2 * number), number * 2.9, 2)
        for number in range(10)
    ]
    (part,) = (await joined(pieces, work, 0, 40)).parts
    for picture in pictures_in(part.path):
        number, within = divmod(picture.number, 2 * RATE)
        assert -0.01 <= number * 2.9 + within / RATE - picture.at_s <= 2.91


async def test_names_by_whole_seconds_tear_no_recording_apart(tmp_path: Path, work: Path) -> None:
    """The recorder cuts at 4.0 s, its names say 0, 4, 7 (rounded down from 7.9…), 12."""
    paths = cut_up(numbered_ts(seconds=16), tmp_path / "cut", seconds=LENGTH_S, reset=True)
    pieces = [piece_of(path, start) for path, start in zip(paths, (0, 4, 7.2, 12.9), strict=True)]
    (part,) = (await joined(pieces, work, 0, 17)).parts
    pictures = pictures_in(part.path)
    assert [picture.number for picture in pictures] == list(range(160))
    assert [round(picture.at_s * RATE) for picture in pictures] == list(range(160))


async def test_what_two_segments_hold_is_shown_once_and_in_its_time(tmp_path: Path, work: Path) -> None:
    early = numbered_ts(seconds=6)
    late = numbered_ts(seconds=6, first=30, ts_offset_s=5000)
    pieces = [piece_of(early, 0, 6), piece_of(late, 3, 6)]
    (part,) = (await joined(pieces, work, 0, 9)).parts
    assert require_true_times(part) == list(range(90))


async def test_a_precise_cut_encodes_the_edges_and_copies_the_rest(tmp_path: Path, work: Path) -> None:
    source = numbered_ts(seconds=12, bframes=2, audio=True)
    paths = cut_up(source, tmp_path / "cut", seconds=LENGTH_S, reset=True)
    (part,) = (await joined(recorded(paths), work, 2.5, 10.3, precise=True)).parts
    assert require_true_times(part) == list(range(25, 103))
    assert part.span == TimeSpan(moment(2.5), moment(10.3))
    copied = slices_of(source)
    kept = [each in copied for each in slices_of(part.path)]
    assert kept == [False] * 5 + [True] * 70 + [False] * 3  # key frames lie at 3 s and at 10 s


def creation_time(path: Path) -> str:
    """When the file says that its time 0 was; an MP4's own header holds whole seconds."""
    argv = [
        "ffprobe",
        "-v",
        "error",
        "-show_entries",
        "format_tags=creation_time",
        "-of",
        "csv=p=0",
        str(path),
    ]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def slices_of(path: Path) -> list[bytes]:
    """Every coded picture in decoding order, without what stands around it (H.264 Annex B)."""
    argv = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", str(path), "-map", "0:v:0", "-c", "copy"]
    argv += ["-bsf:v", "h264_mp4toannexb", "-f", "h264", "pipe:1"]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    units = [unit.rstrip(b"\0") for unit in done.stdout.split(b"\0\0\1")]
    return [unit for unit in units if unit and unit[0] & 0x1F in (1, 5)]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_a_precise_cut_within_one_group_of_pictures(tmp_path: Path, work: Path, codec: str) -> None:
    source = numbered_ts(seconds=12, codec=codec, gop=120)
    (part,) = (await joined([piece_of(source, 0, 12)], work, 4.2, 7.7, precise=True)).parts
    assert require_true_times(part) == list(range(42, 77))
    assert creation_time(part.path) == "2026-11-26T12:00:04.000000Z"


async def test_another_codec_begins_another_file(tmp_path: Path, work: Path) -> None:
    sources = [
        numbered_ts(seconds=4),
        numbered_ts(seconds=4, first=40, codec="hevc"),
        numbered_ts(seconds=4, first=80),
    ]
    done = await joined(recorded(sources), work, 0, 12)
    assert [part.codec for part in done.parts] == ["h264", "hevc", "h264"]
    assert [part.path.name for part in done.parts] == ["gate.mp4", "gate-2.mp4", "gate-3.mp4"]
    assert [number for part in done.parts for number in require_true_times(part)] == list(range(120))


async def test_another_size_begins_another_file(tmp_path: Path, work: Path) -> None:
    sources = [numbered_ts(seconds=4), numbered_ts(seconds=4, first=40, height=64)]
    done = await joined(recorded(sources), work, 0, 8)
    assert [require_true_times(part) for part in done.parts] == [[*range(40)], [*range(40, 80)]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        random.Random(1).randbytes(300_000),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        b"\x47" * 188 * 100,
    ],
    ids=["nothing", "noise", "a playlist", "a concat list", "packets of nothing"],
)
async def test_what_is_no_footage_is_left_out_and_told(tmp_path: Path, work: Path, content: bytes) -> None:
    paths = cut_up(numbered_ts(seconds=12), tmp_path / "cut", seconds=LENGTH_S, reset=True)
    paths[1].write_bytes(content)
    done = await joined(recorded(paths), work, 0, 12)
    assert [failed.name for failed in done.failed] == ["001.ts"]
    (part,) = done.parts
    assert require_true_times(part) == [*range(40), *range(80, 120)]
    assert seconds_shown(part) == [(0, 4), (8, 12)]


async def test_garbage_inside_a_segment_is_a_gap_that_is_told(tmp_path: Path, work: Path) -> None:
    data = bytearray(numbered_ts(seconds=12).read_bytes())
    data[len(data) // 4 : len(data) // 2] = random.Random(2).randbytes(len(data) // 2 - len(data) // 4)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    (part,) = (await joined([piece_of(damaged, 0, 12)], work, 0, 12)).parts
    assert part.lost_bytes > 0
    (before, after) = seconds_shown(part)
    assert 2 < before[1] < 4 < after[0] < 8
    assert (before[0], after[1]) == (0, 12)


async def test_a_clock_that_jumps_inside_a_segment_tears_nothing_apart(tmp_path: Path, work: Path) -> None:
    halves = [numbered_ts(seconds=4, ts_offset_s=9000), numbered_ts(seconds=4, first=40, ts_offset_s=20)]
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join(path.read_bytes() for path in halves))
    (part,) = (await joined([piece_of(whole, 0, 8)], work, 0, 8)).parts
    assert require_true_times(part) == list(range(80))


async def test_a_clock_that_wraps_tears_nothing_apart(tmp_path: Path, work: Path) -> None:
    source = numbered_ts(seconds=12, ts_offset_s=2**33 / 90_000 - 6)
    paths = cut_up(source, tmp_path / "cut", seconds=LENGTH_S)
    (part,) = (await joined(recorded(paths), work, 0, 12)).parts
    assert require_true_times(part) == list(range(120))


async def test_without_any_footage_nothing_is_made(tmp_path: Path, work: Path) -> None:
    noise = tmp_path / "noise.ts"
    noise.write_bytes(random.Random(3).randbytes(100_000))
    with pytest.raises(MediaUnusable, match=r"noise\.ts"):
        await joined([piece_of(noise, 0)], work, 0, 4)
    assert list(work.iterdir()) == []


async def test_a_segment_that_breaks_in_the_middle_breaks_the_whole(tmp_path: Path, work: Path) -> None:
    """Half of it has been handed over: what was made must not count."""
    paths = cut_up(numbered_ts(seconds=12), tmp_path / "cut", seconds=LENGTH_S, reset=True)
    pieces = recorded(paths)
    pieces[1] = piece_of(paths[1], LENGTH_S, fails=ObjectMismatch("other bytes"))
    with pytest.raises(MediaBroken, match=r"001\.ts: other bytes") as caught:
        await joined(pieces, work, 0, 12)
    assert caught.value.piece == "001.ts"
    assert list(work.iterdir()) == []


async def test_a_store_that_is_away_is_no_gap(tmp_path: Path, work: Path) -> None:
    paths = cut_up(numbered_ts(seconds=12), tmp_path / "cut", seconds=LENGTH_S, reset=True)
    pieces = recorded(paths)
    pieces[2] = piece_of(paths[2], 2 * LENGTH_S, fails=BackendUnavailable("away"))
    with pytest.raises(BackendUnavailable, match="away"):
        await joined(pieces, work, 0, 12)
    assert list(work.iterdir()) == []


async def test_a_child_that_is_killed_leaves_nothing(tmp_path: Path, work: Path) -> None:
    paths = cut_up(numbered_ts(seconds=12), tmp_path / "cut", seconds=LENGTH_S, reset=True)

    @asynccontextmanager
    async def killing(start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def blocks() -> AsyncIterator[bytes]:
            yield paths[2].read_bytes()
            for child in psutil.Process().children(recursive=True):
                if child.name() == "ffmpeg" and str(work) in child.cwd():
                    os.kill(child.pid, signal.SIGKILL)

        yield blocks()

    pieces = recorded(paths)
    pieces[2] = Piece(name="last", span=pieces[2].span, size_bytes=pieces[2].size_bytes, open=killing)
    with pytest.raises(MediaBroken, match="SIGKILL"):
        await joined(pieces, work, 0, 12)
    assert list(work.iterdir()) == []


async def test_whoever_is_cancelled_leaves_neither_child_nor_file(tmp_path: Path, work: Path) -> None:
    paths = cut_up(numbered_ts(seconds=8), tmp_path / "cut", seconds=LENGTH_S, reset=True)
    waiting = asyncio.Event()

    @asynccontextmanager
    async def hanging(start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def blocks() -> AsyncIterator[bytes]:
            yield paths[1].read_bytes()[:188]
            waiting.set()
            await asyncio.Event().wait()

        yield blocks()

    pieces = recorded(paths)
    pieces[1] = Piece(name="hangs", span=pieces[1].span, size_bytes=10**6, open=hanging)
    making = asyncio.create_task(joined(pieces, work, 0, 8))
    await waiting.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert list(work.iterdir()) == []
    assert not [each for each in psutil.Process().children() if each.name() == "ffmpeg"]


async def test_a_file_that_does_not_fit_is_a_clear_failure(tmp_path: Path, work: Path) -> None:
    """Its index has no room in front where pictures are tiny and many: a second pass makes it."""
    source = numbered_ts(seconds=4)
    (part,) = (await joined([piece_of(source, 0, 0.001)], work, 0, 4)).parts
    assert require_true_times(part) == list(range(40))


def cut_anywhere(folder: Path) -> list[Path]:
    """As a recorder cuts that does not wait for key frames: every 4 s, while they lie at 2.5 s.

    Pictures are large, so that a segment's first bytes hold no parameter sets.
    """
    source = numbered_ts(seconds=16, gop=25, height=720, noise=True)
    folder.mkdir()
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-f", "mpegts", "-i", str(source), "-c", "copy"]
    argv += ["-f", "segment", "-segment_format", "mpegts", "-segment_time", "4", "-break_non_keyframes", "1"]
    subprocess.run([*argv, str(folder / "%03d.ts")], check=True, capture_output=True, timeout=60)
    return sorted(folder.glob("*.ts"))


async def test_segments_that_begin_within_a_group_of_pictures_play_on(tmp_path: Path, work: Path) -> None:
    paths = cut_anywhere(tmp_path / "cut")
    (part,) = (await joined(recorded(paths), work, 0, 16)).parts
    assert require_true_times(part) == list(range(160))


async def test_behind_a_gap_what_refers_to_it_is_left_out_and_told(tmp_path: Path, work: Path) -> None:
    paths = cut_anywhere(tmp_path / "cut")
    (part,) = (await joined(recorded(paths, without=[1]), work, 0, 16)).parts
    assert require_true_times(part) == [*range(40), *range(100, 160)]
    assert seconds_shown(part) == [(0, 4), (10, 16)]


async def test_a_stream_faster_than_the_wall_clock_loses_nothing(tmp_path: Path, work: Path) -> None:
    """Camera and host disagree on how long a second is; after an hour that is more than any tolerance."""
    paths = cut_up(numbered_ts(seconds=40, gop=20), tmp_path / "cut", seconds=LENGTH_S)
    pieces = [piece_of(path, number * 3.7) for number, path in enumerate(paths)]
    (part,) = (await joined(pieces, work, 0, 40)).parts
    assert require_true_times(part) == list(range(400))


async def test_segments_of_one_picture_stand_behind_each_other(tmp_path: Path, work: Path) -> None:
    pieces = [piece_of(numbered_ts(seconds=0.1, first=20 * number), 2 * number, 0.1) for number in range(4)]
    (part,) = (await joined(pieces, work, 0, 8)).parts
    assert require_true_times(part) == [0, 20, 40, 60]


async def test_a_clock_that_leaps_inside_a_segment_keeps_what_follows(tmp_path: Path, work: Path) -> None:
    halves = [
        numbered_ts(seconds=4, audio=True, ts_offset_s=100),
        numbered_ts(seconds=4, audio=True, first=40, ts_offset_s=134),
    ]
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join(path.read_bytes() for path in halves))
    (part,) = (await joined([piece_of(whole, 0, 8)], work, 0, 8)).parts
    assert require_true_times(part) == list(range(80))
    assert seconds_shown(part) == [(0, 8)]


async def test_a_span_before_the_first_key_frame_shows_nothing_and_says_so(
    tmp_path: Path, work: Path
) -> None:
    paths = cut_anywhere(tmp_path / "cut")
    with pytest.raises(MediaUnusable, match="no picture"):
        await joined([piece_of(paths[1], 4)], work, 4.1, 4.5)
    assert list(work.iterdir()) == []


async def test_no_segment_is_read_any_more_when_it_is_closed(tmp_path: Path, work: Path) -> None:
    """What was read ahead is of no use once the span ends: whoever reads has to hear of it first."""
    data = numbered_ts(seconds=16, gop=25, height=720, noise=True).read_bytes()
    reading = was_read_when_closed = False
    block_bytes = len(data) // 32

    @asynccontextmanager
    async def opened(start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def blocks() -> AsyncIterator[bytes]:
            nonlocal reading
            end = len(data) if length is None else start + length
            for at in range(start, end, block_bytes):
                if length is None and at > len(data) // 2:
                    reading = True
                    try:
                        await asyncio.Event().wait()
                    finally:
                        reading = False
                yield data[at : min(at + block_bytes, end)]

        nonlocal was_read_when_closed
        try:
            yield blocks()
        finally:
            was_read_when_closed = was_read_when_closed or reading

    piece = Piece(name="long", span=TimeSpan(moment(0), moment(16)), size_bytes=len(data), open=opened)
    await joined([piece], work, 0, 2)
    assert not was_read_when_closed


@pytest.mark.parametrize("to", list(Container))
async def test_a_sound_that_is_announced_and_never_comes_keeps_no_picture(
    tmp_path: Path, work: Path, to: Container
) -> None:
    """A microphone that is switched off; ffmpeg makes no track of which it knows no sampling rate."""
    sounding = numbered_ts(seconds=4, first=40, audio=True)
    data = numbered_ts(seconds=4, audio=True).read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    silent = tmp_path / "silent.ts"
    silent.write_bytes(b"".join(each for each in packets if each[1:3] not in (b"\x41\x01", b"\x01\x01")))
    (alone,) = (await joined([piece_of(silent, 0)], work, 0, 4, to=to)).parts
    assert (require_true_times(alone), tracks_of(alone.path)[0]) == ([*range(40)], "video")
    done = await joined([piece_of(silent, 0), piece_of(sounding, 4)], work, 0, 8, to=to)
    assert {number for part in done.parts for number in require_true_times(part)} == set(range(80))
    assert ["audio" in tracks_of(part.path) for part in done.parts] == [True]


async def test_a_damaged_sound_does_not_keep_the_pictures(tmp_path: Path, work: Path) -> None:
    data = bytearray(numbered_ts(seconds=4, audio=True).read_bytes())
    frames = [found.start() for found in re.finditer(rb"\xff\xf1[\x4c\x50]", data)]
    for at in frames[40:60]:
        data[at + 2 : at + 6] = b"\xff" * 4
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    (part,) = (await joined([piece_of(damaged, 0)], work, 0, 4)).parts
    assert require_true_times(part) == list(range(40))


def tracks_of(path: Path) -> list[str]:
    argv = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


async def test_a_few_damaged_pictures_cost_no_export_and_are_counted(work: Path, tmp_path: Path) -> None:
    """Slices whose first bytes say that they belong to the picture before: it is merged with that."""
    data = numbered_ts(seconds=30).read_bytes()
    stream = map_of(data, len(data))
    assert stream is not None and stream.program.video is not None
    window = stream.window(data, 0)
    starts = [at for at, _ in units_at(window, stream.program.video.pid)]
    spoiled = bytearray(data)
    for number in (105, 155, 255):
        at = data.index(b"\0\0\1\x41", starts[number])
        spoiled[at + 3] = 0x6C  # a unit type that is no picture
    path = tmp_path / "spoiled.ts"
    path.write_bytes(spoiled)
    (part,) = (await joined([piece_of(path, 0, 30)], work, 0, 30)).parts
    assert part.lost_pictures == 3
    assert seconds_shown(part) == [(0, 30)]


@pytest.mark.parametrize(
    ("units", "frames", "lost"),
    [(1000, 1000, 0), (1000, 997, 3), (1000, 500, 0), (20, 10, 10), (1000, 0, 1000)],
)
def test_two_fields_are_one_picture_and_nothing_else_is(units: int, frames: int, lost: int) -> None:
    assert pictures_lost(units, frames) == lost
