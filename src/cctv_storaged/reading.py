"""A segment's bytes for a reader, from the nearest good copy: source, file system, then the object stores.

Where none of them has it, and a VMS does, it is read back from there: other bytes, of the same pictures.
`content` says which of the two it is, and stays with it.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    NotASegment,
    NotFound,
    ObjectMismatch,
    ObjectMissing,
    SourceChanged,
    StoreNotNamed,
)
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, CopyState, Segment, SourceState, StreamStart, TimeSpan
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


class ReadBackFacts(Protocol):
    """What is known of footage that was read back."""

    @property
    def span(self) -> TimeSpan:
        """What it shows: perhaps more than the segment, as it begins with a key picture, or less."""

    @property
    def stream(self) -> StreamStart:
        """How it begins."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> bytes: ...


class OpenReadBack(Protocol):
    """A segment that was read back, being read."""

    @property
    def facts(self) -> ReadBackFacts: ...

    def blocks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, `length` of them or to the end."""


class ReadingBack(Protocol):
    """A place that gives footage in other bytes than were recorded (`vms.readback`)."""

    @property
    def name(self) -> str:
        """The backend's."""

    def opened(self, segment: Segment, path: str) -> AbstractAsyncContextManager[OpenReadBack]:
        """Reads it back, unless it was already. Raises BackendError; ObjectMissing: it is not there."""

    def shows(self, segment_id: UUID) -> TimeSpan | None:
        """From when to when what was read back of it shows; None where nobody knows yet."""

    async def forget(self, segment_id: UUID) -> None:
        """What was read back of it is not to be used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a reader gets of a segment, known before its first byte; all looks into it are of the same bytes.

    `remuxed`: the coded pictures in another transport stream, with a size and a checksum of its own.
    """

    segment: Segment
    size_bytes: int
    sha256: bytes | None
    span: TimeSpan  # of what it shows
    stream: StreamStart | None
    remuxed: bool
    opened: Callable[[int, int | None, bool], AbstractAsyncContextManager[Opened]]
    """Start, length (None: to the end), and whether it counts as a reading; raises as `Reader.open`."""


