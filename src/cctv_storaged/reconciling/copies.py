"""One backend against the journal: its listing and the journal's copies, joined by path.

A listing is a hint: what it does not show is asked for by name before it is called a ghost, and what it
shows too much is looked up before it is called an orphan. Objects of other hosts, which may share the
bucket, are passed over.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from cctv_storaged.backends.base import Backend, Describing, ListedObject, Listing
from cctv_storaged.clock import Clock, to_us
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.reconcile import HeldCopy
from cctv_storaged.labels import understood
from cctv_storaged.model import CopyState
from cctv_storaged.rebuilding.adopting import NamedSegment, named
from cctv_storaged.reconciling.differences import Difference, Kind, SectionKind, Step
from cctv_storaged.reconciling.listing import SegmentListing
from cctv_storaged.reconciling.merging import Match, Merge, Side
from cctv_storaged.reconciling.pace import Pace

SETTLED = timedelta(minutes=5)
"""Younger objects, proofs and files are work under way, and no difference."""
AT_ONCE = 8
"""Questions to a backend at the same time."""
ASKED_OWNERS = 20
"""So many unknown objects of a camera are asked whose they are; the others are taken for the same host's."""

UNDER_WAY = frozenset({CopyState.PENDING, CopyState.STORED, CopyState.DELETING})

Found = Match[ListedObject, HeldCopy]


@dataclass(slots=True)
class _Alone:
    """Objects without a row."""

    found: list[Difference] = field(default_factory=list)
    elsewhere: int = 0
    young: int = 0
    under_way: int = 0


class Held(Backend, Describing, Listing, Protocol):
    """A backend that can be compared."""


