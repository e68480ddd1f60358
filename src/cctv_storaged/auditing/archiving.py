"""The ledger's growth: old lines go into archives, and leave the journal once these are proven.

1. The next lines into a file: temporary name, fsync, read back, its name, fsync of the folder.
2. Every line that the table has of them is compared with the file; then a commit says that the file counts.
3. Lines leave the table, a slice a commit; those that others ask for stay (`ledgerlines.KEPT`).
4. The file is put into the store beside the heads.
A kill between any two of these is gone on from: what has its name and does not count yet is proven and taken.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.auditing.archive import ArchiveFile, ArchiveWriter, archives_in, lines_in, sweep
from cctv_storaged.backends.base import Backend
from cctv_storaged.clock import Clock
from cctv_storaged.errors import LedgerError
from cctv_storaged.exporting.work import in_thread
from cctv_storaged.journal.chain import GENESIS, BoundLine, Walk
from cctv_storaged.journal.ledgerlines import SLICE, STORED, LedgerEnd, LedgerLines
from cctv_storaged.shelving import shelve

log = logging.getLogger(__name__)

LINES = 20_000
"""Of one archive: some megabytes."""
CHAIN_DIGITS = 16
"""So much of a chain's name tells its archives in the store from others'."""
PATIENCE = timedelta(days=1)
"""Fewer lines than that are archived once the first of them has been due for so long."""


class Archiver:
    """Moves old lines out of the journal."""

    def __init__(
        self,
        lines: LedgerLines,
        folder: Path,
        store: Backend,
        below: str,
        keep: timedelta,
        clock: Clock,
        alarms: Alarms,
    ) -> None:
        """`below`: where in the store archives are put; `keep`: the age that lines have at least."""
        self._lines = lines
        self._folder = folder
        self._store = store
        self._below = below
        self.keep = keep
        self._clock = clock
        self._alarms = alarms

    async def run_once(self) -> None:
        """All that is due. Raises JournalFull, OSError, and BackendError while the store is away."""
        try:
            await self._archive()
        except LedgerError as exc:
            self._alarms.sound(AlarmName.LEDGER, str(self._folder), f"nothing is archived: {exc}")
        else:
            self._alarms.end(AlarmName.LEDGER, str(self._folder))
        await self._store_all()

    async def put_again(self) -> None:
        """Another store, or an emptied one, was accepted. Raises as `run_once`, which goes on with it."""
        await self._lines.remember(STORED, "0")
        await self._store_all()

    async def _archive(self) -> None:
        await in_thread(sweep, self._folder)
        await self._take_in()
        while await self._archive_next():
            pass
        while await self._lines.drop():
            pass

    async def _take_in(self) -> None:
        """Archives that a killed process had finished and not counted."""
        for archive in await in_thread(archives_in, self._folder):
            end = await self._lines.end()
            if end is None or archive.last <= end.archived:
                continue
            follows = archive.first == end.archived + 1 and archive.last < end.no
            last_hash = await self._proven(archive, end) if follows else None
            if last_hash is not None:
                await self._count(archive, last_hash)
                continue
            aside = archive.path.with_name(f"{archive.path.name}.not-this-ledger")
            await in_thread(archive.path.rename, aside)
            log.error("%s is no archive of this ledger, and is left as %s", archive.path, aside.name)

    async def _archive_next(self) -> bool:
        before = self._clock.now() - self.keep
        last = await self._lines.due_to(LINES, before, before - PATIENCE)
        end = await self._lines.end()
        if last is None or end is None:
            return False
        archive = await self._written(end.archived + 1, last)
        last_hash = await self._proven(archive, end)
        if last_hash is None:
            raise LedgerError(f"{archive.path} has other lines than the journal; nothing was removed")
        await self._count(archive, last_hash)
        return True

    async def _written(self, first: int, last: int) -> ArchiveFile:
        with await in_thread(ArchiveWriter, self._folder) as writer:
            after = first - 1
            while after < last:
                lines = [bound for bound in (await self._lines.page(after)).lines if bound.line.no <= last]
                await in_thread(writer.write, lines)
                after = lines[-1].line.no if lines else last
            return await in_thread(writer.finish, first, last)

    async def _proven(self, archive: ArchiveFile, end: LedgerEnd) -> bytes | None:
        """The hash of its last line, where it has every line that the table has of its numbers.

        What the table has not (`meta` was lost, say, and the lines had gone) has to hold together by itself.
        """
        check = _Check(archive, end)
        with closing(lines_in(archive.path)) as lines:
            while batch := await in_thread(_taken, lines):
                held = await self._held(check.after, batch[-1].line.no)
                if not check.agrees(batch, held):
                    return None
        rest = await self._held(check.after, archive.last)
        return None if rest else check.last_hash

    async def _held(self, after: int, up_to: int) -> list[BoundLine]:
        """What the table has of these numbers; `SLICE` lines of a file at most lie between them."""
        page = await self._lines.page(after)
        return [bound for bound in page.lines if bound.line.no <= up_to]

    async def _count(self, archive: ArchiveFile, last_hash: bytes) -> None:
        await self._lines.archived(archive.last, last_hash)
        log.info("ledger: lines up to %d are archived in %s", archive.last, archive.path.name)

    async def _store_all(self) -> None:
        stored, end = int(await self._lines.recall(STORED) or 0), await self._lines.end()
        # A ledger that was begun anew has archives of the same numbers.
        below = f"{self._below}{(end.chain if end else '')[:CHAIN_DIGITS] or 'unknown'}/"
        for archive in await in_thread(archives_in, self._folder):
            if archive.last > stored:
                metadata = {"ledger": "archive"}
                await shelve(self._store, archive.path, f"{below}{archive.path.name}", metadata)
                await self._lines.remember(STORED, str(archive.last))


class _Check:
    """Compares an archive with the table, batch by batch."""

    def __init__(self, archive: ArchiveFile, end: LedgerEnd) -> None:
        self.after = archive.first - 1
        self.last_hash: bytes | None = None
        self._last = archive.last
        self._walk = Walk(end.archived, end.archived_hash)
        self._broken = self._lacking = False

    def agrees(self, batch: Sequence[BoundLine], held: Sequence[BoundLine]) -> bool:
        """Whether all is well so far."""
        lines = {bound.line.no: bound for bound in batch}
        self._broken = self._broken or any(self._walk.step(bound) is not None for bound in batch)
        self._lacking = self._lacking or len(held) < len(batch)
        self.after = batch[-1].line.no
        self.last_hash = (batch[-1].hash or GENESIS) if self.after == self._last else None
        same = all(lines.get(bound.line.no) == bound for bound in held)
        return same and not (self._broken and self._lacking) and self.after <= self._last


def _taken(lines: Iterator[BoundLine]) -> list[BoundLine]:
    """The next lines; where one is unreadable there are none, and so not all of them."""
    try:
        return list(islice(lines, SLICE))
    except LedgerError as exc:
        log.error("%s", exc)
        return []
