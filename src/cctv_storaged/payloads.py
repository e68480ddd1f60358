"""Opening and hashing a segment's source for delivery, in threads of its own.

The bytes of a small segment are kept from the hashing, so that hash and put see the same; a large one is
read again by the backend from the same descriptor, and what the server is made to check tells if it
changed in between.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from cctv_storaged.backends.base import Payload
from cctv_storaged.backends.body import Digests, digest_file
from cctv_storaged.errors import SegmentError, SourceChanged
from cctv_storaged.labels import written
from cctv_storaged.model import FileIdentity, Segment, identity_of
from cctv_storaged.recorder.source import OpenSource, open_source
from cctv_storaged.whereabouts import same_version

T = TypeVar("T")

KEPT_BYTES = 512 * 1024
"""Segments up to this size are put from memory; larger ones cost less CPU and memory by sendfile(2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hashed:
    """An open source and what its bytes were when they were hashed."""

    source: OpenSource
    digests: Digests
    data: bytes | None
    held_open: ExitStack


class Payloads:
    """Makes payloads, at most `threads` at a time."""

    def __init__(self, threads: int, host_id: str) -> None:
        """`host_id` is the journal's: objects say whose they are."""
        self._host_id = host_id
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hash")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """Other blocking work on a recorder's disk; one that hangs must not stop the journal's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @asynccontextmanager
    async def of(self, segment: Segment) -> AsyncIterator[tuple[Payload, Segment]]:
        """The segment's bytes, open and hashed, and the segment with its SHA-256.

        Raises SourceChanged if the file is not the one that was registered, SegmentError if it is and gives
        other bytes than at its first delivery, and OSError.
        """
        hashed = await self._hash(segment)
        try:
            known = replace(segment, sha256=hashed.digests.sha256)
            yield (
                Payload(
                    descriptor=hashed.source.descriptor,
                    size_bytes=segment.size_bytes,
                    sha256=hashed.digests.sha256,
                    data=hashed.data,
                    metadata=written(known, self._host_id),
                    identity=hashed.source.identity,
                    part_sha256=hashed.digests.part_sha256,
                ),
                known,
            )
        finally:
            hashed.held_open.close()

    async def _hash(self, segment: Segment) -> _Hashed:
        """A caller that is cancelled leaves the thread to end by itself, and then the file is closed."""
        work = self._threads.submit(_hashed, segment)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            work.add_done_callback(_close)
            raise


def _close(work: Future[_Hashed]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().held_open.close()


def _hashed(segment: Segment) -> _Hashed:
    """One reading of the file; it must have been the registered one before and after."""
    with ExitStack() as stack:
        source = stack.enter_context(open_source(segment.source.root, segment.source.path))
        _require_registered(segment, source.identity)
        digests, data = _digested(source)
        if identity_of(os.fstat(source.descriptor)) != source.identity:
            raise SourceChanged(f"{segment.source.path!r} was written to while it was hashed")
        if segment.sha256 is not None and digests.sha256 != segment.sha256:
            raise SegmentError(
                f"{segment.source.path!r} gives other bytes than when it was first delivered, though it was"
                " not written to: its disk may be failing"
            )
        return _Hashed(source=source, digests=digests, data=data, held_open=stack.pop_all())


def _require_registered(segment: Segment, identity: FileIdentity) -> None:
    """Inode and device may differ after a restore; the hash then tells whether the bytes are the same."""
    if not same_version(segment.source.identity, identity):
        raise SourceChanged(f"{segment.source.path!r} was written to after it was registered")


def _digested(source: OpenSource) -> tuple[Digests, bytes | None]:
    size_bytes = source.identity.size_bytes
    if size_bytes > KEPT_BYTES:
        return digest_file(source.descriptor, size_bytes), None
    data = source.read(0, size_bytes)
    if len(data) != size_bytes:
        raise SourceChanged(f"the file has {len(data)} bytes, {size_bytes} were registered")
    return Digests(sha256=hashlib.sha256(data).digest(), part_sha256=()), data
