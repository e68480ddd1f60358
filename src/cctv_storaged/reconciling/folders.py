"""One recorder root against the journal: folder by folder, files without rows and rows without files.

Two walks: over the folders that are there, and over those the journal knows and the disk has not any more.
A source is called missing only where `whereabouts` says so, on its very disk.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cctv_storaged.clock import Clock, to_us
from cctv_storaged.guarding.roots import Roots
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.reconcile import SourceFolder
from cctv_storaged.journal.segments import KnownFile
from cctv_storaged.model import FileIdentity, Segment
from cctv_storaged.reconciling.copies import SETTLED
from cctv_storaged.reconciling.differences import Difference, Kind, SectionKind, Step
from cctv_storaged.reconciling.pace import Pace
from cctv_storaged.recorder.admission import Root
from cctv_storaged.recorder.scanner import Listing, Scanner
from cctv_storaged.whereabouts import Whereabouts, same_version, whereabouts

LOOKED_FOR = 100
"""Files looked for in one go, by a thread."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Behind a folder of the disk, or, once those are through, behind a folder of the journal."""

    folder: str | None = None
    no: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> "_Cursor":
        return cls() if text is None else cls(*json.loads(text))

    def __str__(self) -> str:
        return json.dumps([self.folder, self.no])  # ASCII: a folder's name may be any bytes


class FolderSection:
    """Compares one root; made for one pass over it."""

    kind = SectionKind.ROOT

    def __init__(self, root: Root, journal: Journal, clock: Clock, pace: Pace, roots: Roots) -> None:
        self._root = root
        self._journal = journal
        self._clock = clock
        self._pace = pace
        self._roots = roots

    @property
    def name(self) -> str:
        return self._root.path

    async def steps(self, cursor: str | None) -> AsyncIterator[Step]:
        """All that lies behind the cursor. Raises OSError where the root cannot be read, JournalError."""
        begun = _Cursor.parse(cursor)
        if begun.no is None:
            async for step in self._on_disk(begun.folder):
                yield step
        async for step in self._in_journal(begun.no or 0):
            yield step

    # Folders that are there

    async def _on_disk(self, after: str | None) -> AsyncIterator[Step]:
        await asyncio.to_thread(os.stat, self.name)
        behind = None if after is None else _order(after)
        listings = Scanner(self.name, self._root.layout.extension).below("")
        while (listing := await asyncio.to_thread(next, listings, None)) is not None:
            await self._pace.objects(1 + len(listing.files))
            if behind is None or _order(listing.folder) > behind:
                yield await self._compared(listing)

    async def _compared(self, listing: Listing) -> Step:
        folder = SourceFolder(no=0, root=self.name, path=listing.folder)
        known = await self._journal.segments.known_in(self.name, listing.folder)
        gone = await self._gone(folder, _registered(known) - listing.files.keys())
        unregistered, young = await asyncio.to_thread(self._unregistered, listing, known)
        return Step(
            cursor=str(_Cursor(folder=listing.folder)),
            looked=len(listing.files),
            compared=await self._journal.reconcile.cameras_in(self.name, listing.folder) if known else {},
            differences=(*gone, *unregistered),
            young=young,
        )

    def _unregistered(self, listing: Listing, known: dict[str, KnownFile]) -> tuple[list[Difference], int]:
        """Blocking. And how many are younger: they are just being written or registered."""
        settled_ns = to_us(self._clock.now() - SETTLED) * 1000
        unknown = [name for name, found in listing.files.items() if not _is_known(known.get(name), found)]
        paths = [os.path.join(listing.folder, name) for name in unknown]
        there = [
            (path, changed_ns)
            for path in paths
            if (changed_ns := _changed_ns(os.path.join(self.name, path))) is not None
        ]
        settled = [path for path, changed_ns in there if changed_ns < settled_ns]
        found = [Difference(kind=Kind.UNREGISTERED_FILE, section=self.name, path=path) for path in settled]
        return found, len(there) - len(settled)

    # Folders that are not

    async def _in_journal(self, after: int) -> AsyncIterator[Step]:
        no: int | None = after
        while no is not None:
            page = await self._journal.reconcile.folders(no)
            ours = [folder for folder in page.folders if folder.root == self.name]
            await self._pace.objects(1 + len(ours))
            vanished = await asyncio.to_thread(_without_folder, ours)
            for folder in vanished:
                yield await self._vanished(folder)
            no = page.next
            if no is not None:
                yield Step(cursor=str(_Cursor(no=no)), looked=0, compared={})

    async def _vanished(self, folder: SourceFolder) -> Step:
        known = await self._journal.segments.known_in(folder.root, folder.path)
        names = _registered(known)
        await self._pace.objects(len(names))
        gone = await self._gone(folder, names)
        return Step(
            cursor=str(_Cursor(no=folder.no)),
            looked=len(names),
            compared=await self._journal.reconcile.cameras_in(folder.root, folder.path),
            differences=tuple(gone),
        )

    async def _gone(self, folder: SourceFolder, names: Iterable[str]) -> list[Difference]:
        wanted = sorted(names)
        gone: list[Difference] = []
        for first in range(0, len(wanted), LOOKED_FOR):
            some = wanted[first : first + LOOKED_FOR]
            segments = await self._journal.reconcile.sources(folder.root, folder.path, some)
            gone += [
                self._missing(segment) for segment in await asyncio.to_thread(self._those_gone, segments)
            ]
        return gone

    def _those_gone(self, segments: Iterable[Segment]) -> list[Segment]:
        return [each for each in segments if whereabouts(each, self._roots) is Whereabouts.GONE]

    def _missing(self, segment: Segment) -> Difference:
        return Difference(
            kind=Kind.MISSING_SOURCE,
            section=self.name,
            path=segment.source.path,
            segment_id=segment.id,
            camera_id=segment.camera_id,
        )


def _order(folder: str) -> tuple[str, ...]:
    """The scanner walks depth first, names in order."""
    return tuple(folder.split("/")) if folder else ()


def _registered(known: Mapping[str, KnownFile]) -> set[str]:
    return {name for name, file in known.items() if file.reason is None}


def _is_known(file: KnownFile | None, found: FileIdentity) -> bool:
    return file is not None and same_version(file.identity, found)


def _changed_ns(path: str) -> int | None:
    """By ctime, which no program sets: a file may come with any mtime. None where it is gone."""
    try:
        return os.lstat(path).st_ctime_ns
    except OSError:
        return None


def _without_folder(folders: Sequence[SourceFolder]) -> list[SourceFolder]:
    return [each for each in folders if not os.path.isdir(os.path.join(each.root, each.path))]
