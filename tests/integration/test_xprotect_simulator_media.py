"""The recorder's side of XProtect's simulator, by bare sockets against the published tables and examples.

Nothing of the client is used here: the simulator is the check on it, and this is the check on the simulator.
"""

import asyncio
import re
import struct
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

from tests.fakes.xprotect.media import DatabaseFull, MediaDatabase, Stretch
from tests.fakes.xprotect.pictures import Coded, Group, moment, ms
from tests.fakes.xprotect.recorderport import RecorderPort
from tests.fakes.xprotect.site import Camera, Site, guid, make_site
from tests.footage import Codec, cached_ts

CAMERA = guid("the camera")
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
START_MS = ms(START)
GENERIC = "application/x-genericbytedata-octet-stream"
RECORDING = "f9c62604-d0c5-4050-ae25-72de51639b14"
ACTION = "http://videoos.net/2/XProtectCSRecorderCommand"
MULTIPART = "<clientcapabilities><multipartdata>yes</multipartdata></clientcapabilities>"
PATIENCE_S = 30
FIELDS = ((0, 2), (2, 4), (6, 2), (8, 2), (10, 2), (12, 8), (20, 8), (28, 4))
"""Of a packet: offset and size."""


@dataclass(frozen=True)
class Image:
    """An image response as it came."""

    headers: Mapping[str, str]
    bodies: Sequence[bytes]

    @property
    def places(self) -> tuple[int, int, int]:
        """Prev, Current and Next, ms after the start of the footage."""
        prev, current, following = (int(self.headers[name]) for name in ("Prev", "Current", "Next"))
        return prev - START_MS, current - START_MS, following - START_MS


@dataclass(frozen=True)
class Packet:
    """GenericByteData, data type 0x0010."""

    kind: int
    length: int
    codec: int
    number: int
    flags: int
    sync_ms: int
    time_ms: int
    payload: bytes


@dataclass
class Socket:
    """One connection, read strictly by the published forms."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request_id: int = 0

    def ask(self, method: str, inner: str = "") -> None:
        self.request_id += 1
        self.writer.write(
            '<?xml version="1.0" encoding="UTF-8"?><methodcall>'
            f"<requestid>{self.request_id}</requestid><methodname>{method}</methodname>{inner}"
            "</methodcall>\r\n\r\n".encode()
        )

    async def text(self) -> str:
        """A document that ends in CR LF CR LF."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")

    async def image(self) -> Image:
        lines = (await self.text()).split("\r\n")
        assert lines[0] == "ImageResponse"
        headers = dict(line.split(": ") for line in lines[1:])
        boundary = re.search("boundary=([^;]+);", headers["Content-type"])
        if boundary is None:
            body = await self.reader.readexactly(int(headers["Content-length"]))
            assert await self.reader.readexactly(4) == b"\r\n\r\n"
            return Image(headers, [body])
        assert "Content-length" not in headers  # a multipart answer has no total
        return Image(headers, [body async for body in self._parts(boundary[1])])

    async def _parts(self, boundary: str) -> AsyncIterator[bytes]:
        while (line := await self.reader.readline()) != f"--{boundary}--\r\n".encode():
            assert line == f"--{boundary}\r\n".encode()
            headers = dict(each.split(": ") for each in (await self.text()).split("\r\n"))
            assert headers["Content-type"] == GENERIC
            yield await self.reader.readexactly(int(headers["Content-length"]))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"

    async def shows(self, method: str, inner: str = "") -> Image:
        self.ask(method, inner)
        image = await self.image()
        assert image.headers["RequestId"] == str(self.request_id)
        return image

    async def goto(self, after_ms: int, inner: str = "") -> Image:
        return await self.shows("goto", f"<time>{START_MS + after_ms}</time>{inner}")


OPENED: list[Socket] = []


def read_packet(data: bytes) -> Packet:
    """By the table of 3.6: offsets 0, 2, 6, 8, 10, 12, 20, 28, 32."""
    numbers = [int.from_bytes(data[at : at + size]) for at, size in FIELDS]
    kind, length, codec, number, flags, sync_ms, time_ms, reserved = numbers
    assert reserved == 0
    packet = Packet(kind, length, codec, number, flags, sync_ms, time_ms, data[32:])
    assert packet.length == len(data)
    return packet