class Reader:
    """Opens segments for reading, whichever copy is good and near."""

    def __init__(
        self,
        backends: Sequence[Backend],
        metrics: Metrics,
        pins: Pins,
        doubt: Callable[[Segment, str, str], Awaitable[None]],
        reading_back: ReadingBack | None = None,
    ) -> None:
        """`doubt(segment, backend, why)` is told of a copy that is not what the journal says."""
        self._doubt = doubt
        # A VMS gives no bytes of ours, whatever else it is asked as a backend.
        stores = (backend for backend in backends if backend.name != BackendKind.MILESTONE)
        self._nearest_first = sorted(stores, key=lambda backend: backend.name != BackendKind.FILESYSTEM)
        self._reading_back = reading_back
        self._metrics = metrics
        self._pins = pins
        self._spoiled: set[UUID] = set()  # the disk could not read their source: a copy is better

    @asynccontextmanager
    async def content(self, segment: Segment, *, read_back: bool = False) -> AsyncIterator[Content]:
        """The segment as it was recorded, or else (or with `read_back`) as a VMS gives it back.

        Raises NotFound, and BackendError where it has to be read back and cannot be; NotHeld: the VMS has
        nothing of it any more.
        """
        path = self._path_back(segment)
        failure = None if path is None or read_back else await self._failure(segment)
        if path is None or (failure is None and not read_back):
            yield self._original(segment)
            return
        async with AsyncExitStack() as stack:
            try:
                found = await stack.enter_async_context(self._back(segment, path))
            except ObjectMissing:
                if isinstance(failure, BackendUnavailable):
                    raise failure from None  # it is not gone: a store that has it is away
                raise
            yield self._remuxed(segment, found)

    @property
    def apart(self) -> str | None:
        """The backend whose footage is read back: other bytes than the recorder's; None: there is none."""
        return None if self._reading_back is None else self._reading_back.name

    def shows_apart(self, segment_id: UUID) -> TimeSpan | None:
        """From when to when a segment shows that was read back; None where nobody knows yet."""
        return None if self._reading_back is None else self._reading_back.shows(segment_id)

    @asynccontextmanager
    async def open(
        self, segment: Segment, start: int = 0, length: int | None = None, *, counted: bool = True
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The recorded bytes from `start`, `length` of them or to the end; never those of a VMS.

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

    def _original(self, segment: Segment) -> Content:
        return Content(
            segment=segment,
            size_bytes=segment.size_bytes,
            sha256=segment.sha256,
            span=segment.span,
            stream=segment.stream,
            remuxed=False,
            opened=lambda start, length, counted: self.opened(segment, start, length, counted=counted),
        )

    def _remuxed(self, segment: Segment, found: OpenReadBack) -> Content:
        facts = found.facts

        @asynccontextmanager
        async def opened(start: int, length: int | None, counted: bool) -> AsyncIterator[Opened]:
            assert self._reading_back is not None
            if counted:
                self._metrics.segments_retrieved.labels(self._reading_back.name).inc()
            blocks = found.blocks(start, length)
            whole = start == 0 and length in (None, facts.size_bytes)
            yield Opened(
                self._reading_back.name, self._proven_back(blocks, segment, facts) if whole else blocks
            )

        return Content(
            segment=segment,
            size_bytes=facts.size_bytes,
            sha256=facts.sha256,
            span=facts.span,
            stream=facts.stream,
            remuxed=True,
            opened=opened,
        )

    @asynccontextmanager
    async def _back(self, segment: Segment, path: str) -> AsyncIterator[OpenReadBack]:
        """The segment, read back; a VMS that has it no more is told of."""
        assert self._reading_back is not None
        with self._pins.reading(segment.id):
            async with AsyncExitStack() as stack:
                try:
                    found = await stack.enter_async_context(self._reading_back.opened(segment, path))
                except ObjectMissing as exc:
                    await self._doubt(segment, self._reading_back.name, str(exc))
                    raise
                yield found

    async def _failure(self, segment: Segment) -> Exception | None:
        """Why not even the first byte can be had as it was recorded; None: it can, so the others may be."""
        try:
            async with self.opened(segment, 0, 1, counted=False) as opened:
                async for _ in opened.blocks:
                    pass
        except (NotFound, BackendError, SourceChanged) as exc:
            log.info("segment %s is read back from the VMS: %s", segment.id, exc)
            return exc
        return None

    def _path_back(self, segment: Segment) -> str | None:
        """Where a VMS has it."""
        copy = None if self._reading_back is None else segment.copy_at(self._reading_back.name)
        return copy.path if copy is not None and copy.state in READABLE else None

    async def _proven_back(
        self, blocks: AsyncIterator[bytes], segment: Segment, facts: ReadBackFacts
    ) -> AsyncIterator[bytes]:
        """As `_proven`; a file that was damaged meanwhile is made anew the next time."""
        assert self._reading_back is not None
        error = f"segment {segment.id} is not as it was read back"
        try:
            async for block in _proven(blocks, facts.sha256, error):
                yield block
        except ObjectMismatch:
            await self._reading_back.forget(segment.id)
            raise

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
        raise failure or self._nothing_left(segment)

    def _nothing_left(self, segment: Segment) -> Exception:
        """Why there is nothing to try; what lies at a store that is not open is not gone."""
        open_ = {*(each.name for each in self._nearest_first), BackendKind.MILESTONE}
        for copy in segment.copies:
            if copy.state in READABLE and copy.path is not None and copy.backend not in open_:
                return StoreNotNamed(copy.backend)
        return NotFound(f"segment {segment.id} has no bytes left to read")

    async def _proven(
        self, blocks: AsyncIterator[bytes], segment: Segment, backend: str
    ) -> AsyncIterator[bytes]:
        """The blocks of a whole copy; raises before the last if their SHA-256 is not the journal's."""
        error = f"{backend} gave other bytes than the journal knows of segment {segment.id}"
        try:
            async for block in _proven(blocks, segment.sha256, error):
                yield block
        except ObjectMismatch:
            log.error("%s", error, extra={"segment_id": str(segment.id), "backend": backend})
            self._metrics.errors.labels("read", backend).inc()
            await self._doubt(segment, backend, error)
            raise

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


async def _proven(blocks: AsyncIterator[bytes], sha256: bytes | None, error: str) -> AsyncIterator[bytes]:
    """The blocks; raises ObjectMismatch before the last if their SHA-256 is another (None: any will do)."""
    digest, held_back = hashlib.sha256(), b""
    async for block in blocks:
        digest.update(block)
        if held_back:
            yield held_back
        held_back = block
    if sha256 is not None and digest.digest() != sha256:
        raise ObjectMismatch(error)
    yield held_back
