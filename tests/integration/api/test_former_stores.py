"""After a change of `backend` what lies in the former store is served, deleted while its settings stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from cctv_storaged.alarms import AlarmName
from cctv_storaged.clock import SystemClock
from cctv_storaged.model import SourceState
from cctv_storaged.thumbnailshelf import ThumbnailShelf
from tests.footage import cached_ts
from tests.integration.api.harness import path_of, running, until
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

DATA = cached_ts(seconds=2).read_bytes


def minio(server: SeaweedServer, bucket: Bucket) -> dict[str, object]:
    return {
        "endpoint": server.endpoint,
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "bucket_recordings": bucket.name,
        "bucket_thumbnails": bucket.name,
    }


async def only_delivered(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A segment verified at the store of these settings, and nowhere else any more."""
    async with running(folder, settings) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
        foundation = host.parts.foundation
        shelf = ThumbnailShelf(foundation.thumbnails_store, "nvr-test", foundation.clock, foundation.metrics)
        assert await shelf.put(await host.stored(segment["id"]), b"a picture")
        (host.recordings / "gate/a.ts").unlink()
    return segment


def footage_and_pictures(store: Path) -> set[str]:
    """The sorts of what is left in it."""
    return {each.suffix for each in store.rglob("*_*")}


async def test_what_lies_in_a_former_folder_is_read_after_a_change_to_a_bucket(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    segment = await only_delivered(tmp_path, {"backend": "FILESYSTEM"})
    changed = {"backend": "MINIO", "minio": minio(seaweed, seaweed_bucket)}
    async with running(tmp_path, changed) as host:
        whole = await host.get(f"{path_of(segment)}/content")
        begun = f"{path_of(segment)}/content"
        part = await host.request("GET", begun, headers={"Range": "bytes=1000-1999"})
        assert (whole.status, whole.body) == (200, DATA())
        assert (part.status, part.body) == (206, DATA()[1000:2000])
        row = (await host.get(path_of(segment))).json
        assert row["copies"][0]["backend"] == "FILESYSTEM"
        assert row["copies"][0]["state"] == "verified"
        assert [each.name for each in host.parts.foundation.former] == ["FILESYSTEM"]
        assert [each.name for each in host.parts.deliveries] == ["MINIO"]
        assert host.parts.foundation.required == ("MINIO",)


async def test_what_lies_in_a_former_bucket_is_read_after_a_change_to_a_folder(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    block = minio(seaweed, seaweed_bucket)
    segment = await only_delivered(tmp_path, {"backend": "MINIO", "minio": block})
    async with running(tmp_path, {"backend": "FILESYSTEM", "minio": block}) as host:
        whole = await host.get(f"{path_of(segment)}/content")
        assert (whole.status, whole.body) == (200, DATA())
        assert {segment["storage_path"]} <= seaweed_bucket.keys()


async def test_a_former_store_without_settings_is_told_as_away_and_with_the_remedy(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    block = minio(seaweed, seaweed_bucket)
    segment = await only_delivered(tmp_path, {"backend": "MINIO", "minio": block})
    async with running(tmp_path, {"backend": "FILESYSTEM"}) as host:
        answer = await host.get(f"{path_of(segment)}/content")
        assert (answer.status, answer.json["type"].rpartition(":")[2]) == (503, "backend-away")
        assert "MINIO" in answer.json["detail"]
        assert "restart" in answer.json["detail"]
        assert not host.parts.foundation.former


async def test_what_lies_in_a_former_folder_goes_at_its_age_and_that_in_a_former_bucket_on_request(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    bucket = minio(seaweed, seaweed_bucket)
    await only_delivered(tmp_path, {"backend": "FILESYSTEM"})
    changed = {"backend": "MINIO", "minio": bucket, "retention": {"default": {"at_most": "60s"}}}
    async with running(tmp_path, changed) as host:
        assert footage_and_pictures(tmp_path / "data/store") == {".ts", ".jpg"}
        await host.parts.upkeep.retention.run_once()
        assert footage_and_pictures(tmp_path / "data/store") == set()
        assert await host.journal.deletions.count_kept(10) == 0
    segment = await only_delivered(tmp_path, {"backend": "MINIO", "minio": bucket})
    async with running(tmp_path, {"backend": "FILESYSTEM", "minio": bucket}) as host:
        assert (await host.delete(path_of(segment))).status == 204

        async def is_gone() -> bool:
            await host.parts.remover.run_once()  # should the request have left it
            return await host.journal.segments.by_id(UUID(segment["id"])) is None

        await until(is_gone)
        assert seaweed_bucket.keys() == set()


async def test_what_a_former_store_keeps_is_listed_without_the_copies_that_are_gone(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    """The disk of the former store is not in: the other copy and the source go, that one once it is back."""
    store = tmp_path / "disk"
    store.mkdir()
    changed = {
        "backend": "MINIO",
        "minio": minio(seaweed, seaweed_bucket),
        "filesystem": {"path": str(store), "link": False},
    }
    async with running(tmp_path, {**changed, "backend": "FILESYSTEM"}) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
    async with running(tmp_path, changed) as host:
        await host.parts.requiring.run()
        host.deliver()
        await host.delivered(segment)
        store.rename(tmp_path / "pulled")
        assert (await host.delete(path_of(segment))).status == 204

        async def listed() -> list[dict[str, Any]]:
            await host.parts.remover.run_once()  # should the request have left it
            return list((await host.get("/retention/locked")).json["segments"])

        [kept] = await until(listed)
        assert not (host.recordings / "gate/a.ts").exists()
        assert seaweed_bucket.keys() == set()
        [copy] = kept["copies"]
        assert copy["backend"] == "FILESYSTEM"
        assert copy["error"].startswith("the former store FILESYSTEM does not delete it: ")
        (tmp_path / "pulled").rename(store)
        await host.journal.deletions.postpone(UUID(segment["id"]), "its day has come", SystemClock().now())
        await host.parts.remover.run_once()
        assert not list(store.rglob("*_*.ts"))
        assert await host.journal.deletions.count_kept(10) == 0


async def test_wrong_settings_of_a_former_store_stop_nothing_and_are_an_alarm(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    block = minio(seaweed, seaweed_bucket)
    segment = await only_delivered(tmp_path, {"backend": "MINIO", "minio": block})
    lacking = {key: value for key, value in block.items() if key != "secret_key"}
    async with running(tmp_path, {"backend": "FILESYSTEM", "minio": lacking}) as host:
        alarms = [
            each for each in host.parts.foundation.alarms.standing if each.name is AlarmName.FORMER_STORE
        ]
        assert [each.subject for each in alarms] == ["MINIO"]
        assert "minio.secret_key" in alarms[0].text
        assert (await host.get(f"{path_of(segment)}/content")).status == 503
        host.deliver()
        assert (await host.delivered(await host.registered("gate/b.ts")))["storage_backend"] == "FILESYSTEM"


async def test_a_former_folder_that_is_not_there_refuses_no_other_work(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    store = tmp_path / "disk"
    store.mkdir()
    former = {"path": str(store), "link": False}
    segment = await only_delivered(tmp_path, {"backend": "FILESYSTEM", "filesystem": former})
    store.rename(tmp_path / "pulled")
    changed = {"backend": "MINIO", "minio": minio(seaweed, seaweed_bucket), "filesystem": former}
    async with running(tmp_path, changed) as host:
        assert (await host.get(f"{path_of(segment)}/content")).status == 503
        assert (await host.stored(segment["id"])).copy_at("FILESYSTEM").state == "verified"  # type: ignore[union-attr]
        places = host.parts.foundation.places
        await places.check()
        sounding = host.parts.foundation.alarms.standing
        assert [each.subject for each in sounding if each.name is AlarmName.WRONG_DISK] == [str(store)]
        assert places.trouble() is None
        (tmp_path / "pulled").rename(store)
        assert (await host.get(f"{path_of(segment)}/content")).status == 200


async def test_a_copy_that_a_former_store_lost_is_given_up_and_the_loss_told(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    block = {
        "endpoint_url": seaweed.url,
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "bucket_recordings": seaweed_bucket.name,
    }
    segment = await only_delivered(tmp_path, {"backend": "S3", "s3": block})
    async with running(tmp_path, {"backend": "FILESYSTEM", "s3": block}) as host:
        await host.journal.copies.source_gone(
            (await host.stored(segment["id"])).id, SourceState.MISSING, "source_vanished", SystemClock().now()
        )
        await host.parts.foundation.former[0].delete(segment["storage_path"])
        assert (await host.get(f"{path_of(segment)}/content")).status == 502
        copy = (await host.stored(segment["id"])).copy_at("S3")
        assert copy is not None and copy.state == "failed"
        ledger = (await host.get("/ledger")).json["lines"]
        assert any(line["kind"] == "lost" for line in ledger)
