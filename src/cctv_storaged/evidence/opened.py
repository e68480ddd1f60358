"""A package as it lies there, ZIP or folder: its files and their bytes. Nothing is believed or unpacked.

Raises OSError for what the disk says, and NotAPackage where there is nothing to look into.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cctv_storaged.evidence.container import Entry, central_record, end_records, local_header, local_size
from cctv_storaged.evidence.listing import TAIL_BYTES, Listed, NotAZip, bounds, listed
from cctv_storaged.evidence.manifest import MOST_FILES
from cctv_storaged.evidence.names import LONGEST_PATH

BLOCK_BYTES = 1024 * 1024
MOST_DIRECTORY_BYTES = (MOST_FILES + 2) * (46 + LONGEST_PATH + 28)
MOST_FOUND = 2 * MOST_FILES
"""So many files are no package of ours, and a folder somebody named by mistake."""


class NotAPackage(Exception):
    """What lies there can be no package; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that is there."""

    name: str  # parted by '/'
    size_bytes: int
    offset: int = 0  # of its local header; ZIP only
    crc32: int | None = None  # ZIP only
    oddity: str | None = None  # its contents are not looked at


class Opened(Protocol):
    """A package that can be looked into."""

    @property
    def found(self) -> Sequence[Found]:
        """Every file, some perhaps under one name."""

    @property
    def oddities(self) -> Sequence[str]:
        """What is wrong with the package as a whole."""

    def blocks(self, file: Found) -> Iterator[bytes]:
        """The file's bytes, as many as it is said to have, or fewer where it is cut off."""

    def deviations(self, entries: Sequence[Entry]) -> Iterator[tuple[str | None, str]]:
        """What of the ZIP is not what it must be with these files: a file's name, or None for its end."""


@contextmanager
def opened_package(path: Path) -> Iterator[Opened]:
    """The package under the path."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            yield _Folder(path)
        elif stat.S_ISREG(status.st_mode):
            yield _Zip(descriptor, status.st_size)
        else:
            raise NotAPackage("it is neither a file nor a folder")
    finally:
        os.close(descriptor)


class _Folder:
    """An unpacked package."""

    oddities: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found = list(_files_below(str(path)))

    def blocks(self, file: Found) -> Iterator[bytes]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(os.path.join(self._path, file.name), flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            yield from _blocks(descriptor, 0, file.size_bytes)
        finally:
            os.close(descriptor)

    def deviations(self, entries: Sequence[Entry]) -> Iterator[tuple[str | None, str]]:
        yield from ()


def _files_below(top: str) -> Iterator[Found]:
    folders, count = [""], 0
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                count += 1
                if count > MOST_FOUND:
                    raise NotAPackage(f"it holds more than {MOST_FOUND} files")
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                else:
                    yield _found_in_folder(entry, name)


def _found_in_folder(entry: "os.DirEntry[str]", name: str) -> Found:
    status = entry.stat(follow_symlinks=False)
    oddity = None if stat.S_ISREG(status.st_mode) else "is a link or device and no file"
    return Found(name=name, size_bytes=status.st_size, oddity=oddity)


class _Zip:
    """A package as it was made."""

    def __init__(self, descriptor: int, file_bytes: int) -> None:
        self._descriptor = descriptor
        tail_bytes = min(file_bytes, TAIL_BYTES)
        try:
            tail = _read(descriptor, file_bytes - tail_bytes, tail_bytes)
            self._bounds = bounds(tail, file_bytes)
            if self._bounds.size_bytes > MOST_DIRECTORY_BYTES:
                raise NotAPackage(f"it holds more than {MOST_FILES} files")
            self._directory = _read(descriptor, self._bounds.begin, self._bounds.size_bytes)
            self.found = _without_overlap(list(listed(self._directory)), self._bounds.begin)
        except NotAZip as exc:
            raise NotAPackage(str(exc)) from exc
        self.oddities = []
        after = file_bytes - self._bounds.end
        if self._bounds.before:
            self.oddities.append(f"{self._bounds.before} bytes stand before the ZIP, or it was cut off there")
        if after:
            self.oddities.append(f"{after} bytes were appended")

    def blocks(self, file: Found) -> Iterator[bytes]:
        begin = self._bounds.before + file.offset + local_size(file.name, file.size_bytes)
        yield from _blocks(self._descriptor, begin, file.size_bytes)

    def deviations(self, entries: Sequence[Entry]) -> Iterator[tuple[str | None, str]]:
        place = 0
        for entry in entries:
            header, record = local_header(entry), central_record(entry)
            if _read(self._descriptor, self._bounds.before + entry.offset, len(header)) != header:
                yield entry.name, "its header in the ZIP was changed"
            elif self._directory[place : place + len(record)] != record:
                yield entry.name, "its line in the ZIP's directory was changed"
            place += len(record)
        records = end_records(len(entries), place, entries[-1].end if entries else 0)
        end = self._bounds.begin + self._bounds.size_bytes
        if place != len(self._directory) or _read(self._descriptor, end, len(records)) != records:
            yield None, "the end of the ZIP was changed"


def _without_overlap(files: Sequence[Listed], directory_at: int) -> list[Found]:
    """The files, in the directory's order; one that lies in another's bytes is an oddity."""
    inside: set[int] = set()
    free_from = 0
    for number in sorted(range(len(files)), key=lambda number: files[number].offset):
        file = files[number]
        end = file.offset + local_size("x" * file.name_bytes, file.size_bytes) + file.size_bytes
        if file.offset < free_from or end > directory_at:
            inside.add(number)
        free_from = max(free_from, end)
    return [
        Found(
            name=file.name,
            size_bytes=file.size_bytes,
            offset=file.offset,
            crc32=file.crc32,
            oddity=file.oddity
            or ("does not lie in a place of its own in the ZIP" if number in inside else None),
        )
        for number, file in enumerate(files)
    ]


def _read(descriptor: int, offset: int, size_bytes: int) -> bytes:
    return b"".join(_blocks(descriptor, offset, size_bytes))


def _blocks(descriptor: int, offset: int, size_bytes: int) -> Iterator[bytes]:
    end = offset + size_bytes
    while offset < end and (block := os.pread(descriptor, min(BLOCK_BYTES, end - offset), offset)):
        offset += len(block)
        yield block