def new_site(*starts: float, codec: Codec = "h264", bframes: int = 0) -> Site:
    """A site whose one camera has two seconds of footage, four groups of five, at each of the times."""
    site = make_site([Camera(id=CAMERA, name="the camera")])
    footage = cached_ts(seconds=2, rate=10, size="64x64", gop=5, bframes=bframes, codec=codec)
    for start in starts:
        site.media.add_ts(CAMERA, footage, START + timedelta(seconds=start))
    return site


def token_of(site: Site) -> str:
    oauth, _ = site.tokens.give_oauth("somebody")
    return site.tokens.give_corporate(oauth, str(uuid4()), "host & name")[0]


@asynccontextmanager
async def port(site: Site) -> AsyncIterator[RecorderPort]:
    """The site's recorder; what was `opened` at it is closed in the end."""
    async with asyncio.timeout(PATIENCE_S), RecorderPort(site) as listening:
        try:
            yield listening
        finally:
            while OPENED:
                writer = OPENED.pop().writer
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()


async def opened(site: Site) -> Socket:
    OPENED.append(Socket(*await asyncio.open_connection(site.host, site.recorder_port)))
    return OPENED[-1]


def ask_to_connect(
    socket: Socket, token: str, *, camera: UUID = CAMERA, inner: str = MULTIPART, jpeg: str = "no"
) -> None:
    """As in the example of 3.3."""
    parameters = escape(f"id={camera}&connectiontoken={token}")
    socket.ask(
        "connect",
        f"<username>a</username><password>a</password><cameraid>{camera}</cameraid>"
        f"<alwaysstdjpeg>{jpeg}</alwaysstdjpeg>{inner}<connectparam>{parameters}</connectparam>",
    )


async def connect(
    site: Site, *, token: str | None = None, camera: UUID = CAMERA, inner: str = MULTIPART, jpeg: str = "no"
) -> tuple[Socket, str]:
    """A new connection, and the answer to its `connect`."""
    socket = await opened(site)
    ask_to_connect(socket, token_of(site) if token is None else token, camera=camera, inner=inner, jpeg=jpeg)
    return socket, await socket.text()


async def connected(site: Site, *, inner: str = MULTIPART, jpeg: str = "no") -> Socket:
    socket, answer = await connect(site, inner=inner, jpeg=jpeg)
    assert "<connected>yes</connected><errorreason>Success</errorreason>" in answer
    return socket


# -- connecting


@pytest.mark.parametrize(
    ("token", "camera", "reason"),
    [("wrong", CAMERA, "Token invalid"), (None, guid("no camera"), "Unknown device")],
)
async def test_a_connection_that_is_refused_is_told_why_and_ended(
    token: str | None, camera: UUID, reason: str
) -> None:
    site = new_site(0)
    async with port(site):
        socket, answer = await connect(site, token=token, camera=camera)
        assert f"<connected>no</connected><errorreason>{reason}</errorreason>" in answer
        assert await socket.reader.read() == b""


async def test_a_disabled_camera_is_refused_and_so_is_everybody_by_order() -> None:
    site = new_site(0)
    async with port(site):
        site.faults.disabled_cameras = [str(CAMERA)]
        _, disabled = await connect(site)
        site.faults.set({"disabled_cameras": [], "refuse_connect": "Too many clients"})
        _, refused = await connect(site)
    assert "Device is disabled" in disabled
    assert "<errorreason>Too many clients</errorreason>" in refused


@pytest.mark.parametrize(
    "call",
    [
        "<methodcall>\r\n<requestid>1</requestid><methodname>connect</methodname></methodcall>",
        "<methodcall><methodname>connect</methodname></methodcall>",
        "<methodcall><requestid>1</requestid><methodname>next</methodname></methodcall>",
        "<methodcall><requestid>1</requestid><methodname>connect</methodname></methodcall>",
        "<methodcall><requestid>1",
    ],
)
async def test_a_call_that_the_material_does_not_allow_is_complained_of_and_ends_the_connection(
    call: str,
) -> None:
    site = new_site(0)
    async with port(site) as listening:
        socket = await opened(site)
        socket.writer.write(call.encode() + b"\r\n\r\n")
        assert await socket.reader.read() == b""
        assert len(listening.images.complaints) == 1


# -- pictures


