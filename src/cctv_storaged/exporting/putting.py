"""Puts of exports, seen to their end: whoever is cancelled leaves, the thread that puts does not.

Its object would appear on the shelf after everything was removed, and nobody would know of it. So a removal
waits for what is still being put.
"""

import asyncio
from collections.abc import Coroutine
from uuid import UUID

from cctv_storaged.backends.base import StoredObject


class Puts:
    """What is being put on the shelf, by export; one at a time each."""

    def __init__(self) -> None:
        self._under_way: dict[UUID, asyncio.Task[StoredObject]] = {}

    async def through(self, export_id: UUID, put: Coroutine[None, None, StoredObject]) -> StoredObject:
        """What the put gives; it goes on where the caller is cancelled."""
        putting = asyncio.create_task(put, name=f"put of export {export_id}")
        self._under_way[export_id] = putting
        putting.add_done_callback(lambda _: self._done(export_id, putting))
        return await asyncio.shield(putting)

    async def over(self, export_id: UUID, within_s: float) -> bool:
        """Whether nothing of the export is being put any more, after so long at most."""
        putting = self._under_way.get(export_id)
        if putting is not None:
            await asyncio.wait([putting], timeout=within_s)
        return export_id not in self._under_way

    def _done(self, export_id: UUID, putting: asyncio.Task[StoredObject]) -> None:
        if self._under_way.get(export_id) is putting:
            del self._under_way[export_id]
        if not putting.cancelled():
            putting.exception()  # whoever waits for it has it as well; else nobody wants to know
