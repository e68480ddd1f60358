"""Thumbnails and storyboards over the API: the right moment, from wherever it is, and gone with its segment.

The footage's brightness tells its second (clockfootage.py), so every picture is asked what it shows.
"""

import asyncio
import shutil
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.clock import rfc3339
from cctv_storaged.media.picture import is_whole, jpeg_of, size_of
from cctv_storaged.model import Camera, NewSegment, SourceFile, TimeSpan, identity_of
from cctv_storaged.mpegts.probe import probe_by
from tests.clockfootage import Clock, clock_ts, part_of, second_in, second_shown
from tests.footage import cached_ts
from tests.integration.api.harness import Host, Reply, description, files_below, path_of, running, until
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer
from tests.webvtt import cues_of

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
T0 = datetime(2026, 3, 5, 12, tzinfo=UTC)
GAP = timedelta(seconds=120)


async def added(
    host: Host, footage: Path, start: datetime = T0, *, name: str = "gate/a.ts"
) -> dict[str, Any]:
    """The footage as a segment of the camera."""
    path = host.recordings / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(footage, path)
    data = path.read_bytes()
    duration = probe_by(lambda offset, length: data[offset : offset + length], len(data)).duration
    assert duration is not None
    body = description(path, camera=CAMERA, start=start, seconds=duration.total_seconds())
    reply = await host.post("/segments", body)
    assert reply.status == 201, reply
    return dict(reply.json)


async def added_unseen(host: Host, data: bytes, name: str = "gate/odd.ts") -> str:
    """A segment that nobody looked into; its address."""
    path = host.recordings / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    new = NewSegment(
        camera=Camera(id=CAMERA, name="gate", folder="gate"),
        span=TimeSpan(T0, T0 + timedelta(seconds=10)),
        source=SourceFile(root=str(host.recordings), path=name, identity=identity_of(path.stat())),
        codec="h264",
    )
    recorded = await host.journal.segments.record(new, ("FILESYSTEM",), datetime.now(UTC))
    return f"/segments/{CAMERA}/{recorded.segment.id}"


async def own(host: Host, segment: dict[str, Any]) -> Reply:
    return await host.get(f"{path_of(segment)}/thumbnail.jpg")


async def at(host: Host, seconds: float | None = None, camera: UUID = CAMERA) -> Reply:
    asked = {} if seconds is None else {"at": rfc3339(T0 + timedelta(seconds=seconds))}
    return await host.get(f"/cameras/{camera}/thumbnail.jpg", **asked)


async def board(host: Host, ending: str, start_s: float, end_s: float, **more: str) -> Reply:
    span = {
        "start": rfc3339(T0 + timedelta(seconds=start_s)),
        "end": rfc3339(T0 + timedelta(seconds=end_s)),
    }
    return await host.get(f"/segments/{CAMERA}/storyboard.{ending}", **span, **more)


def told_second(reply: Reply) -> float:
    """When the picture was taken, by the answer; seconds from T0."""
    assert reply.status == 200, reply
    return (datetime.fromisoformat(reply.headers["Thumbnail-Time"]) - T0).total_seconds()


async def counted(host: Host) -> defaultdict[str, float]:
    lines = (await host.get("/metrics")).body.decode().splitlines()
    series = (line.rsplit(" ", 1) for line in lines if line.startswith("storage_thumbnail"))
    return defaultdict(float, {name: float(value) for name, value in series})


async def made(host: Host) -> float:
    return (await counted(host))['storage_thumbnails_made_total{occasion="request"}']


def kept(host: Host) -> set[str]:
    return {path.name for path in files_below(host.settings.data_dir / "cache/thumbnails", ".jpg")}


def shelved(host: Host) -> set[str]:
    """What is on the shelf of a host with the embedded defaults."""
    return {path.name for path in files_below(host.settings.filesystem.path / "thumbnails", ".jpg")}


# -- the right picture ----------------------------------------------------------------------------------

