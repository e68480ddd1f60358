"""Exports over the API: what is refused and why, what is promised, and what becomes of it."""

import asyncio
import json
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cctv_storaged.api.export_models import ExportAnswer, ExportManifestAnswer, ExportsAnswer
from cctv_storaged.backends.filesystem import FilesystemBackend
from cctv_storaged.clock import rfc3339
from cctv_storaged.events import EventKind
from cctv_storaged.exporting import jobs
from tests.integration.api.exported import (
    GATE,
    YARD,
    asked,
    body_of,
    ended,
    held_ffmpeg,
    recorded,
    shelved,
    state,
    work_folders,
)
from tests.integration.api.exported import work as working
from tests.integration.api.harness import Host, path_of, running, until
from tests.integration.api.test_store import settings as minio
from tests.services.seaweed import Bucket, SeaweedServer

FUTURE = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there no ffmpeg begins."""
    environ, file = held_ffmpeg(tmp_path)
    monkeypatch.setenv("PATH", environ["PATH"])
    return file


# Refused


WRONG: list[tuple[dict[str, Any], set[str]]] = [
    ({"camera_ids": None}, {"camera_ids"}),
    ({"camera_ids": []}, {"camera_ids"}),
    ({"camera_ids": [str(GATE), "gate"]}, {"camera_ids.1"}),
    ({"camera_ids": [str(GATE), str(GATE)]}, {"camera_ids.1"}),
    ({"camera_ids": [str(uuid4()) for _ in range(65)]}, {"camera_ids"}),
    ({"start_time": "yesterday", "end_time": 5}, {"start_time", "end_time"}),
    ({"end_time": "2026-01-01T09:00:00Z"}, {"end_time"}),
    ({"end_time": "2026-01-02T10:00:01Z"}, {"end_time"}),
    ({"start_time": rfc3339(FUTURE), "end_time": rfc3339(FUTURE + timedelta(hours=1))}, {"start_time"}),
    ({"format": "avi"}, {"format"}),
    ({"format": None}, {"format"}),
    ({"reason": ""}, {"reason"}),
    ({"reason": "a\x00b"}, {"reason"}),
    ({"precise": "yes", "package": "zip"}, {"precise", "package"}),
    ({"created_by": "x" * 256, "case_id": 7}, {"created_by", "case_id"}),
    ({"colour": "red"}, {"colour"}),
]


async def test_every_wrong_field_is_told(host: Host) -> None:
    for changes, blamed in WRONG:
        body = {key: value for key, value in {**body_of(), **changes}.items() if value is not None}
        reply = await host.post("/exports", body)
        assert (reply.status, reply.fields) == (422, blamed)
    assert (await host.get("/exports")).json["exports"] == []


async def test_unknown_cameras_are_named_one_by_one(host: Host) -> None:
    await recorded(host)
    unknown = uuid4()
    reply = await host.post("/exports", body_of(unknown, GATE))
    assert (reply.status, reply.fields) == (422, {"camera_ids.0"})
    assert str(unknown) in reply.json["errors"][0]["message"]


async def test_a_span_without_any_footage_says_where_the_nearest_is(host: Host) -> None:
    await recorded(host)
    after = await host.post("/exports", body_of(start_s=10, end_s=20))
    before = await host.post("/exports", body_of(start_s=-20, end_s=-10))
    assert (after.status, before.status) == (422, 422)
    assert "ends at 2026-01-01T10:00:06Z" in after.json["errors"][0]["message"]
    assert "begins at 2026-01-01T10:00:00Z" in before.json["errors"][0]["message"]


async def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    async with running(tmp_path, {"exports": {"queue": 2}}) as host:
        await recorded(host)
        first = await asked(host)
        await asked(host)
        reply = await host.post("/exports", body_of())
        assert (reply.status, int(reply.headers["Retry-After"]) > 0) == (429, True)
        assert "exports.queue" in reply.json["detail"]
        await host.delete(f"/exports/{first['id']}")
        await asked(host)


async def test_a_disk_without_room_for_it_is_told_with_both_numbers(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is real; how much of it is free is what the test says."""
    (segment,) = await recorded(host, seconds=2)
    needed = int(segment["size_bytes"] * 1.1)
    disk = namedtuple("disk", ("f_bavail", "f_frsize", "f_blocks", "f_bfree"))
    monkeypatch.setattr("os.statvfs", lambda path: disk(needed - 1, 1, 0, 0))
    reply = await host.post("/exports", body_of())
    assert (reply.status, reply.json["type"]) == (507, "urn:cctv-storaged:problem:no-room")
    assert str(needed) in reply.json["detail"] and str(needed - 1) in reply.json["detail"]
    monkeypatch.setattr("os.statvfs", lambda path: disk(2 * needed, 1, 0, 0))
    await asked(host)


