"""Writing a package's ZIP: one file after the other, hashed while it is written, with nothing held in memory.

Blocks for the disk; package.py calls it from threads.
"""

import hashlib
import os
import zlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cctv_storaged.errors import PackageError
from cctv_storaged.evidence.container import Entry, directory, local_header

FILE_MODE = 0o640


@dataclass(slots=True)
class _Open:
    """The entry that is being written."""

    entry: Entry
    sha256: "hashlib._Hash"
    written: int = 0
    crc32: int = 0


class StoredZip:
    """A ZIP that grows. What is not ended can be abandoned, and leaves no trace."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, FILE_MODE)
        self._entries: list[Entry] = []
        self._open: _Open | None = None

    def begin(self, name: str, moment: datetime, size_bytes: int) -> None:
        """A file of this size follows."""
        entry = Entry(name=name, moment=moment, size_bytes=size_bytes, crc32=0, offset=self._end)
        _write_all(self._descriptor, local_header(entry), entry.offset)
        self._open = _Open(entry, hashlib.sha256())

    def write(self, block: bytes | memoryview) -> None:
        """Raises PackageError for more than was announced."""
        current = self._current
        if current.written + len(block) > current.entry.size_bytes:
            raise PackageError(f"{current.entry.name} has more than its {current.entry.size_bytes} bytes")
        current.sha256.update(block)
        current.crc32 = zlib.crc32(block, current.crc32)
        _write_all(self._descriptor, block, current.entry.data_offset + current.written)
        current.written += len(block)

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was written of the open file."""
        return self._current.sha256.digest()

    def end(self, name: str) -> None:
        """The file is whole; its name may be another of the same length now. Raises PackageError."""
        current = self._current
        if current.written != current.entry.size_bytes:
            raise PackageError(
                f"{current.entry.name} has {current.written} bytes and not {current.entry.size_bytes}"
            )
        if len(name) != len(current.entry.name):
            raise ValueError("the name was written already: another one needs its length")
        entry = replace(current.entry, name=name, crc32=current.crc32)
        _write_all(self._descriptor, local_header(entry), entry.offset)
        self._entries.append(entry)
        self._open = None

    def abandon(self) -> None:
        """As if the open file had not been begun."""
        self._open = None
        os.ftruncate(self._descriptor, self._end)

    def finish(self) -> int:
        """Directory and fsync(2); the size of it all."""
        listed = directory(self._entries)
        size_bytes = self._end + len(listed)
        _write_all(self._descriptor, listed, self._end)
        os.ftruncate(self._descriptor, size_bytes)  # a header that could not be written may reach beyond
        os.fsync(self._descriptor)
        return size_bytes

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def _end(self) -> int:
        return self._entries[-1].end if self._entries else 0

    @property
    def _current(self) -> _Open:
        if self._open is None:
            raise ValueError("no file was begun")
        return self._open


def _write_all(descriptor: int, data: bytes | memoryview, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
