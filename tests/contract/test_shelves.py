"""Shelves for exports and thumbnails, and URLs for others: on files, and both clients on a real server."""

import asyncio
import hashlib
import os
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from yarl import URL

from cctv_storaged.backends.base import Presigning, StoredObject
from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.backends.shelf import PresigningShelf
from cctv_storaged.config import load_settings
from cctv_storaged.errors import BackendUnavailable, ObjectMismatch, ObjectMissing, SourceChanged
from cctv_storaged.shelving import shelve
from cctv_storaged.wiring import Shelves, open_shelves
from tests.services.backends import STORES, store
from tests.services.payloads import some_bytes, write_source
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

KEY = "3f0c/ä b(1)+c~.jpg"
SIZE = 300_000
DATA = some_bytes(SIZE)
KINDS = ("filesystem", *STORES)


def settings_for(kind: str, folder: Path, server: SeaweedServer, **more: str) -> dict[str, Any]:
    if kind == "filesystem":
        return {"filesystem": {"path": str(folder / "store")}}
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, **more}
    if kind == "minio":
        return {"backend": "MINIO", "minio": {"endpoint": server.endpoint, **keys}}
    return {"backend": "S3", "s3": {"endpoint_url": server.url, **keys}}


@asynccontextmanager
async def shelves_of(folder: Path, settings: Mapping[str, Any]) -> AsyncIterator[Shelves]:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"host_id": "nvr-test", "data_dir": str(folder / "data"), **settings}))
    shelves = open_shelves(load_settings(file, {}))
    try:
        yield shelves
    finally:
        await shelves.exports.close()
        await shelves.thumbnails.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def shelves(kind: str, tmp_path: Path, seaweed_bucket: Bucket) -> AsyncIterator[Shelves]:
    """Buckets of this test's own that are not there yet; the folder of the store is."""
    (tmp_path / "store").mkdir()
    name = seaweed_bucket.name
    buckets = {
        "bucket_recordings": name,
        "bucket_exports": f"{name}-e-{kind}",
        "bucket_thumbnails": f"{name}-t-{kind}",
    }
    settings = settings_for(
        kind, tmp_path, seaweed_bucket.server, **({} if kind == "filesystem" else buckets)
    )
    async with shelves_of(tmp_path, settings) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_source(tmp_path / "work" / "clip.jpg", DATA)


async def content(shelf: Any, key: str) -> bytes:
    async with shelf.open(key) as blocks:
        return b"".join([block async for block in blocks])


async def test_a_file_is_shelved_read_and_deleted_and_shelves_do_not_mix(
    shelves: Shelves, file: Path
) -> None:
    stored = await shelve(shelves.exports, file, KEY, {"export": "7"})
    assert stored.path == KEY
    assert stored.sha256 == hashlib.sha256(DATA).digest()
    assert await shelve(shelves.exports, file, KEY, {"export": "7"}) == stored
    assert await content(shelves.exports, KEY) == DATA
    facts = await shelves.exports.stat(KEY)
    assert (facts.path, facts.size_bytes, facts.metadata) == (KEY, SIZE, {"export": "7"})
    with pytest.raises(ObjectMissing):
        await content(shelves.thumbnails, KEY)
    other = write_source(file.with_name("other"), DATA[1:])
    with pytest.raises(ObjectMismatch):
        await shelve(shelves.exports, other, KEY, {})
    await shelves.exports.delete(KEY)
    await shelves.exports.delete(KEY)
    with pytest.raises(ObjectMissing):
        await shelves.exports.verify(stored)
    assert file.read_bytes() == DATA


async def test_a_shelf_that_was_never_used_is_empty_and_opens_nothing(shelves: Shelves) -> None:
    assert await shelves.exports.sweep(0) == 0
    assert shelves.exports._backend is None
    with pytest.raises(ObjectMissing):
        await content(shelves.exports, KEY)
    with pytest.raises(ObjectMissing):
        await shelves.exports.stat(KEY)
    with pytest.raises(ObjectMissing):
        await shelves.exports.verify(StoredObject(path=KEY, size_bytes=1, sha256=bytes(32)))
    await shelves.exports.delete(KEY)
    assert await shelves.exports.sweep(0) == 0


