"""The ONVIF driver's part of XProtect's simulator: packets, log-in and SDP by the RFCs' own words."""

import struct
from collections.abc import Sequence

import pytest

from tests.fakes.xprotect.digest import DigestAuth
from tests.fakes.xprotect.pictures import Coded
from tests.fakes.xprotect.rtpunits import BadStream, Depacketiser, Format, Received, Stamp, read_packet
from tests.fakes.xprotect.rtspplay import read_sdp

TIME_MS = 1_795_338_000_125
KEY, END, DISCONTINUITY, TERMINAL = 0x80, 0x40, 0x20, 0x10
SPS, PPS, IDR, SLICE = b"\x67sps", b"\x68pps", b"\x65idr picture", b"\x41slice"
START = b"\0\0\0\1"


def rtp(
    number: int,
    payload: bytes,
    *,
    at: int = 9000,
    marker: bool = False,
    flags: int | None = None,
    cseq: int = 4,
    kind: int = 96,
) -> bytes:
    """RFC 3550, with ONVIF's header extension where `flags` are given."""
    extension = b""
    if flags is not None:
        seconds, rest = divmod(TIME_MS, 1000)
        ntp = struct.pack(">II", seconds + 2_208_988_800, (rest << 32) // 1000)
        extension = struct.pack(">HH", 0xABAC, 3) + ntp + bytes([flags, cseq, 0, 0])
    first = 0x80 | (0x10 if extension else 0)
    return struct.pack(">BBHII", first, (marker << 7) | kind, number, at, 7) + extension + payload


def unpacked(units: Depacketiser, *packets: bytes) -> Sequence[Received]:
    return [found for packet in packets for found in units.take(read_packet(packet))]


def test_units_come_alone_aggregated_and_in_fragments() -> None:
    """RFC 6184: single NAL unit (5.6), STAP-A (5.7.1), FU-A (5.8)."""
    aggregate = b"\x78" + b"".join(struct.pack(">H", len(unit)) + unit for unit in (SPS, PPS))
    units = Depacketiser({96: Format("h264")}, 260)  # the extension has the low byte alone
    found = unpacked(
        units,
        rtp(65_534, aggregate, flags=KEY | DISCONTINUITY),
        rtp(65_535, b"\x7c\x85" + IDR[1:5]),
        rtp(0, b"\x7c\x05" + IDR[5:8]),
        rtp(1, b"\x7c\x45" + IDR[8:], marker=True),
        rtp(2, SLICE, at=12_600, marker=True, flags=END | TERMINAL),
    )
    assert found == [
        Received(
            "h264",
            Coded(TIME_MS, True, START + SPS + START + PPS + START + IDR),
            Stamp(TIME_MS, True, False, True, False, 4),
        ),
        Received("h264", Coded(TIME_MS, False, START + SLICE), Stamp(TIME_MS, False, True, False, True, 4)),
    ]


def test_units_of_h265_have_two_bytes_of_header() -> None:
    """RFC 7798: aggregation packet (4.4.2), fragmentation unit (4.4.3)."""
    vps, sps, pps, idr = b"\x40\x01v", b"\x42\x01s", b"\x44\x01p", b"\x26\x01idr picture"
    aggregate = b"\x60\x01" + b"".join(struct.pack(">H", len(unit)) + unit for unit in (vps, sps, pps))
    found = unpacked(
        Depacketiser({96: Format("h265")}, 4),
        rtp(1, aggregate, flags=KEY),
        rtp(2, b"\x62\x01\x93" + idr[2:6]),
        rtp(3, b"\x62\x01\x53" + idr[6:], marker=True),
    )
    assert [each.picture.data for each in found] == [START + START.join([vps, sps, pps, idr])]


def test_a_key_picture_without_parameter_sets_gets_those_of_the_sdp() -> None:
    found = unpacked(Depacketiser({96: Format("h264", (SPS, PPS))}, 4), rtp(1, IDR, marker=True, flags=KEY))
    assert found[0].picture.data == START + SPS + START + PPS + START + IDR


@pytest.mark.parametrize(
    ("packets", "complaint"),
    [
        ([rtp(1, IDR, marker=True, flags=KEY, kind=97)], "not in the SDP"),
        ([rtp(1, IDR, marker=True)], "begins without the extension"),
        ([rtp(1, IDR, marker=True, flags=0)], "is said to be no key"),
        ([rtp(1, SLICE, marker=True, flags=KEY)], "is said to be a key"),
        ([rtp(1, IDR, marker=True, flags=KEY, cseq=3)], "names PLAY 3"),
        ([rtp(1, IDR, marker=True, flags=KEY | 1)], "reserved bits"),
        ([rtp(1, IDR, flags=KEY), rtp(3, IDR, marker=True)], "packet 3 follows 1"),
        ([rtp(1, IDR, flags=KEY), rtp(2, SLICE, at=12_600, flags=0)], "marker is missing"),
        ([rtp(1, SPS, flags=KEY), rtp(2, IDR, marker=True, flags=KEY)], "comes again"),
        ([rtp(1, b"\x7c\x85idr", marker=True, flags=KEY)], "ends within a fragmented unit"),
        ([rtp(1, b"\x7c\x05idr", flags=KEY)], "without its beginning"),
        ([rtp(1, b"\x78\x00\x09idr", flags=KEY)], "is cut off"),
        ([b"\x40" + rtp(1, IDR)[1:]], "version 2"),
    ],
)
def test_what_a_driver_would_have_to_guess_is_refused(packets: Sequence[bytes], complaint: str) -> None:
    with pytest.raises(BadStream, match=complaint):
        unpacked(Depacketiser({96: Format("h264")}, 4), *packets)


def test_the_digest_is_that_of_the_example_in_rfc_2617(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = DigestAuth("Mufasa", "Circle Of Life")
    assert auth.header("GET", "/dir/index.html") == {}
    challenge = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    assert auth.challenged(['Basic realm="x"', challenge])
    monkeypatch.setattr("secrets.token_hex", lambda _: "0a4f113b")
    told = auth.header("GET", "/dir/index.html")["Authorization"]
    assert 'response="6629fae49393a05397450978507c4ef1"' in told
    assert not auth.challenged([challenge])  # the same again: the password is wrong
    assert auth.challenged([challenge + ", stale=true"])


def test_the_digest_without_quality_of_protection_is_that_of_rfc_2069() -> None:
    auth = DigestAuth("Mufasa", "CircleOfLife")
    assert auth.challenged(['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'])
    told = auth.header("GET", "/dir/index.html")["Authorization"]
    assert 'response="1949323746fe6a43ef61f9606e7febea"' in told  # erratum 749


def test_the_video_of_an_sdp_is_read_with_its_parameter_sets() -> None:
    sdp = (
        "v=0\r\ns=x\r\na=control:*\r\nm=audio 0 RTP/AVP 97\r\na=control:audio\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=1\r\n"
        "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z3Nwcw==,aHBwcw==\r\n"
        "a=x-onvif-track:VIDEO001\r\n"
    )
    video = read_sdp(sdp, "rtsp://host:554/replay/cam1")
    assert video.control == "rtsp://host:554/replay/cam1/trackID=1"
    assert video.formats == {96: Format("h264", [SPS, PPS])}
    both = sdp.replace("m=video 0 RTP/AVP 96\r\n", "m=video 0 RTP/AVP 96 97\r\na=rtpmap:97 H265/90000\r\n")
    assert read_sdp(both, "rtsp://host/").formats == {**video.formats, 97: Format("h265", [])}
    for line in ("a=x-onvif-track:VIDEO001\r\n", "a=rtpmap:96 H264/90000\r\n", "m=video 0 RTP/AVP 96\r\n"):
        with pytest.raises(BadStream):
            read_sdp(sdp.replace(line, ""), "rtsp://host/")