# Taken in


async def test_the_same_key_makes_one_export(host: Host) -> None:
    await recorded(host)
    body = json.dumps(body_of()).encode()
    key = {"Idempotency-Key": "again"}
    replies = await asyncio.gather(
        *(host.request("POST", "/exports", data=body, headers=key) for _ in range(5))
    )
    assert {reply.status for reply in replies} <= {200, 202}
    assert len({reply.json["id"] for reply in replies}) == 1
    assert len({reply.headers["Location"] for reply in replies}) == 1
    other = json.dumps(body_of(format="mkv")).encode()
    assert (await host.request("POST", "/exports", data=other, headers=key)).status == 409
    assert len((await host.get("/exports")).json["exports"]) == 1


async def test_a_token_needs_the_scope_and_signs_with_its_name(host: Host) -> None:
    await recorded(host)
    made = {}
    for name, scopes in (("ops", ["admin"]), ("viewer", ["read", "write"]), ("exporter", ["export"])):
        reply = await host.post("/tokens", {"name": name, "scopes": scopes})
        host.token = host.token or reply.json["secret"]
        made[name] = reply.json["secret"]
    host.token = made["viewer"]
    assert (await host.post("/exports", body_of())).status == 403
    assert (await host.get("/exports")).status == 403
    host.token = made["exporter"]
    assert (await asked(host))["created_by"] == "exporter"
    assert (await asked(host, created_by="Sgt. Pepper"))["created_by"] == "Sgt. Pepper"


async def test_a_list_is_paged_newest_first_and_filtered_by_status(host: Host) -> None:
    await recorded(host)
    made = [await asked(host) for _ in range(3)]
    await host.delete(f"/exports/{made[1]['id']}")
    page = (await host.get("/exports", limit="2")).json
    ExportsAnswer.model_validate(page)
    rest = (await host.get("/exports", limit="2", cursor=page["next_cursor"])).json
    ids = [each["id"] for each in (*page["exports"], *rest["exports"])]
    assert (ids, rest["next_cursor"]) == ([each["id"] for each in reversed(made)], None)
    cancelled = (await host.get("/exports", status="CANCELLED")).json["exports"]
    assert [each["id"] for each in cancelled] == [made[1]["id"]]
    assert (await host.get("/exports", status="DONE")).status == 422
    assert (await host.get(f"/exports/{uuid4()}")).status == 404


# Made, watched, fetched


async def test_an_export_is_followed_to_its_file_and_its_manifest(host: Host, hold: Path) -> None:
    """PENDING, PROCESSING, COMPLETED; a download too early is told so; then all there is to know."""
    segments = await recorded(host)
    hold.touch()
    export = await asked(host, case_id="2026-17")
    assert (export["status"], export["progress"], export["download_url"]) == ("PENDING", 0, None)
    early = await host.get(f"/exports/{export['id']}/download")
    assert (early.status, "PENDING" in early.json["detail"]) == (409, True)
    with host.parts.foundation.hub.listen() as listener:
        working(host)

        async def is_worked_on() -> bool:
            return bool((await state(host, export))["status"] == "PROCESSING")

        await until(is_worked_on)
        assert (await host.get(f"/exports/{export['id']}/manifest")).status == 409
        hold.unlink()
        done = await ended(host, export)
        states: list[str | None] = []
        async with asyncio.timeout(20):
            while not states or states[-1] != "COMPLETED":  # told once it is so
                event = await listener.queue.get()
                states += [event.state] if event is not None and event.kind is EventKind.EXPORT else []
    assert [each for each in states if each != "PROGRESS"] == ["PROCESSING", "COMPLETED"]
    ExportAnswer.model_validate(done)
    assert (done["progress"], done["error"], done["gaps"], done["segments"]) == (1, None, [], 3)
    assert done["download_url"] == f"/api/v1/storage/exports/{export['id']}/download"

    manifest = (await host.get(f"/exports/{export['id']}/manifest")).json
    ExportManifestAnswer.model_validate_json(json.dumps(manifest))
    assert manifest["manifest"]["request"]["case_id"] == "2026-17"
    assert [each["segment_id"] for each in manifest["sources"]] == [each["id"] for each in segments]
    assert manifest["file"]["sha256"] == done["checksum"]

    async def nothing_is_left() -> bool:  # of the work, once that was told
        return work_folders(host) == []

    await until(nothing_is_left)


