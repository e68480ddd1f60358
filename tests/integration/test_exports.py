"""What is in an export: the pictures of the span, from whatever is left of them, and word of the rest."""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import random
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import pytest_asyncio

from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.exporting import jobs, trying
from cctv_storaged.exporting.packing import Packing
from cctv_storaged.recorder.source import OpenSource
from tests.integration.api.exported import (
    DOCK,
    GATE,
    NAMED,
    YARD,
    asked,
    ended,
    fetched,
    held_ffmpeg,
    moment,
    recorded,
    shelved,
    state,
    work,
    work_folders,
)
from tests.integration.api.harness import Host, description, path_of, running, until
from tests.integration.api.test_store import settings as minio
from tests.numbered import RATE, numbered_ts, pictures_in
from tests.services.catalog import raw_connection
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import Bucket, SeaweedServer

SEGMENT = 2 * RATE
"""Pictures in one."""


@pytest_asyncio.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with running(tmp_path, NAMED) as started:
        yield started


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is tried again at once."""
    monkeypatch.setattr(trying, "retry_delay", lambda waits: timedelta(milliseconds=20))


def numbers_in(path: Path) -> list[int]:
    return [picture.number for picture in pictures_in(path)]


def segments_of(*numbers: int) -> list[int]:
    """The pictures of these segments."""
    return [number * SEGMENT + each for number in numbers for each in range(SEGMENT)]


# What was asked for


@pytest.mark.parametrize(
    ("store", "format_"),
    [("FILESYSTEM", "mp4"), ("FILESYSTEM", "mkv"), ("FILESYSTEM", "ts"), ("MINIO", "mp4")],
)
async def test_an_export_shows_what_was_recorded_then(
    tmp_path: Path, request: pytest.FixtureRequest, store: str, format_: str
) -> None:
    """Straight from the recorder's files, and from a bucket alone once these are gone."""
    more: dict[str, Any] = {}
    if store == "MINIO":
        bucket: Bucket = request.getfixturevalue("seaweed_bucket")
        more = dict(minio(bucket.server, bucket))
        more["minio"] = {**more["minio"], "bucket_exports": f"{bucket.name}-exports"}
    async with running(tmp_path, more) as host:
        segments = await recorded(host, seconds=8, audio=True)
        if store == "MINIO":
            host.deliver()
            for segment in segments:
                await host.delivered(segment)
            for path in host.recordings.rglob("*.ts"):
                path.unlink()
        work(host)
        export = await ended(host, await asked(host, start_s=2.5, end_s=5.5, format=format_))
        assert (export["gaps"], export["segments"]) == ([], 2)
        (file,) = export["files"]
        assert (file["start_time"], file["codec"]) == ("2026-01-01T10:00:02Z", "h264")
        path = await fetched(host, export, tmp_path)
        assert path.suffix == f".{format_}"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == export["checksum"] == file["checksum"]
        assert numbers_in(path) == list(range(20, 55))


async def test_several_cameras_give_a_zip_with_one_file_of_each(tmp_path: Path) -> None:
    async with running(tmp_path, NAMED) as host:
        await recorded(host, "gate")
        await recorded(host, "yard", first=500)
        work(host)
        export = await ended(host, await asked(host, GATE, YARD, DOCK, format="mkv"))
        path = await fetched(host, export, tmp_path)
        assert (path.suffix, export["files_total"]) == (".zip", 2)
        with zipfile.ZipFile(path) as packed:
            assert packed.testzip() is None
            assert {each.compress_type for each in packed.infolist()} == {zipfile.ZIP_STORED}
            names = [file["name"] for file in export["files"]]
            assert [name.split("-")[0] for name in names] == ["Gate", "Yard"]
            assert packed.namelist() == [*names, "manifest.json"]
            manifest = json.loads(packed.read("manifest.json"))
            packed.extractall(tmp_path / "out")
        assert [numbers_in(tmp_path / "out" / name)[0] for name in names] == [0, 500]
        assert [file["sha256"] for file in manifest["files"]] == [
            file["checksum"] for file in export["files"]
        ]
        (gap,) = export["gaps"]
        assert (gap["camera_id"], gap["start"], gap["end"]) == (
            str(DOCK),
            "2026-01-01T10:00:00Z",
            "2026-01-01T10:00:06Z",
        )
        assert [len(camera["gaps"]) for camera in manifest["cameras"]] == [0, 0, 1]


