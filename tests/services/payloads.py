"""Files with known bytes as delivery hands them to a backend: hashed once, still open."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cctv_storaged.backends.base import Payload
from cctv_storaged.backends.body import digest_file
from cctv_storaged.model import FileIdentity

METADATA = {
    "camera": "123e4567-e89b-12d3-a456-426614174000",
    "start": "2026-03-05T12:00:00.000000Z",
    "end": "2026-03-05T12:00:10.000000Z",
    "host": "nvr-01",
}
LONG_AGO_S = 3600.0
KEPT_UP_TO_BYTES = 1024 * 1024


def some_bytes(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes that compress badly and are the same for the same seed."""
    return hashlib.shake_128(seed.to_bytes(8)).digest(size_bytes)


def write_source(path: Path, data: bytes, *, age_s: float = LONG_AGO_S) -> Path:
    """A recorder's file that was last written `age_s` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    set_age(path, age_s)
    return path


def set_age(path: Path, age_s: float) -> None:
    now_ns = path.stat().st_ctime_ns
    moment_ns = (
        now_ns - int(age_s * 1e9) + 1
    )  # not on a whole second, as such a stamp would be taken for coarse
    os.utime(path, ns=(moment_ns, moment_ns))


def identity_of(descriptor: int) -> FileIdentity:
    found = os.fstat(descriptor)
    return FileIdentity(
        device=found.st_dev, inode=found.st_ino, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns
    )


@contextmanager
def payload_of(
    path: Path, *, metadata: Mapping[str, str] = METADATA, with_parts: bool = True
) -> Iterator[Payload]:
    """The file as a payload; small ones with their bytes kept, as delivery does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        identity = identity_of(descriptor)
        digests = digest_file(descriptor, identity.size_bytes)
        kept = path.read_bytes() if identity.size_bytes <= KEPT_UP_TO_BYTES else None
        yield Payload(
            descriptor=descriptor,
            size_bytes=identity.size_bytes,
            sha256=digests.sha256,
            data=kept,
            metadata=metadata,
            identity=identity,
            part_sha256=digests.part_sha256 if with_parts else (),
        )
    finally:
        os.close(descriptor)