async def test_eight_first_puts_at_once_make_the_place_once(shelves: Shelves, file: Path) -> None:
    keys = [f"camera-{number}/a.jpg" for number in range(8)]
    await asyncio.gather(*(shelve(shelves.thumbnails, file, key, {}) for key in keys))
    for key in keys:
        assert await content(shelves.thumbnails, key) == DATA


async def test_on_one_file_system_the_bytes_are_not_copied(tmp_path: Path, file: Path) -> None:
    (tmp_path / "store").mkdir()
    async with shelves_of(tmp_path, {"filesystem": {"path": str(tmp_path / "store")}}) as shelves:
        await shelve(shelves.exports, file, "7/clip.mp4", {})
    held = tmp_path / "store" / "exports" / "7" / "clip.mp4"
    assert os.stat(held).st_ino == os.stat(file).st_ino or os.stat(held).st_blocks == 0


async def test_a_store_that_is_not_mounted_is_not_made_by_a_shelf(tmp_path: Path, file: Path) -> None:
    async with shelves_of(tmp_path, {"filesystem": {"path": str(tmp_path / "disk" / "store")}}) as shelves:
        for _ in range(2):
            with pytest.raises(BackendUnavailable) as caught:
                await shelve(shelves.exports, file, KEY, {})
            assert caught.value.reason == "bucket"
        with pytest.raises(BackendUnavailable):
            await content(shelves.exports, KEY)
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize("kind", STORES, indirect=True)
async def test_a_bucket_removed_under_a_shelf_is_made_anew(
    shelves: Shelves, file: Path, seaweed: SeaweedServer
) -> None:
    await shelve(shelves.exports, file, "first.jpg", {})
    bucket = Bucket(server=seaweed, name=shelves.exports.location)
    request = urllib.request.Request(f"{bucket.object_url('')}?recursive=true", method="DELETE")
    with urllib.request.urlopen(request, timeout=20):
        pass
    await shelve(shelves.exports, file, "second.jpg", {})
    with pytest.raises(ObjectMissing):
        await content(shelves.exports, "first.jpg")


@pytest.mark.parametrize("named", ["none", "the recordings'", "the other's"])
async def test_without_a_bucket_of_its_own_a_shelf_is_a_folder(
    named: str, tmp_path: Path, seaweed_bucket: Bucket, file: Path
) -> None:
    name = seaweed_bucket.name
    buckets = {
        "none": {"bucket_recordings": name},
        "the recordings'": {"bucket_recordings": name, "bucket_exports": name, "bucket_thumbnails": name},
        "the other's": {"bucket_recordings": "x-recs", "bucket_exports": name, "bucket_thumbnails": name},
    }
    settings = settings_for("s3", tmp_path, seaweed_bucket.server, prefix="site-7/", **buckets[named])
    async with shelves_of(tmp_path, settings) as shelves:
        await shelve(shelves.exports, file, KEY, {})
        await shelve(shelves.thumbnails, file, KEY, {})
        assert seaweed_bucket.keys() == {f"site-7/exports/{KEY}", f"site-7/thumbnails/{KEY}"}
        assert isinstance(shelves.exports, PresigningShelf)
        url = await shelves.exports.presign(KEY, 60)
        assert await fetched(url) == (200, DATA)


