"""Opening and hashing a segment's source for delivery, in threads of its own.

The bytes of a small segment are kept from the hashing, so that hash and put see the same; a large one is
read again by the backend from the same descriptor, and what the server is made to check tells if it
changed in between.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from cctv_storaged.backends.base import Payload
from cctv_storaged.backends.body import Digests, digest_file
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import SourceChanged
from cctv_storaged.model import FileIdentity, Segment
from cctv_storaged.recorder.source import OpenSource, identity_of, open_source

T = TypeVar("T")

KEPT_BYTES = 8 * 2**20
"""Segments up to this size are put from memory."""


class Payloads:
    """Makes payloads, at most `threads` at a time."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hash")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def of(self, segment: Segment) -> AsyncIterator[tuple[Payload, Segment]]:
        """The segment's bytes, open and hashed, and the segment with its SHA-256.

        Raises SourceChanged if the file is not the one that was registered, and OSError.
        """
        async with AsyncExitStack() as stack:
            opening = open_source(segment.source.root, segment.source.path)
            source = await self._run(lambda: stack.enter_context(opening))
            _require_same(segment, source.identity)
            digests, data = await self._run(lambda: _hashed(source))
            if segment.sha256 is not None and digests.sha256 != segment.sha256:
                raise SourceChanged(
                    f"{segment.source.path!r} has other bytes than when it was first delivered"
                )
            hashed = replace(segment, sha256=digests.sha256)
            yield (
                Payload(
                    descriptor=source.descriptor,
                    size_bytes=segment.size_bytes,
                    sha256=digests.sha256,
                    data=data,
                    metadata=_metadata(hashed),
                    identity=source.identity,
                    part_sha256=digests.part_sha256,
                ),
                hashed,
            )

    @staticmethod
    def check_unchanged(segment: Segment, payload: Payload) -> None:
        """Raises SourceChanged if the open file was written to since it was registered."""
        _require_same(segment, identity_of(os.fstat(payload.descriptor)))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _require_same(segment: Segment, identity: FileIdentity) -> None:
    """Inode and device may differ after a restore; the hash then tells whether the bytes are the same."""
    registered = segment.source.identity
    if (identity.size_bytes, identity.mtime_ns) != (registered.size_bytes, registered.mtime_ns):
        raise SourceChanged(f"{segment.source.path!r} was written to after it was registered")


def _hashed(source: OpenSource) -> tuple[Digests, bytes | None]:
    size_bytes = source.identity.size_bytes
    if size_bytes > KEPT_BYTES:
        return digest_file(source.descriptor, size_bytes), None
    data = source.read(0, size_bytes)
    if len(data) != size_bytes:
        raise SourceChanged(f"the file has {len(data)} bytes, {size_bytes} were registered")
    return Digests(sha256=hashlib.sha256(data).digest(), part_sha256=()), data


def _metadata(segment: Segment) -> dict[str, str]:
    """What makes the journal and the catalog rebuildable from the bucket."""
    assert segment.sha256 is not None
    return {
        "segment-id": str(segment.id),
        "camera": str(segment.camera_id),
        "start": rfc3339(segment.span.start),
        "end": rfc3339(segment.span.end),
        "sha256": segment.sha256.hex(),
        "flags": " ".join(sorted(segment.flags)),
    }
