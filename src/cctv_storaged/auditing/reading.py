"""The whole ledger in the order of its lines: archives first, then the journal's table."""

from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cctv_storaged.auditing.archive import ArchiveFile, archives_in, lines_in
from cctv_storaged.exporting.work import in_thread
from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.ledgerlines import EVERYTHING, SLICE, LedgerLines, Sift

LOOKED_AT = 40 * SLICE
"""Lines that one page may look at for those it wants: a rare kind takes several pages, not one long one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Lines, and the number that the next page goes on behind (None: that was the end)."""

    lines: tuple[BoundLine, ...]
    next: int | None


class LedgerReader:
    """Reads the ledger of a running daemon. Raises LedgerError for a damaged archive, OSError."""

    def __init__(self, lines: LedgerLines, folder: Path) -> None:
        """`folder`: where the archives are."""
        self._lines = lines
        self._folder = folder

    async def page(self, after: int, limit: int, sift: Sift = EVERYTHING) -> Page:
        """The next lines behind a number, `limit` at most; fewer, or none, where long was looked for them."""
        found: list[BoundLine] = []
        looked_at = 0
        async for batch, looked_to in self._batches(after, None):
            looked_at += len(batch)
            for bound in batch:
                if sift.takes(bound.line):
                    found.append(bound)
                if len(found) == limit:
                    return Page(lines=tuple(found), next=bound.line.no)
            if looked_at >= LOOKED_AT:
                return Page(lines=tuple(found), next=looked_to)
        return Page(lines=tuple(found), next=None)

    async def all(self, after: int, up_to: int) -> AsyncIterator[Sequence[BoundLine]]:
        """Every line from behind a number to a number, in batches of at most `SLICE`."""
        async for batch, _ in self._batches(after, up_to):
            if batch:
                yield batch

    async def line(self, no: int) -> BoundLine | None:
        """One line, wherever it is."""
        page = await self.page(no - 1, 1)
        return next((bound for bound in page.lines if bound.line.no == no), None)

    async def _batches(self, after: int, up_to: int | None) -> AsyncIterator[tuple[Sequence[BoundLine], int]]:
        """Lines, and up to which number they are all."""
        while up_to is None or after < up_to:
            page = await self._lines.page(after, SLICE)
            if after < page.archived:
                async for batch in self._archived(after, page.archived):
                    after = batch[-1].line.no
                    yield _up_to(batch, up_to), after
                    if up_to is not None and after >= up_to:
                        return
                after = max(after, page.archived)
                continue
            yield _up_to(page.lines, up_to), page.looked_to
            after = page.looked_to
            if page.at_end:
                return

    async def _archived(self, after: int, up_to: int) -> AsyncIterator[Sequence[BoundLine]]:
        """Lines of the archives, which have all up to a number."""
        for archive in await in_thread(archives_in, self._folder):
            if archive.last <= after or archive.first > up_to:
                continue
            with closing(_batches_of(archive, after)) as batches:
                while batch := await in_thread(next, batches, None):
                    after = batch[-1].line.no
                    yield batch


def _batches_of(archive: ArchiveFile, after: int) -> Generator[Sequence[BoundLine], None, None]:
    with closing(lines_in(archive.path, after)) as lines:
        while batch := list(islice(lines, SLICE)):
            yield batch


def _up_to(batch: Sequence[BoundLine], up_to: int | None) -> Sequence[BoundLine]:
    return batch if up_to is None else [bound for bound in batch if bound.line.no <= up_to]
