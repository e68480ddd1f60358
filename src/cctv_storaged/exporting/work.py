"""Work folders: one for each export being made, below data_dir; whole steps in it outlive the process.

A step is whole once its sidecar is there: that is written, synchronised and named after everything else.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from cctv_storaged.exporting.request import Room

_P = ParamSpec("_P")
_T = TypeVar("_T")

FOLDER_MODE = 0o700
BLOCK_BYTES = 1024 * 1024
NO_ROOM_WORDS = "No space left on device"
"""strerror(3) of ENOSPC, as ffmpeg says it."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class WorkFolders:
    """The folders below `base`; blocking."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def of(self, export_id: UUID) -> Path:
        """Where an export is made."""
        return self.base / str(export_id)

    def make(self, export_id: UUID) -> Path:
        """The export's folder, there from now on."""
        folder = self.of(export_id)
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return folder

    def remove(self, export_id: UUID) -> None:
        """The export's folder with all that is in it; one that is not there is success."""
        remove_tree(self.of(export_id))

    def size(self, export_id: UUID) -> int:
        """Bytes that the export's folder holds already."""
        files = (Path(top, name) for top, _, names in os.walk(self.of(export_id)) for name in names)
        return sum(path.stat().st_size for path in files)

    def sweep(self, kept: Collection[UUID]) -> int:
        """Removes what belongs to none of these exports; the number removed. Other names are left alone."""
        swept = 0
        for entry in self._entries():
            with contextlib.suppress(ValueError):
                if UUID(entry.name) not in kept:
                    remove_tree(entry)
                    swept += 1
        return swept

    def _entries(self) -> list[Path]:
        try:
            return sorted(self.base.iterdir())
        except FileNotFoundError:
            return []


def room_at(folder: Path, reserve_bytes: int, reserve_share: float = 0.0) -> Room:
    """What is free on a folder's disk, or on the nearest folder's above that is there.

    So many bytes of it are kept back, or that share of what users can have of the disk if that is more.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    facts = os.statvfs(there)
    usable_bytes = (facts.f_blocks - facts.f_bfree + facts.f_bavail) * facts.f_frsize
    return Room(
        folder=str(folder),
        free_bytes=facts.f_bavail * facts.f_frsize,
        reserve_bytes=max(reserve_bytes, round(reserve_share * usable_bytes)),
    )


def same_disk(one: Path, other: Path) -> bool:
    """Whether two folders share a disk; what is not there yet counts as the folder above."""
    devices = {
        os.stat(next(path for path in (folder, *folder.parents) if path.exists())).st_dev
        for folder in (one, other)
    }
    return len(devices) == 1


def remove_tree(path: Path) -> None:
    """Raises OSError for what stays, but for what is gone already: another may remove it at the same time."""
    while os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


async def in_thread(action: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """A short action in a thread, over when this returns: who is cancelled makes nothing after a removal."""
    working = asyncio.ensure_future(asyncio.to_thread(action, *arguments, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        working.exception()  # seen: whoever cancelled does not ask for it any more
        raise


def write_sidecar(path: Path, document: object) -> None:
    """JSON under that name, whole and on the disk when this returns, or not at all."""
    write_whole(path, json.JSONEncoder().iterencode(document))


def write_whole(path: Path, text: Iterable[str]) -> None:
    """Text under that name, whole and on the disk when this returns, or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def read_sidecar(path: Path) -> Any:
    """What a sidecar says; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def synced_sha256(path: Path) -> str:
    """SHA-256 in hex of a file that is on the disk when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