CLOCKS: dict[str, Clock] = {
    "h264": {},
    "h264-b": {"bframes": 3, "first": 4},
    "h265": {"codec": "hevc", "first": 9},
    "h265-b": {"codec": "hevc", "bframes": 3, "first": 2},
    "mpeg2": {"codec": "mpeg2video", "first": 7},
    "wrapping": {"ts_offset_s": 95443.7 - 5},  # the stream's clock begins anew after five seconds
}


@pytest.mark.parametrize("footage", CLOCKS)
async def test_a_segments_picture_and_the_nearest_to_a_moment_show_their_seconds(
    host: Host, footage: str
) -> None:
    clock = CLOCKS[footage]
    first = clock.get("first", 0)
    segment = await added(host, clock_ts(**clock))
    picture = await own(host, segment)
    assert (picture.status, picture.headers["Content-Type"]) == (200, "image/jpeg")
    assert is_whole(picture.body)
    assert size_of(picture.body) == (320, 180)
    assert (told_second(picture), second_shown(picture.body)) == (0, first)
    for asked, expected in ((0.2, 0), (3.4, 3), (3.6, 4), (6.0, 6), (9.9, 9)):
        reply = await at(host, asked)
        assert told_second(reply) == pytest.approx(expected, abs=0.001)
        assert second_shown(reply.body) == first + expected


async def test_without_a_moment_the_newest_footage_is_shown(host: Host) -> None:
    await added(host, clock_ts(first=10), T0 + timedelta(seconds=10), name="gate/b.ts")
    await added(host, clock_ts())
    reply = await at(host)
    assert (told_second(reply), second_shown(reply.body)) == (19, 19)


async def test_in_a_gap_the_nearest_footage_within_a_minute_is_shown(host: Host) -> None:
    await added(host, clock_ts())
    await added(host, clock_ts(first=12), T0 + GAP, name="gate/b.ts")
    after = GAP.total_seconds()
    for asked, second in ((12, 9), (64, 9), (after - 2, 12), (after - 54, 12), (-30, 0)):
        assert second_shown((await at(host, asked)).body) == second, asked
    none = await at(host, after + 10 + 61)
    assert none.status == 404
    assert none.json["detail"].endswith("the last before it ends at 2026-03-05T12:02:10Z")
    early = await at(host, -61)
    assert early.json["detail"].endswith("the first after it begins at 2026-03-05T12:00:00Z")


async def test_a_segment_that_begins_without_a_key_frame_shows_its_first(host: Host) -> None:
    whole = clock_ts(first=3).read_bytes()
    third = len(whole) // 30 // 188 * 188  # of the first second
    cut = host.folder / "cut.ts"
    cut.write_bytes(whole[third:])
    picture = await own(host, await added(host, cut))
    assert second_shown(picture.body) == 4
    assert 0 < told_second(picture) < 1


async def test_pixels_become_square(host: Host) -> None:
    """PAL as many cameras send it: 704 by 576 shown as 4:3."""
    footage = clock_ts(size="704x576", seconds=1, options=["-aspect", "4:3"])
    picture = await own(host, await added(host, footage))
    assert size_of(picture.body) == (320, 240)


# -- none, and why --------------------------------------------------------------------------------------


async def test_who_asks_for_what_is_not_there_is_told(host: Host) -> None:
    segment = await added(host, clock_ts())
    for path in (
        f"/segments/{CAMERA}/{uuid4()}/thumbnail.jpg",
        f"/segments/{uuid4()}/{segment['id']}/thumbnail.jpg",
        f"/cameras/{uuid4()}/thumbnail.jpg",
    ):
        assert (await host.get(path)).status == 404, path
    assert (await host.get(f"/cameras/{CAMERA}/thumbnail.jpg", at="yesterday")).fields == {"at"}


def _without_parameters(data: bytes) -> bytes:
    """H.264 whose sequence parameter sets were hit: no decoder knows the picture's size."""
    return data.replace(b"\0\0\0\1\x67", b"\0\0\0\1\x6b").replace(b"\0\0\1\x67", b"\0\0\1\x6b")


