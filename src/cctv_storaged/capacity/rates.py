"""How fast cameras record, by root: bytes of footage in ten-minute buckets over the last day.

A segment counts when its footage ends, not when it was registered: a host that finds a full disk at its first
start has not recorded all of that in an hour.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal.capacity import BUCKET, CapacityRows, Recorded

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

Key = tuple[UUID, str]


class Buckets:
    """Bytes by camera, root and bucket. Pure."""

    def __init__(self) -> None:
        self._bytes: dict[Key, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, recorded: Recorded) -> None:
        self._bytes[recorded.camera_id, recorded.root][recorded.bucket] += recorded.bytes

    def forget_before(self, moment: datetime) -> None:
        first = _bucket(moment)
        for key, buckets in list(self._bytes.items()):
            for bucket in [each for each in buckets if each < first]:
                del buckets[bucket]
            if not buckets:
                del self._bytes[key]

    def known(self) -> frozenset[Key]:
        return frozenset(self._bytes)

    def rate(self, keys: Iterable[Key], now: datetime, window: timedelta) -> float | None:
        """Bytes per second in the whole buckets of the window; None where there is none to tell from.

        A camera that began within the window is measured from its beginning.
        """
        rates = [self._rate(self._bytes[key], now, window) for key in keys if key in self._bytes]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None

    def _rate(self, buckets: dict[int, int], now: datetime, window: timedelta) -> float | None:
        end = _bucket(now)  # the running one is not over
        first = max(_bucket(now - window), min(buckets, default=end))
        if first >= end:
            return None
        seconds = (end - first) * BUCKET.total_seconds()
        return sum(size for bucket, size in buckets.items() if first <= bucket < end) / seconds


class Rates:
    """The buckets, kept up from the journal."""

    def __init__(self, rows: CapacityRows) -> None:
        self._rows = rows
        self._after: int | None = None  # row number of the last segment taken in
        self._taking = asyncio.Lock()
        self.buckets = Buckets()

    async def take_in(self, now: datetime) -> None:
        """What was registered since the last time; the first time, since a day ago."""
        async with self._taking:
            after = self._after
            if after is None:
                after = await self._rows.registered_before(now - DAY)
            more = True
            while more:
                page = await self._rows.recorded(after)
                for recorded in page.recorded:
                    self.buckets.add(recorded)
                self._after = after = page.last
                more = page.more
        self.buckets.forget_before(now - DAY)

    def of_roots(self, roots: frozenset[str], now: datetime, window: timedelta = HOUR) -> float | None:
        """Bytes per second that are recorded below these roots."""
        return self.buckets.rate((key for key in self.buckets.known() if key[1] in roots), now, window)

    def of_camera(self, camera_id: UUID, roots: frozenset[str] | None, now: datetime) -> float:
        """Bytes per second of one camera below these roots (None: all) over the last day."""
        keys = [
            key for key in self.buckets.known() if key[0] == camera_id and (roots is None or key[1] in roots)
        ]
        return self.buckets.rate(keys, now, DAY) or 0.0


def _bucket(moment: datetime) -> int:
    return to_us(moment) // (BUCKET // timedelta(microseconds=1))
