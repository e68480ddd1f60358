"""The probe against real files, ffprobe's word, and every kind of damage."""

import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.errors import NotASegment, SourceChanged
from cctv_storaged.model import StreamStart
from cctv_storaged.mpegts.nal import sequence_parameters
from cctv_storaged.mpegts.probe import (
    HEAD_BYTES,
    MAX_WINDOW_BYTES,
    TAIL_BYTES,
    MoreBytes,
    StreamFacts,
    TimeBase,
    probe,
    probe_by,
)
from cctv_storaged.mpegts.psi import crc32
from cctv_storaged.mpegts.track import WRAP, ticks_between
from tests.footage import (
    Recipe,
    Recorder,
    cached_ts,
    ffprobe_duration,
    make_ts,
    probe_packets,
    segment_stream,
)

PACKET = 188


def facts_of(data: bytes) -> StreamFacts:
    return probe_by(lambda offset, length: data[offset : offset + length], len(data))


def packets_of(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


def pid_of(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def near(duration: timedelta | None, expected: timedelta, within: timedelta) -> bool:
    return duration is not None and abs(duration - expected) <= within


BEFORE_WRAP_S = 95441.0  # the muxer adds 1.4 s, the clock wraps at 95443.7 s
FRAME = timedelta(seconds=1 / 25)

RECIPES: dict[str, Recipe] = {
    "one second": {"seconds": 1},
    "ten seconds": {"seconds": 10},
    "with sound": {"audio": True},
    "B-frames": {"bframes": 2},
    "B-frames, open groups, sound": {"bframes": 3, "open_gop": True, "audio": True, "seconds": 4},
    "H.265": {"codec": "hevc"},
    "H.265, B-frames, sound": {"codec": "hevc", "bframes": 4, "audio": True},
    "MPEG-2": {"codec": "mpeg2video", "bframes": 2},
    "MPEG-4": {"codec": "mpeg4"},
    "five frames a second": {"rate": 5, "seconds": 6},
    "one frame a second": {"rate": 1, "seconds": 6},
    "a rate that does not divide the clock": {"rate": 29.97, "seconds": 5, "bframes": 2},
    "clock wraps within": {"ts_offset_s": BEFORE_WRAP_S, "seconds": 4},
    "clock wraps within, B-frames and sound": {
        "ts_offset_s": BEFORE_WRAP_S,
        "seconds": 4,
        "bframes": 3,
        "audio": True,
    },
    "clock wraps between the windows": {
        "ts_offset_s": BEFORE_WRAP_S,
        "seconds": 10,
        "bitrate": "4M",
        "size": "640x360",
    },
    "clock wraps in H.265": {"ts_offset_s": BEFORE_WRAP_S, "seconds": 2, "codec": "hevc", "bframes": 2},
    "larger than the windows": {"seconds": 10, "bitrate": "4M", "size": "640x360", "bframes": 2},
    "constant mux rate": {"seconds": 4, "muxer_options": ("-muxrate", "3M")},
    "M2TS": {"muxer_options": ("-mpegts_m2ts_mode", "1"), "audio": True, "audio_codec": "ac3"},
    "AC-3": {"audio": True, "audio_codec": "ac3"},
    "Opus": {"audio": True, "audio_codec": "libopus"},
    "MPEG sound": {"audio": True, "audio_codec": "mp2"},
    "LATM": {"audio": True, "muxer_options": ("-mpegts_flags", "latm")},
    "announced start": {"muxer_options": ("-mpegts_flags", "initial_discontinuity")},
    "PES lengths given": {"muxer_options": ("-omit_video_pes_length", "0")},
    "two programs": {"audio": True, "muxer_options": ("-program", "st=1", "-program", "st=0")},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_facts_agree_with_ffprobe(recipe: Recipe) -> None:
    path = cached_ts(**recipe)
    facts = facts_of(path.read_bytes())
    frame = timedelta(seconds=1 / recipe.get("rate", 25))
    assert near(facts.duration, ffprobe_duration(path), frame / 4)
    assert near(facts.duration, timedelta(seconds=recipe.get("seconds", 2)), frame)
    assert facts.time_base is TimeBase.VIDEO
    assert facts.video_codec == recipe.get("codec", "h264")
    assert facts.starts_with_keyframe is True
    assert not facts.cut_off
    assert not facts.discontinuity
    assert facts.leading_junk_bytes == 0


@pytest.mark.parametrize(
    ("options", "codecs"),
    [
        ({"audio": True}, ("aac",)),
        ({"audio": True, "audio_codec": "ac3"}, ("ac3",)),
        ({"audio": True, "audio_codec": "libopus"}, ("opus",)),
        ({"audio": True, "audio_codec": "mp2"}, ("mp2",)),
        ({"audio": True, "muxer_options": ("-mpegts_flags", "latm")}, ("aac_latm",)),
        ({}, ()),
    ],
)
def test_sound_is_named(options: Recipe, codecs: tuple[str, ...]) -> None:
    assert facts_of(cached_ts(**options).read_bytes()).audio_codecs == codecs


@pytest.mark.parametrize("seconds", [2, 10])
@pytest.mark.parametrize("codec", ["aac", "mp2", "ac3"])
def test_sound_alone_tells_the_time(codec: str, seconds: int) -> None:
    path = cached_ts(codec=None, audio=True, audio_codec=codec, seconds=seconds)
    facts = facts_of(path.read_bytes())
    one_audio_frame = timedelta(milliseconds=32)
    assert near(facts.duration, ffprobe_duration(path), one_audio_frame)
    assert (facts.time_base, facts.video_codec, facts.starts_with_keyframe) == (TimeBase.AUDIO, None, None)


@pytest.mark.parametrize("name", [name for name in RECIPES if "wraps" in name])
def test_the_wrapping_files_do_wrap(name: str) -> None:
    assert wraps(cached_ts(**RECIPES[name]).read_bytes())


def wraps(data: bytes) -> bool:
    """Whether the last presentation time is a smaller number than the first."""
    stamps = [
        int.from_bytes(packet[at + 9 : at + 14], "big") & 0x0EFFFEFFFE  # without the bits between the numbers
        for packet in packets_of(data)
        if packet[1] & 0x40 and (at := packet.find(b"\0\0\1\xe0")) > 0
    ]
    return stamps[-1] < stamps[0]


RECORDERS: dict[str, dict[str, object]] = {
    "segment": {"audio": True},
    "segment, clock reset": {"options": ("-reset_timestamps", "1"), "bframes": 2, "audio": True},
    "segment, clock reset, open groups": {
        "options": ("-reset_timestamps", "1"),
        "bframes": 2,
        "gop": 24,
        "open_gop": True,
    },
    "segment, one second": {"segment_s": 1, "bframes": 1},
    "hls, temporary files": {
        "muxer": "hls",
        "options": ("-hls_flags", "temp_file"),
        "bframes": 3,
        "audio": True,
    },
    "hls, H.265": {"muxer": "hls", "codec": "hevc", "bframes": 3},
    "segment, H.265, clock reset": {"codec": "hevc", "options": ("-reset_timestamps", "1"), "bframes": 3},
    "segment, wrap": {"options": ("-output_ts_offset", "95440"), "segment_s": 1},
    "segment, MPEG-2": {"codec": "mpeg2video", "bframes": 2},
}


@pytest.mark.parametrize("recorder", RECORDERS.values(), ids=RECORDERS.keys())
def test_segments_of_recorders_agree_with_ffprobe(recorder: dict[str, object], tmp_path: Path) -> None:
    segments = segment_stream(tmp_path, **{"seconds": 6, **recorder})  # type: ignore[arg-type]  # from a table
    assert len(segments) >= 3
    durations = []
    for path in segments:
        facts = facts_of(path.read_bytes())
        assert near(facts.duration, ffprobe_duration(path), FRAME / 4), path
        assert facts.starts_with_keyframe is True
        assert not facts.cut_off
        durations.append(facts.duration or timedelta())
    assert "-output_ts_offset" not in str(recorder) or any(wraps(path.read_bytes()) for path in segments)
    assert near(sum(durations, timedelta()), timedelta(seconds=6), FRAME * 3)


def test_an_open_group_begins_with_a_key_frame_that_is_not_idr(tmp_path: Path) -> None:
    segments = segment_stream(tmp_path, seconds=6, open_gop=True, bframes=2)
    data = segments[1].read_bytes()
    pictures = [data[found.end()] & 0x1F for found in re.finditer(rb"\x00\x00\x01", data)]
    assert 5 not in pictures  # not a single IDR picture: players rely on the recovery point
    assert facts_of(data).starts_with_keyframe is True


def test_a_segment_cut_between_key_frames_says_so(tmp_path: Path) -> None:
    options = ("-break_non_keyframes", "1")
    segments = segment_stream(tmp_path, segment_s=0.7, options=options, seconds=3, gop=50)
    for path in segments:
        is_key = "K" in probe_packets(path)[0]["flags"]
        assert facts_of(path.read_bytes()).starts_with_keyframe is is_key
    assert not facts_of(segments[1].read_bytes()).starts_with_keyframe


@pytest.mark.parametrize("codec", ["hevc", "mpeg2video", "mpeg4"])
def test_other_codecs_cut_between_key_frames_say_so(codec: str, tmp_path: Path) -> None:
    recorder = {"codec": codec, "segment_s": 0.7, "seconds": 3, "gop": 50}
    recorder["options"] = ("-break_non_keyframes", "1")
    segments = segment_stream(tmp_path, **recorder)  # type: ignore[arg-type]  # from a table
    assert facts_of(segments[0].read_bytes()).starts_with_keyframe is True
    assert facts_of(segments[1].read_bytes()).starts_with_keyframe is False


# How much is read


class Reads:
    """A file that remembers what was read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.lengths: list[int] = []

    def __call__(self, offset: int, length: int) -> bytes:
        self.lengths.append(length)
        return self.data[offset : offset + length]


def test_a_usual_segment_costs_one_look_at_each_end() -> None:
    reads = Reads(cached_ts(seconds=10, bitrate="4M", size="640x360", bframes=2).read_bytes())
    assert len(reads.data) > 4_000_000
    probe_by(reads, len(reads.data))
    assert reads.lengths == [HEAD_BYTES, TAIL_BYTES]


def test_a_small_file_is_read_once() -> None:
    reads = Reads(cached_ts().read_bytes())
    probe_by(reads, len(reads.data))
    assert sum(reads.lengths) == len(reads.data)


def test_frames_larger_than_the_windows_are_found_by_asking_for_more() -> None:
    path = cached_ts(seconds=3, bitrate="40M", size="1280x720", rate=10, bframes=2)
    data = path.read_bytes()
    reads = Reads(data)
    facts = probe_by(reads, len(data))
    assert len(reads.lengths) > 2
    assert max(reads.lengths) <= MAX_WINDOW_BYTES
    assert near(facts.duration, ffprobe_duration(path), timedelta(milliseconds=25))
    assert facts.starts_with_keyframe is True


def test_frames_shown_before_a_large_first_one_are_found_by_asking_for_more(tmp_path: Path) -> None:
    large: Recipe = {"seconds": 3, "bitrate": "40M", "size": "1280x720", "rate": 10}
    large |= {"bframes": 2, "gop": 9, "open_gop": True}  # a group divides by three: B-frames lead the next
    path = segment_stream(tmp_path, segment_s=0.8, **large)[1]
    packets = probe_packets(path)
    assert float(packets[0]["pts_time"]) > min(float(packet["pts_time"]) for packet in packets)
    assert int(packets[0]["size"]) > HEAD_BYTES
    assert near(facts_of(path.read_bytes()).duration, ffprobe_duration(path), timedelta(milliseconds=25))


@pytest.mark.parametrize("left", [0, 100, 100_000, 800_000])
def test_a_file_that_shrinks_meanwhile_is_told_apart(left: int) -> None:
    data = cached_ts(seconds=10).read_bytes()
    with pytest.raises(SourceChanged):
        probe_by(lambda offset, length: data[:left][offset : offset + length], len(data))


def test_a_window_that_grows_ends_in_an_answer() -> None:
    data = cached_ts(seconds=10, bitrate="4M", size="640x360").read_bytes()
    head_bytes, tail_bytes = PACKET, PACKET
    rounds = 0
    while isinstance(answer := probe(data[:head_bytes], data[-tail_bytes:], len(data)), MoreBytes):
        assert (answer.head_bytes, answer.tail_bytes) > (head_bytes, tail_bytes)
        head_bytes, tail_bytes = answer.head_bytes, answer.tail_bytes
        rounds += 1
    assert near(answer.duration, timedelta(seconds=10), FRAME)
    assert 1 <= rounds <= 12


# Files that are ugly


@pytest.mark.parametrize("junk", [b"\0" * 7, b"G" * 100, random.Random(7).randbytes(50_000)])
def test_junk_before_the_first_packet_is_reported_and_passed_over(junk: bytes) -> None:
    clean = cached_ts(audio=True).read_bytes()
    facts = facts_of(junk + clean)
    assert facts.leading_junk_bytes == len(junk)
    assert facts.duration == facts_of(clean).duration
    assert not facts.cut_off


@pytest.mark.parametrize("missing", [1, 100, 187, 188, 5000])
@pytest.mark.parametrize("seconds", [2, 10])
def test_a_cut_off_end_is_reported_and_the_rest_measured(missing: int, seconds: int, tmp_path: Path) -> None:
    path = make_ts(tmp_path, seconds=seconds, audio=True, bframes=2)
    os.truncate(path, path.stat().st_size - missing)
    facts = facts_of(path.read_bytes())
    assert facts.cut_off is (missing % PACKET != 0)
    # Of the last frame only its beginning is left; ffprobe counts it with any length it likes.
    assert near(facts.duration, ffprobe_duration(path), FRAME)


def test_bytes_lost_in_the_middle_are_reported() -> None:
    data = cached_ts(seconds=10).read_bytes()
    facts = facts_of(data[:400_000] + data[400_111:])
    assert facts.cut_off
    assert near(facts.duration, timedelta(seconds=10), FRAME)


@pytest.mark.parametrize("zeros", [10_000, 50 * PACKET])
def test_a_tail_of_zeros_after_a_power_cut_is_reported(zeros: int) -> None:
    facts = facts_of(cached_ts(seconds=2).read_bytes() + b"\0" * zeros)
    assert facts.cut_off
    assert near(facts.duration, timedelta(seconds=2), FRAME)


def test_a_file_that_ends_in_megabytes_of_zeros_cannot_tell() -> None:
    facts = facts_of(cached_ts(seconds=10).read_bytes() + b"\0" * (MAX_WINDOW_BYTES + 1))
    assert (facts.cut_off, facts.duration, facts.video_codec) == (True, None, "h264")


def test_damaged_sync_bytes_cost_packets_not_the_file() -> None:
    data = bytearray(cached_ts(seconds=10, audio=True).read_bytes())
    for at in (PACKET * 20, PACKET * 300, len(data) - PACKET * 30, len(data) - PACKET * 9):
        data[at] = 0
    assert near(facts_of(bytes(data)).duration, timedelta(seconds=10), FRAME * 2)


def test_error_correction_after_each_packet_is_passed_over() -> None:
    clean = cached_ts(audio=True, bframes=2).read_bytes()
    noise = random.Random(8)
    facts = facts_of(b"".join(packet + noise.randbytes(16) for packet in packets_of(clean)))
    expected = facts_of(clean)
    assert facts.packet_bytes == 204
    assert (facts.duration, facts.starts_with_keyframe, facts.cut_off) == (expected.duration, True, False)


def test_m2ts_is_recognised_and_its_cut_end_too() -> None:
    data = cached_ts(muxer_options=("-mpegts_m2ts_mode", "1"), audio=True, audio_codec="ac3").read_bytes()
    assert (facts_of(data).packet_bytes, facts_of(data).leading_junk_bytes) == (192, 0)
    assert facts_of(data[:-5]).cut_off


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("not_mpegts", b""),
        ("not_mpegts", b"#EXTM3U\n#EXT-X-VERSION:3\n" + b"#EXTINF:2,\n../../etc/passwd\n" * 50),
        ("not_mpegts", b"ffconcat version 1.0\nfile secret.ts\n"),
        ("not_mpegts", b"\0" * 100_000),
        ("not_mpegts", b"\0\0\0\x20ftypisom" + bytes(range(256)) * 400),
        ("not_mpegts", b"GIF89a" + bytes(range(256)) * 40),
        ("not_mpegts", b"G" + b"\0" * 100),
        ("no_program", b"G" + b"\0" * 187),
        ("no_program", b"G\x1f\xff\x10" * 47 * 2000),
        ("no_program", (b"G\x1f\xff\x10" + b"\xff" * 184) * 2000),
    ],
)
def test_what_is_no_transport_stream_is_refused_with_a_reason(reason: str, data: bytes) -> None:
    with pytest.raises(NotASegment) as refused:
        facts_of(data)
    assert refused.value.reason == reason
    assert str(refused.value)


def test_without_a_valid_association_table_there_is_no_program() -> None:
    packets = packets_of(cached_ts().read_bytes())
    damaged = b"".join(
        packet[:12] + bytes([packet[12] ^ 1]) + packet[13:] if pid_of(packet) == 0 else packet
        for packet in packets
    )
    missing = b"".join(packet for packet in packets if pid_of(packet) != 0)
    for data in (damaged, missing):
        with pytest.raises(NotASegment, match="association table"):
            facts_of(data)


def test_one_damaged_table_is_made_good_by_the_next() -> None:
    data = bytearray(cached_ts().read_bytes())
    first_pat = data.find(b"\x47\x40\x00")
    data[first_pat + 12] ^= 0xFF
    assert near(facts_of(bytes(data)).duration, timedelta(seconds=2), FRAME)


def test_a_file_cut_off_after_the_first_table_is_a_segment_without_a_duration() -> None:
    data = cached_ts().read_bytes()
    first_pat = data.find(b"\x47\x40\x00")
    facts = facts_of(data[first_pat : first_pat + PACKET])
    assert (facts.duration, facts.video_codec, facts.starts_with_keyframe) == (None, None, None)


def test_a_single_frame_has_no_duration() -> None:
    assert facts_of(cached_ts(seconds=0.04).read_bytes()).duration is None


# Clocks that cannot be believed


def with_headers(data: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """The stream with each video PES header changed in place by `change`, given its packet and offset."""
    packets = [bytearray(packet) for packet in packets_of(data)]
    for packet in packets:
        if packet[1] & 0x40 and (at := packet.find(b"\0\0\1\xe0")) > 0:
            change(packet, at)
    return b"".join(packets)


def without_times(packet: bytearray, at: int) -> None:
    packet[at + 7] &= 0x3F
    packet[at + 9 : at + 9 + packet[at + 8]] = b"\xff" * packet[at + 8]


def without_decoding_time(packet: bytearray, at: int) -> None:
    if packet[at + 7] & 0x40:
        packet[at + 7] &= 0xBF
        packet[at + 14 : at + 19] = b"\xff" * 5


def test_without_presentation_times_the_clock_reference_tells() -> None:
    facts = facts_of(with_headers(cached_ts(seconds=10).read_bytes(), without_times))
    assert facts.time_base is TimeBase.PCR
    assert near(facts.duration, timedelta(seconds=10), FRAME * 5)


def test_without_decoding_times_b_frames_are_still_measured() -> None:
    path = cached_ts(seconds=10, bframes=3)
    facts = facts_of(with_headers(path.read_bytes(), without_decoding_time))
    assert not facts.discontinuity
    assert near(facts.duration, timedelta(seconds=10), FRAME)


def test_presentation_times_that_contradict_the_clock_reference_are_not_believed() -> None:
    def far_ahead(packet: bytearray, at: int) -> None:
        if next(seen) > 200:
            packet[at + 9] ^= 0x02  # the second highest bit: 3.3 hours

    seen = iter(range(10_000))
    data = with_headers(cached_ts(seconds=10).read_bytes(), far_ahead)
    assert facts_of(data).duration is None


def test_a_clock_reference_that_ran_backwards_cannot_tell() -> None:
    late = with_headers(cached_ts(seconds=10, ts_offset_s=1000).read_bytes(), without_times)
    early = with_headers(cached_ts(seconds=10).read_bytes(), without_times)
    facts = facts_of(late + early)
    assert (facts.duration, facts.time_base) == (None, None)


def test_a_clock_that_begins_anew_in_sight_is_reported() -> None:
    late = cached_ts(seconds=1, ts_offset_s=1000).read_bytes()
    facts = facts_of(late + cached_ts(seconds=2).read_bytes())
    assert (facts.discontinuity, facts.duration) == (True, None)


def test_a_clock_that_ends_before_it_began_cannot_tell() -> None:
    late = cached_ts(seconds=10, bitrate="4M", size="640x360", ts_offset_s=1000).read_bytes()
    early = cached_ts(seconds=10, bitrate="4M", size="640x360").read_bytes()
    assert facts_of(late + early).duration is None


def test_an_announced_discontinuity_after_the_start_is_reported() -> None:
    options = ("-mpegts_flags", "initial_discontinuity")
    announced = cached_ts(seconds=1, muxer_options=options).read_bytes()
    assert not facts_of(announced).discontinuity
    facts = facts_of(cached_ts(seconds=1).read_bytes() + announced)
    assert (facts.discontinuity, facts.duration, facts.video_codec) == (True, None, "h264")


# Tables spread over packets


def test_the_checksum_is_the_standards() -> None:
    assert crc32(b"123456789") == 0x0376E6E7  # the check value of CRC-32/MPEG-2


def padded_map(section: bytes, extra_bytes: int) -> bytes:
    """A program map section with descriptors of `extra_bytes` added to the program."""
    pieces = []
    while extra_bytes > 0:
        size = min(extra_bytes, 257) - 2
        pieces.append(bytes([0x80, size]) + b"\x55" * size)
        extra_bytes -= size + 2
    info = b"".join(pieces)
    body = section[:10] + struct.pack(">H", 0xF000 | len(info)) + info + section[12:-4]
    body = body[:1] + struct.pack(">H", 0xB000 | (len(body) + 4 - 3)) + body[3:]
    return body + crc32(body).to_bytes(4, "big")


def in_packets(section: bytes, pid: int, *, before: bytes = b"") -> Iterator[bytes]:
    """A section as packets; `before` is the end of an earlier one, which the pointer field leads over."""
    data = bytes([len(before)]) + before + section
    for at in range(0, len(data), 184):
        start = 0x40 if at == 0 else 0
        header = bytes([0x47, start | pid >> 8, pid & 0xFF, 0x10 | at // 184 & 15])
        yield header + data[at : at + 184].ljust(184, b"\xff")


@pytest.mark.parametrize("extra_bytes", [160, 175, 400, 900])
@pytest.mark.parametrize("before", [b"", b"\x11" * 100])
def test_a_program_map_spread_over_packets_is_read(extra_bytes: int, before: bytes) -> None:
    clean = cached_ts(audio=True).read_bytes()
    packets = []
    for packet in packets_of(clean):
        if pid_of(packet) != 0x1000:
            packets.append(packet)
            continue
        section = packet[5 : 5 + 3 + (int.from_bytes(packet[6:8], "big") & 0xFFF)]
        packets += in_packets(padded_map(section, extra_bytes), 0x1000, before=before)
    facts = facts_of(b"".join(packets))
    assert (facts.video_codec, facts.audio_codecs) == ("h264", ("aac",))
    assert facts.duration == facts_of(clean).duration


def in_two(packet: bytes) -> list[bytes]:
    """A packet as two, the first of which carries ten bytes only."""
    skip = 5 + packet[4] if packet[3] & 0x20 else 4
    fields, payload = packet[5:skip] or b"\0", packet[skip:]
    return [
        packet[:3] + bytes([0x30, 173]) + fields.ljust(173, b"\xff") + payload[:10],
        *([stuffed(packet, payload[10:])] if payload[10:] else []),
    ]


def stuffed(packet: bytes, payload: bytes) -> bytes:
    """A continuation packet of the same PID, filled up to its length by an adaptation field."""
    header = bytes([0x47, packet[1] & 0x1F, packet[2], 0x30, 183 - len(payload)])
    return header + (b"\0".ljust(183 - len(payload), b"\xff") if len(payload) < 183 else b"") + payload


def test_pes_headers_spread_over_packets_are_read() -> None:
    clean = cached_ts(bframes=2).read_bytes()
    packets = []
    for packet in packets_of(clean):
        packets += in_two(packet) if pid_of(packet) == 0x100 and packet[1] & 0x40 else [packet]
    split = b"".join(packets)
    assert len(split) > len(clean)
    assert facts_of(split) == facts_of(clean)


# Garbage


def outcome(data: bytes, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
    """Nothing but facts, a request for more, or a refusal may come of any bytes."""
    with suppress(NotASegment):
        answer = probe(data[:head_bytes], data[max(0, len(data) - tail_bytes) :], len(data))
        if isinstance(answer, MoreBytes):
            assert (answer.head_bytes, answer.tail_bytes) > (head_bytes, tail_bytes)
            return
        assert (answer.duration is None) == (answer.time_base is None)
        assert answer.duration is None or timedelta() < answer.duration < timedelta(hours=14)
        assert 0 <= answer.leading_junk_bytes <= len(data)


def small() -> bytes:
    return cached_ts(seconds=1, size="64x48", audio=True, bframes=2).read_bytes()


def small_hevc() -> bytes:
    return cached_ts(seconds=1, size="64x48", codec="hevc", bframes=2).read_bytes()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_real_file_with_bytes_changed_anywhere_never_surprises(data: st.DataObject) -> None:
    stream = bytearray(data.draw(st.sampled_from([small, small_hevc]))())
    # Headers lie at the start of packets: half of the changes go there.
    anywhere = st.integers(0, len(stream) - 1)
    in_headers = st.builds(
        lambda packet, at: min(packet * PACKET + at, len(stream) - 1),
        st.integers(0, len(stream) // PACKET - 1),
        st.integers(0, 40),
    )
    for at in data.draw(st.lists(anywhere | in_headers, max_size=30)):
        stream[at] = data.draw(st.integers(0, 255))
    outcome(bytes(stream))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_real_file_cut_and_joined_anywhere_never_surprises(data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from([small, small_hevc]))()
    at = st.integers(0, len(stream))
    pieces = [stream[data.draw(at) : data.draw(at)] for _ in range(data.draw(st.integers(1, 4)))]
    junk = data.draw(st.binary(max_size=400))
    outcome(junk.join(pieces), data.draw(at), data.draw(at))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=3000), st.integers(0, 3000), st.integers(0, 3000))
def test_random_bytes_never_surprise(data: bytes, head_bytes: int, tail_bytes: int) -> None:
    outcome(data, head_bytes, tail_bytes)


def section(table: int, body: bytes) -> bytes:
    head = bytes([table]) + struct.pack(">H", 0xB000 | (len(body) + 9)) + b"\0\1\xc1\0\0" + body
    return head + crc32(head).to_bytes(4, "big")


def random_packet(pid: int, flags: int, control: int, rest: bytes) -> bytes:
    return (bytes([0x47, flags << 5 & 0xE0 | pid >> 8, pid & 0xFF, control]) + rest).ljust(PACKET, b"\0")[
        :PACKET
    ]


@settings(deadline=None, max_examples=300)
@given(
    map_body=st.binary(max_size=120),
    loose=st.lists(
        st.builds(
            random_packet,
            st.sampled_from([0, 0x20, 0x100, 0x101]),
            st.integers(0, 7),
            st.integers(0, 255),
            st.binary(max_size=40)
            | st.binary(max_size=30).map(lambda rest: b"\0\0\1\xe0\0\0\x80\xc0" + rest),
        ),
        max_size=60,
    ),
)
def test_packets_of_nonsense_under_valid_tables_never_surprise(map_body: bytes, loose: list[bytes]) -> None:
    tables = [*in_packets(section(0, b"\0\1\xe0\x20"), 0)]
    tables += in_packets(section(2, b"\xe1\0\xf0\0\x1b\xe1\0\xf0\0\x0f\xe1\1\xf0\0" + map_body), 0x20)
    outcome(b"".join(tables + loose))


def test_a_megabyte_of_hostile_tables_is_given_up_on() -> None:
    data = b"".join(in_packets(section(1, b"\0" * 1000), 0)) * 1000
    with pytest.raises(NotASegment, match="association table"):
        facts_of(data)


# Where a stream begins, and what a decoder must be told


def start_of(path: Path) -> StreamStart:
    start = facts_of(path.read_bytes()).start
    assert start is not None
    return start


WRAPPING = ("-output_ts_offset", str(BEFORE_WRAP_S))
CONTINUOUS: dict[str, Recorder] = {
    "plain": {"seconds": 6},
    "B-frames and sound": {"seconds": 6, "bframes": 2, "audio": True},
    "B-frames in open groups": {"seconds": 6, "bframes": 3, "open_gop": True},
    "H.265 with B-frames": {"seconds": 6, "codec": "hevc", "bframes": 4},
    "MPEG-2": {"seconds": 6, "codec": "mpeg2video", "bframes": 2},
    "five frames a second": {"seconds": 6, "rate": 5},
    "clock wraps": {"seconds": 6, "options": WRAPPING},
    "sound alone": {"seconds": 6, "codec": None, "audio": True},
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_segment_begins_where_the_one_before_ended(name: str, tmp_path: Path) -> None:
    frame_ticks = 90_000 // 5
    paths = segment_stream(tmp_path, **CONTINUOUS[name])
    assert len(paths) >= 3
    for before, after in pairwise(paths):
        duration = facts_of(before.read_bytes()).duration
        assert duration is not None
        due = (start_of(before).ticks + duration // timedelta(microseconds=1) * 9 // 100) % WRAP
        assert abs(ticks_between(due, start_of(after).ticks)) < frame_ticks // 10
        assert start_of(after).fingerprint == start_of(before).fingerprint


def test_the_stream_that_wraps_does_wrap(tmp_path: Path) -> None:
    first, *_, last = segment_stream(tmp_path, seconds=6, options=WRAPPING)
    assert start_of(first).ticks > WRAP - 5 * 90_000
    assert start_of(last).ticks < 5 * 90_000


def test_segments_with_a_clock_of_their_own_begin_alike(tmp_path: Path) -> None:
    options = ("-reset_timestamps", "1")
    starts = [start_of(path) for path in segment_stream(tmp_path, seconds=6, options=options)]
    assert len(starts) == 3
    assert len(set(starts)) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        {"size": "640x360"},
        {"codec": "hevc"},
        {"codec": "mpeg2video"},
        {"audio": True},
        {"audio": True, "audio_codec": "mp2"},
        {"codec": None, "audio": True},
        {"muxer_options": ("-mpegts_start_pid", "0x200")},
    ],
    ids=str,
)
def test_other_pictures_or_sound_have_another_fingerprint(recipe: Recipe) -> None:
    usual = start_of(cached_ts())
    assert start_of(cached_ts(**recipe)).fingerprint != usual.fingerprint


def test_every_layout_has_a_fingerprint_of_its_own() -> None:
    recipes: list[Recipe] = [
        {},
        {"size": "640x360"},
        {"codec": "hevc"},
        {"codec": "hevc", "size": "640x360"},
        {"codec": "mpeg2video"},
        {"codec": "mpeg2video", "size": "640x360"},
        {"audio": True},
        {"audio": True, "audio_codec": "mp2"},
    ]
    assert len({start_of(cached_ts(**recipe)).fingerprint for recipe in recipes}) == len(recipes)


def test_the_same_pictures_at_another_time_have_the_same_fingerprint() -> None:
    early, late = start_of(cached_ts(seconds=4)), start_of(cached_ts(seconds=2, ts_offset_s=1000))
    assert early.fingerprint == late.fingerprint
    assert ticks_between(early.ticks, late.ticks) == 1000 * 90_000


def test_what_has_no_presentation_times_has_no_start() -> None:
    data = with_headers(cached_ts(seconds=2).read_bytes(), without_times)
    assert facts_of(data).start is None


@pytest.mark.parametrize(
    ("codec", "data", "found"),
    [
        ("h264", b"\0\0\0\1\x09\xf0\0\0\0\1\x67abc\0\0\0\1\x68de\0\0\1\x65fg", b"\x67abc"),
        ("h264", b"\0\0\1\x65fg", b""),
        ("h264", b"\0\0\1\x67abc", b"\x67abc"),
        ("hevc", b"\0\0\1\x40\x01v\0\0\1\x42\x01abc\0\0\0\1\x44\x01", b"\x42\x01abc"),
        ("mpeg2video", b"\0\0\1\xb3abc\0\0\1\xb5ext", b"\xb3abc"),
        ("mpeg4", b"\0\0\1\x67abc", b""),
        ("h264", b"", b""),
    ],
)
def test_the_first_sequence_parameters_are_found(codec: str, data: bytes, found: bytes) -> None:
    assert sequence_parameters(codec, data) == found
