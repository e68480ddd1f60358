"""Putting a finished file on a shelf, and proving that it is there.

What flows through: a local file in, an object out. Safe to do again after a crash at any point: the same
bytes under the same key are success.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cctv_storaged.backends.base import Backend, Payload, StoredObject
from cctv_storaged.backends.body import Digests, digest_file
from cctv_storaged.errors import SourceChanged
from cctv_storaged.model import FileIdentity, identity_of
from cctv_storaged.pacing import ByteBudget

UNLIMITED = ByteBudget(None)


async def shelve(
    shelf: Backend,
    file: Path,
    key: str,
    metadata: Mapping[str, str],
    budget: ByteBudget = UNLIMITED,
) -> StoredObject:
    """Bring the file's bytes to `key`, hashed once and verified. On one file system a link does.

    Nobody may write to the file any more. `metadata` is ASCII. Raises BackendError and below (ObjectMismatch
    where the key holds other bytes), SourceChanged where the file was written to, OSError.
    """
    identity, digests = await asyncio.to_thread(_hashed, file)
    with _opened(file) as descriptor:
        payload = Payload(
            descriptor=descriptor,
            size_bytes=identity.size_bytes,
            sha256=digests.sha256,
            data=None,
            metadata=metadata,
            identity=identity,
            part_sha256=digests.part_sha256,
        )
        stored = await shelf.put(key, payload, budget)
    await shelf.verify(stored)
    return stored


async def shelve_bytes(shelf: Backend, data: bytes, key: str, metadata: Mapping[str, str]) -> StoredObject:
    """A few bytes from memory to `key`; not verified. Raises BackendError and below."""
    descriptor = os.memfd_create("shelved", os.MFD_CLOEXEC)
    try:
        os.pwrite(descriptor, data, 0)
        payload = Payload(
            descriptor=descriptor,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).digest(),
            data=data,
            metadata=metadata,
            identity=identity_of(os.fstat(descriptor)),
        )
        return await shelf.put(key, payload, UNLIMITED)
    finally:
        os.close(descriptor)


def _hashed(file: Path) -> tuple[FileIdentity, Digests]:
    """Opens and closes by itself: a caller that is cancelled leaves the thread to end alone."""
    with _opened(file) as descriptor:
        identity = identity_of(os.fstat(descriptor))
        digests = digest_file(descriptor, identity.size_bytes)
        if identity_of(os.fstat(descriptor)) != identity:
            raise SourceChanged(f"{file} was written to while it was hashed")
        return identity, digests


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