async def test_an_evidence_package_holds_the_very_originals(host: Host, tmp_path: Path) -> None:
    await recorded(host)
    originals = {path.read_bytes() for path in host.recordings.rglob("*.ts")}
    work(host)
    export = await ended(host, await asked(host, package="evidence"))
    with zipfile.ZipFile(await fetched(host, export, tmp_path)) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert {packed.read(name) for name in names if name.startswith("originals/")} == originals
        clips = {file["name"] for file in export["files"]}
        assert {"manifest.json", "manifest.json.sig", *clips} < set(names)
    told = (await host.get(f"/exports/{export['id']}/manifest")).json
    assert told["manifest"]["kind"] == "evidence"
    assert told["manifest"]["key"] == (await host.get("/signing-key")).json["fingerprint"]


# What is not there


async def test_a_gap_is_told_and_the_pictures_around_it_keep_their_time(host: Host, tmp_path: Path) -> None:
    await recorded(host, seconds=8, without=[1])
    work(host)
    export = await ended(host, await asked(host, end_s=8))
    (gap,) = export["gaps"]
    assert (gap["start"], gap["end"], gap["cause"]) == (
        "2026-01-01T10:00:02Z",
        "2026-01-01T10:00:04Z",
        "unknown",
    )
    pictures = pictures_in(await fetched(host, export, tmp_path))
    assert [each.number for each in pictures] == segments_of(0, 2, 3)
    assert all(each.at_s == pytest.approx(each.number / RATE, abs=0.01) for each in pictures)


def noise(size_bytes: int) -> bytes:
    """The same each time: by chance, some would pass for packets of a stream."""
    return random.Random(35).randbytes(size_bytes)


Damage = Callable[[Path], None]


def _zeroes(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _noise(path: Path) -> None:
    path.write_bytes(noise(path.stat().st_size))


def _nothing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_zeroes, _noise, _nothing])
async def test_what_became_of_a_segment_on_the_disk_is_a_gap_that_is_told(
    host: Host, tmp_path: Path, damage: Damage
) -> None:
    """T-35: never a shorter film without a word."""
    await recorded(host)
    damage(host.recordings / "gate" / "001.ts")
    work(host)
    export = await ended(host, await asked(host))
    (gap,) = export["gaps"]
    assert (gap["start"], gap["end"]) == ("2026-01-01T10:00:02Z", "2026-01-01T10:00:04Z")
    assert gap["cause"] == "unreadable" and gap["detail"]
    assert numbers_in(await fetched(host, export, tmp_path)) == segments_of(0, 2)
    sources = (await host.get(f"/exports/{export['id']}/manifest")).json["sources"]
    assert [each["used"] for each in sources] == [True, False, True]


