"""A span of footage as a playlist: of real recordings, played by ffmpeg, from wherever the bytes are."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.backends.base import Presigning
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.model import Camera, FileIdentity, NewSegment, SourceFile, StreamStart, TimeSpan
from tests.footage import Recorder
from tests.hls import ReadPlaylist, read_playlist
from tests.integration.api.harness import Host, running
from tests.integration.api.played import (
    CAMERA,
    T0,
    address,
    delivered,
    frames_played,
    packets_played,
    path,
    player_token,
    recorded,
)
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


async def playlist(host: Host, where: str = path()) -> ReadPlaylist:
    reply = await host.get(where)
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    return read_playlist(reply.body)


# Played by ffmpeg

RECORDERS: dict[str, tuple[Recorder, list[int]]] = {
    "one stream": ({"seconds": 8}, []),
    "B-frames and sound": ({"seconds": 8, "bframes": 2, "audio": True}, []),
    "B-frames in open groups": ({"seconds": 8, "bframes": 3, "open_gop": True}, []),
    "a clock that wraps": ({"seconds": 8, "options": ("-output_ts_offset", "95439")}, []),
    "a clock that each file begins anew": ({"seconds": 8, "options": ("-reset_timestamps", "1")}, [1, 2, 3]),
    "H.265": ({"seconds": 8, "codec": "hevc"}, []),
}


@pytest.mark.parametrize("name", RECORDERS)
async def test_what_a_recorder_left_plays_through_in_ffmpeg(name: str, host: Host) -> None:
    recorder, breaks = RECORDERS[name]
    segments = await recorded(host, "gate", **recorder)
    read = await playlist(host)
    assert read.uris == [f"{segment['id']}/content.ts" for segment in segments]
    assert (read.breaks, read.independent, read.begin_s) == (breaks, True, None)
    assert [rfc3339(each.start) for each in read.segments] == [each["start_time"] for each in segments]
    assert await asyncio.to_thread(frames_played, address(host)) == 200


async def test_footage_plays_across_gaps_and_other_pictures(host: Host) -> None:
    """ffmpeg's own decoders do not follow a stream to another codec; its demuxer gives all there is."""
    await recorded(host, "first", seconds=8, segment_s=2, without=[2])
    await recorded(host, "larger", T0 + 8 * SECOND, seconds=4, segment_s=2, size="640x360")
    assert (await playlist(host)).breaks == [2, 3]
    assert await asyncio.to_thread(frames_played, address(host)) == 150 + 100
    await recorded(host, "newer", T0 + 12 * SECOND, seconds=4, segment_s=2, codec="hevc")
    assert (await playlist(host)).breaks == [2, 3, 5]
    assert await asyncio.to_thread(packets_played, address(host)) == 150 + 100 + 100


async def test_players_bring_the_token_in_a_header(host: Host) -> None:
    await recorded(host, "gate", seconds=4, segment_s=2)
    token = await player_token(host)
    assert (await host.get(path())).status == 401
    assert await asyncio.to_thread(frames_played, address(host), token=token) == 100


async def test_a_day_of_ten_seconds_each_is_one_playlist(host: Host) -> None:
    day = TimeSpan(T0, T0 + 24 * HOUR)
    await made_up(host, 8640)
    read = await playlist(host, path(day.start, day.end))
    assert (len(read.segments), read.breaks, read.target_s) == (8640, [], 10)
    assert (read.segments[0].start, read.segments[-1].end) == (day.start, day.end)


async def made_up(host: Host, count: int) -> None:
    """Rows of segments that nobody recorded."""
    camera = Camera(id=CAMERA, name="gate", folder="gate")
    identity = FileIdentity(device=1, inode=1, size_bytes=1, mtime_ns=0)
    await asyncio.gather(
        *(
            host.journal.segments.record(
                NewSegment(
                    camera=camera,
                    span=TimeSpan(T0 + 10 * n * SECOND, T0 + 10 * (n + 1) * SECOND),
                    source=SourceFile(root="/r", path=f"gate/{n}.ts", identity=replace(identity, inode=n)),
                    stream=StreamStart(n * 900_000 % 2**33, b"8 bytes."),
                ),
                ["FILESYSTEM"],
                T0,
            )
            for n in range(count)
        )
    )


