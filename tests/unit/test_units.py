"""Coded pictures out of a transport stream, their order, and a transport stream of them: against ffmpeg."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.errors import NotASegment
from cctv_storaged.mpegts import poc
from cctv_storaged.mpegts import units as units_module
from cctv_storaged.mpegts.mux import PMT_PID, VIDEO_PID, Muxer
from cctv_storaged.mpegts.packets import opening_window
from cctv_storaged.mpegts.poc import PictureOrder
from cctv_storaged.mpegts.probe import StreamFacts, probe_by
from cctv_storaged.mpegts.track import WRAP, ticks_between
from cctv_storaged.mpegts.units import AccessUnit, Units
from tests.footage import Recipe, cached_ts, probe_packets

PACKET = 188
RECIPES: dict[str, Recipe] = {
    "H.264": {},
    "four pictures a second": {"rate": 4, "seconds": 3},
    "B-frames and sound": {"bframes": 2, "audio": True},
    "B-frames in open groups": {"bframes": 3, "open_gop": True, "seconds": 3},
    "a clock that wraps": {"bframes": 2, "ts_offset_s": 95_441.0, "seconds": 3},
    "H.265": {"codec": "hevc"},
    "H.265, B-frames": {"codec": "hevc", "bframes": 3},
    "H.265, open groups": {"codec": "hevc", "bframes": 4, "open_gop": True, "seconds": 3},
}


def units_of(data: bytes, block: int = 65_536) -> list[AccessUnit]:
    reading = Units()
    found = [unit for at in range(0, len(data), block) for unit in reading.feed(data[at : at + block])]
    return found + reading.finish()


def muxed(units: Sequence[AccessUnit]) -> bytes:
    muxer = Muxer(units[0].codec)
    return b"".join(muxer.packets(unit) for unit in units)


@cache
def told(path: Path) -> list[tuple[int, int, bool]]:
    """What ffprobe makes of the pictures: when shown, when decoded, whether a key picture."""
    return [
        (int(packet["pts"]) % WRAP, int(packet.get("dts", packet["pts"])) % WRAP, "K" in packet["flags"])
        for packet in probe_packets(path)
        if packet["codec_type"] == "video"
    ]


def facts_of(data: bytes) -> StreamFacts:
    return probe_by(lambda offset, length: data[offset : offset + length], len(data))


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_are_those_that_ffprobe_finds(name: str) -> None:
    path = cached_ts(**RECIPES[name])
    found = units_of(path.read_bytes())
    assert [(unit.pts, unit.dts, unit.key) for unit in found] == told(path)
    assert {unit.codec for unit in found} == {RECIPES[name].get("codec", "h264")}


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=200))
def test_blocks_of_any_size_give_the_same(cuts: list[int]) -> None:
    data = cached_ts(bframes=2, audio=True).read_bytes()
    reading, found, at = Units(), list[AccessUnit](), 0
    for cut in cuts:
        found += reading.feed(data[at : at + cut])
        at += cut
    found += reading.feed(data[at:]) + reading.finish()
    assert found == units_of(data)


@pytest.mark.parametrize(("before", "after"), [(4, 0), (0, 16)], ids=["M2TS", "FEC"])
@pytest.mark.parametrize("block", [100, 50_000])
def test_other_framings_are_read_as_well(before: int, after: int, block: int) -> None:
    data = cached_ts().read_bytes()
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    framed = b"".join(bytes(before) + packet + bytes(after) for packet in packets)
    assert units_of(framed, block) == units_of(data)


def test_garbage_costs_the_pictures_it_lies_in_and_no_more() -> None:
    data = cached_ts(seconds=3).read_bytes()
    at = len(data) // 2 // PACKET * PACKET
    found = units_of(b"junk" * 99 + data[:at] + b"\x00" * 1000 + data[at:], 10_000)
    whole = units_of(data)
    same = [unit for unit in found if unit in whole]
    assert len(same) >= len(whole) - 1
    assert len(found) == len(whole)


def test_a_packet_sent_twice_is_taken_once() -> None:
    data = cached_ts().read_bytes()
    twice = b"".join(2 * data[at : at + PACKET] for at in range(0, len(data), PACKET))
    assert units_of(twice) == units_of(data)


def test_a_picture_in_several_pes_packets_is_one() -> None:
    first, second, *_ = units_of(cached_ts().read_bytes())
    half, muxer, no_times = len(first.data) // 2, Muxer("h264"), bytes.fromhex("000001e00000840000")
    data = muxer.packets(replace(first, data=first.data[:half]))
    data += b"".join(muxer._pes(no_times + first.data[half:], b"\0"))
    found = units_of(data + muxer.packets(second))
    assert [unit.data for unit in found] == [first.data, second.data]


def untimed(muxer: Muxer, unit: AccessUnit) -> bytes:
    """Its packets, with no time stamps."""
    return b"".join(muxer._pes(bytes.fromhex("000001e00000840000") + unit.data, b"\0"))


@pytest.mark.parametrize("name", ["H.264", "H.265"])
@pytest.mark.parametrize("delimited", [True, False])
def test_pictures_without_a_time_are_between_their_neighbours(name: str, delimited: bool) -> None:
    """13818-1, 2.7.4: one each 0.7 s is enough."""
    whole = units_of(cached_ts(**RECIPES[name]).read_bytes())
    codec = whole[0].codec
    if not delimited:
        delimiter = {"h264": 6, "hevc": 7}[codec]
        whole = [replace(unit, data=unit.data[delimiter:]) for unit in whole]
    muxer = Muxer(codec)
    data = b"".join(
        untimed(muxer, unit) if number % 10 else muxer.packets(unit) for number, unit in enumerate(whole)
    )
    reading = Units()
    found = reading.feed(data) + reading.finish()
    assert [(unit.pts, unit.dts, unit.key) for unit in found] == [
        (unit.pts, unit.dts, unit.key) for unit in whole
    ]
    assert reading.left_out == 0


def test_pictures_whose_order_nothing_tells_are_left_out_and_counted() -> None:
    whole = units_of(cached_ts(bframes=2).read_bytes())
    muxer = Muxer("h264")
    data = b"".join(
        muxer.packets(unit) if unit.key or number % 3 else untimed(muxer, unit)
        for number, unit in enumerate(whole)
    )
    reading = Units()
    found = reading.feed(data) + reading.finish()
    assert reading.left_out > 0
    assert len(found) + reading.left_out == len(whole)
    assert {unit.pts for unit in found} <= {unit.pts for unit in whole}


def test_without_end_no_picture_without_a_time_is_kept() -> None:
    first, second, *_ = units_of(cached_ts().read_bytes())
    muxer, reading = Muxer("h264"), Units()
    found = reading.feed(muxer.packets(first))
    for _ in range(500):
        found += reading.feed(untimed(muxer, second))
    assert len(reading._untimed) <= units_module._MOST_UNTIMED
    assert len(found + reading.finish()) + reading.left_out == 501


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [({"codec": "mpeg2video"}, "codec"), ({"codec": None, "audio": True}, "no_video")],
    ids=["MPEG-2", "sound alone"],
)
def test_other_streams_are_refused(recipe: Recipe, reason: str) -> None:
    with pytest.raises(NotASegment) as caught:
        units_of(cached_ts(**recipe).read_bytes())
    assert caught.value.reason == reason


def test_what_is_no_transport_stream_is_refused_and_looked_at_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units_module, "MAX_HEAD_BYTES", 100_000)
    reading = Units()
    with pytest.raises(NotASegment) as caught:
        for _ in range(20):
            reading.feed(bytes(10_000))
    assert caught.value.reason == "not_mpegts"
    with pytest.raises(NotASegment) as caught:
        units_of(bytes(188))
    assert caught.value.reason == "not_mpegts"


def test_a_picture_without_end_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "MAX_UNIT_BYTES", 5000)
    data = cached_ts(seconds=3).read_bytes()
    reading = Units()
    found = reading.feed(data) + reading.finish()
    assert reading.left_out
    assert all(len(unit.data) <= 5000 for unit in found)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=40)), max_size=30),
    block=st.integers(100, 100_000),
    name=st.sampled_from(["H.264", "H.265, B-frames"]),
)
def test_damage_of_any_kind_ends_well(changes: list[tuple[int, bytes]], block: int, name: str) -> None:
    data = bytearray(cached_ts(**RECIPES[name]).read_bytes()[:150_000])
    for at, new in changes:
        data[at % len(data) : at % len(data) + len(new)] = new
    try:
        found = units_of(bytes(data), block)
    except NotASegment:
        return
    order = PictureOrder(found[0].codec) if found else PictureOrder("h264")
    for unit in found:
        assert 0 <= unit.pts < WRAP
        order.of(unit.data)


# In which order pictures are shown


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_are_shown_in_the_order_of_their_count(name: str) -> None:
    found = units_of(cached_ts(**RECIPES[name]).read_bytes())
    order = PictureOrder(found[0].codec)
    places = [order.of(unit.data) for unit in found]
    known = [place for place in places if place is not None]
    assert len(set(known)) == len(found)
    by_time = sorted(range(len(found)), key=lambda at: ticks_between(found[0].pts, found[at].pts))
    assert sorted(range(len(found)), key=lambda at: known[at]) == by_time


def test_counts_by_the_cycle_of_reference_frames() -> None:
    """H.264 8.2.1.2, which no encoder here writes: I P b P b, the b between its neighbours."""
    order = PictureOrder("h264")
    parameters = nal(
        0x67,
        "01000010"
        + 16 * "0"
        + ue(0)
        + ue(0)
        + ue(1)
        + "1"
        + se(-2)
        + se(0)
        + ue(1)
        + se(4)
        + ue(1)
        + "0"
        + ue(9)
        + ue(9)
        + "1",
    ) + nal(0x68, ue(0) + ue(0) + "1")
    idr = nal(0x65, ue(0) + ue(7) + ue(0) + "0000" + ue(0))
    pictures = [parameters + idr] + [
        nal(first, ue(0) + ue(kind) + ue(0) + f"{number:04b}")
        for first, kind, number in ((0x41, 5, 1), (0x01, 6, 2), (0x41, 5, 2), (0x01, 6, 3))
    ]
    assert [order.of(picture) for picture in pictures] == [(1, 0), (1, 4), (1, 2), (1, 8), (1, 6)]


def nal(first: int, bits: str) -> bytes:
    """A NAL unit of these bits, with a start code and trailing bits."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    for value in (b"\0\0\0", b"\0\0\1", b"\0\0\2", b"\0\0\3"):
        assert value not in body
    return b"\0\0\1" + bytes([first]) + body


