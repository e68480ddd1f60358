"""`clip.mp4`: watched while it is made, sought in once it is whole, true to its times."""

import asyncio
import os
import random
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import aiohttp
import pytest

from cctv_storaged.clips import MOST_BUILDS
from cctv_storaged.clock import rfc3339
from cctv_storaged.gathering import Gathering
from cctv_storaged.model import Segment, SourceState
from tests.integration.api.harness import API, Host, Reply, description, running, until
from tests.integration.api.played import CAMERA, T0
from tests.numbered import RATE, cut_up, numbered_ts, pictures_in
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

LENGTH_S = 4


def clip_path(start_s: float = 0, end_s: float = 12, camera: object = CAMERA) -> str:
    start, end = (rfc3339(T0 + timedelta(seconds=seconds)) for seconds in (start_s, end_s))
    return f"/segments/{camera}/clip.mp4?start={start}&end={end}"


async def record(
    host: Host, *sources: Path, starts: tuple[float, ...] = (), length_s: float = LENGTH_S
) -> list[str]:
    """Files as the camera's segments, end to end or at given seconds; their ids."""
    ids = []
    for number, source in enumerate(sources):
        path = host.recordings / "gate" / f"{number:03d}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        start = T0 + timedelta(seconds=starts[number] if starts else number * length_s)
        body = description(path, camera=CAMERA, start=start, seconds=length_s)
        reply = await host.post("/segments", body)
        assert reply.status == 201, reply
        ids.append(reply.json["id"])
    return ids


def segments_of(folder: Path, *, reset: bool = True, bframes: int = 0) -> list[Path]:
    source = numbered_ts(seconds=12, audio=True, bframes=bframes)
    return cut_up(source, folder / "cut", seconds=LENGTH_S, reset=reset)


def numbers_in(folder: Path, reply: Reply) -> list[int]:
    """The numbers of the pictures of a clip, each of which must be shown when it was recorded."""
    path = folder / "clip.mp4"
    path.write_bytes(reply.body)
    lead_s = float(reply.headers["Clip-Lead-Seconds"])
    pictures = pictures_in(path)
    first = pictures[0].number
    assert [round(picture.at_s * RATE) + first for picture in pictures] == [each.number for each in pictures]
    assert lead_s >= 0
    return [picture.number for picture in pictures]


async def test_a_clip_begins_at_the_key_frame_before_and_says_by_how_much(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path, bframes=2))
        reply = await host.get(clip_path(2.5, 10.5))
        assert (reply.status, reply.headers["Content-Type"]) == (200, "video/mp4")
        assert reply.headers["Clip-Start"] == rfc3339(T0 + timedelta(seconds=2))
        assert reply.headers["Clip-Lead-Seconds"] == "0.500"
        assert numbers_in(tmp_path, reply)[:85] == list(range(20, 105))


async def test_a_gap_stands_still_as_long_as_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        first, _, last = segments_of(tmp_path)
        await record(host, first, last, starts=(0, 8))
        reply = await host.get(clip_path())
        assert numbers_in(tmp_path, reply) == [*range(40), *range(80, 120)]


async def test_any_part_of_a_clip_is_part_of_the_same_bytes(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        part = await host.request("GET", clip_path(), headers={"Range": "bytes=1000-1999"})
        whole = await host.get(clip_path())
        assert (part.status, part.body) == (206, whole.body[1000:2000])
        assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(whole.body)}"
        assert int(whole.headers["Content-Length"]) == len(whole.body)
        tail = await host.request("GET", clip_path(), headers={"Range": "bytes=-10"})
        everything = await host.request("GET", clip_path(), headers={"Range": "bytes=0-"})
        assert (tail.body, everything.status, everything.body) == (whole.body[-10:], 206, whole.body)
        beyond = await host.request("GET", clip_path(), headers={"Range": f"bytes={len(whole.body)}-"})
        assert beyond.status == 416
        assert {each.headers["ETag"] for each in (part, whole, tail, everything)} == {whole.headers["ETag"]}


async def test_a_clip_made_anew_has_the_same_bytes(tmp_path: Path) -> None:
    """The tag promises it: a player puts parts of both together."""
    async with running(tmp_path, {"playback": {"cache": 0}}) as host:
        await record(host, *segments_of(tmp_path, bframes=2))
        once, again = [await host.get(clip_path(1, 9)) for _ in range(2)]
        assert once.body == again.body
        assert once.headers["ETag"] == again.headers["ETag"]
        assert not list(host.folder.rglob("cache/clips/*.mp4"))


