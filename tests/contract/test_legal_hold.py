"""Legal holds through both S3 clients, on a real server with object lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from cctv_storaged.backends.base import LegalHolding
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.errors import ObjectMissing, ObjectRejected
from cctv_storaged.pacing import ByteBudget
from tests.services.backends import STORES, store
from tests.services.payloads import payload_of, some_bytes, write_source
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket

PATH = "camera/2026/03/05/12/ä b+1.ts"


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@asynccontextmanager
async def probed(kind: str, bucket: Bucket) -> AsyncIterator[ObjectStore]:
    backend = store(kind, bucket.server.endpoint, bucket.name)
    try:
        await backend.probe()
        yield backend
    finally:
        await backend.close()


async def put(backend: ObjectStore, folder: Path, size: int = 1000, path: str = PATH) -> None:
    with payload_of(write_source(folder / f"{size}.ts", some_bytes(size))) as payload:
        await backend.put(path, payload, ByteBudget(None))


def versions(bucket: Bucket) -> list[str]:
    found = (
        client_of(bucket.server.url).list_object_versions(Bucket=bucket.name, Prefix=PATH).get("Versions", [])
    )
    return [version["VersionId"] for version in found if version["Key"] == PATH]


@cache
def client_of(url: str):  # type: ignore[no-untyped-def]  # boto3 makes its classes as it runs
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)


def destroyed(bucket: Bucket, version: str) -> bool:
    """Whether the store lets an administrator destroy that version for good."""
    try:
        client_of(bucket.server.url).delete_object(Bucket=bucket.name, Key=PATH, VersionId=version)
    except ClientError:
        return False
    return True


async def test_a_legal_hold_is_set_told_and_taken_off(
    kind: str, locked_bucket: Bucket, tmp_path: Path
) -> None:
    async with probed(kind, locked_bucket) as backend:
        assert await backend.object_lock() is True
        assert backend.capabilities.object_lock and backend.capabilities.versioning
        await put(backend, tmp_path)
        await put(backend, tmp_path, 1000, f"{PATH}.another")
        assert await backend.legal_hold(PATH) is False
        await backend.set_legal_hold(PATH, True)
        await backend.set_legal_hold(PATH, True)
        assert await backend.legal_hold(PATH) is True
        assert await backend.legal_hold(f"{PATH}.another") is False
        [version] = versions(locked_bucket)
        assert not destroyed(locked_bucket, version)
        await backend.set_legal_hold(PATH, False)
        await backend.set_legal_hold(PATH, False)
        assert await backend.legal_hold(PATH) is False
        assert destroyed(locked_bucket, version)


async def test_it_is_taken_off_what_was_put_over_since(
    kind: str, locked_bucket: Bucket, tmp_path: Path
) -> None:
    async with probed(kind, locked_bucket) as backend:
        await put(backend, tmp_path)
        await backend.set_legal_hold(PATH, True)
        client_of(locked_bucket.server.url).put_object(Bucket=locked_bucket.name, Key=PATH, Body=b"a repair")
        assert await backend.legal_hold(PATH) is False  # of the new version, which needs its own
        both = versions(locked_bucket)
        assert len(both) == 2
        await backend.set_legal_hold(PATH, True)
        assert not any(destroyed(locked_bucket, version) for version in both)
        await backend.set_legal_hold(PATH, False)
        assert all(destroyed(locked_bucket, version) for version in both)


async def test_what_is_not_there_is_no_fault_of_the_store(
    kind: str, locked_bucket: Bucket, tmp_path: Path
) -> None:
    async with probed(kind, locked_bucket) as backend:
        with pytest.raises(ObjectMissing):
            await backend.set_legal_hold(PATH, True)
        with pytest.raises(ObjectMissing):
            await backend.legal_hold(PATH)
        await backend.set_legal_hold(PATH, False)


async def test_a_bucket_without_object_lock_says_so(
    kind: str, seaweed_bucket: Bucket, tmp_path: Path
) -> None:
    async with probed(kind, seaweed_bucket) as backend:
        assert await backend.object_lock() is False
        await put(backend, tmp_path)
        assert await backend.legal_hold(PATH) is None
        for on in (True, False):
            with pytest.raises(ObjectRejected, match="no object lock"):
                await backend.set_legal_hold(PATH, on)


def test_stores_can_hold_and_folders_cannot(tmp_path: Path) -> None:
    assert isinstance(store("s3", "127.0.0.1:9", "any"), LegalHolding)
    assert not isinstance(FilesystemBackend(FilesystemSettings(path=str(tmp_path), link=True)), LegalHolding)