async def test_goto_answers_a_whole_group_with_the_headers_of_the_tables() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        image = await socket.goto(700)
    assert image.places == (0, 500, 1000)
    packets = [read_packet(body) for body in image.bodies]
    assert {packet.kind for packet in packets} == {0x0010}
    assert {packet.codec for packet in packets} == {0x000A}
    assert [packet.flags for packet in packets] == [1, 0, 0, 0, 0]
    assert {packet.sync_ms for packet in packets} == {START_MS + 500}
    assert [packet.time_ms - START_MS for packet in packets] == [500, 600, 700, 800, 900]
    assert [packet.number for packet in packets] == [0, 1, 2, 3, 4]
    group = site.media.groups(CAMERA)[1]
    assert [packet.payload for packet in packets] == [picture.data for picture in group.pictures]


@pytest.mark.parametrize(("codec", "number"), [("h264", 0x000A), ("hevc", 0x000E)])
async def test_all_pictures_in_a_row_decode_to_as_many_frames_as_were_recorded(
    codec: Codec, number: int
) -> None:
    site = new_site(0, codec=codec, bframes=2)
    async with port(site):
        socket = await connected(site)
        images = [await socket.shows("begin")]
        while images[-1].headers["Next"] != images[-1].headers["Current"]:
            images.append(await socket.shows("next"))
    packets = [read_packet(body) for image in images for body in image.bodies]
    assert {packet.codec for packet in packets} == {number}
    assert decoded_frames(b"".join(packet.payload for packet in packets), codec) == 20


def decoded_frames(stream: bytes, codec: Codec) -> int:
    """By ffmpeg, which must find nothing to complain of."""
    argv = ["ffmpeg", "-nostdin", "-v", "warning", "-xerror", "-f", codec, "-i", "pipe:0"]
    done = subprocess.run([*argv, "-f", "framecrc", "-"], input=stream, capture_output=True, check=True)
    assert done.stderr == b""
    return sum(not line.startswith(b"#") for line in done.stdout.splitlines())


async def test_b_pictures_come_in_decoding_order_with_times_of_arrival_or_of_presentation() -> None:
    site = new_site(0, bframes=2)
    async with port(site):
        socket = await connected(site)
        bunched = [read_packet(body).time_ms - START_MS for body in (await socket.goto(0)).bodies]
        site.assumptions.bunched_times = False
        exact = [read_packet(body).time_ms - START_MS for body in (await socket.goto(0)).bodies]
    assert exact == [0, 300, 100, 200, 400]
    assert bunched == [0, 300, 301, 302, 400]


async def test_a_picture_comes_with_its_delimiter_or_without() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        with_it = [read_packet(body).payload for body in (await socket.goto(0)).bodies]
        site.assumptions.access_unit_delimiters = False
        without = [read_packet(body).payload for body in (await socket.goto(0)).bodies]
    delimiter = b"\0\0\0\1\x09\xf0"
    assert [payload.removeprefix(delimiter) for payload in with_it] == without
    assert all(payload.startswith(b"\0\0\0\1" if at == 0 else b"\0\0") for at, payload in enumerate(without))


# -- moving


async def test_goto_into_a_gap_answers_the_last_group_before_it() -> None:
    site = new_site(0, 60)
    async with port(site):
        socket = await connected(site)
        assert (await socket.goto(30_000)).places == (1000, 1500, 60_000)
        site.assumptions.gap_goto = "after"
        assert (await socket.goto(30_000)).places == (1500, 60_000, 60_500)


async def test_goto_before_all_footage_answers_the_first_group_or_nothing() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        assert (await socket.goto(-1)).places == (0, 0, 500)
        site.assumptions.before_first = "empty"
        nothing = await socket.goto(-1)
    assert (nothing.headers["Current"], nothing.headers["Content-length"]) == ("0", "0")


async def test_next_at_the_end_of_the_database_repeats_the_last_group() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        last = await socket.goto(99_000)
        again = await socket.shows("next")
        assert last.places == again.places == (1000, 1500, 1500)
        assert [read_packet(one).payload for one in last.bodies] == [
            read_packet(one).payload for one in again.bodies
        ]
        site.assumptions.end_repeats = False
        assert (await socket.shows("next")).headers["Content-length"] == "0"
        site.assumptions.end_next = "asked"
        assert (await socket.goto(99_000)).places == (1000, 1500, 99_000)


