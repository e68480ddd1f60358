"""Segments by the API: registered once, listed by time, shown, deleted."""

import asyncio
import base64
import fcntl
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.api.segment_models import SegmentAnswer, SegmentsAnswer
from cctv_storaged.clock import rfc3339
from cctv_storaged.model import Camera, segment_id_for
from tests.footage import cached_ts
from tests.integration.api.harness import API, Host, description, path_of, running, until

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
START = datetime(2025, 1, 23, 10, tzinfo=UTC)


# Registering


async def test_a_file_is_registered_and_told_in_full(host: Host) -> None:
    path = host.file()
    body = description(path, camera=CAMERA, start=START)
    reply = await host.post("/segments", body)
    assert reply.status == 201
    segment = reply.json
    assert reply.headers["Location"] == f"{API}/segments/{CAMERA}/{segment['id']}"
    assert {key: segment[key] for key in ("camera_id", "start_time", "end_time", "size_bytes")} == {
        key: body[key] for key in ("camera_id", "start_time", "end_time", "size_bytes")
    }
    assert (segment["duration_seconds"], segment["checksum"], segment["storage_backend"]) == (2, None, None)
    assert (segment["held"], segment["flags"]) == (False, [])
    assert [copy["state"] for copy in segment["copies"]] == ["pending"]
    SegmentAnswer.model_validate(segment)
    assert (await host.get(path_of(segment))).json == segment


async def test_the_same_again_is_the_same_segment(host: Host) -> None:
    body = description(host.file(), camera=CAMERA)
    first, second = await host.post("/segments", body), await host.post("/segments", body)
    assert (first.status, second.status) == (201, 200)
    assert second.json == first.json
    assert second.headers["Location"] == first.headers["Location"]


