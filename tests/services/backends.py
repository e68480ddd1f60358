"""The backends under test, each with a way past it to what it holds."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cctv_storaged.backends.base import Capabilities
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.backends.minio import MinioBackend, MinioTarget
from cctv_storaged.backends.objectstore import ObjectStore, StoreSettings
from cctv_storaged.backends.s3 import S3Backend, S3Target
from cctv_storaged.backends.wire import Timeouts
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket

KINDS = ("filesystem-link", "filesystem-copy", "minio", "s3")
STORES = ("minio", "s3")
SHORT = Timeouts(connect_s=2.0, read_s=2.0, object_base_s=5.0)
"""Short enough to wait for in a test, long enough for a busy machine."""

AnyBackend = FilesystemBackend | ObjectStore
B = TypeVar("B", bound=AnyBackend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A backend, and its holdings as somebody else sees them."""

    kind: str
    backend: AnyBackend
    paths: Callable[[], set[str]]
    read: Callable[[str], bytes]
    replace: Callable[[str, bytes], None]

    @property
    def is_store(self) -> bool:
        return self.kind in STORES


def store(
    kind: str,
    endpoint: str,
    bucket: str,
    *,
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 — frozen
    tls: bool = False,
    ca_file: str | None = None,
    **settings: Any,
) -> ObjectStore:
    """The MINIO or the S3 backend for the store at `endpoint` (`host:port`)."""
    kept = StoreSettings(bucket=bucket, object_base_s=timeouts.object_base_s, **settings)
    if kind == "minio":
        minio = MinioTarget(
            endpoint=endpoint,
            access_key=access_key,
            secret_key=secret_key,
            use_ssl=tls,
            ca_file=ca_file,
            timeouts=timeouts,
        )
        return MinioBackend(minio, kept)
    s3 = S3Target(
        endpoint_url=f"{'https' if tls else 'http'}://{endpoint}",
        access_key=access_key,
        secret_key=secret_key,
        ca_file=ca_file,
        timeouts=timeouts,
    )
    return S3Backend(s3, kept)


def filesystem(kind: str, folder: Path, **settings: Any) -> FilesystemBackend:
    return FilesystemBackend(FilesystemSettings(path=str(folder), link=kind == "filesystem-link", **settings))


def files_subject(kind: str, folder: Path) -> Subject:
    folder.mkdir(exist_ok=True)
    return Subject(
        kind=kind,
        backend=filesystem(kind, folder, readback_share=0.0),
        paths=lambda: {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()},
        read=lambda path: (folder / path).read_bytes(),
        replace=lambda path, data: _replace_file(folder / path, data),
    )


def store_subject(kind: str, bucket: Bucket) -> Subject:
    return Subject(
        kind=kind,
        backend=store(kind, bucket.server.endpoint, bucket.name, readback_share=0.0),
        paths=bucket.keys,
        read=bucket.read,
        replace=bucket.replace,
    )


def knowing(backend: ObjectStore) -> ObjectStore:
    """As if it had been probed: for tests of a spoiled line, where a probe would be the first to suffer."""
    backend._capabilities = Capabilities(refuses_wrong_sha256=True, returns_sha256=True, conditional_put=True)
    return backend


@asynccontextmanager
async def closing(backend: B) -> AsyncIterator[B]:
    try:
        yield backend
    finally:
        await backend.close()


def _replace_file(path: Path, data: bytes) -> None:
    """A new file in its place: not through the inode that a recorder's file may share."""
    path.unlink()
    path.write_bytes(data)
