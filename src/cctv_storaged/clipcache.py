"""Finished clips kept on the host's own disk for a while; nothing in the folder is needed.

A bounded number of bytes; what was asked for longest ago goes first. A file's name tells the clip's tag and
when what it shows first was recorded. One that is being read stays readable when it goes.
"""

import asyncio
import contextlib
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cctv_storaged.clock import from_us, to_us

log = logging.getLogger(__name__)

_ENDING = ".mp4"
_UNFINISHED = ".part"
FOLDER_MODE = 0o700
FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class KeptClip:
    """A finished clip, open for reading until `close`."""

    descriptor: int
    size_bytes: int
    start: datetime


@dataclass(frozen=True, slots=True)
class _Entry:
    start: datetime
    size_bytes: int


class ClipCache:
    """On the event loop; files are touched in threads."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # what was asked for last stands last

    async def open(self) -> None:
        """Finds what an earlier process left, and removes what it left half-done.

        A folder that cannot be read is taken for an empty one.
        """
        try:
            self._entries = OrderedDict(await asyncio.to_thread(_swept, self._folder))
        except OSError as exc:
            log.warning("clips that were kept cannot be found: %s", exc)
        await self._make_room()

    @property
    def folder(self) -> Path:
        return self._folder

    def __contains__(self, tag: str) -> bool:
        return tag in self._entries

    async def find(self, tag: str) -> KeptClip | None:
        entry = self._entries.get(tag)
        if entry is None:
            return None
        self._entries.move_to_end(tag)
        try:
            descriptor = await asyncio.to_thread(os.open, self._path(tag, entry), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            log.info("a kept clip is not there any more: %s", exc)
            self._entries.pop(tag, None)
            return None
        with contextlib.suppress(OSError):
            os.utime(descriptor)  # so that the next process knows as well
        return KeptClip(descriptor, os.fstat(descriptor).st_size, entry.start)

    def begin(self, tag: str) -> tuple[Path, int]:
        """A file to write a clip to, and its descriptor; the folder must be there. Raises OSError."""
        part = (
            self._folder / f"{tag}.{os.urandom(4).hex()}{_UNFINISHED}"
        )  # an earlier try may not be gone yet
        return part, os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)

    async def keep(self, tag: str, part: Path, start: datetime) -> None:
        """The file of `begin` is whole now. Raises OSError."""
        size_bytes = (await asyncio.to_thread(part.stat)).st_size
        entry = _Entry(start, size_bytes)
        await asyncio.to_thread(part.rename, self._path(tag, entry))
        self._entries[tag] = entry
        await self._make_room()

    async def shrink(self, by_bytes: int) -> int:
        """Room is needed: clips of so many bytes go, or all; how many bytes went."""
        gone_bytes = 0
        while self._entries and gone_bytes < by_bytes:
            gone_bytes += await self._remove_oldest()
        return gone_bytes

    async def _make_room(self) -> None:
        while self._entries and sum(each.size_bytes for each in self._entries.values()) > self._most_bytes:
            await self._remove_oldest()

    async def _remove_oldest(self) -> int:
        tag, entry = self._entries.popitem(last=False)
        await asyncio.to_thread(_remove, self._path(tag, entry))
        return entry.size_bytes

    def _path(self, tag: str, entry: _Entry) -> Path:
        return self._folder / f"{tag}.{to_us(entry.start)}{_ENDING}"


def _swept(folder: Path) -> list[tuple[str, _Entry]]:
    """Every whole clip, the one used longest ago first. Raises OSError, but not for one that vanishes."""
    found: list[tuple[int, str, _Entry]] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
        for file in files:
            entry = _entry(file)
            if entry is not None:
                found.append(entry)
            elif file.name.endswith((_UNFINISHED, _ENDING)):
                _remove(Path(file.path))
    return [(tag, entry) for _, tag, entry in sorted(found, key=lambda each: each[0])]


def _entry(file: os.DirEntry[str]) -> tuple[int, str, _Entry] | None:
    """When it was used last, its tag, and what it is; None where it is no whole clip (any more)."""
    tag, _, start_us = file.name.removesuffix(_ENDING).partition(".")
    if not (file.name.endswith(_ENDING) and start_us.isdigit()):
        return None
    try:
        status, start = file.stat(follow_symlinks=False), from_us(int(start_us))
    except (FileNotFoundError, OverflowError, ValueError):
        return None
    return status.st_mtime_ns, tag, _Entry(start, status.st_size)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
