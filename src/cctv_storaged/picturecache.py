"""Pictures kept on the host's own disk, in front of where they are made or stored.

What flows through: JPEGs under a segment's name. A bounded number of bytes; what was asked for longest ago
goes first. Nothing in it is needed: a file that is missing, torn by a power cut or damaged is no picture, and
a disk that takes none makes every picture come from behind.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

log = logging.getLogger(__name__)

_ENDING = ".jpg"
_UNFINISHED = ".part"
FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Name:
    """What a picture is kept under. `moment_us`: of the frame; None: the segment's own thumbnail."""

    segment_id: UUID
    width: int
    moment_us: int | None


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: str  # of the bytes' SHA-256, and of the file's name
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture and its tag, which is another one for other bytes."""

    jpeg: bytes
    tag: str


class PictureCache:
    """On the event loop; files are read and written in threads."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()  # what was asked for last stands last
        self._of_segment: dict[UUID, set[Name]] = {}
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    async def open(self) -> None:
        """Finds what an earlier process left, and removes what it left half-done.

        A folder that cannot be read is taken for an empty one.
        """
        try:
            found = await asyncio.to_thread(_swept, self._folder)
        except OSError as exc:
            log.warning("pictures that were kept cannot be found: %s", exc)
            return
        for name, entry in found:
            await self._remember(name, entry)

    async def find(self, name: Name) -> Kept | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        self._entries.move_to_end(name)
        jpeg = await asyncio.to_thread(_read, self._path(name, entry))
        if jpeg is not None and tag_of(jpeg) == entry.tag:
            return Kept(jpeg, entry.tag)
        if self._entries.get(name) == entry:
            await self._forget(name)
        return None

    async def keep(self, name: Name, jpeg: bytes) -> Kept:
        """Keeps it if the disk lets us."""
        entry = _Entry(tag_of(jpeg), len(jpeg))
        try:
            await asyncio.to_thread(_write, self._path(name, entry), jpeg)
        except OSError as exc:
            log.debug("picture not kept: %s", exc)
        else:
            await self._remember(name, entry)
        return Kept(jpeg, entry.tag)

    async def drop(self, segment_id: UUID) -> None:
        """Removes all of a segment's pictures."""
        for name in tuple(self._of_segment.get(segment_id, ())):
            await self._forget(name)

    async def shrink(self, by_bytes: int) -> int:
        """Room is needed: pictures of so many bytes go, or all; how many bytes went."""
        before = self._size_bytes
        while self._entries and before - self._size_bytes < by_bytes:
            await self._forget(next(iter(self._entries)))
        return before - self._size_bytes

    async def _remember(self, name: Name, entry: _Entry) -> None:
        if self._entries.get(name) == entry:
            return
        if name in self._entries:
            await self._forget(name)
        self._size_bytes += entry.size_bytes
        self._entries[name] = entry
        self._of_segment.setdefault(name.segment_id, set()).add(name)
        while self._size_bytes > self._limit_bytes and self._entries:
            await self._forget(next(iter(self._entries)))

    async def _forget(self, name: Name) -> None:
        entry = self._entries.pop(name)
        self._size_bytes -= entry.size_bytes
        names = self._of_segment[name.segment_id]
        names.discard(name)
        if not names:
            del self._of_segment[name.segment_id]
        await asyncio.to_thread(_remove, self._path(name, entry))

    def _path(self, name: Name, entry: _Entry) -> Path:
        return self._folder / _folder_of(name.segment_id) / _file_name(name, entry.tag)


def tag_of(jpeg: bytes) -> str:
    """Names the bytes."""
    return hashlib.sha256(jpeg).hexdigest()[:16]


def _folder_of(segment_id: UUID) -> str:
    return segment_id.hex[:2]


def _file_name(name: Name, tag: str) -> str:
    which = "own" if name.moment_us is None else str(name.moment_us)
    return f"{name.segment_id}.{name.width}.{which}.{tag}{_ENDING}"


def _parsed(file_name: str) -> tuple[Name, str] | None:
    parts = file_name.removesuffix(_ENDING).split(".")
    try:
        segment_id, width, which, tag = parts
        moment_us = None if which == "own" else int(which)
        name = Name(UUID(segment_id), int(width), moment_us)
    except ValueError:
        return None
    return (name, tag) if _file_name(name, tag) == file_name else None


def _swept(folder: Path) -> list[tuple[Name, _Entry]]:
    """Every whole picture, oldest first. Raises OSError, but not for one that vanishes."""
    found: list[tuple[int, Name, _Entry]] = []
    for file in _files(folder):
        parsed = _parsed(file.name)
        if parsed is None or Path(file.path).parent.name != _folder_of(parsed[0].segment_id):
            if file.name.endswith((_UNFINISHED, _ENDING)):
                _remove(Path(file.path))
            continue
        with contextlib.suppress(FileNotFoundError):
            status = file.stat(follow_symlinks=False)
            found.append((status.st_mtime_ns, parsed[0], _Entry(parsed[1], status.st_size)))
    return [(name, entry) for _, name, entry in sorted(found, key=lambda each: each[0])]


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as inner:
        for entry in inner:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write(path: Path, jpeg: bytes) -> None:
    """Whole or not at all under its name; not made durable, since a torn one shows by its tag."""
    path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.urandom(4).hex()}{_UNFINISHED}")
    try:
        part.write_bytes(jpeg)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
