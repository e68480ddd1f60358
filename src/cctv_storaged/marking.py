"""What came of bringing one backend's copies about, into the journal, however long it has no room.

A result that was thrown away would mean the same bytes put again and again while a disk is full. Every method
returns when the journal has it, and raises only JournalBroken (and ObjectMismatch where the journal says so).
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.errors import JournalFull
from cctv_storaged.journal.copies import Copies, Proof
from cctv_storaged.model import Segment, SourceState

T = TypeVar("T")

FULL_PAUSE_S = 1.0


class Marking:
    """The journal's copies at one backend, for its delivery. What it returns is as in `Copies`."""

    def __init__(self, backend: str, copies: Copies, clock: Clock) -> None:
        self._backend = backend
        self._copies = copies
        self._clock = clock

    async def stored(self, segment_id: UUID, proof: Proof) -> bool:
        now = self._clock.now()
        return await _kept(lambda: self._copies.stored(segment_id, self._backend, proof, now))

    async def verified(self, segment_id: UUID, proof: Proof) -> bool:
        now = self._clock.now()
        return await _kept(lambda: self._copies.verified(segment_id, self._backend, proof, now))

    async def postpone(self, segment_id: UUID, error: str, delay: timedelta, *, counts: bool = True) -> None:
        due = self._clock.now() + delay
        await _kept(lambda: self._copies.postpone(segment_id, self._backend, error, due, counts=counts))

    async def put_again(
        self, segment_id: UUID, error: str, delay: timedelta, *, counts: bool = True
    ) -> Segment | None:
        due = self._clock.now() + delay
        return await _kept(
            lambda: self._copies.put_again(segment_id, self._backend, error, due, counts=counts)
        )

    async def failed(self, segment_id: UUID, error: str) -> Segment | None:
        return await _kept(lambda: self._copies.failed(segment_id, self._backend, error))

    async def source_gone(self, segment_id: UUID, state: SourceState, cause: str) -> Segment | None:
        now = self._clock.now()
        return await _kept(lambda: self._copies.source_gone(segment_id, state, cause, now))

    async def postpone_disk(self, root: str, device: int, error: str, delay: timedelta) -> None:
        """All pending copies whose sources lie on this disk below this root wait so long."""
        due = self._clock.now() + delay
        while await _kept(lambda: self._copies.postpone_disk(self._backend, root, device, error, due)):
            pass  # in slices, so that nobody else waits long for the journal


async def _kept(write: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await write()
        except JournalFull:  # it has said so itself
            await asyncio.sleep(FULL_PAUSE_S)
