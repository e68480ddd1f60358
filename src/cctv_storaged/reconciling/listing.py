"""A backend's listing without what is no segment: other folders and other hosts' cameras are jumped over."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.backends.base import ListedObject, Listing
from cctv_storaged.model import is_object_key
from cctv_storaged.reconciling.pace import Pace

_CAMERA = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LAST_DIGIT = "f"  # a camera's folder begins with a hex digit
_BEHIND = "0"  # follows "/" in ASCII: behind everything in a folder of the name before it


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentsPage:
    """The segments of a page of the listing, and how many objects it had."""

    objects: Sequence[ListedObject]
    looked: int


class SegmentListing:
    """Lists one backend's segments in the order of their paths."""

    def __init__(self, backend: Listing, prefix: str, pace: Pace) -> None:
        self._backend = backend
        self._prefix = prefix
        self._pace = pace
        self.skipped: set[UUID] = set()
        """Cameras that need not be listed any further."""

    async def pages(self, after: str) -> AsyncIterator[SegmentsPage]:
        """What lies behind `after`. Raises BackendError."""
        start: str | None = after
        while start is not None:
            pages, start = self._backend.listed(self._prefix, start), None
            async for page in pages:
                await self._pace.objects(len(page))
                ours = [found for found in page if is_object_key(self._prefix, found.path)]
                yield SegmentsPage(objects=ours, looked=len(page))
                if self._is_behind_all(page[-1].path):
                    return
                start = self._beyond(page[-1].path)
                if start is not None:
                    break

    def _is_behind_all(self, path: str) -> bool:
        return path[len(self._prefix) :] > f"{_LAST_DIGIT}~"

    def _beyond(self, path: str) -> str | None:
        """Where to go on if nothing else of the folder is wanted that this path lies in."""
        top, slash, _ = path[len(self._prefix) :].partition("/")
        if not slash:
            return None
        is_wanted = _CAMERA.fullmatch(top) is not None and UUID(top) not in self.skipped
        return None if is_wanted else f"{self._prefix}{top}{_BEHIND}"
