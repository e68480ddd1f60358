"""The ONVIF device hands over what was recorded: real footage, to the simulator's driver and to ffmpeg."""

import asyncio
import json
import re
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest

from cctv_storaged.journal.adoption import FoundCopy, FoundSegment
from cctv_storaged.model import BackendKind, Camera, TimeSpan
from cctv_storaged.mpegts.packets import PLAIN as PLAIN_PACKETS
from cctv_storaged.mpegts.packets import closing_window
from cctv_storaged.mpegts.track import units_at
from cctv_storaged.onvif.rtsp import clock_of, read_range
from tests.fakes.xprotect import site as xprotect
from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.digest import DigestAuth
from tests.fakes.xprotect.faults import Faults
from tests.fakes.xprotect.media import MediaDatabase
from tests.fakes.xprotect.onvifpull import pull
from tests.fakes.xprotect.pictures import Coded, ms, pictures_of_ts
from tests.fakes.xprotect.rtpunits import Packet, Stamp
from tests.fakes.xprotect.site import Site
from tests.fakes.xprotect.tasks import RetrievalFailed
from tests.fakes.xprotect.tokens import Tokens
from tests.footage import Recipe, make_ts
from tests.integration.api.harness import description, running, until
from tests.services.onvif import GATE, PASSWORD, START, USER, Device, after, device, recorded
from tests.services.rtspclient import AT_ONCE, RtspClient, rtsp_client

PLAIN: Recipe = {"seconds": 2}
SECOND: Recipe = {"seconds": 2, "ts_offset_s": 2}
B_PICTURES: Recipe = {"seconds": 2, "bframes": 2}
HEVC: Recipe = {"seconds": 2, "codec": "hevc", "bframes": 2}
_UNITS = re.compile(rb"\x00\x00\x01")


def site_of(at: Device, *, kind: str = "wsse", password: str = PASSWORD, live: bool = False) -> Site:
    assumptions = Assumptions(
        onvif_authentication="digest" if kind == "digest" else "wsse", onvif_opens_live=live
    )
    faults = Faults()
    camera = xprotect.Camera(
        id=GATE,
        name="Gate",
        address=at.url,
        device_user=USER,
        device_password=password,
        device_channel=str(GATE),
    )
    return Site(
        cameras=[camera],
        faults=faults,
        assumptions=assumptions,
        media=MediaDatabase(faults=faults, assumptions=assumptions),
        tokens=Tokens(faults=faults, assumptions=assumptions),
    )


async def pulled(at: Device, start: datetime, end: datetime, **facts: bool | str) -> list[Coded]:
    """What the simulator's database holds after a retrieval, in decoding order."""
    site = site_of(at, **facts)  # type: ignore[arg-type]  # its own keywords
    await pull(site, site.cameras[0], start, end)
    return [picture for group in site.media.groups(GATE) for picture in group.pictures]


async def expected(*files: tuple[Path, datetime]) -> list[Coded]:
    """By ffmpeg and ffprobe: every picture of the files with its time."""
    read = [await asyncio.to_thread(pictures_of_ts, path, start) for path, start in files]
    return [picture for _, pictures in read for picture in pictures]


def times(pictures: list[Coded]) -> list[tuple[int, bool]]:
    return [(picture.time_ms, picture.key) for picture in pictures]


def coded(pictures: list[Coded]) -> list[list[bytes]]:
    """The coded units of each picture, without access unit delimiters."""
    units = [[unit.rstrip(b"\0") for unit in _UNITS.split(picture.data)] for picture in pictures]
    return [[unit for unit in each if unit and unit[:1] not in (b"\x09", b"\x46")] for each in units]


@pytest.mark.parametrize("kind", ["wsse", "digest"])
async def test_a_vms_retrieves_a_span_across_a_gap_with_every_picture_at_its_time(
    tmp_path: Path, kind: str
) -> None:
    async with running(tmp_path) as host:
        first = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        second = await recorded(host, "gate/b.ts", after(2), recipe=SECOND)
        third = await recorded(host, "gate/c.ts", after(120), recipe=B_PICTURES)
        async with device(host) as at:
            held = await pulled(at, START, after(180), kind=kind, live=True)
        wanted = await expected((first, after(0)), (second, after(2)), (third, after(120)))
    assert len(wanted) == 150
    assert times(held) == times(wanted)
    assert coded(held) == coded(wanted)


