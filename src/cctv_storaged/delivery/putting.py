"""Bringing one segment: its file opened and hashed → put under a name that says its content → verified.

Nothing is overwritten, and what is put twice is the same.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from uuid import UUID

from cctv_storaged.backends.base import Backend, Payload, StoredObject
from cctv_storaged.delivery.context import DeliveryContext
from cctv_storaged.delivery.telling import Telling
from cctv_storaged.errors import BackendUnavailable, ObjectMismatch
from cctv_storaged.journal.copies import Proof
from cctv_storaged.marking import Marking
from cctv_storaged.model import Copy, CopyState, Segment, key_family, object_key, spare_key
from cctv_storaged.objectlocks import ObjectLocks
from cctv_storaged.payloads import Payloads

log = logging.getLogger(__name__)

SPARE_KEYS = 2
"""Names to try besides the first where spoiled objects stand that may not be overwritten."""
UNMARKED = 1000
"""Segments whose hash is remembered though the journal has nothing of their put."""


class Putting:
    """Puts and verifies; whoever asks for it marks. Raises what backend and source do."""

    def __init__(
        self,
        backend: Backend,
        prefix: str,
        payloads: Payloads,
        marking: Marking,
        context: DeliveryContext,
        telling: Telling,
    ) -> None:
        self._backend = backend
        self._prefix = prefix
        self._payloads = payloads
        self._marking = marking
        self._budget = context.budget
        self._telling = telling
        self._locks = ObjectLocks()
        self._unmarked: OrderedDict[UUID, bytes] = OrderedDict()  # hashes of what may be there unknown

    def exclusive(self, *keys: str) -> AbstractAsyncContextManager[None]:
        """Keeps all objects of the keys' families from being put and marked while the block lasts."""
        return self._locks.hold(*(key_family(key)[0] for key in keys))

    def possible_keys(self, segment: Segment) -> tuple[str, ...]:
        """Where the segment's bytes may be at the backend, also after a kill before that was written down.

        Nowhere that anybody could tell, if neither a path nor the SHA-256 is known.
        """
        copy = segment.copy_at(self._backend.name)
        known = None if copy is None else copy.path
        sha256 = segment.sha256 or self._unmarked.get(segment.id)
        if known is None and sha256 is None:
            return ()
        first = known or object_key(self._prefix, replace(segment, sha256=sha256))
        return key_family(spare_key(key_family(first)[0], SPARE_KEYS))

    @asynccontextmanager
    async def verified(self, segment: Segment, copy: Copy) -> AsyncIterator[Proof]:
        """The backend has it, and nobody else touches it there while the block lasts: it is to be marked."""
        async with AsyncExitStack() as until_marked:
            held = await self._held(segment, copy, until_marked)
            proof = Proof(path=held.path, sha256=held.sha256, etag=held.etag)
            try:
                await self._backend.verify(held)
            except BackendUnavailable:
                await self._marking.stored(segment.id, proof)
                raise
            yield proof

    def marked(self, segment: Segment) -> None:
        """The journal has it, so that nothing has to be remembered."""
        self._unmarked.pop(segment.id, None)

    async def _held(self, segment: Segment, copy: Copy, until_marked: AsyncExitStack) -> StoredObject:
        """What the backend holds by now: stored earlier and not proven yet, or put here."""
        if copy.state is CopyState.STORED and copy.path is not None and segment.sha256 is not None:
            await until_marked.enter_async_context(self.exclusive(copy.path))
            return StoredObject(
                path=copy.path,
                size_bytes=segment.size_bytes,
                sha256=segment.sha256,
                etag=copy.etag,
                doubted=True,  # by a reader perhaps, who got other bytes than the head tells of
            )
        async with self._payloads.of(segment) as (payload, hashed):
            key = object_key(self._prefix, hashed)
            self._remember(hashed)
            await until_marked.enter_async_context(self.exclusive(key))
            return await self._put(key, payload)

    def _remember(self, hashed: Segment) -> None:
        """Should its source go before anybody writes down what was put, a deletion must find it still."""
        if hashed.sha256 is not None:
            self._unmarked[hashed.id] = hashed.sha256
            if len(self._unmarked) > UNMARKED:
                self._unmarked.popitem(last=False)

    async def _put(self, key: str, payload: Payload) -> StoredObject:
        """Under the first of its names that is free or has these very bytes. Nothing is overwritten."""
        for spare in range(SPARE_KEYS):
            try:
                return await self._backend.put(spare_key(key, spare), payload, self._budget)
            except ObjectMismatch as exc:
                self._telling.failed("put")
                log.error("%s stays and is not used: %s", self._backend.name, exc)
        return await self._backend.put(spare_key(key, SPARE_KEYS), payload, self._budget)
