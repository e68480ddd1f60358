"""Places that are buckets: the mark is an object, and several hosts that share a bucket share it."""

import asyncio
import time
from contextlib import aclosing

from cctv_storaged.backends.base import Listing
from cctv_storaged.backends.shelf import ShelfBackend
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMismatch, ObjectMissing
from cctv_storaged.guarding.identity import LONGEST_BYTES, NAME, Mark, Standing, identity_in
from cctv_storaged.guarding.place import MOST_ENTRIES, Keeping, Place, PlaceKind, Seen
from cctv_storaged.shelving import shelve_bytes

FRESH_S = 60.0
"""So long a look that found all well counts for whoever puts and verifies."""
WRONG_S = 5.0
"""And so long one that did not."""
SETTLING_S = 1.0
"""Hosts that lay a mark down at the same time, at a store that overwrites, see one and the same after it."""


class BucketPlace(Place):
    """Looked at through the backend, once that is opened."""

    def __init__(self, kind: PlaceKind, location: str, keeping: Keeping, prefix: str) -> None:
        super().__init__(kind, location, keeping)
        self._key = f"{prefix}{NAME}"
        self._backend: ShelfBackend | None = None

    def reached_by(self, backend: ShelfBackend) -> None:
        """This backend, itself unguarded, leads there."""
        self._backend = self._backend or backend

    def due(self) -> bool:
        """Whether the last look is old enough for another. A shelf's bucket is opened when it is needed."""
        return self.standing is not Standing.UNSEEN and self._begun_at < self._stale_before()

    async def _seen(self) -> Seen:
        try:
            return Seen(mark=await self._read())
        except BackendUnavailable as exc:
            return Seen(absent=exc.reason == "bucket", trouble=exc)
        except BackendError as exc:
            return Seen(trouble=BackendUnavailable(f"its identity cannot be read: {exc}", reason="server"))

    async def _read(self) -> str | None:
        document = b""
        try:
            async with self._opened().open(self._key, 0, LONGEST_BYTES) as blocks:
                async for block in blocks:
                    document += block
        except ObjectMissing:
            return None
        return identity_in(document[:LONGEST_BYTES])

    async def _laid(self, mark: Mark) -> str:
        """Never over another: by If-None-Match where the store honours it, else by looking again later."""
        backend = self._opened()
        try:
            found = await backend.probe()  # the put must know what the store can do
            await shelve_bytes(backend, mark.document(), self._key, {})
            if not found.conditional_put:
                await asyncio.sleep(SETTLING_S)
        except ObjectMismatch:
            pass  # another host was faster
        except BackendUnavailable:
            raise
        except BackendError as exc:
            raise BackendUnavailable(f"no identity can be laid down: {exc}", reason="server") from exc
        laid = await self._read()
        if laid is None:
            raise BackendUnavailable(f"{self.location} has lost its identity this moment", reason="server")
        return laid

    async def _own(self) -> str | None:
        return None

    async def _entries(self) -> int | None:
        backend = self._opened()
        if not isinstance(backend, Listing):
            return None
        try:
            async with aclosing(backend.listed(self._key.removesuffix(NAME))) as pages:  # type: ignore[type-var]
                async for page in pages:
                    return min(MOST_ENTRIES, sum(each.path != self._key for each in page))
        except BackendError:
            return None
        return 0

    def _opened(self) -> ShelfBackend:
        if self._backend is None:
            raise BackendUnavailable(f"{self.location} was not used yet", reason="network")
        return self._backend

    def _stale_before(self) -> float:
        match self.standing:
            case Standing.RIGHT:
                return time.monotonic() - FRESH_S
            case Standing.MISSING | Standing.OTHER:
                return time.monotonic() - WRONG_S
            case _:
                return float("inf")  # away: the next to ask finds out whether it is back

    def _told_away(self) -> str | None:
        return None  # that a store is away is told by its delivery