async def test_every_method_moves_as_its_name_says() -> None:
    site = new_site(0, 60, 120)
    async with port(site):
        socket = await connected(site)
        seen = [(await socket.goto(60_700)).places[1]]
        for methods in (
            ("previous", "previous", "nextsequence", "nextsequence", "nextsequence"),
            ("end", "previoussequence", "begin", "previous", "previoussequence", "next"),
        ):
            seen += [(await socket.shows(method)).places[1] for method in methods]
    assert seen == [60_500, 60_000, 1500, 60_000, 120_000, 120_000, 121_500, 60_000, 0, 0, 0, 500]


async def test_an_empty_database_answers_zeroes_and_no_body() -> None:
    site, emptied = new_site(), new_site(0)
    emptied.faults.database_empty = True
    for each in (site, emptied):
        async with port(each):
            socket = await connected(each)
            for method in ("begin", "next", "end", "nextsequence"):
                image = await socket.shows(method)
                names = ("Prev", "Current", "Next", "Content-length")
                assert [image.headers[name] for name in names] == ["0"] * 4


async def test_requests_sent_at_once_are_answered_in_their_order() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        socket.ask("goto", f"<time>{START_MS}</time>")
        for _ in range(3):
            socket.ask("next")
        assert [(await socket.image()).places[1] for _ in range(4)] == [0, 500, 1000, 1500]


async def test_new_footage_is_readable_only_after_a_while() -> None:
    site = new_site()
    now = 100.0
    site.media.clock = lambda: now
    site.faults.database_delay_s = 1.0
    site.media.add_ts(CAMERA, cached_ts(seconds=2, rate=10, size="64x64", gop=5), START)
    async with port(site):
        socket = await connected(site)
        assert (await socket.shows("begin")).headers["Content-length"] == "0"
        assert not site.media.sequences(CAMERA)
        now += 1.0
        assert (await socket.shows("begin")).places == (0, 0, 500)


# -- forms of an answer


async def test_key_pictures_alone_come_when_asked_for() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        image = await socket.goto(0, "<keyframesonly>yes</keyframesonly>")
        assert [read_packet(body).flags for body in image.bodies] == [1]
        site.assumptions.single_alone = True
        alone = await socket.goto(0, "<keyframesonly>yes</keyframesonly>")
    assert alone.headers["Content-type"] == GENERIC
    assert read_packet(alone.bodies[0]).payload == read_packet(image.bodies[0]).payload


async def test_a_group_as_one_body_is_its_packets_in_a_row_or_in_a_wrapper() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        parts = [read_packet(body).payload for body in (await socket.goto(0)).bodies]
        site.assumptions.multipart = False
        (row,) = (await socket.goto(0)).bodies
        site.assumptions.wrapper_packet = True
        (wrapper,) = (await socket.goto(0)).bodies
    assert [packet.payload for packet in in_a_row(row)] == parts
    assert struct.unpack_from(">HI", wrapper) == (0xFEF0, len(wrapper))
    assert [packet.payload for packet in in_a_row(wrapper[16:])] == parts


def in_a_row(data: bytes) -> Sequence[Packet]:
    packets = []
    while data:
        length = int.from_bytes(data[2:6])
        packets.append(read_packet(data[:length]))
        data = data[length:]
    return packets


async def test_who_did_not_ask_for_parts_gets_the_legacy_block() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site, inner="")
        (asked,) = (await socket.goto(0)).bodies
        site.faults.video_block = True
        faulty = await connected(site)
        (block,) = (await faulty.goto(0)).bodies
    assert asked == block
    assert struct.unpack_from(">H", block) == (0x000A,)
    assert block[36:] == b"".join(picture.data for picture in site.media.groups(CAMERA)[0].pictures)


async def test_jpeg_comes_when_asked_for_and_under_a_false_type_by_order() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site, jpeg="yes")
        image = await socket.goto(0)
        site.faults.wrong_picture_type = True
        false = await socket.goto(0)
    assert (image.headers["Content-type"], false.headers["Content-type"]) == ("image/jpeg", GENERIC)
    assert image.bodies[0][:2] == false.bodies[0][:2] == b"\xff\xd8"


async def test_header_names_and_further_headers_vary() -> None:
    site = new_site(0)
    site.assumptions.header_case, site.assumptions.privacy_mask = "lower", True
    async with port(site):
        socket = await connected(site)
        socket.ask("begin")
        lines = (await socket.text()).split("\r\n")
    assert [line.partition(":")[0] for line in lines] == [
        "ImageResponse", "requestid", "prev", "current", "next", "content-type", "privacymask"
    ]  # fmt: skip