async def test_a_client_that_has_it_gets_nothing_made(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        head = await host.request("HEAD", clip_path())
        assert (head.status, "Content-Length" in head.headers) == (200, False)
        tag = head.headers["ETag"]
        same = await host.request("GET", clip_path(), headers={"If-None-Match": tag})
        assert same.status == 304
        assert not list(host.folder.rglob("cache/clips/*"))
        whole = await host.get(clip_path())
        assert whole.headers["ETag"] == tag
        later = await host.request("HEAD", clip_path())
        assert int(later.headers["Content-Length"]) == len(whole.body)
        other = await host.request(
            "GET", clip_path(), headers={"Range": "bytes=0-9", "If-Range": '"another"'}
        )
        assert (other.status, len(other.body)) == (200, len(whole.body))


async def test_many_who_ask_at_once_get_one_clip(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        replies = await asyncio.gather(*(host.get(clip_path()) for _ in range(6)))
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1
        assert len(list(host.folder.rglob("cache/clips/*.mp4"))) == 1


async def test_one_that_nobody_watches_any_more_is_not_made_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cctv_storaged.clips.ABANDONED_S", 0.0)
    async with running(tmp_path) as host:
        ids = await record(host, *segments_of(tmp_path))
        held = asyncio.Event()
        present = Gathering.present

        async def hanging(self: Gathering, segment_id: UUID) -> Segment:
            if str(segment_id) == ids[2]:
                held.set()
                await asyncio.Event().wait()
            return await present(self, segment_id)

        monkeypatch.setattr(Gathering, "present", hanging)
        asking = asyncio.create_task(host.get(clip_path()))
        await held.wait()
        asking.cancel()

        async def is_given_up() -> bool:
            return not list(host.folder.rglob("cache/clips/*"))

        await until(is_given_up)


async def test_footage_in_the_bucket_alone_is_watched(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": seaweed_bucket.name}
    more = {"backend": "MINIO", "minio": {"endpoint": seaweed.endpoint, **keys}}
    async with running(tmp_path, more) as host:
        ids = await record(host, *segments_of(tmp_path))
        host.deliver()
        for id_ in ids:
            await host.delivered({"camera_id": str(CAMERA), "id": id_})
            await remove_source(host, id_)
        reply = await host.get(clip_path(2.5, 10.5))
        assert numbers_in(tmp_path, reply) == list(range(20, 105))


async def remove_source(host: Host, segment_id: str) -> None:
    segment = await host.stored(segment_id)
    Path(segment.source.root, segment.source.path).unlink()
    assert (await host.stored(segment_id)).source_state is SourceState.PRESENT


async def test_a_stream_that_changes_is_refused_and_says_where(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, numbered_ts(seconds=4), numbered_ts(seconds=4, codec="hevc"))
        reply = await host.get(clip_path(0, 8))
        assert reply.status == 409
        assert rfc3339(T0 + timedelta(seconds=4)) in reply.json["detail"]
        assert (await host.get(clip_path(0, 4))).status == 200


@pytest.mark.parametrize(
    ("start_s", "end_s", "status", "said"),
    [
        (100, 110, 404, "no footage"),
        (10, 0, 422, "later than start"),
        (0, 3601, 422, "playback.max_clip"),
    ],
)
async def test_spans_that_cannot_be_shown_are_told(
    tmp_path: Path, start_s: float, end_s: float, status: int, said: str
) -> None:
    async with running(tmp_path) as host:
        await record(host, numbered_ts(seconds=4))
        reply = await host.get(clip_path(start_s, end_s))
        assert reply.status == status
        assert said in str(reply.json)


async def test_an_unknown_camera_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        reply = await host.get(clip_path(camera="00000000-0000-4000-8000-000000000000"))
        assert reply.status == 404


def spoil(path: Path) -> None:
    """Other bytes, and nothing about the file that would tell."""
    status = path.stat()
    path.write_bytes(random.Random(4).randbytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_footage_that_became_garbage_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, numbered_ts(seconds=4))
        spoil(host.recordings / "gate/000.ts")
        reply = await host.get(clip_path(0, 4))
        assert (reply.status, reply.json["type"]) == (404, "urn:cctv-storaged:problem:unplayable")
        assert not list(host.folder.rglob("cache/clips/*"))


async def test_garbage_in_the_middle_stands_still(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        spoil(host.recordings / "gate/001.ts")
        reply = await host.get(clip_path())
        assert numbers_in(tmp_path, reply) == [*range(40), *range(80, 120)]


async def test_a_disk_without_room_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as host:
        await record(host, numbered_ts(seconds=4))
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000))
        reply = await host.get(clip_path(0, 4))
        assert reply.status == 507
        assert "capacity.reserve" in reply.json["detail"]
        assert not list(host.folder.rglob("cache/clips/*"))


async def test_a_host_without_ffmpeg_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as host:
        await record(host, numbered_ts(seconds=4))
        monkeypatch.setenv("PATH", str(tmp_path))
        reply = await host.get(clip_path(0, 4))
        assert reply.status == 503
        assert "ffmpeg" in reply.json["detail"]


async def test_the_next_start_keeps_whole_clips_and_removes_what_a_kill_left(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        whole = await host.get(clip_path())
    folder = tmp_path / "data/cache/clips"
    (folder / "0123.part").write_bytes(b"half")
    async with running(tmp_path) as host:
        assert [path.suffix for path in folder.iterdir()] == [".mp4"]
        part = await host.request("GET", clip_path(), headers={"Range": "bytes=0-99"})
        assert (part.status, part.body) == (206, whole.body[:100])
        assert part.headers["Clip-Start"] == whole.headers["Clip-Start"]


async def test_what_was_watched_longest_ago_goes_first(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        sizes = [len((await host.get(clip_path(0, end))).body) for end in (4, 8, 12)]
    more = {"playback": {"cache": f"{sizes[1] + sizes[2]}B"}}
    async with running(tmp_path, more) as host:
        kept = {path.stat().st_size for path in host.folder.rglob("cache/clips/*.mp4")}
        assert kept == {sizes[1], sizes[2]}


async def test_the_first_bytes_come_before_the_last_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as host:
        source = numbered_ts(seconds=12, height=720)
        ids = await record(host, *cut_up(source, tmp_path / "cut", seconds=LENGTH_S, reset=True))
        present, go_on = Gathering.present, asyncio.Event()

        async def waiting(self: Gathering, segment_id: UUID) -> Segment:
            if str(segment_id) == ids[2]:
                await go_on.wait()
            return await present(self, segment_id)

        monkeypatch.setattr(Gathering, "present", waiting)
        async with aiohttp.ClientSession() as session, session.get(host.url + API + clip_path()) as response:
            assert response.status == 200
            first = await response.content.readany()
            assert first[4:8] == b"ftyp"
            go_on.set()
            rest = await response.content.read()
        assert len(first) < len(first + rest)


async def test_no_more_than_a_few_are_made_at_once_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-38: whoever asks for many has to wait, and nobody else does."""
    async with running(tmp_path) as host:
        await record(host, *segments_of(tmp_path))
        present, go_on = Gathering.present, asyncio.Event()

        async def waiting(self: Gathering, segment_id: UUID) -> Segment:
            await go_on.wait()
            return await present(self, segment_id)

        monkeypatch.setattr(Gathering, "present", waiting)
        asked = [asyncio.create_task(host.get(clip_path(0, 2 + number / 10))) for number in range(20)]

        async def are_refused() -> bool:
            return sum(each.done() for each in asked) == 20 - MOST_BUILDS

        await until(are_refused)
        refused = [each.result() for each in asked if each.done()]
        assert {reply.status for reply in refused} == {429}
        assert all(int(reply.headers["Retry-After"]) > 0 for reply in refused)
        assert (await host.get("/health")).status == 200
        assert (await host.get(f"/segments/{CAMERA}/playlist.m3u8")).status in (200, 404)
        go_on.set()
        assert sorted(reply.status for reply in await asyncio.gather(*asked)) == [200] * 4 + [429] * 16


async def test_who_comes_back_to_a_clip_that_is_being_given_up_gets_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cctv_storaged.clips.ABANDONED_S", 0.0)
    async with running(tmp_path) as host:
        ids = await record(host, *segments_of(tmp_path))
        held, cancelled, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        present = Gathering.present

        async def hanging(self: Gathering, segment_id: UUID) -> Segment:
            if str(segment_id) == ids[2] and not held.is_set():
                held.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
                    await go_on.wait()  # what it has begun takes a while to end
            return await present(self, segment_id)

        monkeypatch.setattr(Gathering, "present", hanging)
        asking = asyncio.create_task(host.get(clip_path()))
        await held.wait()
        asking.cancel()
        await cancelled.wait()
        reply = await host.get(clip_path())
        assert numbers_in(tmp_path, reply) == list(range(120))
        go_on.set()
        assert (await host.get(clip_path())).body == reply.body


async def test_no_more_clips_are_made_at_once_however_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as host:
        ids = await record(host, *segments_of(tmp_path))
        go_on, present = asyncio.Event(), Gathering.present
        all_look_for_room = threading.Barrier(5, timeout=30)

        async def waiting(self: Gathering, segment_id: UUID) -> Segment:
            if str(segment_id) == ids[2]:
                await go_on.wait()
            return await present(self, segment_id)

        monkeypatch.setattr(Gathering, "present", waiting)
        monkeypatch.setattr("cctv_storaged.clips._require_room", lambda folder, *_: meet(folder))

        def meet(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            all_look_for_room.wait()

        asking = [asyncio.create_task(host.get(clip_path(0, 9 + number / 4))) for number in range(5)]

        async def one_is_refused() -> bool:
            return sum(each.done() for each in asking) == 1

        await until(one_is_refused)
        go_on.set()
        assert sorted([(await each).status for each in asking]) == [200] * 4 + [429]
