"""Which codecs each camera's footage was ever in, so that all of them are described.

The journal has no index by codec: it is walked once, in slices, and from then on only what is new.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us
from cctv_storaged.journal.replayable import Replayable

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""A client is not kept waiting for longer; the walk goes on with the next question."""


class Codecs:
    """What the journal knows. On the event loop only."""

    def __init__(self, replayable: Replayable) -> None:
        self._replayable = replayable
        self._known: dict[UUID, dict[str, int]] = {}
        self._after = 0
        self._walking = asyncio.Lock()

    async def of(self, camera_id: UUID) -> Mapping[str, datetime]:
        """Each codec, with where the latest footage in it begins."""
        try:
            async with asyncio.timeout(PATIENCE_S), self._walking:
                await self._walk()
        except TimeoutError:
            log.info("not all segments were looked at for their codecs yet; %d are", self._after)
        return {codec: from_us(start_us) for codec, start_us in self._known.get(camera_id, {}).items()}

    async def _walk(self) -> None:
        while True:
            part = await self._replayable.codecs(self._after)
            for camera_id, codec, start_us in part.rows:
                known = self._known.setdefault(camera_id, {})
                known[codec] = max(start_us, known.get(codec, start_us))
            self._after = part.last
            if not part.more:
                return