async def test_alarms_are_the_sequences_in_both_forms_of_the_question() -> None:
    site = new_site(0, 60)
    async with port(site):
        socket = await connected(site)
        around = (
            f"<centertime>{START_MS + 60_000}</centertime><timespan>10000</timespan><numalarms>9</numalarms>"
        )
        between = f"<starttime>{START_MS}</starttime><endtime>{START_MS + 70_000}</endtime>"
        told = []
        for inner in (around, between, between + "<numalarms>1</numalarms>"):
            socket.ask("alarms", inner)
            alarms = ElementTree.fromstring(await socket.text()).iter("alarm")
            told.append([int(one.attrib["starttime"]) - START_MS for one in alarms])
    assert told == [[60_000], [0, 60_000], [0]]


async def test_live_tells_a_status_and_each_picture_as_it_comes_until_it_is_stopped() -> None:
    site = new_site(0)
    async with port(site):
        socket = await connected(site)
        socket.ask("live", "<sendinitialimage>yes</sendinitialimage>")
        status = ElementTree.fromstring(await socket.text())
        old = [await socket.image() for _ in range(5)]
        footage = cached_ts(seconds=0.5, rate=10, size="64x64", gop=5)
        site.media.add_ts(CAMERA, footage, START + timedelta(seconds=2))
        new = [await socket.image() for _ in range(5)]
        socket.ask("stop")
        after = await socket.shows("begin")
    assert status.tag == "livepackage"
    assert [item.attrib for item in status.iter("statusitem")] == [{"id": "5", "value": "0"}]
    assert [image.places[1] for image in old + new] == [*range(1500, 2500, 100)]
    assert {read_packet(image.bodies[0]).sync_ms - START_MS for image in new} == {2000}
    assert after.places[1] == 0


# -- tokens


@pytest.mark.parametrize("manner", ["closed", "refused"])
async def test_a_token_that_expires_in_mid_session_ends_it_unless_it_is_renewed(manner: str) -> None:
    site = new_site(0)
    site.assumptions.set({"expired_token": manner})
    async with port(site):
        socket = await connected(site)
        assert (await socket.shows("begin")).bodies
        site.faults.expire_corporate_tokens = True
        assert not site.tokens.corporate_is_good("any")  # it is done by the next question
        fresh = escape(f"id={CAMERA}&connectiontoken={token_of(site)}")
        socket.ask("connectupdate", f"<connectparam>{fresh}</connectparam>")
        assert "<connected>yes</connected>" in await socket.text()
        assert (await socket.shows("next")).bodies
        site.faults.expire_corporate_tokens = True
        socket.ask("next")
        if manner == "refused":
            assert "<connected>no</connected><errorreason>Token expired" in await socket.text()
        else:
            assert await socket.reader.read() == b""


# -- faults


async def whole_session(site: Site) -> bytes:
    """All that a session of the same questions answers, but for the token."""
    socket = await opened(site)
    ask_to_connect(socket, token_of(site))
    socket.ask("begin", "<keyframesonly>yes</keyframesonly>")
    socket.ask("alarms", f"<starttime>{START_MS}</starttime><endtime>{START_MS + 1}</endtime>")
    socket.writer.write_eof()
    return await socket.reader.read()


async def test_answers_split_at_every_byte_are_the_same_answers() -> None:
    site = new_site(0)
    async with port(site):
        plain = await whole_session(site)
        site.faults.split_every_byte = True
        split = await whole_session(site)
        site.faults.set({"split_every_byte": False, "split_at": 3})
        in_two = await whole_session(site)
    assert plain.count(b"ImageResponse") == plain.count(b"<alarm ") == 1
    assert plain == split == in_two


async def test_a_connection_ends_after_so_many_bytes_or_is_cut_by_order() -> None:
    site = new_site(0)
    async with port(site):
        plain = await whole_session(site)
        site.faults.half_close_after = 300
        assert await whole_session(site) == plain[:300]
        site.faults.half_close_after = None
        site.faults.drop_next = 1
        cut = await whole_session(site)
        assert plain.startswith(cut)
        assert cut.count(b"ImageResponse") == 1
        assert await whole_session(site) == plain  # it was only the next one


