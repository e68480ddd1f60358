"""Archives: lines of the ledger in files of their own, gzipped NDJSON, named after the first and last number.

Blocks for the disk; callers use threads. A file gets its name when it is whole and on the disk.
"""

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from cctv_storaged.auditing.lines import MOST_LINE_BYTES, read, written
from cctv_storaged.errors import LedgerError
from cctv_storaged.journal.chain import BoundLine

FOLDER = "ledger"
"""Below data_dir."""
FILE_MODE = 0o640
_TEMPORARY = ".making-"
_NAME = re.compile(r"(\d{1,19})-(\d{1,19})\.ndjson(\.gz)?")
_GZIP = b"\x1f\x8b"
_BLOCK_BYTES = 256 * 1024


class ReadByLine(Protocol):
    """What lines can be read from."""

    def readline(self, most: int, /) -> bytes:
        """Up to and with the next newline, or so many bytes; empty at the end."""


@dataclass(frozen=True, slots=True, order=True)
class ArchiveFile:
    """Lines `first` to `last`; where the chain has a known hole not every number is there."""

    first: int
    last: int
    path: Path


def archive_name(first: int, last: int) -> str:
    return f"{first:012}-{last:012}.ndjson.gz"


def archives_in(folder: Path) -> list[ArchiveFile]:
    """In the order of their lines; none where there is no such folder. Raises OSError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(ArchiveFile(int(match[1]), int(match[2]), folder / name) for match, name in found)


def sweep(folder: Path) -> None:
    """Removes what a killed process had begun."""
    if folder.exists():
        for left in folder.glob(f"{_TEMPORARY}*"):
            left.unlink(missing_ok=True)


class ArchiveWriter:
    """One archive on its way; without `finish` nothing of it stays."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / f"{_TEMPORARY}{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._path, flags, FILE_MODE), "wb")
        self._zip = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, compresslevel=6, mtime=0)
        self._digest = hashlib.sha256()

    def write(self, lines: Sequence[BoundLine]) -> None:
        data = b"".join(map(written, lines))
        self._digest.update(data)
        self._zip.write(data)

    def finish(self, first: int, last: int) -> ArchiveFile:
        """On the disk, read back, and under its name. Raises LedgerError where it reads wrong, OSError."""
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        if _digest_of(self._path) != self._digest.digest():
            raise LedgerError(f"the archive {self._path} does not read as it was written; the disk may fail")
        path = self._folder / archive_name(first, last)
        self._path.rename(path)
        sync_folder(self._folder)
        return ArchiveFile(first, last, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines_in(path: Path, after: int = 0) -> Generator[BoundLine, None, None]:
    """The lines of a file, gzipped or not, with numbers above `after`.

    Raises LedgerError, with the row of the file, for what is no line, OSError.
    """
    with path.open("rb") as raw:
        is_zipped = raw.read(2) == _GZIP
        raw.seek(0)
        if not is_zipped:
            yield from lines_from(raw, after)
            return
        with gzip.open(raw) as unzipped:
            yield from lines_from(unzipped, after)


def lines_from(file: ReadByLine, after: int = 0) -> Iterator[BoundLine]:
    """See `lines_in`."""
    row = 0
    try:
        while text := file.readline(MOST_LINE_BYTES + 1):
            row += 1
            if len(text) > MOST_LINE_BYTES:
                raise LedgerError(f"row {row}: it is too long for a line of the ledger")
            bound = _read(text, row)
            if bound.line.no > after:
                yield bound
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise LedgerError(f"behind row {row} the file is damaged: {exc}") from exc


def _read(text: bytes, row: int) -> BoundLine:
    if not text.endswith(b"\n"):
        raise LedgerError(f"row {row}: it is cut off")
    try:
        return read(text)
    except LedgerError as exc:
        raise LedgerError(f"row {row}: {exc}") from exc


def _digest_of(path: Path) -> bytes:
    digest = hashlib.sha256()
    with gzip.open(path) as unzipped:
        while block := unzipped.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()