def ue(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def se(value: int) -> str:
    return ue(2 * value - 1 if value > 0 else -2 * value)


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=300), codec=st.sampled_from(["h264", "hevc", "av1"]), kinds=st.binary(max_size=8)
)
def test_hostile_parameter_sets_have_no_place(data: bytes, codec: str, kinds: bytes) -> None:
    order = PictureOrder(codec)
    for first in (*kinds, 0x67, 0x68, 0x65, 0x42, 0x44, 0x26):
        place = order.of(b"\0\0\1" + bytes([first, 1]) + data)
        assert place is None or all(isinstance(part, int) for part in place)


def counted_sets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every sequence parameter set that is read."""
    read: list[int] = []
    really = poc._sequence

    def counting(bits: poc._Bits) -> tuple[int, poc._Sequence]:
        read.append(1)
        return really(bits)

    monkeypatch.setattr(poc, "_sequence", counting)
    return read


def baseline(number: int) -> bytes:
    """A sequence parameter set of H.264, one of many."""
    size = ue(number % 200) + ue(number // 200)
    return nal(0x67, "01000010" + 16 * "1" + ue(0) + ue(0) + ue(2) + ue(1) + "0" + size + "1")


def test_parameter_sets_that_are_repeated_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted_sets(monkeypatch)
    senseless = nal(0x67, "01000010" + 16 * "1" + ue(40))
    order = PictureOrder("h264")
    for _ in range(50):
        for text in (baseline(1), baseline(2), senseless):
            assert order.of(text) is None
    assert len(read) == 3


def test_a_stream_of_ever_other_parameter_sets_costs_no_more_than_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = counted_sets(monkeypatch)
    order = PictureOrder("h264")
    for number in range(2000):
        order.of(baseline(number))
    assert len(read) == poc._MOST_SETS


@pytest.mark.parametrize("before", [b"\0\0\1\x09\xf0" * 100, b"\0\0\1\x06" + b"\x55" * 70_000])
def test_a_slice_is_looked_for_near_the_beginning_of_a_picture_alone(before: bytes) -> None:
    first, *_ = units_of(cached_ts().read_bytes())
    assert PictureOrder("h264").of(first.data) is not None
    assert PictureOrder("h264").of(before + first.data) is None


def test_behind_the_end_of_a_sequence_another_one_begins() -> None:
    """H.265 8.1.3: the CRA picture behind it counts anew, though its own count goes on."""
    found = units_of(cached_ts(**RECIPES["H.265, open groups"]).read_bytes())
    cras = [number for number, unit in enumerate(found) if unit.key and number]
    end = b"\0\0\1\x48\x01"

    def epochs(*, ended: bool) -> list[int]:
        order = PictureOrder("hevc")
        places = [
            order.of(unit.data + (end if ended and number + 1 in cras else b""))
            for number, unit in enumerate(found)
        ]
        return [place[0] for place in places if place is not None]

    assert len(cras) == 2
    assert set(epochs(ended=False)) == {1}
    ended = epochs(ended=True)
    assert [ended.index(epoch) for epoch in (1, 2, 3)] == [0, *cras]


# A transport stream of them


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_muxed_plays_without_a_warning_as_it_was(name: str, tmp_path: Path) -> None:
    path = cached_ts(**RECIPES[name])
    data = muxed(units_of(path.read_bytes()))
    out = tmp_path / "out.ts"
    out.write_bytes(data)
    argv = ["ffmpeg", "-nostdin", "-v", "warning", "-i", str(out), "-f", "null", "-"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert told(out) == told(path)
    ours, theirs = facts_of(data), facts_of(path.read_bytes())
    assert (ours.duration, ours.time_base) == (theirs.duration, theirs.time_base)
    assert (ours.cut_off, ours.discontinuity, ours.leading_junk_bytes) == (False, False, 0)
    assert ours.starts_with_keyframe
    assert ours.start is not None
    assert theirs.start is not None
    assert ours.start.ticks == theirs.start.ticks


@pytest.mark.parametrize("name", RECIPES)
def test_clock_references_and_tables_come_often_enough(name: str) -> None:
    """13818-1, 2.7.2: a clock reference at least every 100 ms; DVB and ATSC: tables at least every 500 ms."""
    data = muxed(units_of(cached_ts(**RECIPES[name]).read_bytes()))
    window = opening_window(data)
    assert window is not None
    clocks = [
        clock for at in window.with_adaptation(VIDEO_PID) if (clock := window.clock_reference(at)) is not None
    ]
    steps = [ticks_between(a // 300, b // 300) for a, b in pairwise(clocks)]
    assert min(steps) > 0
    assert max(steps) <= 9_000
    for pid in (0, PMT_PID):
        tables = list(window.unit_starts(pid))
        assert len(tables) >= 2 * len(clocks) * min(steps) / 90_000
        assert tables[0] in (0, PACKET)


@pytest.mark.parametrize(("jump_s", "told"), [(0.1, 0), (9, 0), (20, 1), (-20, 1)])
def test_a_hole_that_is_not_filled_is_a_new_clock(jump_s: float, told: int) -> None:
    """13818-1, 2.4.3.5: announced with the first reference behind it."""
    ticks = int(jump_s * 90_000)
    first, second, *_ = units_of(cached_ts().read_bytes())
    moved = replace(second, pts=(first.pts + ticks) % WRAP, dts=(first.dts + ticks) % WRAP)
    window = opening_window(muxed([first, moved, replace(moved, pts=moved.pts + 9, dts=moved.dts + 9)]))
    assert window is not None
    marked = [at for at in window.with_adaptation(VIDEO_PID) if window.says_discontinuity(at)]
    assert len(marked) == told
    assert all(window.clock_reference(at) is not None for at in marked)


def test_key_pictures_can_be_entered_at() -> None:
    units = units_of(cached_ts(seconds=3).read_bytes())
    data = muxed(units)
    window = opening_window(data)
    assert window is not None
    starts = list(window.unit_starts(VIDEO_PID))
    assert [window.is_random_access(at) for at in starts] == [unit.key for unit in units]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=12),
    first=st.integers(0, WRAP - 1),
    step=st.integers(1, 200_000),
    codec=st.sampled_from(["h264", "hevc"]),
)
def test_units_of_any_size_fill_packets_and_come_out_again(
    sizes: list[int], first: int, step: int, codec: str
) -> None:
    aud = {"h264": b"\0\0\0\1\x09\xf0", "hevc": b"\0\0\0\1\x46\x01\x50"}[codec]
    units = [
        AccessUnit(
            codec=codec,
            pts=(first + number * step) % WRAP,
            dts=(first + number * step - 1) % WRAP,
            key=False,
            data=aud + bytes(number + 1 for _ in range(size)),
        )
        for number, size in enumerate(sizes)
    ]
    data = muxed(units)
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    assert all(len(packet) == PACKET and packet[0] == 0x47 for packet in packets)
    counters: dict[int, int] = {}
    for packet in packets:
        pid, has_payload = int.from_bytes(packet[1:3], "big") & 0x1FFF, packet[3] & 0x10
        if pid in counters:
            assert packet[3] & 0xF == (counters[pid] + bool(has_payload)) & 0xF
        counters[pid] = packet[3] & 0xF
    assert units_of(data) == units


def test_a_delimiter_is_put_where_one_is_missing() -> None:
    bare = AccessUnit(codec="h264", pts=9, dts=9, key=False, data=b"\0\0\1\x41abc")
    (found,) = units_of(muxed([bare]))
    assert found.data == b"\0\0\0\1\x09\xf0" + bare.data