HOPELESS = {
    "audio": lambda: cached_ts(seconds=2, codec=None, audio=True).read_bytes(),
    "noise": lambda: bytes(range(256)) * 4000,
    "packets of nothing": lambda: (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 2000,
    "undecodable": lambda: _without_parameters(clock_ts().read_bytes()),
}


@pytest.mark.parametrize("what", HOPELESS)
async def test_what_no_picture_can_be_made_of_is_told_and_not_tried_again(host: Host, what: str) -> None:
    address = await added_unseen(host, HOPELESS[what]())
    for moment in ("", "03", "03.001", "05"):
        reply = await host.get(f"{address}/thumbnail.jpg")
        assert reply.status == 404
        assert "no picture can be made of segment" in reply.json["detail"]
        if moment:
            asked = f"2026-03-05T12:00:{moment}Z"
            assert (await host.get(f"/cameras/{CAMERA}/thumbnail.jpg", at=asked)).status == 404
    counts = await counted(host)
    tried = counts['storage_thumbnail_failures_total{reason="no_picture"}']
    assert tried <= 3, "one for each key frame that was tried"
    assert not kept(host)
    assert not shelved(host)


async def test_footage_without_a_key_frame_is_not_read_through_for_ever(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cctv_storaged.keyframes.MOST_READ", 2**20)
    head = cached_ts(seconds=2, gop=100, bitrate="8M").read_bytes()
    start = len(head) // 2 // 188 * 188
    address = await added_unseen(host, head[start:] * 3)
    reply = await host.get(f"{address}/thumbnail.jpg")
    assert (reply.status, "no key frame within 1 MiB" in reply.json["detail"]) == (404, True)


async def test_without_ffmpeg_every_picture_is_refused_with_the_remedy(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = await added(host, clock_ts())
    monkeypatch.setenv("PATH", str(host.folder))
    reply = await own(host, segment)
    assert (reply.status, reply.json["type"].rpartition(":")[2]) == (503, "ffmpeg-missing")
    monkeypatch.undo()
    assert (await own(host, segment)).status == 200


# -- kept, and from where -------------------------------------------------------------------------------


async def test_a_picture_is_made_once_and_tells_a_client_that_it_has_it(host: Host) -> None:
    segment = await added(host, clock_ts())
    replies = await asyncio.gather(*(own(host, segment) for _ in range(12)))
    assert {reply.status for reply in replies} == {200}
    assert len({(reply.body, reply.headers["ETag"]) for reply in replies}) == 1
    assert await made(host) == 1
    tag = replies[0].headers["ETag"]
    again = await host.request(
        "GET", f"{path_of(segment)}/thumbnail.jpg", headers={"If-None-Match": f'"x", {tag}'}
    )
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    head = await host.request("HEAD", f"{path_of(segment)}/thumbnail.jpg")
    assert (head.status, head.headers["ETag"]) == (200, tag)
    near = await asyncio.gather(*(at(host, 3.3 + step / 100) for step in range(8)))
    assert len({reply.headers["ETag"] for reply in near}) == 1
    assert await made(host) == 2


async def test_a_restart_keeps_pictures_and_one_that_was_torn_is_made_anew(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        segment = await added(host, clock_ts(first=5))
        before = await own(host, segment)
        await until(lambda: _any(shelved(host)))
    async with running(tmp_path) as host:
        assert (await own(host, segment)).body == before.body
        assert await made(host) == 0
    for path in (tmp_path / "data/cache/thumbnails").rglob("*.jpg"):
        path.write_bytes(before.body[:-200] + bytes(200))
    async with running(tmp_path) as host:
        assert (await own(host, segment)).body == before.body
        assert (await counted(host))['storage_thumbnails_served_total{origin="shelf"}'] == 1
        assert await made(host) == 0


async def test_another_width_takes_the_place_of_the_old(tmp_path: Path) -> None:
    async with running(tmp_path, {"thumbnails": {"width": 160}}) as host:
        segment = await added(host, clock_ts())
        assert size_of((await own(host, segment)).body) == (160, 90)
        await until(lambda: _any(shelved(host)))
        names = shelved(host)
    async with running(tmp_path, {"thumbnails": {"width": 240}}) as host:
        assert size_of((await own(host, segment)).body)[0] == 240
        folder = host.settings.filesystem.path / "thumbnails"

        async def replaced() -> bool:  # for a moment neither the old one nor the new one is there
            try:
                return [size_of(path.read_bytes())[0] for path in files_below(folder, ".jpg")] == [240]
            except FileNotFoundError:
                return False

        await until(replaced)
        assert shelved(host) == names


def store_settings(kind: str, server: SeaweedServer, name: str) -> dict[str, Any]:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": name}
    if kind == "MINIO":
        own_buckets = {"bucket_thumbnails": f"{name}-t", "bucket_exports": f"{name}-e"}
        return {"backend": "MINIO", "minio": {"endpoint": server.endpoint, **keys, **own_buckets}}
    return {"backend": "S3", "s3": {"endpoint_url": server.url, **keys}}


@pytest.mark.parametrize("kind", ["MINIO", "S3"])
async def test_a_segment_that_only_the_bucket_holds_has_pictures_which_go_with_it(
    kind: str, tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    shelf = Bucket(server=seaweed, name=f"{seaweed_bucket.name}-t") if kind == "MINIO" else seaweed_bucket

    def on_shelf() -> set[str]:
        return {key for key in Bucket.keys(shelf) if key.endswith(".jpg")}

    async with running(tmp_path, store_settings(kind, seaweed, seaweed_bucket.name)) as host:
        host.deliver()
        segment = await host.delivered(await added(host, clock_ts(first=6, bframes=2)))
        (host.recordings / "gate/a.ts").unlink()
        assert second_shown((await own(host, segment)).body) == 6
        assert second_shown((await at(host, 7.2)).body) == 13
        await until(lambda: _any(on_shelf()))
        (key,) = on_shelf()
        assert key.startswith("thumbnails/" if kind == "S3" else f"{CAMERA}/2026/03/05/12/")
        shutil.rmtree(host.settings.data_dir / "cache")
        assert second_shown((await own(host, segment)).body) == 6
        assert await made(host) == 2, "the third came from the shelf"
        assert (await host.delete(path_of(segment))).status == 204
        assert on_shelf() == set()
        assert kept(host) == set()


async def test_a_shelf_that_hangs_holds_up_no_picture(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    async with running(tmp_path, store_settings("MINIO", seaweed, seaweed_bucket.name)) as host:
        segment = await added(host, clock_ts())
        with seaweed.frozen():
            assert (await own(host, segment)).status == 200
            assert (await at(host, 4)).status == 200
        assert (await counted(host))['storage_thumbnail_failures_total{reason="store"}'] >= 1


# -- gone with the segment ------------------------------------------------------------------------------


async def test_a_deletion_takes_every_picture_along(host: Host) -> None:
    segment = await added(host, clock_ts())
    for asked in (None, 2, 5):
        await at(host, asked)
    await own(host, segment)
    await until(lambda: _any(shelved(host)))
    assert len(kept(host)) == 4
    assert (await board(host, "jpg", 0, 10, tiles="4")).status == 200
    assert (await host.delete(path_of(segment))).status == 204
    assert (kept(host), shelved(host)) == (set(), set())
    assert (await own(host, segment)).status == 404
    assert (await at(host, 2)).status == 404
    assert (await board(host, "jpg", 0, 10, tiles="4")).status == 404


async def test_a_version_that_was_overwritten_before_its_delivery_takes_its_picture_along(host: Host) -> None:
    segment = await added(host, clock_ts())
    await own(host, segment)
    await until(lambda: _any(shelved(host)))
    again = await added(host, clock_ts(first=5))
    assert again["id"] != segment["id"]
    await until(lambda: _none(shelved(host) | kept(host)))
    assert second_shown((await own(host, again)).body) == 5


async def test_a_shelf_that_is_away_keeps_no_footage_and_no_thumbnail_for_ever(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = await added(host, clock_ts())
    host.deliver()
    await host.delivered(segment)
    await own(host, segment)
    await until(lambda: _any(shelved(host)))
    store = host.parts.foundation.thumbnails_store
    monkeypatch.setattr(store, "_key", lambda path: f"../{path}")  # refused by the folder
    assert (await host.delete(path_of(segment))).status == 204
    stored = host.settings.filesystem.path
    assert not list(host.recordings.rglob("*.ts"))
    assert not list(stored.rglob("*.ts")), "the footage went"
    assert len(shelved(host)) == 1
    assert (await host.journal.segments.by_id(UUID(segment["id"]))) is not None, "the tombstone reminds"
    monkeypatch.undo()
    await host.journal.deletions.postpone(UUID(segment["id"]), "", datetime.now(UTC))
    await host.parts.remover.run_once()
    assert shelved(host) == set()
    assert (await host.journal.segments.by_id(UUID(segment["id"]))) is None


async def test_a_picture_under_way_while_its_segment_is_deleted_stays_nowhere(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = await added(host, clock_ts())
    drawing, go_on = asyncio.Event(), asyncio.Event()

    async def held(stream: bytes, width: int) -> bytes:
        jpeg = await jpeg_of(stream, width)
        drawing.set()
        await go_on.wait()
        return jpeg

    monkeypatch.setattr("cctv_storaged.thumbnails.jpeg_of", held)
    asked = asyncio.create_task(own(host, segment))
    await drawing.wait()
    assert (await host.delete(path_of(segment))).status == 204
    go_on.set()
    assert (await asked).status == 404
    assert (kept(host), shelved(host)) == (set(), set())


# -- on ingest ------------------------------------------------------------------------------------------


async def test_a_new_segment_has_its_picture_before_anybody_asks(host: Host) -> None:
    host.tasks.append(asyncio.create_task(host.parts.thumbnailing.run()))
    segment = await added(host, clock_ts(first=8))
    await until(lambda: _any(shelved(host)))
    assert second_shown((await own(host, segment)).body) == 8
    counts = await counted(host)
    assert counts['storage_thumbnails_made_total{occasion="ingest"}'] == 1
    assert counts['storage_thumbnails_made_total{occasion="request"}'] == 0


async def test_where_it_is_switched_off_none_is_made_unasked(tmp_path: Path) -> None:
    async with running(tmp_path, {"thumbnails": {"on_ingest": False}}) as host:
        segment = await added(host, clock_ts())
        assert not host.parts.thumbnailing._waiting
        assert second_shown((await own(host, segment)).body) == 0


# -- storyboards ----------------------------------------------------------------------------------------


async def _two_with_a_gap(host: Host) -> None:
    await added(host, clock_ts(seconds=6))
    await added(host, clock_ts(first=10, seconds=6), T0 + timedelta(seconds=10), name="gate/b.ts")


@pytest.mark.parametrize("tiles", [16, 5, 1])
async def test_every_tile_shows_its_time_and_gaps_have_none(host: Host, tiles: int) -> None:
    await _two_with_a_gap(host)
    text = await board(host, "vtt", 0, 16, tiles=str(tiles))
    assert (text.status, text.headers["Content-Type"]) == (200, "text/vtt; charset=utf-8")
    cues = cues_of(text.body.decode())
    length = 16 / tiles
    there = [at for at in range(tiles) if at * length < 6 or (at + 1) * length > 10]
    assert [cue.start_s for cue in cues] == pytest.approx([at * length for at in there], abs=0.001)
    (address,) = {cue.sheet for cue in cues}
    sheet = await host.get(f"/segments/{CAMERA}/{address}")
    assert (sheet.status, sheet.headers["Content-Type"]) == (200, "image/jpeg")
    assert size_of(sheet.body) == (1600, 90 * -(-tiles // 10))
    for cue in cues:
        shown = second_in(part_of(sheet.body, cue.box))
        assert cue.start_s - 1 <= shown < cue.end_s, cue
    black = set(range(10 * -(-tiles // 10))) - set(there)
    for place in black:
        x, y = place % 10 * 160, place // 10 * 90
        assert max(part_of(sheet.body, (x, y, 160, 90))) < 16


async def test_cameras_that_changed_their_picture_have_one_sheet(host: Host) -> None:
    await added(host, clock_ts(seconds=4))
    await added(
        host, clock_ts(first=4, seconds=4, size="128x96"), T0 + timedelta(seconds=4), name="gate/b.ts"
    )
    await added(host, clock_ts(first=8, seconds=4, codec="hevc"), T0 + timedelta(seconds=8), name="gate/c.ts")
    sheet = await board(host, "jpg", 0, 12, tiles="12")
    seconds = [
        second_in(part_of(sheet.body, (at % 10 * 160 + 30, at // 10 * 90, 100, 90))) for at in range(12)
    ]
    assert all(abs(second - at) <= 1 for at, second in enumerate(seconds)), seconds
    assert max(part_of(sheet.body, (5 * 160, 0, 12, 90))) < 16, "the narrow picture has its edges"


async def test_a_sheet_is_drawn_once_and_tells_a_client_that_it_has_it(host: Host) -> None:
    await _two_with_a_gap(host)
    first = await board(host, "jpg", 0, 16, tiles="8")
    before = await made(host)
    again = await host.request(
        "GET",
        f"/segments/{CAMERA}/storyboard.jpg?start=2026-03-05T12:00:00Z&end=2026-03-05T12:00:16Z&tiles=8",
        headers={"If-None-Match": first.headers["ETag"]},
    )
    assert (again.status, await made(host)) == (304, before)
    await added(host, clock_ts(first=6, seconds=4), T0 + timedelta(seconds=6), name="gate/c.ts")
    fuller = await board(host, "jpg", 0, 16, tiles="8")
    assert fuller.headers["ETag"] != first.headers["ETag"]
    assert second_in(part_of(fuller.body, (4 * 160, 0, 160, 90))) in (8, 9)


async def test_a_tile_that_cannot_be_drawn_stays_black_beside_those_that_can(host: Host) -> None:
    await added(host, clock_ts(first=10, seconds=6), T0 + timedelta(seconds=10), name="gate/b.ts")
    await added_unseen(host, HOPELESS["undecodable"]())
    sheet = await board(host, "jpg", 0, 16, tiles="2")
    assert max(part_of(sheet.body, (0, 0, 160, 90))) < 16
    assert second_in(part_of(sheet.body, (160, 0, 160, 90))) in range(10, 16)
    assert (await board(host, "jpg", 0, 9, tiles="2")).status == 404


async def test_a_storyboard_has_its_limits(host: Host) -> None:
    for ending in ("vtt", "jpg"):
        for start_s, end_s in ((10, 0), (0, 0.5), (0, 32 * 86400)):
            assert (await board(host, ending, start_s, end_s)).fields == {"end"}
        for name, value in (("tiles", "0"), ("tiles", "101"), ("tiles", "many"), ("columns", "5")):
            assert (await board(host, ending, 0, 10, **{name: value})).fields == {name}
        assert (await host.get(f"/segments/{CAMERA}/storyboard.{ending}")).fields == {"start", "end"}


async def test_a_span_without_footage_has_no_storyboard_and_says_where_some_is(host: Host) -> None:
    await _two_with_a_gap(host)
    for ending in ("vtt", "jpg"):
        reply = await board(host, ending, 6, 10)
        assert reply.status == 404
        before, after = "ends at 2026-03-05T12:00:06Z", "begins at 2026-03-05T12:00:10Z"
        assert reply.json["detail"].endswith(f"the last before it {before}; the first after it {after}")
    assert (
        await host.get(
            f"/segments/{uuid4()}/storyboard.vtt?start=2026-03-05T12:00:00Z&end=2026-03-05T12:01:00Z"
        )
    ).status == 404


async def _any(found: set[Any]) -> bool:
    return bool(found)


async def _none(found: set[Any]) -> bool:
    return not found