# What is in it


async def test_a_span_begins_where_it_was_asked_to_and_names_what_overlaps(host: Host) -> None:
    segments = await recorded(host, "gate", seconds=8, segment_s=2)
    read = await playlist(host, path(T0 + 3 * SECOND, T0 + 6 * SECOND))
    assert read.uris == [f"{segment['id']}/content.ts" for segment in segments[1:3]]
    assert read.begin_s == 1


async def test_what_is_deleted_is_gone_from_the_next_playlist(host: Host) -> None:
    segments = await recorded(host, "gate", seconds=6, segment_s=2)
    await host.delete(f"/segments/{CAMERA}/{segments[1]['id']}")
    read = await playlist(host)
    assert read.uris == [f"{segments[n]['id']}/content.ts" for n in (0, 2)]
    assert read.breaks == [1]


async def test_content_by_its_name_is_the_content(host: Host) -> None:
    (segment,) = await recorded(host, "gate", seconds=2, segment_s=10)
    data = (host.recordings / "gate/000.ts").read_bytes()
    where = f"/segments/{CAMERA}/{segment['id']}/content.ts"
    whole = await host.get(where)
    part = await host.request("GET", where, headers={"Range": "bytes=188-375"})
    head = await host.request("HEAD", where)
    assert (whole.status, whole.body) == (200, data)
    assert (part.status, part.body) == (206, data[188:376])
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(data)), b"")


# Asked again


async def test_an_unchanged_playlist_is_not_sent_again(host: Host) -> None:
    segments = await recorded(host, "gate", seconds=4, segment_s=2)
    first = await host.get(path())
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    for told in (tag, f'"other", W/{tag}', "*"):
        again = await host.request("GET", path(), headers={"If-None-Match": told})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    await host.delete(f"/segments/{CAMERA}/{segments[0]['id']}")
    changed = await host.request("GET", path(), headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag


async def test_head_says_what_get_would(host: Host) -> None:
    await recorded(host, "gate", seconds=4, segment_s=2)
    told, given = await host.request("HEAD", path()), await host.get(path())
    assert (told.status, told.body) == (200, b"")
    for name in ("ETag", "Content-Type", "Content-Length", "Cache-Control"):
        assert told.headers[name] == given.headers[name]


# What cannot be played


async def test_a_camera_nobody_knows_is_not_found(host: Host) -> None:
    reply = await host.get(path(camera=uuid4()))
    assert reply.status == 404
    assert "on this host" in reply.json["detail"]


async def test_a_span_without_footage_says_where_there_is_some(host: Host) -> None:
    await recorded(host, "a", T0, seconds=2, segment_s=10)
    await recorded(host, "b", T0 + HOUR, seconds=2, segment_s=10)
    told = {}
    for name, minutes in (("before", -10), ("between", 10), ("after", 90)):
        begin = T0 + timedelta(minutes=minutes)
        reply = await host.get(path(begin, begin + timedelta(minutes=5)))
        assert reply.status == 404
        told[name] = reply.json["detail"].split("; ")[1:]
    assert told == {
        "before": ["the first after it begins at 2026-01-01T10:00:00Z"],
        "between": [
            "the last before it ends at 2026-01-01T10:00:02Z",
            "the first after it begins at 2026-01-01T11:00:00Z",
        ],
        "after": ["the last before it ends at 2026-01-01T11:00:02Z"],
    }


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("start=2026-01-01T10:00:00Z&end=2026-01-01T10:00:00Z", "end", "must be later than start"),
        ("start=2026-01-01T10:00:00Z&end=2026-01-01T09:00:00Z", "end", "must be later than start"),
        ("start=2026-01-01T10:00:00Z&end=2026-01-02T10:00:00.000001Z", "end", "is more than 24h after start"),
        ("start=2016-01-01T10:00:00Z", "end", "is more than 24h after start"),
        ("start=yesterday", "start", "RFC 3339"),
        ("from=2026-01-01T10:00:00Z", "from", "is not a name known here"),
    ],
)
async def test_a_span_that_cannot_be_is_refused(query: str, field: str, message: str, host: Host) -> None:
    reply = await host.get(f"/segments/{CAMERA}/playlist.m3u8?{query}")
    assert (reply.status, reply.fields) == (422, {field})
    assert message in reply.json["errors"][0]["message"]


