"""The catalog against the journal: this host's rows on both sides, joined by id.

What the catalog was not told of yet is no difference; nor is a row it is still to forget.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from uuid import UUID

from cctv_storaged.catalog.base import Catalog, CatalogRow
from cctv_storaged.cataloguing import catalog_row
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.reconcile import ToldRow
from cctv_storaged.reconciling.differences import Difference, Kind, SectionKind, Step
from cctv_storaged.reconciling.merging import Match, Merge, Side
from cctv_storaged.reconciling.pace import Pace

CATALOG = "catalog"
ROWS = 500
_FIRST = UUID(int=0)


class CatalogSection:
    """Compares the catalog; made for one pass over it."""

    kind = SectionKind.CATALOG
    name = CATALOG

    def __init__(self, catalog: Catalog, journal: Journal, host_id: str, pace: Pace) -> None:
        self._catalog = catalog
        self._journal = journal
        self._host_id = host_id
        self._pace = pace

    async def steps(self, cursor: str | None) -> AsyncIterator[Step]:
        """All that lies behind the cursor. Raises CatalogUnavailable, JournalError."""
        after = rows_after = told_after = None if cursor is None else UUID(cursor)
        merge: Merge[CatalogRow, ToldRow] = Merge(lambda row: row.id, lambda told: told.segment.id)
        while (side := merge.wants) is not None:
            if side is Side.LEFT:
                rows = await self._catalog.of_host(rows_after or _FIRST, ROWS)
                await self._pace.objects(len(rows))
                rows_after = rows[-1].id if rows else rows_after
                merge.add_left(rows) if rows else merge.end(side)
            else:
                told = await self._journal.reconcile.told(told_after)
                told_after = told[-1].segment.id if told else told_after
                merge.add_right(told) if told else merge.end(side)
            matches = list(merge.matches())
            if matches:
                after = _id_of(matches[-1])
                yield await self._step(str(after), matches)

    async def _step(self, cursor: str, matches: Sequence[Match[CatalogRow, ToldRow]]) -> Step:
        extra = [match.left for match in matches if match.left and not match.right]
        known = await self._journal.reconcile.known_ids([row.id for row in extra])
        rows = [match.left for match in matches if match.left]
        return Step(
            cursor=cursor,
            looked=len(matches),
            compared=Counter(row.camera_id for row in rows),
            under_way=sum(match.right is not None and not match.right.told for match in matches),
            differences=(
                *(_difference(Kind.CATALOG_EXTRA, row) for row in extra if row.id not in known),
                *(found for match in matches if (found := self._told_wrong(match)) is not None),
            ),
        )

    def _told_wrong(self, match: Match[CatalogRow, ToldRow]) -> Difference | None:
        if match.right is None or not match.right.told:
            return None
        row = catalog_row(match.right.segment, self._host_id)
        if row is None:
            return None
        if match.left is None:
            return _difference(Kind.CATALOG_MISSING, row)
        names = differing(row, match.left)
        return _difference(Kind.CATALOG_DIFFERS, row, f"other {', '.join(names)}") if names else None


def differing(told: CatalogRow, found: CatalogRow) -> tuple[str, ...]:
    """The names of what is not as it was told. Pure."""
    same = replace(found, copies=tuple(sorted(found.copies, key=lambda copy: copy.backend)))
    want = replace(told, copies=tuple(sorted(told.copies, key=lambda copy: copy.backend)))
    names = [field.name for field in fields(CatalogRow)]
    return tuple(name for name in names if getattr(want, name) != getattr(same, name))


def _difference(kind: Kind, row: CatalogRow, detail: str = "") -> Difference:
    return Difference(
        kind=kind,
        section=CATALOG,
        path=row.storage_path,
        segment_id=row.id,
        camera_id=row.camera_id,
        detail=detail,
    )


def _id_of(match: Match[CatalogRow, ToldRow]) -> UUID:
    if match.right is not None:
        return match.right.segment.id
    assert match.left is not None
    return match.left.id
