"""Segments in use, and by whom: what is pinned is not pruned, and what an export needs is not deleted.

Pins live in memory. After a kill nobody reads any more, and an export that is resumed pins its segments anew.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID


class Pins:
    """Who may remove footage asks here first. On the event loop only."""

    def __init__(self) -> None:
        self._count: Counter[UUID] = Counter()

    @contextmanager
    def reading(self, segment_id: UUID) -> Iterator[None]:
        """While somebody reads the segment, its source stays."""
        self._add((segment_id,))
        try:
            yield
        finally:
            self._remove((segment_id,))

    @contextmanager
    def exporting(self, segment_ids: frozenset[UUID]) -> Iterator[None]:
        """While an export of them is made, these segments stay, source and copies."""
        self._add(segment_ids)
        try:
            yield
        finally:
            self._remove(segment_ids)

    def pinned(self, segment_id: UUID) -> int:
        """How many use the segment."""
        return self._count[segment_id]

    def all(self) -> frozenset[UUID]:
        """Every segment that somebody is using."""
        return frozenset(self._count)

    def __len__(self) -> int:
        """How many segments are pinned."""
        return len(self._count)

    def _add(self, segment_ids: Collection[UUID]) -> None:
        self._count.update(segment_ids)

    def _remove(self, segment_ids: Collection[UUID]) -> None:
        for segment_id in segment_ids:
            self._count[segment_id] -= 1
            if not self._count[segment_id]:
                del self._count[segment_id]
