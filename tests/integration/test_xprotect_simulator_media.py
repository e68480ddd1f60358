"""What XProtect's simulated recorder holds and shows, against the published tables: pictures, moves, forms.

Nothing of the client is used here: the simulator is the check on it, and this is the check on the simulator.
"""

import os
import struct
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from tests.fakes.xprotect import imageserver
from tests.fakes.xprotect.media import DatabaseFull, MediaDatabase, Stretch
from tests.fakes.xprotect.pictures import Coded, Group
from tests.fakes.xprotect.recording import Folder, Layout
from tests.fakes.xprotect.site import Camera, make_site
from tests.footage import Codec, cached_ts
from tests.services.barerecorder import (
    CAMERA,
    GENERIC,
    START,
    START_MS,
    Packet,
    connected,
    new_site,
    port,
    read_packet,
)

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


async def test_live_tells_a_status_and_each_picture_as_it_comes_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imageserver, "_LIVE_PACKAGE_S", 3600.0)  # however long ffmpeg takes meanwhile: one
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


def test_a_file_that_grew_after_it_was_taken_for_closed_is_recorded_to_its_end(tmp_path: Path) -> None:
    """A recorder that pauses for longer than a file is waited for."""
    name, start = "gate", datetime(2026, 11, 22, 9, tzinfo=UTC)
    site = make_site([Camera(id=CAMERA, name=name)])
    site.faults.database_delay_s = 0
    file = tmp_path / name / f"{start:%Y-%m-%d/%H-%M-%S}.ts"
    file.parent.mkdir(parents=True)
    whole = cached_ts(seconds=4).read_bytes()
    folder = Folder(site, tmp_path, Layout("{camera}/%Y-%m-%d/%H-%M-%S.ts"))

    def look(data: bytes, moment: datetime) -> list[int]:
        file.write_bytes(data)
        os.utime(file, (moment.timestamp(),) * 2)
        folder.look()
        return [each.end_ms - each.start_ms for each in site.media.sequences(CAMERA)]

    half = len(whole) // 2 // 188 * 188
    (early,) = look(whole[:half], start)
    assert early < 3960
    assert look(whole, start + timedelta(seconds=9)) == [3960]
    assert sum(len(each.pictures) for each in site.media.groups(CAMERA)) == 100, "none of them twice"
