"""Walking a recorder root: what lies there now. Scans are the truth; events are only hints.

A folder whose modification time stands still since everything in it was dealt with is not read again,
so that a scan of a thousand quiet folders costs a thousand stat calls. A file rewritten in place does
not touch its folder: a full scan reads every folder regardless.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cctv_storaged.model import FileIdentity, identity_of

RACY_NS = 2_000_000_000
"""A folder changed this recently may change again within its clock's tick: it is read again next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One folder's files that may be segments, as they are now; links and pipes among them, to be listed."""

    folder: str  # relative to the root, '' for the root itself
    files: dict[str, FileIdentity]
    stamp: int  # the folder's mtime_ns, read before its entries


@dataclass(slots=True)
class _Folder:
    stamp: int
    device: int
    inner: tuple[str, ...]
    settled: bool = False


@dataclass(slots=True)
class Scanner:
    """Remembers the folders of one root between scans; used by one thread at a time."""

    root: str
    extension: str  # of files that may be segments, e.g. ".ts"
    _folders: dict[str, _Folder] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that the last whole scan was refused, and why: no segment in them can be found."""
    remounted: bool = False
    """Whether the last scan met a folder on another device than before: a disk was mounted or went away."""

    @property
    def folders(self) -> int:
        """Folders seen by the last whole scan."""
        return len(self._folders)

    def knows(self, folder: str) -> bool:
        """Whether a scan has met this folder."""
        return folder in self._folders

    def changed(self, *, full: bool = False) -> Iterator[Listing]:
        """Listings of the folders that changed since they were settled, of all of them if `full`.

        Raises OSError if the root itself cannot be read. A folder below it that vanishes meanwhile is left
        out; one that refuses is remembered as unreadable.
        """
        self.remounted = False
        seen: set[str] = set()
        refused: dict[str, str] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                listing, inner = self._visit(folder, full=full)
            except FileNotFoundError:
                if not folder:
                    raise
                continue
            except OSError as exc:
                if not folder:
                    raise
                refused[folder] = str(exc)
                continue
            seen.add(folder)
            waiting.extend(os.path.join(folder, name) for name in inner)
            if listing is not None:
                yield listing
        self._folders = {folder: known for folder, known in self._folders.items() if folder in seen}
        self.unreadable = refused

    def below(self, folder: str) -> Iterator[Listing]:
        """Listings of one folder and all below it, whatever is remembered; nothing is remembered of them.

        May be used beside a scan. What refuses or is gone is left out: that is for the scan to tell.
        """
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            try:
                status = os.lstat(os.path.join(self.root, folder))
                if not stat.S_ISDIR(status.st_mode):
                    continue
                files, inner = self._read(os.path.join(self.root, folder))
            except OSError:
                continue
            waiting.extend(os.path.join(folder, name) for name in inner)
            yield Listing(folder=folder, files=files, stamp=status.st_mtime_ns)

    def absent(self, folder: str, names: Iterable[str]) -> list[str]:
        """Which of these files are not in the folder any more; what cannot be told counts as there.

        May be used beside a scan.
        """
        return [name for name in names if _is_absent(os.path.join(self.root, folder, name))]

    def unsettle(self, folders: Iterable[str]) -> None:
        """The next scan reads these folders, changed or not."""
        for folder in folders:
            if (known := self._folders.get(folder)) is not None:
                known.settled = False

    def settle(self, listing: Listing) -> None:
        """Everything in the listing is dealt with: read the folder again only when it changes."""
        known = self._folders.get(listing.folder)
        if known is not None and known.stamp == listing.stamp and time.time_ns() - listing.stamp > RACY_NS:
            known.settled = True

    def _visit(self, folder: str, *, full: bool) -> tuple[Listing | None, tuple[str, ...]]:
        path = os.path.join(self.root, folder)
        status = os.stat(path, follow_symlinks=folder == "")
        stamp, device = status.st_mtime_ns, status.st_dev
        known = self._folders.get(folder)
        if known is not None and known.device != device:
            self.remounted, known = True, None
        if known is not None and known.settled and known.stamp == stamp and not full:
            return None, known.inner
        files, inner = self._read(path)
        self._folders[folder] = _Folder(stamp=stamp, device=device, inner=inner)
        return Listing(folder=folder, files=files, stamp=stamp), inner

    def _read(self, path: str) -> tuple[dict[str, FileIdentity], tuple[str, ...]]:
        files: dict[str, FileIdentity] = {}
        inner = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif entry.name.endswith(self.extension):
                    self._add(files, entry)
        return files, tuple(sorted(inner, reverse=True))

    @staticmethod
    def _add(files: dict[str, FileIdentity], entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # gone since the folder was read
            return
        files[entry.name] = identity_of(status)


def _is_absent(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)  # a folder of its name is not the file
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