class CopiesSection:
    """Compares one backend; made for one pass over it."""

    kind = SectionKind.BACKEND

    def __init__(self, backend: Held, prefix: str, journal: Journal, clock: Clock, pace: Pace) -> None:
        """`prefix` is that of object keys."""
        self._backend = backend
        self._prefix = prefix
        self._journal = journal
        self._clock = clock
        self._pace = pace
        self._listing = SegmentListing(backend, prefix, pace)
        self._ours: Counter[UUID] = Counter()  # unknown objects of a camera that were shown to be ours

    @property
    def name(self) -> str:
        return self._backend.name

    async def steps(self, cursor: str | None) -> AsyncIterator[Step]:
        """All that lies behind the cursor. Raises BackendError, JournalError."""
        after = rows_after = cursor or ""
        pages = self._listing.pages(after)
        merge: Merge[ListedObject, HeldCopy] = Merge(lambda found: found.path, lambda held: held.path)
        while (side := merge.wants) is not None:
            looked = 0
            if side is Side.RIGHT:
                rows = await self._journal.reconcile.copies(self.name, rows_after)
                rows_after = rows[-1].path if rows else rows_after
                merge.add_right(rows) if rows else merge.end(side)
            elif (page := await anext(pages, None)) is None:
                merge.end(side)
            else:
                looked = page.looked
                merge.add_left(page.objects)
            matches = list(merge.matches())
            after = next((path for match in reversed(matches) if (path := _decided(match))), after)
            yield await self._step(after, looked, matches)

    async def _step(self, cursor: str, looked: int, matches: Sequence[Found]) -> Step:
        pairs = [(match.left, match.right) for match in matches if match.left and match.right]
        unknown = [match.left for match in matches if match.left and not match.right]
        known = await self._known(unknown)
        pairs += [(found, known[found.path]) for found in unknown if found.path in known]
        doubtful = [held for found, held in pairs if found.size_bytes != held.size_bytes]
        missing = [match.right for match in matches if match.right and not match.left]
        differences = await self._proven([*filter(self._is_settled, (*missing, *doubtful))])
        alone = await self._orphans(found for found in unknown if found.path not in known)
        rows = [match.right for match in matches if match.right]
        expected = [held for held in rows if self._is_settled(held)]
        proven = sum(held.state is CopyState.VERIFIED for held in rows)
        return Step(
            cursor=cursor,
            looked=looked,
            compared=Counter(held.camera_id for held in expected),
            differences=(*differences, *alone.found),
            elsewhere=alone.elsewhere,
            young=alone.young + proven - len(expected),
            under_way=alone.under_way + sum(held.state in UNDER_WAY for held in rows),
        )

    async def _known(self, unknown: Sequence[ListedObject]) -> dict[str, HeldCopy]:
        """Rows that came since theirs were read, or whose objects were listed out of order."""
        if not unknown:
            return {}
        return await self._journal.reconcile.known_paths(self.name, [found.path for found in unknown])

    def _is_settled(self, held: HeldCopy) -> bool:
        settled_us = to_us(self._clock.now() - SETTLED)
        return (
            held.state is CopyState.VERIFIED
            and held.verified_us is not None
            and held.verified_us <= settled_us
        )

    # Rows whose object is not as it should be

    async def _proven(self, rows: Sequence[HeldCopy]) -> list[Difference]:
        """Those of which the backend says the same when it is asked by name."""
        found: list[Difference] = []
        for first in range(0, len(rows), AT_ONCE):
            some = rows[first : first + AT_ONCE]
            await self._pace.requests(len(some))
            found += filter(None, await asyncio.gather(*map(self._asked, some)))
        return found

    async def _asked(self, held: HeldCopy) -> Difference | None:
        try:
            facts = await self._backend.stat(held.path)
        except BackendUnavailable:
            raise
        except ObjectMissing as exc:
            return await self._unless_changed(held, Kind.GHOST, str(exc))
        except BackendError as exc:
            return await self._unless_changed(held, Kind.MISMATCH, str(exc))
        if facts.size_bytes == held.size_bytes:
            return None  # the listing was not up to date
        detail = f"{facts.size_bytes} bytes, not {held.size_bytes}"
        return await self._unless_changed(held, Kind.MISMATCH, detail)

    async def _unless_changed(self, held: HeldCopy, kind: Kind, detail: str) -> Difference | None:
        """Asking took its time: a deletion may have come between."""
        segment = await self._journal.segments.by_id(held.segment_id)
        copy = None if segment is None else segment.copy_at(self.name)
        if copy is None or copy.path != held.path or copy.state is not CopyState.VERIFIED:
            return None
        return Difference(
            kind=kind,
            section=self.name,
            path=held.path,
            segment_id=held.segment_id,
            camera_id=held.camera_id,
            detail=detail,
        )

    # Objects without a row

    async def _orphans(self, unknown: Iterable[ListedObject]) -> _Alone:
        """Those of this host, and how many others there are."""
        alone = _Alone()
        for found in unknown:
            name = named(self._prefix, found.path)
            if name is None:
                continue
            if found.modified > self._clock.now() - SETTLED:
                alone.young += 1
            elif await self._journal.reconcile.under_way(self.name, name.camera_id, name.start):
                alone.under_way += 1
            elif await self._is_ours(found, name):
                alone.found.append(self._orphan(found, name))
            else:
                alone.elsewhere += 1
        return alone

    def _orphan(self, found: ListedObject, name: NamedSegment) -> Difference:
        return Difference(
            kind=Kind.ORPHAN_OBJECT,
            section=self.name,
            path=found.path,
            camera_id=name.camera_id,
            detail=f"{found.size_bytes} bytes",
        )

    async def _is_ours(self, found: ListedObject, name: NamedSegment) -> bool:
        camera_id = name.camera_id
        if camera_id in self._listing.skipped:
            return False
        if self._ours[camera_id] >= ASKED_OWNERS:
            return True
        await self._pace.requests(1)
        try:
            host = understood((await self._backend.stat(found.path)).metadata).host
        except ObjectMissing:
            return False  # gone meanwhile
        is_known = await self._journal.cameras.camera(camera_id) is not None
        ours = host == self._journal.host_id or (host is None and (is_known or self.name == "FILESYSTEM"))
        if ours:
            self._ours[camera_id] += 1
        elif host is not None and not is_known:
            self._listing.skipped.add(camera_id)
        return ours


def _decided(match: Found) -> str | None:
    """Up to where a match tells everything; one that came late tells of what is behind it."""
    if match.right is not None:
        return match.right.path
    return None if match.late or match.left is None else match.left.path
