"""Who fetched an export: a line in the ledger before the first byte goes out, and not one for every piece.

Players and download managers fetch a file in many ranges, and pages ask for an export's address again and
again: these are one fetch of one client, told once in an hour. A file asked for whole is always told.
"""

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.journal.exportrows import Export
from cctv_storaged.journal.ledgerlines import Delivered, LedgerLines

SAME_FETCH_S = 3600.0
MOST_REMEMBERED = 10_000


class Fetched(StrEnum):
    """What of an export went out; the cause of the `downloaded` line."""

    FILE = "file"
    MANIFEST = "manifest"
    URL = "url"  # an address that opens the file at the object store to whoever has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Who fetches: the name of the token (None: the API is open) and the address asked from."""

    token: str | None
    address: str | None
    token_id: UUID | None = None


class Fetches:
    """Tells fetches. On the event loop only."""

    def __init__(self, lines: LedgerLines, clock: Clock) -> None:
        self._lines = lines
        self._clock = clock
        self._told: dict[tuple[UUID, Fetched, Fetcher], float] = {}
        self._telling = asyncio.Lock()

    async def tell(
        self, export: Export, what: Fetched, by: Fetcher, *, whole: bool = False, request: str | None = None
    ) -> None:
        """Writes the lines, unless it was told. Raises JournalFull: what cannot be told must not go."""
        key = (export.id, what, by)
        async with self._telling:  # ranges are asked for side by side
            now_s = self._clock.monotonic()
            if not whole and now_s - self._told.get(key, -SAME_FETCH_S) < SAME_FETCH_S:
                return
            facts = {"by": by.token, "from": by.address}
            if by.token_id is not None:
                facts["token"] = str(by.token_id)
            if request is not None:
                facts["request"] = request
            if export.result is not None:
                facts["sha256"] = export.result.sha256
            delivered = Delivered(
                export_id=export.id,
                camera_ids=export.request.camera_ids,
                span=export.request.span,
                what=str(what),
                detail=json.dumps(facts),
            )
            await self._lines.delivered(delivered, self._clock.now())
            self._remember(key, now_s)

    def _remember(self, key: tuple[UUID, Fetched, Fetcher], now_s: float) -> None:
        self._told.pop(key, None)
        self._told[key] = now_s
        while len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]  # who comes back is told again, which is no harm