@pytest.mark.parametrize("fault", ["half_close_after", "hang_after"])
async def test_a_connection_that_ends_half_or_hangs_is_still_listened_to(fault: str) -> None:
    site = new_site(0)
    site.faults.set({fault: 10})
    async with port(site) as listening:
        socket = await opened(site)
        ask_to_connect(socket, token_of(site))
        assert len(await socket.reader.readexactly(10)) == 10
        if fault == "half_close_after":
            assert await socket.reader.read() == b""
        socket.ask("begin")
        while not site.calls["imageserver:begin"]:
            await asyncio.sleep(0.01)
        assert listening.connections == 1
        assert socket.reader.at_eof() == (fault == "half_close_after")


async def test_a_wrong_length_is_announced_by_order() -> None:
    site = new_site(0)
    site.assumptions.multipart = False
    async with port(site):
        socket = await connected(site)
        right = int((await socket.goto(0)).headers["Content-length"])
        site.faults.wrong_content_length = 7
        socket.ask("begin")
        assert f"Content-length: {right + 7}" in await socket.text()


@pytest.mark.parametrize("away", ["refused", "unavailable", "silent"])
async def test_a_recorder_that_is_away_answers_nobody(away: str) -> None:
    site = new_site(0)
    site.faults.set({"recorder": away})
    async with port(site):
        socket = await opened(site)
        socket.ask("connect")
        if away == "silent":
            socket.writer.write_eof()
        try:
            assert await socket.reader.read() == b""
        except ConnectionResetError:
            assert away != "silent"


# -- what the database holds


def test_retention_drops_what_is_old_and_leaves_what_is_locked() -> None:
    site = new_site(0, 60, 120)
    lock = uuid4()
    site.media.lock(lock, [CAMERA], START_MS + 60_600, START_MS + 60_700)
    day = timedelta(days=1)
    assert site.media.purge(START + day + timedelta(seconds=100), day) == 7
    assert site.media.sequences(CAMERA) == [
        Stretch(START_MS + 60_500, START_MS + 60_900),
        Stretch(START_MS + 120_000, START_MS + 121_900),
    ]
    assert site.media.locked_bytes == site.media.groups(CAMERA)[0].size
    assert site.media.unlock(lock)
    assert site.media.purge(START + 2 * day, day) == 5
    assert site.media.used_bytes == 0
    assert not site.media.unlock(lock)


def test_a_pause_of_more_than_three_seconds_ends_a_sequence() -> None:
    site = new_site(0, 4.9, 9.9)
    ends = [(one.start_ms - START_MS, one.end_ms - START_MS) for one in site.media.sequences(CAMERA)]
    assert ends == [(0, 6800), (9900, 11_800)]
    site.assumptions.sequences_gap_ms = 2000
    assert len(site.media.sequences(CAMERA)) == 3
    assert len(site.media.sequences(CAMERA, START_MS + 1900, START_MS + 4900)) == 0


def test_what_is_held_already_is_skipped_or_kept_twice() -> None:
    site = new_site(0, 0, 0.25)
    # The second time was skipped; of what is shifted, only the last group has moments that were not held.
    starts = [group.start_ms - START_MS for group in site.media.groups(CAMERA)]
    assert starts == [0, 500, 1000, 1500, 1750]
    site.assumptions.retrieval_over_footage = "duplicate"
    before = site.media.used_bytes
    footage = cached_ts(seconds=2, rate=10, size="64x64", gop=5)
    assert site.media.add_ts(CAMERA, footage, START) == 4
    assert site.media.used_bytes > before


def test_a_full_database_overwrites_the_oldest_and_never_what_is_locked() -> None:
    media = MediaDatabase(max_bytes=250)
    for second in range(4):
        media.add(CAMERA, "h264", [Coded(second * 1000, True, bytes(100))])
    assert [group.start_ms for group in media.groups(CAMERA)] == [2000, 3000]
    media.lock(uuid4(), [CAMERA], 0, 10_000)
    with pytest.raises(DatabaseFull):
        media.add(CAMERA, "h264", [Coded(9000, True, bytes(100))])
    assert [group.start_ms for group in media.groups(CAMERA)] == [2000, 3000]


def test_pictures_before_the_first_key_picture_are_not_recorded() -> None:
    media = MediaDatabase()
    pictures = [Coded(at, at == 200, b"x") for at in (0, 100, 200, 300)]
    assert media.add(CAMERA, "h264", pictures) == 1
    assert media.groups(CAMERA) == [Group("h264", tuple(pictures[2:]))]


# -- RecorderCommandService


