"""A stream on another clock: nothing but its times is changed, whatever pieces it comes in."""

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.errors import NotASegment
from cctv_storaged.mpegts.packets import FEC, M2TS, PLAIN, Framing
from cctv_storaged.mpegts.retime import TICKS_PER_S, Cut, Retimed
from cctv_storaged.mpegts.seek import (
    KeyFrame,
    Read,
    StreamMap,
    key_frame_after,
    key_frame_before,
    key_picture,
    map_of,
    read_map,
)
from cctv_storaged.mpegts.track import WRAP
from tests.footage import cached_ts, probe_packets

BASE = 10 * TICKS_PER_S
NULL_PACKET = b"\x47\x1f\xff\x10" + bytes(184)


def stream_of(data: bytes) -> StreamMap:
    found = map_of(data, len(data), all_there_is=True)
    assert found is not None and found.start is not None
    return found


def moved(data: bytes, cut: Cut, pieces: Sequence[bytes] | None = None) -> tuple[bytes, Retimed]:
    retimed = Retimed(stream_of(data), cut)
    return b"".join(bytes(retimed.feed(piece)) for piece in pieces or [data]), retimed


def to_base(data: bytes) -> Cut:
    start = stream_of(data).start
    assert start is not None
    return Cut(shift=BASE - start.ticks, since=0)


def times_of(path: Path, kind: str) -> list[tuple[float, float]]:
    """Presentation and decoding of every packet of a kind, in seconds."""
    return [
        (float(packet["pts_time"]), float(packet["dts_time"]))
        for packet in probe_packets(path)
        if packet["codec_type"] == kind
    ]


def framed(data: bytes, framing: Framing) -> bytes:
    """The same packets with what other framings put around them."""
    packets = (data[at : at + 188] for at in range(0, len(data), 188))
    tail = bytes(framing.stride - framing.lead - 188)
    return b"".join(bytes(framing.lead) + packet + tail for packet in packets)


@pytest.mark.parametrize("offset_s", [0, 3.5, 2**33 / 90_000 - 3], ids=["early", "late", "over the wrap"])
def test_every_time_is_moved_by_the_same(tmp_path: Path, offset_s: float) -> None:
    source = cached_ts(seconds=5, audio=True, bframes=2, ts_offset_s=offset_s)
    data, retimed = moved(source.read_bytes(), to_base(source.read_bytes()))
    result = tmp_path / "moved.ts"
    result.write_bytes(data)
    straight = cached_ts(seconds=5, audio=True, bframes=2)
    first = min(presented for presented, _ in times_of(straight, "video"))
    for kind in ("video", "audio"):
        expected = [(pts - first + 10, dts - first + 10) for pts, dts in times_of(straight, kind)]
        assert times_of(result, kind) == [pytest.approx(pair, abs=0.0001) for pair in expected]
    assert (retimed.units, retimed.first, retimed.end) == (125, BASE, BASE + 5 * TICKS_PER_S)
    assert (retimed.jumps, retimed.lost_bytes, retimed.holes) == (0, 0, [])


def test_there_and_back_is_what_it_was() -> None:
    data = cached_ts(seconds=2, audio=True).read_bytes()
    there, _ = moved(data, Cut(shift=12345, since=0))
    back, _ = moved(unannounced(there), Cut(shift=-12345, since=0))
    assert unannounced(there) != data
    assert unannounced(back) == data


def unannounced(data: bytes) -> bytes:
    """Without the packets that say nothing but that counters begin anew."""
    packets = (data[at : at + 188] for at in range(0, len(data), 188))
    return b"".join(each for each in packets if not (each[3] & 0x30 == 0x20 and each[4:6] == b"\xb7\x80"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=60), st.sampled_from([PLAIN, M2TS, FEC]))
def test_the_pieces_it_comes_in_make_no_difference(sizes: list[int], framing: Framing) -> None:
    data = framed(cached_ts(seconds=1, audio=True).read_bytes(), framing)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    pieces.append(data[at:])
    cut = Cut(shift=777, since=0, until=None)
    assert moved(data, cut, pieces)[0] == moved(data, cut)[0]


def test_what_comes_behind_the_end_is_left_out(tmp_path: Path) -> None:
    data = cached_ts(seconds=6, audio=True).read_bytes()
    cut = to_base(data)
    until = BASE + 2 * TICKS_PER_S
    short, retimed = moved(data, Cut(shift=cut.shift, since=BASE, until=until))
    path = tmp_path / "short.ts"
    path.write_bytes(short)
    video, audio = times_of(path, "video"), times_of(path, "audio")
    assert [pts for pts, _ in video] == [pytest.approx(10 + number / 25) for number in range(50)]
    assert min(audio)[0] >= 10
    assert 11.5 < max(audio)[0] < 12.35  # sounds come many to a unit
    assert retimed.done
    assert retimed.is_cut