async def test_a_camera_that_changed_its_codec_is_retrieved_in_both(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        second = await recorded(host, "gate/b.ts", after(10), recipe=HEVC)
        async with device(host) as at:
            held = await pulled(at, START, after(60))
        wanted = await expected((first, after(0)), (second, after(10)))
    assert times(held) == times(wanted)
    assert coded(held) == coded(wanted)


async def test_a_codec_used_only_in_between_is_retrieved_as_well(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        second = await recorded(host, "gate/b.ts", after(10), recipe=HEVC)
        third = await recorded(host, "gate/c.ts", after(20), recipe=PLAIN)
        async with device(host) as at:
            held = await pulled(at, START, after(60))
        wanted = await expected((first, after(0)), (second, after(10)), (third, after(20)))
    assert times(held) == times(wanted)
    assert coded(held) == coded(wanted)


async def test_only_codecs_that_were_used_are_described(tmp_path: Path) -> None:
    """Players believe the last one, whatever comes."""
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        await recorded(host, "yard/a.ts", after(0), camera=UUID(int=4), recipe=HEVC)
        async with device(host) as at:
            for camera, line in (
                (GATE, b"m=video 0 RTP/AVP 96\r\n"),
                (UUID(int=4), b"m=video 0 RTP/AVP 97\r\n"),
            ):
                async with rtsp_client(at.rtsp(camera), USER, PASSWORD) as client:
                    assert line in (await client.ask("DESCRIBE")).body


async def test_a_codec_that_comes_after_the_description_is_a_gap_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        async with device(host) as at, rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            await client.set_up()
            await recorded(host, "gate/b.ts", after(2), recipe=HEVC)
            await recorded(host, "gate/c.ts", after(4), recipe={"seconds": 2, "ts_offset_s": 4})
            assert (await client.play(Range="npt=0-", **AT_ONCE)).status == 200
            packets = await client.pictures()
    assert len(packets) == 100
    assert [at for at, each in enumerate(packets) if stamp(each).end] == [49, 99]
    assert [at for at, each in enumerate(packets) if stamp(each).discontinuity] == [50]
    assert [line for line in caplog.messages if "leaves out" in line] == [
        "a replay leaves out hevc: its client was not told of it"
    ]


async def test_what_only_the_store_has_is_retrieved_from_there(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        path = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        wanted = await expected((path, after(0)))
        host.deliver()
        reply = await host.get(f"/segments/{GATE}", start="2026-11-20T00:00:00Z", end="2026-11-21T00:00:00Z")
        await host.delivered(reply.json["segments"][0])
        path.unlink()
        async with device(host) as at:
            held = await pulled(at, START, after(60))
    assert times(held) == times(wanted)


async def test_what_the_vms_alone_holds_is_neither_told_nor_given_to_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        path = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        for camera, start in ((GATE, after(10)), (UUID(int=9), after(0))):
            theirs = FoundSegment(
                id=UUID(int=camera.int // 2),
                camera=Camera(id=camera, name=f"c{camera.int % 7}", folder=str(camera)),
                span=TimeSpan(start, start + (after(2) - START)),
                source=None,
                size_bytes=5,
                sha256=bytes(32),
                copies=(FoundCopy(backend=BackendKind.MILESTONE, path="milestone://s/c/1-2"),),
            )
            assert await host.journal.adoption.adopt(theirs, after(0))
        async with device(host) as at:
            held = await pulled(at, START, after(60))
            assert await pulled(at, after(9), after(60)) == []
            async with rtsp_client(at.rtsp(UUID(int=9)), USER, PASSWORD) as client:
                assert (await client.ask("DESCRIBE")).status == 404
        wanted = await expected((path, after(0)))
    assert times(held) == times(wanted)


async def test_a_segment_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        second = await recorded(host, "gate/b.ts", after(2), recipe=SECOND)
        third = await recorded(host, "gate/c.ts", after(4), recipe={"seconds": 2, "ts_offset_s": 4})
        second.unlink()
        async with device(host) as at:
            held = await pulled(at, START, after(60))
            packets = await sent(at, "clock=20261120T080000Z-")
        wanted = await expected((first, after(0)), (third, after(4)))
    assert times(held) == times(wanted)
    assert [index for index, packet in enumerate(packets) if stamp(packet).discontinuity] == [50]


@pytest.mark.parametrize("kind", ["wsse", "digest"])
async def test_a_wrong_password_retrieves_nothing(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        async with device(host) as at:
            with pytest.raises(RetrievalFailed):
                await pulled(at, START, after(60), kind=kind, password="guess")


# RTSP by itself


def stamp(packet: Packet) -> Stamp:
    assert packet.stamp is not None
    return packet.stamp


async def sent(at: Device, span: str, **headers: str) -> list[Packet]:
    async with rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        answer = await client.play(Range=span, **(AT_ONCE | headers))
        assert answer.status == 200, answer
        return await client.pictures()


def shown_ms(packets: list[Packet]) -> list[int]:
    return [stamp(packet).time_ms - ms(START) for packet in packets]


async def test_the_marks_tell_key_pictures_gaps_and_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        await recorded(host, "gate/b.ts", after(60), recipe=SECOND)
        async with device(host) as at:
            whole = await sent(at, "clock=20261120T080000.250Z-")
            part = await sent(at, "clock=20261120T080000.250Z-20261120T080101Z")
    assert [at for at, each in enumerate(whole) if stamp(each).clean_point] == [0, 25, 50, 75]
    assert [at for at, each in enumerate(whole) if stamp(each).end] == [49, 99]
    assert [at for at, each in enumerate(whole) if stamp(each).discontinuity] == [50]
    assert [at for at, each in enumerate(whole) if stamp(each).terminal] == [99]
    assert [at for at, each in enumerate(part) if stamp(each).end] == [49]  # the footage goes on
    assert (len(part), stamp(part[-1]).terminal) == (69, True)
    ticks = [(b.timestamp - a.timestamp) % 2**32 for a, b in pairwise(whole)]
    assert ticks == [3600] * 49 + [90_000 * 58 + 3600] + [3600] * 49


BEGINS = (
    ("clock=20261120T080000.250Z-", 0),
    ("clock=20261120T080001.249Z-", 0),
    ("clock=20261120T080001.250Z-", 1000),
    ("clock=20261120T080002.100Z-", 1000),
    ("clock=20261120T080030Z-", 60_000),
    ("clock=20261120T000000Z-", 0),
    ("npt=0-", 0),
    ("clock=20261120T080201.350Z-", 121_000),
)
M2TS: Recipe = {"seconds": 2, "muxer_options": ("-mpegts_m2ts_mode", "1")}


async def test_it_begins_with_the_key_picture_before_or_behind_a_gap(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=B_PICTURES)
        await recorded(host, "gate/b.ts", after(60), recipe=PLAIN)
        await recorded(host, "gate/c.ts", after(120), recipe=M2TS)
        async with device(host) as at, rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            for span, first_ms in BEGINS:
                answer = await client.play(Range=span, **AT_ONCE)
                packets = await client.pictures()
                shown = shown_ms(packets)
                assert (span, shown[0], min(shown)) == (span, first_ms, first_ms)
                assert answer.headers["range"] == f"clock={clock_of(after(first_ms / 1000))}-"
                told = re.fullmatch(r"url=\S+/video;seq=(\d+);rtptime=(\d+)", answer.headers["rtp-info"])
                assert told is not None
                assert (int(told[1]), int(told[2])) == (packets[0].number, packets[0].timestamp)
            late = await client.play(Range="clock=20261120T090000Z-", **AT_ONCE)
            assert late.status == 457


def cut_in_its_group(path: Path, other: Path, seconds: float) -> None:
    """A recorder that cuts by the clock: the second file begins between two key pictures."""
    data = path.read_bytes()
    window = closing_window(data, PLAIN_PACKETS, 0)
    units = list(units_at(window, 0x100))
    first = min(unit.presented for _, unit in units)
    cut = next(at for at, unit in units if unit.presented - first >= seconds * 90_000)
    other.write_bytes(data[cut:])
    path.write_bytes(data[:cut])


async def test_a_segment_that_begins_within_a_group_is_led_to_by_the_one_before(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.recordings.mkdir(exist_ok=True)
        first = make_ts(host.recordings, name="gate/a.ts", seconds=4, gop=100)
        whole = await expected((first, after(0)))
        second = first.with_name("b.ts")
        cut_in_its_group(first, second, 2)
        for path, at in ((first, 0), (second, 2)):
            body = description(path, camera=GATE, start=after(at), seconds=2)
            reply = await host.post("/segments", body)
            assert reply.status == 201, reply
        async with device(host) as here:
            packets = await sent(here, "clock=20261120T080003.250Z-")
    assert shown_ms(packets) == [picture.time_ms - ms(START) for picture in whole]


async def test_it_pauses_goes_on_and_goes_elsewhere_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe={"seconds": 4, "bitrate": "4M"})
        async with device(host) as at, rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            await client.play(Range="clock=20261120T080000.250Z-")  # at the recording's own pace
            paused = await client.ask("PAUSE")
            assert paused.status == 200
            client.packets.clear()
            start = read_range(paused.headers["range"]).start
            assert isinstance(start, datetime)
            second = (start - START) // timedelta(seconds=1)  # a key picture begins each
            played = await client.play(**AT_ONCE)  # from where it stands
            assert played.headers["range"] == f"clock={clock_of(after(second))}-"
            assert len(await client.pictures()) == 100 - 25 * second
            answer = await client.play(
                Range="clock=20261120T080003.250Z-", Immediate="yes", Frames="intra", **AT_ONCE
            )
            packets = await client.pictures()
            assert (answer.status, shown_ms(packets)) == (200, [3000])
            assert stamp(packets[0]).discontinuity and stamp(packets[0]).cseq == client.cseq & 0xFF
            assert (await client.ask("TEARDOWN")).status == 200
            assert (await client.ask("PLAY", Range="npt=0-")).status == 454


async def test_key_pictures_alone_are_sent_on_request(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe={"seconds": 4, "bframes": 2})
        async with device(host) as at:
            packets = await sent(at, "clock=20261120T080000.250Z-", Frames="intra")
            sparse = await sent(at, "clock=20261120T080000.250Z-", Frames="intra/2000")
    assert shown_ms(packets) == [0, 1000, 2000, 3000]
    assert shown_ms(sparse) == [0, 2000]


async def ffprobe(uri: str) -> list[dict[str, str]]:
    argv = ["ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-show_packets", "-of", "json", uri]
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    packets: list[dict[str, str]] = json.loads(output).get("packets", [])
    return packets


LONG: Recipe = {"seconds": 60}
"""Played at its own pace it lasts for longer than a test needs for anything."""
SHORT: Recipe = {"seconds": 1, "bframes": 2, "gop": 12}
"""ffmpeg asks for the recording's own pace."""


@pytest.mark.parametrize("recipe", [SHORT, SHORT | {"codec": "hevc"}], ids=["h264", "hevc"])
async def test_ffmpeg_plays_it_to_its_end(tmp_path: Path, recipe: Recipe) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=recipe)
        async with device(host) as at:
            packets = await ffprobe(at.rtsp(user=f"{USER}:{quote(PASSWORD, safe='')}@"))
    assert len(packets) == 25
    assert sum("K" in packet["flags"] for packet in packets) == 3


async def test_replays_are_bounded_and_a_client_that_leaves_gives_its_place_back(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=LONG)
        async with device(host) as at:
            slots = at.server.replaying.slots
            clients: list[RtspClient] = []
            for _ in range(slots.most):
                reader, writer = await asyncio.open_connection("127.0.0.1", at.server.rtsp_port)
                client = RtspClient(reader, writer, at.rtsp(), auth=DigestAuth(USER, PASSWORD))
                assert (await client.play(Range="npt=0-")).status == 200
                clients.append(client)
            async with rtsp_client(at.rtsp(), USER, PASSWORD) as late:
                assert (await late.play(Range="npt=0-", **AT_ONCE)).status == 453
                clients[0].writer.close()

                async def is_free() -> bool:
                    return slots.taken < slots.most

                await until(is_free)
                assert (await late.play(Range="npt=0-", **AT_ONCE)).status == 200
            for client in clients:
                client.writer.close()
        assert slots.taken == 0
