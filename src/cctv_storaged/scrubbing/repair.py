"""A damaged copy made anew from good bytes: the source, or the copy at another backend.

The bytes are proven before they are put, and what was put is read back before the journal is told. The
damaged object stays: as an earlier version where the bucket keeps versions, else under its own name, with the
good one under a spare one (`model.spare_key`), where a deletion of the segment finds both.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cctv_storaged.backends.base import Backend, Payload, StoredObject, Versioning
from cctv_storaged.backends.body import digest_file
from cctv_storaged.clock import Clock
from cctv_storaged.delivery import Delivery
from cctv_storaged.delivery.putting import SPARE_KEYS
from cctv_storaged.errors import BackendError, ObjectMismatch, ObjectMissing, ObjectRejected, SegmentError
from cctv_storaged.journal.copies import Proof
from cctv_storaged.journal.journal import Journal
from cctv_storaged.labels import written
from cctv_storaged.model import CopyState, Segment, SourceState, identity_of, key_family, spare_key
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.payloads import Payloads

log = logging.getLogger(__name__)

SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Good:
    """Proven bytes and where they are from."""

    payload: Payload
    origin: str  # SOURCE, or a backend


class Repairing:
    """Makes damaged copies anew."""

    def __init__(
        self,
        journal: Journal,
        backends: Mapping[str, Backend],
        deliveries: Mapping[str, Delivery],
        clock: Clock,
        budget: ByteBudget,
        work: Path,
    ) -> None:
        """`work` is a folder for the bytes of one segment at a time."""
        self._journal = journal
        self._backends = backends
        self._deliveries = deliveries
        self._clock = clock
        self._budget = budget
        self._work = work
        self._payloads = Payloads(1, journal.host_id)

    def close(self) -> None:
        self._payloads.close()

    async def repair(self, segment: Segment, backend: str, damage: str) -> str | None:
        """Where the good bytes were from; None where there are none. Raises BackendUnavailable, JournalError.

        What somebody else is putting or deleting this moment is left to him, and None all the same: the
        caller looks into the journal before it believes that nothing is left.
        """
        copy, delivery = segment.copy_at(backend), self._deliveries[backend]
        if copy is None or copy.path is None:
            return None
        with delivery.withheld(segment.id) as free:
            if not free:
                return None
            async with delivery.exclusive(copy.path), AsyncExitStack() as held_open:
                good = await self._good(held_open, segment, backend)
                if good is None:
                    return None
                stored = await self._put(self._backends[backend], copy.path, good.payload)
                await self._backends[backend].verify(replace(stored, doubted=True))
                proof = Proof(path=stored.path, sha256=stored.sha256, etag=stored.etag)
                detail = f"{damage}; made anew from {good.origin} at {stored.path}"
                now = self._clock.now()
                told = await self._journal.scrubbed.repaired(
                    segment.id, backend, copy.path, proof, now, detail
                )
                return good.origin if told else None

    async def _good(self, held_open: AsyncExitStack, segment: Segment, damaged: str) -> Good | None:
        """Proven bytes of the segment, open as long as the stack is."""
        if segment.source_state is SourceState.PRESENT:
            try:
                payload, _ = await held_open.enter_async_context(self._payloads.of(segment))
            except (SegmentError, OSError) as exc:
                log.warning("the source of %s is of no use for a repair: %s", segment.id, exc)
            else:
                return Good(payload, SOURCE)
        for copy in segment.copies:
            twin = self._backends.get(copy.backend)
            if copy.backend == damaged or twin is None or copy.path is None:
                continue
            if copy.state not in (CopyState.VERIFIED, CopyState.STORED):
                continue
            descriptor = await asyncio.to_thread(_scratch, self._work)
            held_open.callback(os.close, descriptor)
            fetched = await self._fetched(segment, twin, copy.path, descriptor)
            if fetched is not None:
                return Good(fetched, copy.backend)
        return None

    async def _fetched(self, segment: Segment, twin: Backend, path: str, descriptor: int) -> Payload | None:
        """The bytes of another copy in a file, None where they are not what they should be."""
        assert segment.sha256 is not None
        try:
            position = 0
            async with twin.open(path) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(os.pwrite, descriptor, block, position)
                    position += len(block)
        except BackendError as exc:
            log.warning("the copy of %s at %s is of no use for a repair: %s", segment.id, twin.name, exc)
            return None
        if position != segment.size_bytes:
            return None
        digests = await asyncio.to_thread(digest_file, descriptor, position)
        if digests.sha256 != segment.sha256:
            return None
        return Payload(
            descriptor=descriptor,
            size_bytes=position,
            sha256=digests.sha256,
            data=None,
            metadata=written(segment, self._journal.host_id),
            identity=identity_of(os.fstat(descriptor)),
            part_sha256=digests.part_sha256,
        )

    async def _put(self, backend: Backend, path: str, payload: Payload) -> StoredObject:
        if isinstance(backend, Versioning):
            try:
                return await backend.put_version(path, payload, self._budget)
            except ObjectRejected as exc:
                log.info("%s: a spare name is taken instead: %s", backend.name, exc)
        first = key_family(path)[0]
        for number in range(SPARE_KEYS + 1):
            try:
                return await backend.put(spare_key(first, number), payload, self._budget)
            except (ObjectMismatch, ObjectRejected) as exc:
                failure: BackendError = exc
        raise failure


def _scratch(folder: Path) -> int:
    """A file without a name."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())


def is_damage(error: BackendError) -> bool:
    """Whether it is the object that is not what it should be, and not the backend that is away."""
    return isinstance(error, ObjectMissing | ObjectMismatch | ObjectRejected)