def test_garbage_between_packets_is_left_out_and_counted() -> None:
    data = cached_ts(seconds=2).read_bytes()
    middle = len(data) // 2 // 188 * 188
    clean, _ = moved(data, to_base(data))
    dirty, retimed = moved(data, to_base(data), [data[:middle], b"\x00garbage" * 500, data[middle:]])
    assert dirty == clean
    assert retimed.lost_bytes == 4000


def test_what_is_missing_inside_is_noticed() -> None:
    data = cached_ts(seconds=8).read_bytes()
    third = len(data) // 3 // 188 * 188
    _, retimed = moved(data, to_base(data), [data[:third], data[2 * third :]])
    ((since, until),) = retimed.holes
    assert 2 * TICKS_PER_S < until - since < 4 * TICKS_PER_S


# Key frames


def counted(data: bytes) -> tuple[Read, list[int]]:
    """Reads of these bytes, and how many bytes each asked for."""
    asked: list[int] = []

    async def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    return read, asked


def true_key_frames(path: Path) -> list[int]:
    """Presentation of every key frame by ffprobe, in ticks."""
    return sorted(
        round(float(packet["pts_time"]) * TICKS_PER_S)
        for packet in probe_packets(path)
        if packet["codec_type"] == "video" and "K" in packet["flags"]
    )


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video"])
@pytest.mark.parametrize("bframes", [0, 2])
async def test_the_key_frame_of_any_moment_is_found(codec: str, bframes: int) -> None:
    path = cached_ts(seconds=12, codec=codec, bframes=bframes, gop=30, audio=True)  # type: ignore[arg-type]
    keys = true_key_frames(path)
    read, _ = counted(path.read_bytes())
    stream = await read_map(read, path.stat().st_size)
    for ticks in range(keys[0] - 9000, keys[-1] + 90_000, 7_000):
        before = await key_frame_before(read, stream, ticks)
        after = await key_frame_after(read, stream, ticks)
        assert (before.ticks if before else None) == max((key for key in keys if key <= ticks), default=None)
        assert (after.ticks if after else None) == min((key for key in keys if key >= ticks), default=None)


async def test_a_key_frame_of_a_long_segment_costs_few_reads() -> None:
    short = cached_ts(seconds=10, bitrate="2M", gop=50).read_bytes()
    cut = to_base(short)
    long = b"".join(
        moved(short, Cut(shift=cut.shift + number * 10 * TICKS_PER_S, since=0))[0] for number in range(30)
    )
    read, asked = counted(long)
    stream = await read_map(read, len(long))
    wanted = BASE + 211 * TICKS_PER_S
    frame = await key_frame_before(read, stream, wanted)
    assert frame is not None
    assert frame.ticks == BASE + 210 * TICKS_PER_S
    assert len(asked) < 15
    assert sum(asked) < len(long) / 15


async def test_a_key_picture_is_all_a_decoder_needs(tmp_path: Path) -> None:
    path = cached_ts(seconds=4, bframes=2, gop=25, audio=True)
    read, _ = counted(path.read_bytes())
    stream = await read_map(read, path.stat().st_size)
    frame = await key_frame_before(read, stream, true_key_frames(path)[2])
    assert frame is not None
    picture = tmp_path / "picture.ts"
    picture.write_bytes(await key_picture(read, stream, frame))
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(picture), "-f", "framemd5", "pipe:1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    assert sum(not line.startswith("#") for line in done.stdout.splitlines()) == 1


async def test_sound_alone_has_no_key_frame() -> None:
    data = cached_ts(seconds=2, codec=None, audio=True).read_bytes()
    read, _ = counted(data)
    stream = await read_map(read, len(data))
    assert await key_frame_before(read, stream, 10**6) is None
    assert await key_frame_after(read, stream) is None


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=20_000), st.integers(0, WRAP - 1))
def test_nothing_is_found_in_noise(data: bytes, ticks: int) -> None:
    read, _ = counted(data)

    async def look() -> KeyFrame | None:
        return await key_frame_before(read, await read_map(read, len(data)), ticks)

    with pytest.raises(NotASegment):
        asyncio.run(look())


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_an_answer_or_a_refusal(data: st.DataObject) -> None:
    """Never an error of another kind, and never without end."""
    sound = bytearray(cached_ts(seconds=1, audio=True).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(0, len(sound) - 1))
        sound[at : at + 50] = data.draw(st.randoms(use_true_random=False)).randbytes(50)
    read, _ = counted(bytes(sound))

    async def look() -> None:
        stream = await read_map(read, len(sound))
        if stream.start is not None and stream.main is not None:
            await key_frame_before(read, stream, stream.start.ticks + 45_000)
            Retimed(stream, Cut(shift=1, since=0)).feed(bytes(sound))

    try:
        asyncio.run(look())
    except NotASegment:
        return