async def test_the_longest_span_is_a_setting_that_an_open_span_keeps_to(tmp_path: Path) -> None:
    async with running(tmp_path, {"playback": {"max_span": "1h"}}) as host:
        await recorded(host, "gate", seconds=2, segment_s=10)
        assert (await host.get(path(T0, T0 + HOUR + SECOND))).status == 422
        for late, status in ((SECOND, 200), (3 * SECOND, 404)):
            end = rfc3339(T0 + HOUR + late)
            assert (await host.get(f"/segments/{CAMERA}/playlist.m3u8?end={end}")).status == status


# From an object store


def store(server: SeaweedServer, bucket: Bucket, kind: str = "MINIO") -> dict[str, Any]:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket.name}
    place = {"endpoint": server.endpoint} if kind == "MINIO" else {"endpoint_url": server.url}
    return {"backend": kind, kind.lower(): {**place, **keys}, "source": {"grace": "0s"}}


async def test_footage_that_only_the_bucket_has_plays(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    async with running(tmp_path, store(seaweed, seaweed_bucket)) as host:
        segments = await recorded(host, "gate", seconds=4, segment_s=2)
        await delivered(host, segments)
        assert await host.parts.pruner.run_once() == 2
        assert list(host.recordings.rglob("*.ts")) == []
        assert await asyncio.to_thread(frames_played, address(host)) == 100


@pytest.mark.parametrize("kind", ["MINIO", "S3"])
async def test_players_are_sent_to_the_store_where_a_verified_copy_is(
    kind: str, tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    settings = {**store(seaweed, seaweed_bucket, kind), "playback": {"segments": "presigned"}}
    async with running(tmp_path, settings) as host:
        segments = await recorded(host, "gate", seconds=4, segment_s=2)
        await delivered(host, segments)
        segments += await recorded(host, "gate-2", T0 + 4 * SECOND, seconds=2, segment_s=10)
        await host.journal.copies.doubt(UUID(segments[1]["id"]), kind, "test")
        reply = await host.get(path())
        assert (reply.headers["Cache-Control"], reply.headers.get("ETag")) == ("no-store", None)
        read = read_playlist(reply.body)
        assert read.uris[0].startswith(f"{seaweed.url}/{seaweed_bucket.name}/{CAMERA}/")
        assert read.uris[1:] == [f"{segment['id']}/content.ts" for segment in segments[1:]]
        async with host.session.get(read.uris[0], headers={"Range": "bytes=0-187"}) as answer:
            assert (answer.status, (await answer.read())[:1]) == (206, b"G")
        assert await asyncio.to_thread(frames_played, address(host)) == 150


async def test_without_a_store_players_stay_here(tmp_path: Path) -> None:
    async with running(tmp_path, {"playback": {"segments": "presigned"}}) as host:
        segments = await recorded(host, "gate", seconds=2, segment_s=10)
        await delivered(host, segments)
        assert (await playlist(host)).uris == [f"{segments[0]['id']}/content.ts"]
        assert "ETag" in (await host.get(path())).headers


async def test_where_nothing_can_be_signed_players_stay_here(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**store(seaweed, seaweed_bucket), "playback": {"segments": "presigned"}}
    async with running(tmp_path, settings) as host:
        segments = await recorded(host, "gate", seconds=2, segment_s=10)
        await delivered(host, segments)
        (backend,) = host.parts.foundation.backends
        assert isinstance(backend, Presigning)

        async def refused(path: str, expires_s: int, filename: str | None = None) -> str:
            raise BackendUnavailable("no credentials", reason="auth")

        monkeypatch.setattr(backend, "presign", refused)
        assert (await playlist(host)).uris == [f"{segments[0]['id']}/content.ts"]