async def test_a_file_is_fetched_whole_and_in_part(host: Host) -> None:
    await recorded(host)
    working(host)
    export = await ended(host, await asked(host))
    path = f"/exports/{export['id']}/download"
    whole = await host.get(path)
    assert whole.headers["ETag"] == f'"{export["checksum"]}"'
    assert whole.headers["Content-Type"] == "video/mp4"
    assert export["file_name"] in whole.headers["Content-Disposition"]
    assert len(whole.body) == export["file_size"]
    head = await host.request("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(export["file_size"]))
    part = await host.request("GET", path, headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{export['file_size']}"
    beyond = await host.request("GET", path, headers={"Range": f"bytes={export['file_size']}-"})
    assert beyond.status == 416
    same = await host.request("GET", path, headers={"If-None-Match": whole.headers["ETag"]})
    other = await host.request("GET", path, headers={"If-Match": '"another"'})
    stale = await host.request("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (same.status, other.status, stale.status) == (304, 412, 200)


async def test_a_store_hands_its_files_out_itself_where_that_is_wanted(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE_S", 60.0)  # who deletes, or ends the job, removes its bytes himself
    given = minio(seaweed, seaweed_bucket)
    given["minio"] = {**given["minio"], "bucket_exports": f"{seaweed_bucket.name}-exports"}  # type: ignore[dict-item]
    async with running(tmp_path, given) as host:
        await recorded(host)
        working(host)
        export = await ended(host, await asked(host, format="ts"))
        assert export["download_url"].startswith(f"http://{seaweed.endpoint}/{seaweed_bucket.name}-exports/")
        async with host.session.get(export["download_url"], headers={"Range": "bytes=0-187"}) as answer:
            assert (answer.status, len(await answer.read())) == (206, 188)
            assert export["file_name"] in answer.headers["Content-Disposition"]
        assert (await host.get(f"/exports/{export['id']}/download")).status == 200
        assert (await host.delete(f"/exports/{export['id']}")).status == 204

        async def is_removed() -> bool:
            async with host.session.get(str(export["download_url"])) as answer:
                return answer.status == 404

        await until(is_removed)


# Over


async def test_an_expired_export_is_gone_at_its_moment_and_its_bytes_follow(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(host)
    working(host)
    export = await ended(host, await asked(host))
    later = datetime.now(UTC) + timedelta(days=7)
    monkeypatch.setattr(type(host.parts.foundation.clock), "now", lambda clock: later)
    monkeypatch.setattr(host.parts.foundation.clock_guard, "distrust", lambda: None)  # days that did pass
    now = await state(host, export)
    assert (now["status"], now["expired"], now["download_url"]) == ("COMPLETED", True, None)
    for what in ("download", "manifest"):
        assert (await host.get(f"/exports/{export['id']}/{what}")).status == 410
    assert len(shelved(host)) == 2

    async def is_removed() -> bool:
        await host.parts.exporting.run_once()  # by the clock; one whose job is just ending has another turn
        return shelved(host) == set()

    await until(is_removed)
    assert (await state(host, export))["expired"]
    await host.delete(f"/exports/{export['id']}")
    assert (await host.get(f"/exports/{export['id']}")).status == 404


async def test_no_export_goes_while_the_journal_may_have_forgotten_the_hold_that_needs_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(host)
    working(host)
    export = await ended(host, await asked(host))
    exporting = host.parts.exporting
    [keeper] = host.parts.upkeep.keepers
    monkeypatch.setattr(keeper, "doubt", lambda: "the journal was damaged")
    refused = await host.delete(f"/exports/{export['id']}")
    assert (refused.status, "the journal was damaged" in refused.json["detail"]) == (409, True)
    change = "UPDATE export SET expires_us = 1"
    await host.journal._store.write(lambda db: db.execute(change))
    await exporting.run_once()
    assert len(shelved(host)) == 2
    monkeypatch.setattr(keeper, "doubt", lambda: None)

    async def is_removed() -> bool:
        await exporting.run_once()
        return shelved(host) == set()

    await until(is_removed)


async def test_what_an_export_needs_is_not_deleted_while_it_is_made(host: Host, hold: Path) -> None:
    first, *_ = await recorded(host)
    other = await host.registered("yard/a.ts", camera=YARD)
    hold.touch()
    working(host)
    export = await asked(host)

    async def is_needed() -> bool:
        return bool(work_folders(host))

    await until(is_needed)
    refused = await host.delete(path_of(first))
    assert (refused.status, export["id"] in refused.json["detail"]) == (409, True)
    assert (await host.delete(path_of(other))).status == 204
    hold.unlink()
    await ended(host, export)
    assert (await host.delete(path_of(first))).status == 204


@pytest.mark.parametrize("phase", ["waiting", "joining", "packing", "putting", "shelving", "over"])
async def test_an_export_is_cancelled_in_any_phase_and_leaves_nothing(
    host: Host, hold: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    await recorded(host)
    await recorded(host, "yard")
    reached, go_on, put_over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    shelf = host.parts.foundation.exports_store
    put, really_put = shelf.put, FilesystemBackend._put

    async def held_put(*arguments: Any) -> Any:
        done = await put(*arguments)
        reached.set()
        await go_on.wait()
        return done

    def held_thread(self: FilesystemBackend, *arguments: Any) -> Any:
        """Whoever is cancelled leaves, the thread goes on."""
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        try:
            return really_put(self, *arguments)
        finally:
            loop.call_soon_threadsafe(put_over.set)

    def held_sync(folder: Path) -> None:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

    if phase == "joining":
        hold.touch()
    elif phase == "packing":
        monkeypatch.setattr("cctv_storaged.exporting.packing.sync_folder", held_sync)
    elif phase == "putting":
        monkeypatch.setattr(jobs, "PATIENCE_S", 0.05)
        monkeypatch.setattr(FilesystemBackend, "_put", held_thread)
    elif phase == "shelving":
        monkeypatch.setattr(shelf, "put", held_put)
    if phase != "waiting":
        working(host)
    export = await asked(host, GATE, YARD)
    if phase in ("packing", "putting", "shelving"):
        await asyncio.wait_for(reached.wait(), 20)
    elif phase == "joining":

        async def is_joining() -> bool:
            return any(path.is_dir() for folder in work_folders(host) for path in folder.iterdir())

        await until(is_joining)
    elif phase == "over":
        await ended(host, export)
    assert (await host.delete(f"/exports/{export['id']}")).status == 204
    await host.parts.exporting.run_once()  # a removal that does not wait for the put removes nothing
    go_on.set()
    if phase == "putting":
        await asyncio.wait_for(put_over.wait(), 20)

    async def is_clean() -> bool:
        await host.parts.exporting.run_once()
        return not work_folders(host) and not shelved(host)

    await until(is_clean)
    assert not host.parts.pruner.pins
    if phase == "over":
        assert (await host.get(f"/exports/{export['id']}")).status == 404
    else:
        assert (await state(host, export))["status"] == "CANCELLED"
        assert (await host.get(f"/exports/{export['id']}/download")).status == 409
    assert (await host.get("/exports")).json["exports"] == (
        [] if phase == "over" else [await state(host, export)]
    )


async def test_metrics_count_every_status_and_how_long_it_took(host: Host) -> None:
    await recorded(host)
    first, second = await asked(host), await asked(host)
    await host.delete(f"/exports/{second['id']}")
    working(host)
    await ended(host, first)
    text = (await host.get("/metrics")).body.decode()
    for status, count in (
        ("PENDING", 2),
        ("PROCESSING", 1),
        ("COMPLETED", 1),
        ("CANCELLED", 1),
        ("FAILED", 0),
    ):
        assert f'storage_exports_created_total{{status="{status}"}} {count}.0' in text
    assert 'storage_export_duration_seconds_count{status="COMPLETED"} 1.0' in text
    assert 'storage_export_duration_seconds_count{status="FAILED"} 0.0' in text


async def test_a_hung_store_does_not_hold_up_the_answer_of_a_deletion(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(host)
    working(host)
    export = await ended(host, await asked(host))
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.05)
    shelf, hung = host.parts.foundation.exports_store, asyncio.Event()
    delete = shelf.delete

    async def held_delete(path: str) -> None:
        await hung.wait()
        await delete(path)

    monkeypatch.setattr(shelf, "delete", held_delete)
    assert (await host.delete(f"/exports/{export['id']}")).status == 204
    assert (await host.get(f"/exports/{export['id']}")).status == 404
    hung.set()

    async def is_removed() -> bool:
        await host.parts.exporting.run_once()
        return shelved(host) == set()

    await until(is_removed)
