"""T-33: in a bucket that keeps versions a deletion leaves none, and what a lock keeps stays and says so."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.backends.storeclient import Doomed
from cctv_storaged.errors import BackendUnavailable, ObjectLocked
from tests.services.backends import STORES, closing, store
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer

FOLDER = "recordings/cam/2026/11/26/10/"
PROBES = ".probe/"


class Versioned:
    """A bucket made with object lock, seen past our clients."""

    def __init__(self, server: SeaweedServer) -> None:
        self.name = server.create_locked_bucket().name
        self.boto: Any = boto3.client(
            "s3",
            endpoint_url=server.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def put(self, key: str, data: bytes, **facts: object) -> str:
        return str(self.boto.put_object(Bucket=self.name, Key=key, Body=data, **facts)["VersionId"])

    def versions(self) -> set[tuple[str, str]]:
        """Every version and every mark of a deletion."""
        found = self.boto.list_object_versions(Bucket=self.name)
        listed = (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))
        return {(each["Key"], each["VersionId"]) for each in listed}


@pytest.fixture
def bucket(seaweed: SeaweedServer) -> Iterator[Versioned]:
    bucket = Versioned(seaweed)
    yield bucket
    bucket.boto.close()


@pytest.fixture(params=STORES)
async def backend(
    seaweed: SeaweedServer, bucket: Versioned, request: pytest.FixtureRequest
) -> AsyncIterator[ObjectStore]:
    async with closing(store(request.param, seaweed.endpoint, bucket.name)) as opened:
        yield opened


async def test_a_deletion_leaves_no_version_and_no_mark(backend: ObjectStore, bucket: Versioned) -> None:
    keys = [f"{FOLDER}{number}.ts" for number in range(5)]
    for key in keys:
        for version in range(2):
            bucket.put(key, b"%d" % version)
    bucket.boto.delete_object(Bucket=bucket.name, Key=keys[0])  # somebody's own: a mark
    stays = {(f"{FOLDER}0.ts.other", bucket.put(f"{FOLDER}0.ts.other", b"another's"))}
    await backend.delete(keys[0])
    assert await backend.delete_many([*keys[1:], f"{FOLDER}never-there.ts"]) == {}
    assert bucket.versions() == stays


async def test_locked_versions_stay_are_told_apart_and_hold_up_no_other(
    backend: ObjectStore, bucket: Versioned
) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    free, held, governed, complied = (f"{FOLDER}{word}.ts" for word in ("free", "held", "gov", "comp"))
    bucket.put(free, b"free")
    stays = {
        (held, bucket.put(held, b"held", ObjectLockLegalHoldStatus="ON")),
        (governed, bucket.put(governed, b"g", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)),
        (complied, bucket.put(complied, b"c", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)),
    }
    bucket.put(held, b"a later version, which nothing locks")
    failed = await backend.delete_many([free, held, governed, complied])
    assert set(failed) == {held, governed, complied}
    assert all(isinstance(error, ObjectLocked) for error in failed.values())
    assert bucket.versions() == stays, "unlocked ones go, and no mark hides what stays"
    for key in (held, governed, complied):
        with pytest.raises(ObjectLocked):
            await backend.delete(key)
    assert bucket.versions() == stays
    bucket.boto.put_object_legal_hold(Bucket=bucket.name, Key=held, LegalHold={"Status": "OFF"})
    assert await backend.delete_many([held]) == {}
    assert held not in {key for key, _ in bucket.versions()}


async def test_a_probe_leaves_no_version_no_mark_and_whatever_is_not_its_own(
    backend: ObjectStore, bucket: Versioned
) -> None:
    anothers, own_words = f"{PROBES}0123456789abcdef-kept", f"{PROBES}of-somebody"
    for key in (anothers, own_words):
        bucket.put(key, b"not of this probe")
    bucket.boto.delete_object(Bucket=bucket.name, Key=own_words)
    there = bucket.versions()
    assert len(there) == 3
    for _ in range(2):
        assert (await backend.probe()).versioning
    assert bucket.versions() == there


@pytest.mark.parametrize("refused", ["a version", "the list of versions"])
async def test_what_a_probe_may_not_delete_for_good_stays_deleted(
    backend: ObjectStore, bucket: Versioned, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    client, error = backend._client, BackendUnavailable("a lock, or no right", reason="auth")
    delete = client.delete

    def no_version(key: str, version: str | None = None) -> bool:
        if version is not None:
            raise error
        return delete(key)

    def no_list(prefix: str) -> Iterator[Doomed]:
        raise error

    if refused == "a version":
        monkeypatch.setattr(client, "delete", no_version)
    else:
        monkeypatch.setattr(client, "every_version", no_list)
    assert (await backend.probe()).versioning
    left = [key for key, _ in bucket.versions()]
    assert left and all(key.startswith(PROBES) for key in left)
    assert "Contents" not in bucket.boto.list_objects_v2(Bucket=bucket.name), "a mark lies above each"


async def test_versioning_that_is_switched_on_later_is_noticed_by_the_mark(
    backend: ObjectStore, bucket: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked once, a bucket is believed for some minutes; or its key may not ask at all."""
    monkeypatch.setattr(backend._client, "keeps_versions", lambda: False)
    keys = [f"{FOLDER}{number}.ts" for number in range(3)]
    for key in keys:
        bucket.put(key, b"x")
    await backend.delete(keys[0])
    assert await backend.delete_many(keys[1:]) == {}
    assert bucket.versions() == set()


async def test_many_are_deleted_where_no_versions_are_kept(
    seaweed: SeaweedServer, backend: ObjectStore
) -> None:
    plain = seaweed.create_bucket()
    other = store(backend.name.lower(), seaweed.endpoint, plain.name)
    async with closing(other) as opened:
        keys = [f"{FOLDER}{number:04}.ts" for number in range(1200)]
        for key in keys[::100]:
            plain.replace(key, b"x")
        assert await opened.delete_many(keys) == {}
        assert await asyncio.to_thread(plain.keys) == set()