async def test_many_at_once_make_one_segment(host: Host) -> None:
    body = description(host.file(), camera=CAMERA)
    replies = await asyncio.gather(*(host.post("/segments", body) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] * 19 + [201]
    assert len({reply.json["id"] for reply in replies}) == 1


async def test_the_id_is_the_one_that_a_scan_gives(host: Host) -> None:
    segment = await host.registered("gate/2025-01-23/10-00-00.ts")
    source = (await host.stored(segment["id"])).source
    assert (source.root, source.path) == (str(host.recordings), "gate/2025-01-23/10-00-00.ts")
    assert segment["id"] == str(segment_id_for("nvr-test", source))


async def test_what_a_scan_registered_first_is_found_and_not_doubled(tmp_path: Path) -> None:
    cameras = [{"id": str(CAMERA), "name": "Gate", "folder": "gate"}]
    async with running(tmp_path, {"cameras": cameras}) as host:
        path = host.file("gate/2025-01-23/10-00-00.ts")
        host.watch()

        async def scanned() -> list[Any]:
            return list(
                (await host.get(f"/segments/{CAMERA}", start="2025-01-23T00:00:00Z")).json["segments"]
            )

        found = await until(scanned)
        reply = await host.post("/segments", description(path, camera=CAMERA, start=START))
        assert (reply.status, reply.json["id"]) == (200, found[0]["id"])
        assert (
            len((await host.get(f"/segments/{CAMERA}", start="2025-01-23T00:00:00Z")).json["segments"]) == 1
        )


@pytest.mark.parametrize("change", ["camera", "start"])
async def test_a_file_registered_for_another_camera_or_time_is_a_conflict(host: Host, change: str) -> None:
    path = host.file()
    await host.post("/segments", description(path, camera=CAMERA, start=START))
    other = description(
        path,
        camera=uuid4() if change == "camera" else CAMERA,
        start=START + timedelta(hours=change == "start"),
    )
    reply = await host.post("/segments", other)
    assert reply.status == 409
    assert "registered already" in reply.json["detail"]


async def test_a_camera_keeps_the_name_it_has(tmp_path: Path) -> None:
    configured, found = CAMERA, uuid4()
    cameras = [{"id": str(configured), "name": "Gate", "folder": "gate"}]
    async with running(tmp_path, {"cameras": cameras}) as host:
        await host.journal.cameras.ensure(Camera(id=found, name="Yard", folder="yard"))
        for camera, name in ((configured, "Gate"), (found, "Yard")):
            await host.registered(f"x/{camera}.ts", camera=camera)
            assert (await host.get(f"/cameras/{camera}")).json["name"] == name


async def test_a_file_of_an_allowed_path_is_registered(host: Host) -> None:
    path = host.file("deep/er/a.ts", below=host.settings.api.allowed_paths[0])
    reply = await host.post("/segments", description(path))
    assert reply.status == 201
    source = (await host.stored(reply.json["id"])).source
    assert (source.root, source.path) == (str(host.settings.api.allowed_paths[0]), "deep/er/a.ts")


async def test_a_registered_segment_reaches_its_listeners_and_its_delivery(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered())
    assert segment["storage_backend"] == "FILESYSTEM"
    assert segment["storage_path"] == segment["copies"][0]["path"]
    assert len(segment["checksum"]) == 64
    assert (host.settings.filesystem.path / segment["storage_path"]).read_bytes() == cached_ts().read_bytes()
    SegmentAnswer.model_validate(segment)


async def test_a_file_still_written_to_is_refused(host: Host) -> None:
    path = host.file()
    with path.open("ab"):
        reply = await host.post("/segments", description(path))
    assert reply.status == 409
    assert "written" in reply.json["detail"]
    assert (await host.post("/segments", description(path))).status == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size_bytes": 1}, "size_bytes"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -5}, "size_bytes"),
        ({"size_bytes": 2**70}, "size_bytes"),
        ({"size_bytes": "12"}, "size_bytes"),
        ({"size_bytes": True}, "size_bytes"),
        ({"duration_seconds": 7}, "duration_seconds"),
        ({"duration_seconds": 0}, "duration_seconds"),
        ({"duration_seconds": None}, "duration_seconds"),
        ({"end_time": "2025-01-23T10:00:00Z"}, "end_time"),
        ({"end_time": "2025-01-22T10:00:00Z"}, "end_time"),
        ({"end_time": "2025-01-24T10:00:01Z", "duration_seconds": 86401}, "end_time"),
        ({"start_time": "2025-01-23T10:00:00"}, "start_time"),
        ({"start_time": 1737626400}, "start_time"),
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "2025-02-30T10:00:00Z"}, "start_time"),
        ({"start_time": "0001-01-01T00:00:00+23:59"}, "start_time"),
        ({"camera_id": "gate"}, "camera_id"),
        ({"camera_id": "{123e4567-e89b-12d3-a456-426614174000}"}, "camera_id"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_value_that_cannot_be_is_told_by_its_field(
    host: Host, change: dict[str, object], field: str
) -> None:
    body = description(host.file(), camera=CAMERA, start=START)
    reply = await host.post("/segments", {**body, **change})
    assert reply.status == 422
    assert field in reply.fields
    assert reply.headers["Content-Type"].startswith("application/problem+json")


async def test_all_missing_fields_are_told_at_once(host: Host) -> None:
    reply = await host.post("/segments", {})
    assert reply.fields == {
        "camera_id", "start_time", "end_time", "file_path", "size_bytes", "duration_seconds",
    }  # fmt: skip


async def test_a_span_that_the_streams_own_clock_contradicts_is_refused(host: Host) -> None:
    body = description(host.file(), camera=CAMERA, start=START, seconds=60)
    reply = await host.post("/segments", body)
    assert reply.status == 422
    assert reply.fields == {"duration_seconds"}
    assert "own clock" in reply.json["errors"][0]["message"]


async def test_any_offset_is_taken_and_utc_is_told(host: Host) -> None:
    body = description(host.file(), camera=CAMERA)
    body |= {"start_time": "2025-01-23T12:00:00+02:00", "end_time": "2025-01-23t04:30:02.5-05:30"}
    reply = await host.post("/segments", body | {"duration_seconds": 2.5})
    assert reply.status == 201, reply
    assert reply.json["start_time"] == "2025-01-23T10:00:00Z"
    assert reply.json["end_time"] == "2025-01-23T10:00:02.500000Z"
    assert reply.json["duration_seconds"] == 2.5


# Idempotency keys


async def test_an_idempotency_key_makes_one_thing(host: Host) -> None:
    body = description(host.file(), camera=CAMERA)
    key = {"Idempotency-Key": "retry-1"}
    first = await host.post("/segments", body, **key)
    second = await host.post("/segments", body, **key)
    assert (first.status, second.status) == (201, 200)
    assert first.json["id"] == second.json["id"]
    other = await host.post("/segments", {**body, "camera_id": str(uuid4())}, **key)
    assert other.status == 409


async def test_an_idempotency_key_answers_when_the_source_is_gone(host: Host) -> None:
    path = host.file()
    body = description(path, camera=CAMERA)
    first = await host.post("/segments", body, **{"Idempotency-Key": "k"})
    path.unlink()
    again = await host.post("/segments", body, **{"Idempotency-Key": "k"})
    assert (again.status, again.json["id"]) == (200, first.json["id"])


async def test_an_idempotency_key_does_not_bring_back_what_was_deleted(host: Host) -> None:
    path = host.file()
    body = description(path, camera=CAMERA)
    first = await host.post("/segments", body, **{"Idempotency-Key": "k"})
    await host.journal.deletions.begin(UUID(first.json["id"]))  # its bytes may be there for a while
    again = await host.post("/segments", body, **{"Idempotency-Key": "k"})
    assert again.status == 409
    assert "being deleted" in again.json["detail"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ä"])
async def test_an_odd_idempotency_key_is_refused(host: Host, key: str) -> None:
    reply = await host.post("/segments", description(host.file()), **{"Idempotency-Key": key})
    assert reply.status == 422
    assert reply.fields == {"Idempotency-Key"}


# Listing


async def several(host: Host, count: int, camera: UUID = CAMERA) -> list[dict[str, Any]]:
    """So many segments of 2 s, each right behind the other."""
    return [
        await host.registered(
            f"{camera}/{number}.ts", camera=camera, start=START + timedelta(seconds=2 * number)
        )
        for number in range(count)
    ]


async def test_all_that_overlap_are_listed_oldest_first(host: Host) -> None:
    segments = await several(host, 5)
    await several(host, 1, uuid4())
    span = {"start": rfc3339(START + timedelta(seconds=3)), "end": rfc3339(START + timedelta(seconds=8))}
    reply = await host.get(f"/segments/{CAMERA}", **span)
    assert [each["id"] for each in reply.json["segments"]] == [each["id"] for each in segments[1:4]]
    assert reply.json["next_cursor"] is None
    SegmentsAnswer.model_validate(reply.json)


async def test_pages_give_each_segment_once(host: Host) -> None:
    segments = await several(host, 7)
    params = {"start": rfc3339(START), "limit": "3"}
    seen: list[str] = []
    sizes = []
    while True:
        page = (await host.get(f"/segments/{CAMERA}", **params)).json
        seen += [each["id"] for each in page["segments"]]
        sizes.append(len(page["segments"]))
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [each["id"] for each in segments]
    assert sizes == [3, 3, 1]


async def test_a_deletion_between_two_pages_hides_nothing(host: Host) -> None:
    segments = await several(host, 6)
    params = {"start": rfc3339(START), "limit": "2"}
    first = (await host.get(f"/segments/{CAMERA}", **params)).json
    assert (await host.delete(path_of(segments[1]))).status == 204
    rest = (await host.get(f"/segments/{CAMERA}", **params, cursor=first["next_cursor"])).json
    assert [each["id"] for each in rest["segments"]] == [each["id"] for each in segments[2:4]]


async def test_without_a_span_the_last_day_is_listed(host: Host) -> None:
    now = datetime.now(UTC)
    recent = await host.registered("a/1.ts", camera=CAMERA, start=now - timedelta(hours=23))
    old = await host.registered("a/2.ts", camera=CAMERA, start=now - timedelta(hours=25))
    listed = (await host.get(f"/segments/{CAMERA}")).json["segments"]
    assert [each["id"] for each in listed] == [recent["id"]]
    before = await host.get(f"/segments/{CAMERA}", end=rfc3339(now - timedelta(hours=24)))
    assert [each["id"] for each in before.json["segments"]] == [old["id"]]
    since = await host.get(f"/segments/{CAMERA}", start=rfc3339(now - timedelta(days=400)))
    assert [each["id"] for each in since.json["segments"]] == [old["id"], recent["id"]]


async def test_a_plus_sign_that_became_a_space_is_understood(host: Host) -> None:
    segments = await several(host, 1)
    reply = await host.request("GET", f"/segments/{CAMERA}?start=2025-01-23T12:00:00+02:00")
    assert [each["id"] for each in reply.json["segments"]] == [segments[0]["id"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1000000", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%2010", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("start=now", "start"),
        ("start=2025-01-23", "start"),
        ("start=2025-01-23T10:00:00Z&end=2025-01-23T10:00:00Z", "end"),
        ("start=9999-12-31T23:59:59.999999Z", "end"),
        ("end=0001-01-01T00:00:00Z", "end"),
        ("cursor=abc", "cursor"),
        ("cursor=" + "A" * 32 + "=", "cursor"),
        ("cursor=" + base64.urlsafe_b64encode(b"\x7f" * 24).decode(), "cursor"),
        ("cursor=%00", "cursor"),
        ("scope=galaxy", "scope"),
        ("scope=fleet", "scope"),
        ("strat=2025-01-23T10:00:00Z", "strat"),
        ("limit=1&limit=2", "limit"),
        ("%ff%fe=1", None),
    ],
)
async def test_a_query_that_cannot_be_is_told_by_its_field(host: Host, query: str, field: str | None) -> None:
    await several(host, 1)
    reply = await host.request("GET", f"/segments/{CAMERA}?{query}")
    assert reply.status == 422
    assert field is None or field in reply.fields


async def test_a_camera_nobody_knows_is_not_found_and_one_without_footage_is_empty(tmp_path: Path) -> None:
    cameras = [{"id": str(CAMERA), "name": "Gate", "folder": "gate"}]
    async with running(tmp_path, {"cameras": cameras}) as host:
        assert (await host.get(f"/segments/{uuid4()}")).status == 404
        assert (await host.get(f"/segments/{CAMERA}")).json == {"segments": [], "next_cursor": None}


# One segment


async def test_another_cameras_path_shows_nothing(host: Host) -> None:
    segment = await host.registered(camera=CAMERA)
    for path in (f"/segments/{uuid4()}/{segment['id']}", f"/segments/{CAMERA}/{uuid4()}"):
        assert (await host.get(path)).status == 404
        assert (await host.get(f"{path}/content")).status == 404
        assert (await host.delete(path)).status == 404
    assert (await host.get(path_of(segment))).status == 200


async def test_a_deleted_segment_is_gone_everywhere(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered(camera=CAMERA))
    copy = host.settings.filesystem.path / segment["storage_path"]
    source = host.recordings / "gate/a.ts"
    assert copy.exists() and source.exists()
    reply = await host.delete(path_of(segment))
    assert (reply.status, reply.body) == (204, b"")
    assert not copy.exists() and not source.exists()
    assert (await host.get(path_of(segment))).status == 404
    assert (await host.delete(path_of(segment))).status == 404
    listed = await host.get(f"/segments/{CAMERA}")
    assert listed.json["segments"] == []


async def test_a_held_segment_is_not_deleted(host: Host) -> None:
    segment = await host.registered()
    number = UUID(segment["id"]).bytes
    await host.journal._store.write(
        lambda db: db.execute("UPDATE segment SET held = 1 WHERE id = ?", (number,))
    )
    reply = await host.delete(path_of(segment))
    assert reply.status == 409
    assert "held" in reply.json["detail"]
    assert (await host.get(path_of(segment))).json["held"] is True


async def test_a_deletion_that_a_backend_holds_up_is_certain_and_hidden_all_the_same(host: Host) -> None:
    """The store's folder cannot be changed: bytes stay for now, the segment is gone for everybody."""
    host.deliver()
    segment = await host.delivered(await host.registered(camera=CAMERA))
    copy = host.settings.filesystem.path / segment["storage_path"]
    blocked = copy.parent
    moved = blocked.with_name("moved")
    blocked.rename(moved)
    blocked.touch()  # a file where the folder was: ENOTDIR, for root as well
    assert (await host.delete(path_of(segment))).status == 204
    for path in ("", "/content"):
        assert (await host.get(path_of(segment) + path)).status == 404
    assert (await host.get(f"/segments/{CAMERA}")).json["segments"] == []
    assert (moved / copy.name).exists()


async def test_what_is_still_locked_by_a_reader_of_the_recorder_can_be_registered(host: Host) -> None:
    """Readers are no writers: only somebody who may change the bytes is waited for."""
    path = host.file()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert (await host.post("/segments", description(path))).status == 201
    finally:
        os.close(descriptor)