async def test_an_original_that_is_not_as_recorded_is_told_with_its_package(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the court finds it: by the export, and in the log."""
    host.deliver()
    for segment in await recorded(host):
        await host.delivered(segment)
    path = host.recordings / "gate" / "001.ts"
    times = path.stat()
    with path.open("r+b") as file:  # the store's link is the same bytes
        file.seek(-1000, os.SEEK_END)
        file.write(noise(100))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    work(host)
    export = await ended(host, await asked(host, package="evidence"))
    assert "differing" in [gap["cause"] for gap in export["gaps"]]
    assert "not as recorded" in caplog.text


async def test_garbage_in_the_middle_of_a_segment_is_a_gap_that_is_told(host: Host, tmp_path: Path) -> None:
    path = host.recordings / "gate" / "long.ts"
    path.parent.mkdir(parents=True)
    data = bytearray(numbered_ts(seconds=12).read_bytes())
    path.write_bytes(data)
    body = description(path, camera=GATE, start=moment(0), seconds=12)
    assert (await host.post("/segments", body)).status == 201
    times = path.stat()
    data[len(data) // 4 : len(data) // 2] = noise(len(data) // 2 - len(data) // 4)
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    work(host)
    export = await ended(host, await asked(host, end_s=12))
    (gap,) = export["gaps"]
    assert gap["cause"] == "unreadable"
    assert "2026-01-01T10:00:01Z" < gap["start"] < gap["end"] < "2026-01-01T10:00:09Z"
    manifest = (await host.get(f"/exports/{export['id']}/manifest")).json["manifest"]
    assert [each["detail"] for each in manifest["cameras"][0]["gaps"]] == [gap["detail"]]


async def test_a_copy_that_the_store_spoiled_is_a_gap_and_its_twin_is_not(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    """T-35 with a bucket: what the store gives is proven before it counts."""
    more = dict(minio(seaweed, seaweed_bucket))
    async with running(tmp_path, more) as host:
        host.deliver()
        segments = [await host.delivered(each) for each in await recorded(host)]
        spoiled = segments[1]["storage_path"]
        seaweed_bucket.replace(spoiled, bytes(len(seaweed_bucket.read(spoiled))))
        sources = sorted(host.recordings.rglob("*.ts"))
        sources[0].unlink()
        sources[1].unlink()
        work(host)
        export = await ended(host, await asked(host))
        assert [gap["cause"] for gap in export["gaps"]] == ["unreadable"]
        assert numbers_in(await fetched(host, export, tmp_path)) == segments_of(0, 2)


@pytest.mark.parametrize("package", ["plain", "evidence"])
async def test_a_source_that_the_disk_cannot_read_is_taken_from_a_copy(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    host.deliver()
    segments = [await host.delivered(each) for each in await recorded(host)]
    spoiled = (host.recordings / "gate" / "001.ts").stat()
    read = OpenSource.read

    def bad_sector(self: OpenSource, offset: int, size_bytes: int) -> bytes:
        if self.identity.inode == spoiled.st_ino:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(self, offset, size_bytes)

    monkeypatch.setattr(OpenSource, "read", bad_sector)
    work(host)
    export = await ended(host, await asked(host, package=package))
    assert (export["gaps"], export["segments"]) == ([], len(segments))


async def test_an_original_that_changes_while_it_is_packed_is_taken_from_a_copy(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.deliver()
    for segment in await recorded(host):
        await host.delivered(segment)
    pack = Packing.pack

    async def packed(self: Packing, *arguments: Any) -> Any:
        path = host.recordings / "gate" / "001.ts"
        other = path.with_suffix(".new")
        other.write_bytes(bytes(path.stat().st_size))
        opened = OpenSource.unchanged

        def unchanged(source: OpenSource) -> bool:
            if path.with_suffix(".new").exists() and source.identity.inode == path.stat().st_ino:
                other.rename(path)
                return False
            return opened(source)

        monkeypatch.setattr(OpenSource, "unchanged", unchanged)
        return await pack(self, *arguments)

    monkeypatch.setattr(Packing, "pack", packed)
    work(host)
    export = await ended(host, await asked(host, package="evidence"))
    assert export["gaps"] == []


async def test_a_segment_deleted_before_is_told_as_deleted_and_none_is_once_it_is_asked_for(
    host: Host, tmp_path: Path
) -> None:
    segments = await recorded(host)
    assert (await host.delete(path_of(segments[2]))).status == 204
    export = await asked(host)
    refused = await host.delete(path_of(segments[1]))
    assert (refused.status, export["id"] in refused.json["detail"]) == (409, True), "it waits for its turn"
    work(host)
    done = await ended(host, export)
    assert [(gap["start"], gap["cause"]) for gap in done["gaps"]] == [("2026-01-01T10:00:04Z", "deleted")]
    assert numbers_in(await fetched(host, done, tmp_path)) == segments_of(0, 1)


async def test_another_codec_in_the_middle_gives_a_file_for_each_stretch(host: Host, tmp_path: Path) -> None:
    await recorded(host, without=[1])
    other = host.recordings / "gate" / "other.ts"
    other.write_bytes(numbered_ts(seconds=2, first=20, codec="hevc").read_bytes())
    body = description(other, camera=GATE, start=moment(2), seconds=2)
    assert (await host.post("/segments", body)).status == 201
    work(host)
    export = await ended(host, await asked(host))
    assert ([file["codec"] for file in export["files"]], export["gaps"]) == (["h264", "hevc", "h264"], [])
    with zipfile.ZipFile(await fetched(host, export, tmp_path)) as packed:
        packed.extractall(tmp_path / "out")
    shown = [numbers_in(tmp_path / "out" / file["name"]) for file in export["files"]]
    assert shown == [segments_of(0), segments_of(1), segments_of(2)]


async def test_with_nothing_left_an_export_fails_and_says_of_what(host: Host) -> None:
    await recorded(host)
    export = await asked(host)
    for path in host.recordings.rglob("*.ts"):
        path.unlink()
    work(host)
    failed = await ended(host, export, status="FAILED")
    assert "2026-01-01T10:00:00Z" in failed["error"] and str(GATE) in failed["error"]

    async def is_clean() -> bool:
        return not work_folders(host) and not shelved(host)

    await until(is_clean)
    download = await host.get(f"/exports/{export['id']}/download")
    assert (download.status, failed["error"] in download.json["detail"]) == (409, True)


# What goes on


async def test_an_export_waits_for_a_store_that_is_away(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket, soon: None
) -> None:
    more = dict(minio(seaweed, seaweed_bucket))
    async with running(tmp_path, more) as host:
        host.deliver()
        for segment in [await host.delivered(each) for each in await recorded(host)][:1]:
            assert segment["storage_backend"] == "MINIO"
        for path in host.recordings.rglob("*.ts"):
            path.unlink()
        seaweed.stop()
        work(host)
        export = await asked(host)

        async def is_waiting() -> dict[str, Any] | None:
            now = await state(host, export)
            return now if now["error"] and now["status"] == "PENDING" else None

        waiting = await until(is_waiting)  # between two tries: while it is tried it still has the error
        assert "waiting" in waiting["error"]
        assert not host.parts.pruner.pins or work_folders(host)
        seaweed.start()
        done = await ended(host, export)
        assert (done["error"], done["gaps"]) == (None, [])
        assert numbers_in(await fetched(host, done, tmp_path)) == segments_of(0, 1, 2)


async def test_an_export_whose_store_stays_away_is_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch, soon: None
) -> None:
    """Its takes are whole long since, and found so with every try: that is no progress."""
    monkeypatch.setattr(trying, "LONGEST_WAIT", timedelta(seconds=1))
    monkeypatch.setattr(jobs, "IDLE_S", 0.02)

    async def away(*_: object) -> None:
        raise BackendUnavailable("nobody is there")

    await recorded(host)
    monkeypatch.setattr(host.parts.foundation.exports_store, "put", away)
    work(host)
    failed = await ended(host, await asked(host), status="FAILED")
    assert "given up" in failed["error"] and "nobody is there" in failed["error"]


@pytest.mark.parametrize("spoiled", [False, True])
async def test_the_next_process_uses_whole_takes_again_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: bool
) -> None:
    """Stopped at the second camera; at the first one the next process hangs if it does that again."""
    environ, hold = held_ffmpeg(tmp_path)
    monkeypatch.setenv("PATH", environ["PATH"])
    hold.write_text("Yard")
    async with running(tmp_path, NAMED) as host:
        await recorded(host, "gate")
        await recorded(host, "yard", first=100)
        export = await asked(host, GATE, YARD)
        folder = host.settings.data_dir / "work" / "exports" / export["id"]
        work(host)

        async def is_at_the_second() -> bool:
            return bool((folder / "001").is_dir())

        await until(is_at_the_second)
    (first,) = (folder / "000").iterdir()
    if spoiled:
        first.write_bytes(bytes(first.stat().st_size))
    hold.write_text("Gate")
    async with running(tmp_path, NAMED) as host:
        assert (await state(host, export))["status"] == "PENDING"
        work(host)
        if spoiled:

            async def is_made_anew() -> bool:
                return not first.exists()

            await until(is_made_anew)
            hold.unlink()
        done = await ended(host, export)
        hold.unlink(missing_ok=True)
        assert (done["files_total"], done["gaps"]) == (2, [])
        with zipfile.ZipFile(await fetched(host, done, tmp_path)) as packed:
            packed.extractall(tmp_path / "out")
        assert numbers_in(tmp_path / "out" / first.name) == segments_of(0, 1, 2)
        assert work_folders(host) == []


async def test_an_ffmpeg_that_somebody_kills_is_tried_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel, for want of memory, for one."""
    environ, hold = held_ffmpeg(tmp_path)
    monkeypatch.setenv("PATH", environ["PATH"])
    hold.write_text("Gate")
    await recorded(host)
    export = await asked(host)
    work(host)

    async def begun() -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process().children()
            return next((each for each in children if "Gate" in " ".join(each.cmdline())), None)
        return None

    first = await until(begun)
    first.kill()

    async def begun_anew() -> bool:
        now = await begun()
        return now is not None and now.pid != first.pid

    await until(begun_anew)
    hold.unlink()
    assert (await ended(host, export))["gaps"] == []


async def test_what_ends_the_daemon_again_and_again_is_given_up(host: Host) -> None:
    await recorded(host)
    export = await asked(host)
    for _ in range(trying.MOST_STARTS):
        await host.journal.exports.begin(UUID(export["id"]))
    work(host)
    failed = await ended(host, export, status="FAILED")
    assert "given up" in failed["error"]


async def test_ten_exports_at_once_are_all_made_and_the_daemon_answers(host: Host) -> None:
    """T-38, its part: two are worked on at a time, and nobody else waits for them."""
    await recorded(host)
    exports = [await asked(host, start_s=number % 3) for number in range(10)]
    work(host)
    seen: set[int] = set()
    while any(not each["completed_at"] for each in (await host.get("/exports")).json["exports"]):
        assert (await host.get("/health")).status == 200
        listed = (await host.get("/exports")).json["exports"]
        seen.add(sum(each["status"] == "PROCESSING" for each in listed))
    assert max(seen) <= 2 and {1, 2} & seen
    for export in exports:
        assert (await ended(host, export))["gaps"] == []


async def test_an_export_in_a_store_that_the_settings_left_is_told_and_removed_once_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither answered as if nothing were wrong nor forgotten with its bytes still lying there."""
    monkeypatch.setattr(jobs, "PATIENCE_S", 60.0)  # the answer to a deletion comes with its end
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        folder.mkdir()
    async with running(tmp_path, {**NAMED, "filesystem": {"path": str(before)}}) as host:
        await recorded(host)
        work(host)
        export, other = await ended(host, await asked(host)), await ended(host, await asked(host))
    async with running(tmp_path, {**NAMED, "filesystem": {"path": str(after)}}) as host:
        for what in ("download", "manifest"):
            reply = await host.get(f"/exports/{export['id']}/{what}")
            assert (reply.status, str(before) in reply.json["detail"]) == (409, True)
        (after / "exports").mkdir()
        name = f"{other['id']}.mp4"
        (before / "exports" / name).rename(after / "exports" / name)
        assert (await host.get(f"/exports/{other['id']}/download")).status == 200
        for each in (export, other):
            assert (await host.delete(f"/exports/{each['id']}")).status == 204
        assert shelved(host) == set()
        await host.parts.exporting.run_once()
        assert caplog.text.count(f"export {export['id']} cannot be removed") == 1
    assert (before / "exports" / f"{export['id']}.mp4").exists()
    async with running(tmp_path, {**NAMED, "filesystem": {"path": str(before)}}) as host:
        await host.parts.exporting.run_once()
        assert f"{export['id']}.mp4" not in shelved(host)
        assert await host.journal.exports.removals(10) == []


async def test_the_catalog_is_told_of_exports_whenever_it_listens(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    database = postgres_database
    given = {
        "host": database.host,
        "port": database.port,
        "db": database.name,
        "user": database.user,
        "password": database.password,
        "ssl": "disable",
    }
    async with running(tmp_path, {"postgres": given}) as host, raw_connection(database) as fleet:
        await recorded(host)
        export, other = await asked(host), await asked(host)
        assert host.parts.cataloguing is not None
        host.tasks.append(asyncio.create_task(host.parts.cataloguing.run()))

        async def told() -> dict[UUID, Any] | None:
            host.parts.cataloguing.wake() if host.parts.cataloguing else None
            if await fleet.fetchval("SELECT to_regclass('exports')") is None:
                return None
            rows = await fleet.fetch("SELECT * FROM exports")
            return {row["id"]: row for row in rows} if rows else None

        rows = await until(told)
        row = rows[UUID(export["id"])]
        assert (row["status"], row["camera_ids"], row["reason"]) == ("PENDING", [GATE], "incident")
        work(host)
        done = await ended(host, export)

        async def told_of_the_end() -> Any:
            return (await told() or {}).get(UUID(export["id"]), {"status": ""})["status"] == "COMPLETED"

        await until(told_of_the_end)
        row = (await told() or {})[UUID(export["id"])]
        assert (row["file_size"], row["file_path"]) == (done["file_size"], f"{export['id']}.mp4")
        await ended(host, other)
        assert (await host.delete(f"/exports/{other['id']}")).status == 204

        async def forgotten() -> bool:
            return set(await told() or {}) == {UUID(export["id"])}

        await until(forgotten)
