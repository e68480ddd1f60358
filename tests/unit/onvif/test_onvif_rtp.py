"""Packets against the simulator's reader of them, which was written from the RFCs by somebody else."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.onvif.rtp import (
    PACKET_BYTES,
    Marks,
    Packetiser,
    ParameterSets,
    extension,
    format_of,
    goodbye,
    interleaved,
    nal_units,
    parameter_sets,
)
from tests.fakes.xprotect.rtpunits import Packet, read_packet

NOT_KEY = Marks(clean_point=False)


def payload(size: int) -> st.SearchStrategy[bytes]:
    """Without zeros, and so without start codes: what an encoder escapes."""
    return st.binary(min_size=1, max_size=size).map(lambda data: data.replace(b"\0", b"\1"))


def unit_of(codec: str) -> st.SearchStrategy[bytes]:
    """A unit of a kind that may be in a stream by itself."""
    if codec == "h264":
        heads = st.sampled_from([0x41, 0x65, 0x67, 0x68, 0x06, 0x0C]).map(lambda first: bytes([first]))
    else:
        heads = st.sampled_from([1, 19, 32, 33, 34, 39]).map(lambda kind: bytes([kind << 1, 1]))
    sizes = st.sampled_from([40, 5000]).flatmap(payload)
    return st.tuples(heads, sizes).map(b"".join)


def rejoined(codec: str, packets: Sequence[Packet]) -> list[bytes]:
    """The units of packets, by the words of RFC 6184 (5.6, 5.8) and RFC 7798 (4.4.1, 4.4.3)."""
    units: list[bytes] = []
    for packet in packets:
        data = packet.payload
        kind = data[0] & 31 if codec == "h264" else data[0] >> 1 & 63
        if kind != (28 if codec == "h264" else 49):
            units.append(data)
            continue
        header = 1 if codec == "h264" else 2
        flags = data[header]
        if flags & 0x80:
            first = (
                bytes([data[0] & 0xE0 | flags & 31])
                if codec == "h264"
                else bytes([data[0] & 0x81 | (flags & 63) << 1, data[1]])
            )
            units.append(first)
        units[-1] += data[header + 1 :]
    return units


def packetiser(sequence: int = 0) -> Packetiser:
    return Packetiser(ssrc=7, sequence=sequence, payload_types={"h264": 96, "hevc": 97})


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@given(data=st.data(), sequence=st.integers(0, 0xFFFF), timestamp=st.integers(0, 2**40))
def test_an_access_unit_split_into_packets_is_the_same_when_rejoined(
    codec: str, data: st.DataObject, sequence: int, timestamp: int
) -> None:
    units = data.draw(st.lists(unit_of(codec), min_size=1, max_size=4))
    codes = [data.draw(st.sampled_from([b"\0\0\1", b"\0\0\0\1"])) for _ in units]
    annex_b = b"".join(code + unit for code, unit in zip(codes, units, strict=True))
    made = packetiser(sequence).packets(codec, annex_b, timestamp, extension(0, NOT_KEY, 1))
    packets = [read_packet(packet) for packet in made]
    assert rejoined(codec, packets) == units
    assert max(map(len, made)) <= PACKET_BYTES
    assert [packet.number for packet in packets] == [(sequence + at) & 0xFFFF for at in range(len(packets))]
    assert {packet.timestamp for packet in packets} == {timestamp & 0xFFFFFFFF}
    assert [packet.marker for packet in packets] == [False] * (len(packets) - 1) + [True]
    assert [packet.stamp is not None for packet in packets] == [True] + [False] * (len(packets) - 1)


def test_the_replay_extension_byte_by_byte() -> None:
    marks = Marks(clean_point=True, end=True, discontinuity=True, terminal=True)
    # 2009-06-15T11:49:00.500Z is 1245066540.5 s after 1970, and 3454055340.5 s after 1900.
    made = extension(1_245_066_540_500_000, marks, 0x1FE)
    assert made.hex() == "abac0003" + "cde0b3ac" + "80000000" + "f0" + "fe" + "0000"
    for alone, byte in (("clean_point", 0x80), ("end", 0x40), ("discontinuity", 0x20), ("terminal", 0x10)):
        fields = {"clean_point": False} | {alone: True}
        assert Marks(**fields).byte == byte


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_time_read_back_is_the_very_microsecond_whether_it_is_rounded_or_cut_off(time_us: int) -> None:
    made = extension(time_us, NOT_KEY, 0)
    seconds, fraction = int.from_bytes(made[4:8], "big"), int.from_bytes(made[8:12], "big")
    since_1900 = time_us // 1_000_000 + 2_208_988_800
    assert seconds == since_1900 % 2**32
    assert fraction * 1_000_000 >> 32 == round(fraction * 1_000_000 / 2**32) == time_us % 1_000_000


def test_access_unit_delimiters_are_left_out_and_nothing_else() -> None:
    units = [b"\x09\xf0", b"\x67abc", b"\x68d", b"\x06sei", b"\x65picture", b"\x0cfiller"]
    annex_b = b"".join(b"\0\0\0\1" + unit for unit in units)
    made = packetiser().packets("h264", annex_b, 0, b"")
    assert [read_packet(packet).payload for packet in made] == units[1:]
    hevc = [b"\x46\x01\x50", b"\x40\x01v", b"\x42\x01s", b"\x44\x01p", b"\x26\x01i"]
    made = packetiser().packets("hevc", b"".join(b"\0\0\1" + unit for unit in hevc), 0, b"")
    assert [read_packet(packet).payload for packet in made] == hevc[1:]


def test_what_holds_no_unit_makes_no_packet() -> None:
    for nothing in (b"", b"\0\0\1", b"abc", b"\0\0\1\0\0\0\1"):
        assert packetiser().packets("h264", nothing, 0, b"") == []
    assert list(nal_units(b"junk\0\0\1\x65a\0\0\0\1\x41b\0\0")) == [b"\x65a", b"\x41b"]


def test_sdp_tells_the_parameter_sets_where_they_are_known() -> None:
    key = b"\0\0\1\x67\x64\x00\x1fsps\0\0\1\x68pps\0\0\1\x65i"
    sets = parameter_sets("h264", key)
    assert sets == ParameterSets("h264", sps=b"\x67\x64\x00\x1fsps", pps=b"\x68pps")
    assert format_of(96, sets) == (
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 packetization-mode=1;profile-level-id=64001F;sprop-parameter-sets=Z2QAH3Nwcw==,aHBwcw==",
    )
    assert format_of(96, ParameterSets("h264"))[1:] == ("a=fmtp:96 packetization-mode=1",)
    hevc = parameter_sets("hevc", b"\0\0\1\x40\x01v\0\0\1\x42\x01s\0\0\1\x44\x01p")
    assert format_of(97, hevc) == (
        "a=rtpmap:97 H265/90000",
        "a=fmtp:97 sprop-vps=QAF2;sprop-sps=QgFz;sprop-pps=RAFw",
    )
    assert format_of(97, ParameterSets("hevc")) == ("a=rtpmap:97 H265/90000",)


def test_a_goodbye_is_an_empty_sender_report_and_bye() -> None:
    made = goodbye(0x01020304)
    assert made.hex() == "80c80006" + "01020304" + "00" * 20 + "81cb0001" + "01020304"
    assert interleaved(1, b"abc") == b"$\x01\x00\x03abc"
