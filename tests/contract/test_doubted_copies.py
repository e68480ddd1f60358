"""Bytes that rot while all that is told of them stays as it was: a reader finds out, and is believed."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.errors import ObjectMismatch
from cctv_storaged.pacing import ByteBudget
from tests.fakes.s3stub import S3Stub, flip_one_byte
from tests.services.backends import STORES, AnyBackend, closing, filesystem, knowing, store
from tests.services.payloads import payload_of, some_bytes, write_source

UNLIMITED = ByteBudget(None)
PATH = "camera/2026/03/05/12/a.ts"
SIZE = 300_000


async def put(backend: AnyBackend, source: Path) -> StoredObject:
    with payload_of(source) as payload:
        return await backend.put(PATH, payload, UNLIMITED)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "recorder" / "a.ts", some_bytes(SIZE))


@pytest.fixture(params=STORES)
async def rotten(
    request: pytest.FixtureRequest, source: Path
) -> AsyncIterator[tuple[ObjectStore, StoredObject]]:
    """A store whose object has another bit now and the size, ETag and checksum of before."""
    with S3Stub() as stub:
        async with closing(store(request.param, stub.endpoint, stub.bucket, readback_share=0.0)) as backend:
            stored = await put(knowing(backend), source)
            held = stub.objects[PATH]
            stub.objects[PATH] = replace(held, data=flip_one_byte(held.data))
            yield backend, stored


async def test_a_doubted_object_is_proven_by_its_bytes_alone(
    rotten: tuple[ObjectStore, StoredObject],
) -> None:
    backend, stored = rotten
    await backend.verify(stored)  # its head alone cannot tell
    with pytest.raises(ObjectMismatch):
        await backend.verify(replace(stored, doubted=True))


async def test_a_put_onto_rotten_bytes_does_not_take_them_for_its_own(
    rotten: tuple[ObjectStore, StoredObject], source: Path
) -> None:
    """Or the source, put again because its object rotted, would be called stored."""
    backend, _ = rotten
    with pytest.raises(ObjectMismatch):
        await put(backend, source)


async def test_a_doubted_link_is_proven_by_its_bytes_alone(tmp_path: Path, source: Path) -> None:
    (tmp_path / "store").mkdir()
    async with closing(filesystem("filesystem-link", tmp_path / "store", readback_share=0.0)) as backend:
        os.utime(source, (1_700_000_000, 1_700_000_000))  # long quiet: its inode is trusted
        stored = await put(backend, source)
        rot(tmp_path / "store" / PATH)
        with pytest.raises(ObjectMismatch):
            await backend.verify(replace(stored, doubted=True))


def rot(path: Path) -> None:
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(flip_one_byte(path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
