"""RTSP requests from hostile bytes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.onvif.rtsp import (
    MOST_LINE_BYTES,
    Range,
    Refusal,
    Request,
    channels_of,
    clock_of,
    read_range,
    read_request,
    response,
)

GOOD = b"PLAY rtsp://h/replay/x RTSP/1.0\r\nCSeq: 7\r\nRequire: onvif-replay\r\n\r\n"


async def read(data: bytes, *, ends: bool = True) -> Request | None:
    reader = asyncio.StreamReader(limit=MOST_LINE_BYTES)
    reader.feed_data(data)
    if ends:
        reader.feed_eof()
    return await read_request(reader, 60)


async def test_a_request_is_read_behind_blank_lines_and_packets_of_the_clients() -> None:
    request = await read(b"\r\n\r\n$\x01\x00\x04\x80\xc9\x00\x00" + GOOD)
    assert request is not None
    assert (request.method, request.path, request.cseq) == ("PLAY", "/replay/x", 7)
    assert request.headers["require"] == "onvif-replay"


async def test_a_body_is_passed_over() -> None:
    reader = asyncio.StreamReader(limit=MOST_LINE_BYTES)
    reader.feed_data(b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nabcd" + GOOD)
    methods = [request.method for _ in range(2) if (request := await read_request(reader, 60))]
    assert methods == ["SET_PARAMETER", "PLAY"]


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"PLA", GOOD[:-2], b"$\x00", b"$\x00\xff\xffabc", b"$\x00\x00"]
)
async def test_a_client_that_leaves_is_no_error(data: bytes) -> None:
    assert await read(data) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"PLAY  RTSP/1.0\r\n\r\n", 400),
        (b"PLAY * RTSP/2.0\r\n\r\n", 505),
        (b"PLAY * RTSP/1.0\r\nno header\r\n\r\n", 400),
        (b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nCSeq: 2\r\n\r\n", 400),
        (b"PLAY * RTSP/1.0\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PLAY * RTSP/1.0\r\nContent-Length: 999999\r\n\r\n", 413),
        (b"PLAY * RTSP/1.0\r\n" + b"a: b\r\n" * 100 + b"\r\n", 400),
        (b"PLAY * RTSP/1.0\r\n" + b"".join(b"h%d: b\r\n" % at for at in range(100)) + b"\r\n", 400),
        (b"PLAY * RTSP/1.0\r\nA: " + b"b" * 10_000 + b"\r\n\r\n", 400),
        (b"PLAY * RTSP/1.0\r\nA: \xff\xfe\r\n\r\n", 400),
        (b"P" * 10_000, 400),
    ],
)
async def test_what_is_no_request_is_refused_and_nothing_more_is_read(data: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        await read(data, ends=False)
    assert (caught.value.status, caught.value.last) == (status, True)


@given(st.binary(max_size=300))
def test_no_bytes_whatever_break_the_reader(data: bytes) -> None:
    async def tried() -> None:
        try:
            request = await read(data)
            assert request is None or request.method
        except Refusal:
            pass

    asyncio.run(tried())


@pytest.mark.parametrize("cseq", ["", "-1", "1 2", "x", "9" * 20, "٣"])
def test_a_request_without_a_number_is_refused(cseq: str) -> None:
    with pytest.raises(Refusal):
        _ = Request("PLAY", "*", {"cseq": cseq}).cseq


@pytest.mark.parametrize("uri", ["rtsp://[", "rtsp://h", "*", "/x", "rtsp://u:p@h:554/replay/x?y"])
def test_any_address_has_a_path(uri: str) -> None:
    assert Request("PLAY", uri, {}).path in ("", "*", "/x", "/replay/x")


EIGHT = datetime(2020, 2, 27, 8, 13, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (None, Range()),
        ("clock=20200227T081350.000Z-", Range(EIGHT)),
        ("clock=20200227T081350Z-20200227T081351.25Z", Range(EIGHT, EIGHT + timedelta(seconds=1.25))),
        (
            "clock = 20200227T081350.123456789Z - ;time=x",
            Range(EIGHT + timedelta(microseconds=123456)),
        ),
        ("npt=0.000-", Range(timedelta(0))),
        ("npt=1.5-3", Range(timedelta(seconds=1.5), timedelta(seconds=3))),
        ("npt=now-", Range(now=True)),
    ],
)
def test_ranges(text: str | None, asked: Range) -> None:
    assert read_range(text) == asked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "smpte=0:10:20-",
        "clock=20200227T081350Z",
        "clock=20201327T081350Z-",
        "clock=00010101T000000Z-",
        "clock=99990101T000000Z-",
        "clock=20200227T081350Z-20200227T081350Z",
        "clock=20200227T081350Z-20200227T081349Z",
        "npt=5-4",
        "npt=99999999999-",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_range(text)
    assert caught.value.status == 457


def test_clocks_are_written_to_what_they_are_exact_to() -> None:
    assert clock_of(EIGHT) == "20200227T081350.000Z"
    assert clock_of(EIGHT + timedelta(microseconds=40_000)) == "20200227T081350.040Z"
    assert clock_of(EIGHT + timedelta(microseconds=33_366)) == "20200227T081350.033366Z"


@pytest.mark.parametrize(
    ("transport", "channels"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=0-1", (0, 1)),
        ("RTP/AVP/TCP;unicast", (0, 1)),
        ("RTP/AVP;unicast;client_port=4588-4589, RTP/AVP/TCP;interleaved=2-3", (2, 3)),
        ("RTP/AVP/TCP;interleaved=4", (4, 5)),
        ("RTP/AVP;unicast;client_port=4588-4589", None),
        ("RTP/AVP/UDP;unicast", None),
        ("RTP/AVP/TCP;multicast", None),
        ("RTP/AVP/TCP;interleaved=300-301", None),
        ("RTP/AVP/TCP;interleaved=1-1", None),
        ("", None),
    ],
)
def test_only_transports_within_the_connection_are_taken(
    transport: str, channels: tuple[int, int] | None
) -> None:
    assert channels_of(transport) == channels


def test_an_answer_says_how_long_it_is() -> None:
    assert response(200, 3, {"Session": "x"}, b"abc") == (
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: x\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert response(400, None, {}) == b"RTSP/1.0 400 Bad Request\r\n\r\n"