@pytest.mark.parametrize("own_bucket", [True, False])
async def test_what_an_interrupted_export_left_is_swept_and_nothing_else(
    own_bucket: bool, tmp_path: Path, seaweed_bucket: Bucket, file: Path
) -> None:
    name = seaweed_bucket.name
    buckets = {"bucket_recordings": name, **({"bucket_exports": f"{name}-own"} if own_bucket else {})}
    settings = settings_for("s3", tmp_path, seaweed_bucket.server, **buckets)
    async with shelves_of(tmp_path, settings) as shelves:
        await shelve(shelves.exports, file, KEY, {})
        client: Any = shelves.exports._backend._client  # type: ignore[union-attr]
        prefix = "" if own_bucket else "exports/"
        client.begin_upload(f"{prefix}7/clip.mp4", {})
        recordings = store("s3", seaweed_bucket.server.endpoint, name)
        recordings._client.begin_upload("3f0c/recorded.ts", {})
        assert await shelves.exports.sweep(3600) == 0
        assert await shelves.exports.sweep(-60) == 1
        left = {upload.key for upload in recordings._client.uploads("")}
        await recordings.close()
    assert left == {"3f0c/recorded.ts"}


async def test_a_file_written_to_is_not_shelved(
    shelves: Shelves, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.sha256

    def hashing(*args: Any) -> Any:
        with file.open("ab") as other:
            other.write(b"more")
        return real(*args)

    monkeypatch.setattr("cctv_storaged.backends.body.hashlib.sha256", hashing)
    with pytest.raises(SourceChanged):
        await shelve(shelves.exports, file, KEY, {})
    monkeypatch.undo()
    with pytest.raises(ObjectMissing):
        await shelves.exports.stat(KEY)


# -- URLs for others ------------------------------------------------------------------------------------


async def fetched(url: str, **headers: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(_encoded(url), headers=headers) as answer:
        return answer.status, await answer.read()


def _encoded(url: str) -> URL:
    return URL(url, encoded=True)


@pytest.mark.parametrize("kind", STORES, indirect=True)
async def test_a_url_gives_the_bytes_and_ranges_of_them_under_the_name_wished_for(
    shelves: Shelves, file: Path
) -> None:
    await shelve(shelves.exports, file, KEY, {})
    assert isinstance(shelves.exports, Presigning)
    url = await shelves.exports.presign(KEY, 60, "Tür 1.mp4")
    assert await fetched(url) == (200, DATA)
    assert await fetched(url, Range="bytes=100-199") == (206, DATA[100:200])
    async with aiohttp.ClientSession() as session, session.get(_encoded(url)) as answer:
        assert "filename*=UTF-8''T%C3%BCr%201.mp4" in answer.headers["Content-Disposition"]


@pytest.mark.parametrize("kind", STORES)
async def test_recordings_have_urls_too_and_one_that_expired_or_was_tampered_with_is_refused(
    kind: str, seaweed_bucket: Bucket, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = store(kind, seaweed_bucket.server.endpoint, seaweed_bucket.name)
    assert isinstance(backend, Presigning)
    await backend.ensure_bucket()
    for key in (KEY, "other.ts"):
        await shelve(backend, file, key, {})
    url = await backend.presign(KEY, 60)
    assert await fetched(url) == (200, DATA)
    for changed in (
        url.replace("Expires=60", "Expires=61"),
        url.replace(urlsplit(url).path, f"/{seaweed_bucket.name}/other.ts"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ):
        assert (await fetched(changed))[0] == 403
    await backend.close()
    assert (await fetched(await _made_long_ago(kind, seaweed_bucket)))[0] == 403


async def _made_long_ago(kind: str, bucket: Bucket) -> str:
    backend: ObjectStore = store(kind, bucket.server.endpoint, bucket.name)
    signer = (await backend._current_presigner()).signer
    now = signer._now
    signer._now = lambda: now() - 3600
    try:
        return await backend.presign(KEY, 60)
    finally:
        await backend.close()


async def test_a_folder_has_no_urls(tmp_path: Path) -> None:
    async with shelves_of(tmp_path, {"filesystem": {"path": str(tmp_path / "store")}}) as shelves:
        assert not isinstance(shelves.exports, Presigning)
