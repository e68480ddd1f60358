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
        async for batch in self._batches(after):
            for bound in batch:
                if sift.takes(bound.line):
                    found.append(bound)
                if len(found) == limit:
                    return Page(lines=tuple(found), next=bound.line.no)
            looked_at += len(batch)
            if looked_at >= LOOKED_AT:
                return Page(lines=tuple(found), next=batch[-1].line.no)
        return Page(lines=tuple(found), next=None)

    async def all(self, after: int, up_to: int) -> AsyncIterator[Sequence[BoundLine]]:
        """Every line from behind a number to a number, in batches of at most `SLICE`."""
        async for batch in self._batches(after):
            if batch[-1].line.no < up_to:
                yield batch
                continue
            if rest := [bound for bound in batch if bound.line.no <= up_to]:
                yield rest
            return

    async def line(self, no: int) -> BoundLine | None:
        """One line, wherever it is."""
        page = await self.page(no - 1, 1)
        return next((bound for bound in page.lines if bound.line.no == no), None)

    async def _batches(self, after: int) -> AsyncIterator[Sequence[BoundLine]]:
        """All lines behind a number, never none of them at a time."""
        while True:
            page = await self._lines.page(after)
            if after < page.archived:
                async for batch in self._archived(after, page.archived):
                    after = batch[-1].line.no
                    yield batch
                after = max(after, page.archived)
                continue
            if page.lines:
                yield page.lines
                after = page.lines[-1].line.no
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