async def soap(site: Site, method: str, inner: str, action: str | None = None, prefix: str = "") -> str:
    """The answer to a call, with its status in front."""
    name, names = (f"{prefix}:{method}", f"xmlns:{prefix}") if prefix else (method, "xmlns")
    body = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<{name} {names}="{ACTION}">{inner}</{name}></s:Body></s:Envelope>'
    )
    socket = await opened(site)
    socket.writer.write(
        "POST /RecorderCommandService/RecorderCommandService.asmx HTTP/1.1\r\nHost: recorder\r\n"
        f"Content-Type: text/xml; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        f'SOAPAction: "{action or f"{ACTION}/{method}"}"\r\n\r\n{body}'.encode()
    )
    head, _, document = (await socket.reader.read()).decode().partition("\r\n\r\n")
    return head.split(" ")[1] + " " + document


def asking(site: Site, start_s: float, end_s: float, count: int, kind: str = RECORDING) -> str:
    times = [moment(START_MS + round(at * 1000)).isoformat() for at in (start_s, end_s)]
    return (
        f"<token>{token_of(site)}</token><deviceId>{CAMERA}</deviceId><sequenceType>{kind}</sequenceType>"
        f"<minTime>{times[0]}</minTime><maxTime>{times[1]}</maxTime><maxCount>{count}</maxCount>"
    ).replace("host & name", "host &amp; name")


def begins(answer: str) -> Sequence[float]:
    """Seconds after the start of the footage."""
    assert answer.startswith("200 "), answer
    return [
        (datetime.fromisoformat(one) - START).total_seconds()
        for one in re.findall("<TimeBegin>(.*?)</TimeBegin>", answer)
    ]


async def test_sequences_are_told_onward_and_in_pages() -> None:
    site = new_site(0, 60, 120, 180)
    async with port(site):
        whole = await soap(site, "SequencesGet", asking(site, -10, 500, 100))
        page = await soap(site, "SequencesGet", asking(site, -10, 500, 3))
        rest = await soap(site, "SequencesGet", asking(site, 122, 500, 3))
        none = await soap(site, "SequencesGet", asking(site, 10, 50, 3))
        site.assumptions.sequences_clipped = True
        clipped = await soap(site, "SequencesGet", asking(site, 61, 121, 9))
    assert [begins(each) for each in (whole, page, rest)] == [[0, 60, 120, 180], [0, 60, 120], [180]]
    assert "<SequencesGetResult />" in none
    assert begins(clipped) == [61, 120]
    assert "<TimeTrigged>2026-11-22T09:00:00.0000000Z</TimeTrigged>" in whole
    assert "<TimeEnd>2026-11-22T09:00:01.9000000Z</TimeEnd>" in whole


async def test_the_types_of_sequences_are_told() -> None:
    site = new_site()
    async with port(site):
        token = escape(token_of(site))
        asked = f"<token>{token}</token><deviceId>{CAMERA}</deviceId>"
        answer = await soap(site, "SequencesGetTypes", asked)
    assert f"<SequenceType><Id>{RECORDING}</Id><Name>RecordingSequence</Name></SequenceType>" in answer
    assert answer.count("<SequenceType>") == 3


async def test_soap_faults_name_what_is_wrong() -> None:
    site = new_site(0)
    async with port(site):
        good = asking(site, 0, 1, 1)
        bad = re.sub("<token>.*</token>", "<token>wrong</token>", good)
        absent = re.sub("<token>.*</token>", "<token></token>", good)
        assert "<SubErrorNumber>2</SubErrorNumber>" in await soap(site, "SequencesGet", bad)
        assert "<SubErrorNumber>1</SubErrorNumber>" in await soap(site, "SequencesGet", absent)
        assert "SOAPAction" in await soap(site, "SequencesGet", good, action="other")
        assert "namespace must be the default" in await soap(site, "SequencesGet", good, prefix="p")
        assert "<ErrorNumber>40000</ErrorNumber>" in await soap(site, "StartRecording", good)
        site.faults.sequences_fault = 777
        answer = await soap(site, "SequencesGet", good)
    assert answer.startswith("500 ")
    assert "<ErrorNumber>777</ErrorNumber>" in answer


async def test_anything_else_over_http_is_not_found() -> None:
    site = new_site()
    async with port(site):
        socket = await opened(site)
        for _ in range(2):  # on the same connection
            socket.writer.write(b"GET / HTTP/1.1\r\nHost: recorder\r\n\r\n")
            assert (await socket.text()).startswith("HTTP/1.1 404 ")
