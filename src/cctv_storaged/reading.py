"""A segment's bytes for a reader, from the nearest good copy: source, file system, then the object stores."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.errors import (
    BackendError,
    NotASegment,
    NotFound,
    ObjectMismatch,
    ObjectMissing,
    SourceChanged,
)
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, CopyState, Segment, SourceState
from cctv_storaged.pins import Pins
from cctv_storaged.recorder.source import OpenSource, open_source
from cctv_storaged.whereabouts import same_version

log = logging.getLogger(__name__)

BLOCK_BYTES = 256 * 1024
SOURCE = "SOURCE"
"""Where bytes came from, when no backend was needed."""
MOST_SPOILED = 10_000
"""Sources known to be unreadable; with more of them a disk has died, and each is tried again."""
READABLE = (CopyState.VERIFIED, CopyState.STORED)
"""Copies to read from, the proven ones first."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment's bytes and where they come from: SOURCE, or the name of a backend."""

    read_from: str
    blocks: AsyncIterator[bytes]


class Reader:
    """Opens segments for reading, whichever copy is good and near."""

    def __init__(
        self,
        backends: Sequence[Backend],
        metrics: Metrics,
        pins: Pins,
        doubt: Callable[[Segment, str, str], Awaitable[None]],
    ) -> None:
        """`doubt(segment, backend, why)` is told of a copy that is not what the journal says."""
        self._doubt = doubt
        self._nearest_first = sorted(backends, key=lambda backend: backend.name != BackendKind.FILESYSTEM)
        self._metrics = metrics
        self._pins = pins
        self._spoiled: set[UUID] = set()  # the disk could not read their source: a copy is better

    @asynccontextmanager
    async def open(
        self, segment: Segment, start: int = 0, length: int | None = None, *, counted: bool = True
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes from `start`, `length` of them or to the end.

        Raises NotFound with nothing to read from, and the last backend's error if all of them failed.
        """
        async with self.opened(segment, start, length, counted=counted) as opened:
            yield opened.blocks

    @asynccontextmanager
    async def opened(
        self, segment: Segment, start: int = 0, length: int | None = None, *, counted: bool = True
    ) -> AsyncIterator[Opened]:
        """As `open`, and from where the bytes come. Not `counted`: one look of several into a segment."""
        with self._pins.reading(segment.id):
            async with AsyncExitStack() as stack:
                end = segment.size_bytes if length is None else start + length
                blocks = await self._source(stack, segment, start, end)
                if blocks is not None:
                    opened = Opened(SOURCE, blocks)
                else:
                    opened = await self._copy(stack, segment, start, end)
                if counted:
                    self._metrics.segments_retrieved.labels(opened.read_from).inc()
                yield opened

    async def _source(
        self, stack: AsyncExitStack, segment: Segment, start: int, end: int
    ) -> AsyncIterator[bytes] | None:
        if segment.source_state is not SourceState.PRESENT:
            return None
        if segment.id in self._spoiled and any(self._readable(segment)):
            return None
        try:
            source = await asyncio.to_thread(
                stack.enter_context, open_source(segment.source.root, segment.source.path)
            )
        except (SourceChanged, NotASegment, OSError) as exc:
            log.info("source of %s is not readable, a copy is taken: %s", segment.id, exc)
            return None
        if not same_version(segment.source.identity, source.identity):
            return None
        return self._blocks(segment, source, start, end)

    async def _copy(self, stack: AsyncExitStack, segment: Segment, start: int, end: int) -> Opened:
        failure: BackendError | None = None
        for backend, path in self._readable(segment):
            try:
                blocks = await stack.enter_async_context(backend.open(path, start, end - start))
            except BackendError as exc:
                log.warning("copy of %s at %s is not readable: %s", segment.id, backend.name, exc)
                failure = exc
                if isinstance(exc, ObjectMissing | ObjectMismatch):
                    await self._doubt(segment, backend.name, str(exc))
            else:
                whole = start == 0 and end == segment.size_bytes
                proven = self._proven(blocks, segment, backend.name) if whole else blocks
                return Opened(backend.name, proven)
        raise failure or NotFound(f"segment {segment.id} has no bytes left to read")

    async def _proven(
        self, blocks: AsyncIterator[bytes], segment: Segment, backend: str
    ) -> AsyncIterator[bytes]:
        """The blocks of a whole copy; raises before the last if their SHA-256 is not the journal's."""
        digest, held_back = hashlib.sha256(), b""
        async for block in blocks:
            digest.update(block)
            if held_back:
                yield held_back
            held_back = block
        if segment.sha256 is not None and digest.digest() != segment.sha256:
            error = f"{backend} gave other bytes than the journal knows of segment {segment.id}"
            log.error("%s", error, extra={"segment_id": str(segment.id), "backend": backend})
            self._metrics.errors.labels("read", backend).inc()
            await self._doubt(segment, backend, error)
            raise ObjectMismatch(error)
        yield held_back

    async def _blocks(
        self, segment: Segment, source: OpenSource, start: int, end: int
    ) -> AsyncIterator[bytes]:
        """The bytes as they were registered: a file written to meanwhile, or that the disk cannot read, ends
        in SourceChanged."""
        for offset in range(start, end, BLOCK_BYTES):
            try:
                block = await asyncio.to_thread(source.read, offset, min(BLOCK_BYTES, end - offset))
            except OSError as exc:
                self._remember_spoiled(segment)
                raise SourceChanged(f"the source cannot be read at byte {offset}: {exc.strerror}") from exc
            if not block:
                raise SourceChanged("the source became shorter while it was read")
            if offset + BLOCK_BYTES >= end and not source.unchanged():
                raise SourceChanged("the source was written to while it was read")
            yield block

    def _remember_spoiled(self, segment: Segment) -> None:
        if len(self._spoiled) >= MOST_SPOILED:
            self._spoiled.clear()
        self._spoiled.add(segment.id)

    def _readable(self, segment: Segment) -> Iterator[tuple[Backend, str]]:
        for state in READABLE:
            for backend in self._nearest_first:
                copy = segment.copy_at(backend.name)
                if copy is not None and copy.state is state and copy.path is not None:
                    yield backend, copy.path
